"""The mark on a copy that leaves our store through a mail server which asks us about its mail: good for once.

Such a copy was judged when it was accepted; asked about again it would be held, or changed, for ever. Refuses, beside
what :mod:`gateway.hold.marks` refuses, a mark for other recipients or of another sender, and one that was used: then
the message is judged like any other. Whoever asks takes the field off in any case.
"""

import secrets
from datetime import timedelta

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.hold import marks
from gateway.hold.core import Core
from gateway.hold.marks import Claim, Marks
from gateway.model.envelope import fold
from gateway.store.tables import passage

FIELD = "X-Civicgate-Passage"
GOOD_FOR = timedelta(hours=1)
"""A server asks while it takes the message; the next attempt carries a new mark."""


class Passages:
    """Makes marks and uses them up."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._marks = Marks(core, "passage", GOOD_FOR)

    async def field(self, reverse_path: str, recipients: tuple[str, ...], size: int, sha256: str) -> tuple[str, str]:
        """Name and value (folded) of a mark. Raises StoreError."""
        return FIELD, await self._marks.write(secrets.token_hex(16), size, sha256, _route(reverse_path, recipients))

    async def use(self, claim: Claim) -> bool:
        """Whether the mark is good, this once; from now on it is not. Raises StoreError."""
        mark = marks.read(claim.value)
        route = _route(claim.reverse_path, claim.recipients)
        return mark is not None and await self._marks.proves(mark, claim, route) and await self._first(mark.ident)

    async def _first(self, nonce: str) -> bool:
        now = self._core.clock()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(passage).where(passage.c.used < now - 2 * GOOD_FOR))
            await connection.execute(insert(passage).values(nonce=nonce, used=now))

        try:
            await self._core.database.write(work)
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                return False
            raise
        return True


def _route(reverse_path: str, recipients: tuple[str, ...]) -> tuple[str, ...]:
    """Who gets it is part of it: a server may not hand the copy to others under our mark."""
    return (fold(reverse_path), *sorted(map(fold, recipients)))
