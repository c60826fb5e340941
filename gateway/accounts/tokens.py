"""API tokens: a program speaks for a person, within a scope, until a date. Shown once, stored as a digest.

Refuses a token that is over, revoked, or whose person's account is disabled.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.core import Core, digest, new_secret
from gateway.errors import OperatorError
from gateway.model.envelope import fold
from gateway.store.events import Actor
from gateway.store.tables import account, token
from gateway.store.text import plain

PREFIX = "civicgate_"
"""Every token begins so: programs that look for leaked secrets find it."""
_USED_STEP = timedelta(seconds=60)


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    DECIDE = "decide"
    """Read, approve, reject, withdraw."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret."""

    id: str
    name: str
    address: str
    scope: Scope
    created: datetime
    expires: datetime
    used: datetime | None
    """Last use, to the minute."""
    revoked: datetime | None

    def state(self, now: datetime) -> str:
        """``active``, ``over`` or ``revoked``."""
        return "revoked" if self.revoked else "over" if self.expires <= now else "active"


class Tokens:
    """Add, find, list, revoke."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def add(self, name: str, address: str, scope: Scope, until: datetime, actor: Actor) -> tuple[str, Token]:
        """A new token: its secret, which nobody can see again, and the rest. Raises OperatorError, StoreError."""
        now, secret = self._core.clock(), PREFIX + new_secret()
        if not name.strip():
            raise OperatorError("A token needs a name that says what uses it.")
        if until <= now:
            raise OperatorError(f"The token would be over already ({until:%Y-%m-%d}).")
        made = Token(secrets.token_hex(4), plain(name.strip())[:100], fold(address), scope, now, until, None, None)

        async def work(connection: AsyncConnection) -> None:
            row = {field: getattr(made, field) for field in Token.__slots__}
            await connection.execute(insert(token).values(**row, digest=digest(secret)))
            comment = f"{made.id} «{made.name}», {scope}, until {until:%Y-%m-%d %H:%M} UTC"
            await self._core.note(connection, made.address, "token-added", actor, comment)

        await self._core.database.write(work)
        return secret, made

    async def find(self, secret: str) -> Token | None:
        """The token, while it may be used; the use is written down. Raises StoreError."""
        if not secret.startswith(PREFIX):
            return None
        now = self._core.clock()
        query = (
            select(token, account.c.disabled.label("off"))
            .join(account, account.c.address == token.c.address, isouter=True)
            .where(token.c.digest == digest(secret))
        )
        async with self._core.database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None or row["off"] is not None or _token(row).state(now) != "active":
            return None
        if row["used"] is None or now - row["used"] >= _USED_STEP:

            async def work(connection: AsyncConnection) -> None:
                await connection.execute(update(token).where(token.c.id == row["id"]).values(used=now))

            await self._core.database.write(work)
        return _token(row)

    async def list(self, address: str = "", *, everything: bool = False) -> tuple[Token, ...]:
        """Tokens that can be used, the oldest first; with ``everything`` also those that are over or revoked."""
        query = select(token).order_by(token.c.created, token.c.id)
        query = query.where(token.c.address == fold(address)) if address else query
        now = self._core.clock()
        async with self._core.database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(found for row in rows if (found := _token(row)).state(now) == "active" or everything)

    async def revoke(self, ident: str, actor: Actor, address: str = "") -> Token:
        """End one at once. Raises OperatorError when there is none of this id that can still be used.

        ``address``: it must speak for this person.
        """
        now = self._core.clock()

        async def work(connection: AsyncConnection) -> Token:
            row = (await connection.execute(select(token).where(token.c.id == ident))).mappings().first()
            if row is None or (address and row["address"] != fold(address)):
                raise OperatorError(f"There is no token {ident}.")
            found = _token(row)
            if found.revoked:
                raise OperatorError(f"The token {ident} is revoked already.")
            await connection.execute(update(token).where(token.c.id == ident).values(revoked=now))
            await self._core.note(connection, found.address, "token-revoked", actor, f"{ident} «{found.name}»")
            return found

        return await self._core.database.write(work)


def _token(row: Any) -> Token:
    values = {name: row[name] for name in Token.__slots__}
    return Token(**(values | {"scope": Scope(values["scope"])}))
