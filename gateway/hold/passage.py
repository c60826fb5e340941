"""The mark on a copy that leaves our store through a mail server which asks us about its mail: good for once.

Such a copy was judged when it was accepted; asked about again it would be held, or changed, for ever. The mark is a
header field with an HMAC over a number used once, the time, sender, recipients, and size and digest of the content.
Refuses a mark that we did not make, of another content, for others, an old one, and one that was used: then the message
is judged like any other. Whoever asks takes the field off in any case.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.hold.core import Core
from gateway.hold.proof import AHEAD, Claim, only_traces_above, shared_secret
from gateway.model.envelope import fold
from gateway.store.tables import passage

FIELD = "X-Civicgate-Passage"
GOOD_FOR = timedelta(hours=1)
"""A server asks while it takes the message; the next attempt carries a new mark."""
_NAME = "passage"
_VALUE = re.compile(r"([0-9a-f]{32}); t=(\d{1,12}); n=(\d{1,15}); h=([0-9a-f]{64}); m=([0-9a-f]{64})\Z")


class Passages:
    """Makes marks and uses them up."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._key: bytes | None = None

    async def field(self, reverse_path: str, recipients: tuple[str, ...], size: int, sha256: str) -> tuple[str, str]:
        """Name and value (folded) of a mark. Raises StoreError."""
        nonce, when = secrets.token_hex(16), int(self._core.clock().timestamp())
        mac = _mac(await self._secret(), (nonce, str(when), str(size), sha256), reverse_path, recipients)
        return FIELD, f"{nonce};\r\n\tt={when}; n={size};\r\n\th={sha256};\r\n\tm={mac}"

    async def use(self, claim: Claim) -> bool:
        """Whether the mark is good, this once; from now on it is not. Raises StoreError."""
        found = _VALUE.match(" ".join(claim.value.split()))
        if found is None:
            return False
        nonce, when, size, sha256, mac = found[1], int(found[2]), int(found[3]), found[4], found[5]
        told = (nonce, str(when), str(size), sha256)
        if not hmac.compare_digest(mac, _mac(await self._secret(), told, claim.reverse_path, claim.recipients)):
            return False
        now = self._core.clock()
        fresh = now - GOOD_FOR <= datetime.fromtimestamp(when, now.tzinfo) <= now + AHEAD
        if not fresh or not only_traces_above(claim, size) or await claim.digest(size) != sha256:
            return False
        return await self._first(nonce, now)

    async def _first(self, nonce: str, now: datetime) -> bool:
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

    async def _secret(self) -> bytes:
        if self._key is None:
            self._key = await shared_secret(self._core, _NAME)
        return self._key


def _mac(key: bytes, told: tuple[str, ...], reverse_path: str, recipients: tuple[str, ...]) -> str:
    """Who gets it is part of it: a server may not hand the copy to others under our mark."""
    parts = ("civicgate passage", *told, fold(reverse_path), *sorted(map(fold, recipients)))
    return hmac.new(key, "\0".join(parts).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
