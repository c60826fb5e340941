"""Secrets that lie in the database, sealed with the key that seals bodies: who reads a copy of it can use none.

A sealed value says what it is for, so that it opens nowhere else. Refuses to hand out a value that was sealed for
something else, or that no key of this node opens. What an older version left readable is sealed at the next start.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any

import pyrage
from sqlalchemy import Column, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.store.bodies import Bodies
from gateway.store.database import Database
from gateway.store.tables import account, secret

PREFIX = "age:"
_PLACES: tuple[tuple[Table, Column[Any], Column[Any], str], ...] = (
    (account, account.c.address, account.c.totp, "totp"),
    (secret, secret.c.name, secret.c.value, "secret"),
)
"""Table, its key, the column with the secret, and what the secret is for."""


def totp_of(address: str) -> str:
    """What an account's second factor is sealed for."""
    return f"totp:{address}"


def secret_of(name: str) -> str:
    """What a secret of the whole store is sealed for."""
    return f"secret:{name}"


class Seal:
    """The key of one store, for texts."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    async def close(self, text: str, purpose: str) -> str:
        """Seal it. Raises StoreError when there is no key, or the place of the bodies does not answer."""
        try:
            recipient = await asyncio.to_thread(self._bodies.sealing_key)
        except OSError as error:
            raise StoreError(f"{self._bodies.objects.place} does not say which key seals: {error}") from error
        return _sealed(text, purpose, recipient)

    def open(self, kept: str, purpose: str) -> str:
        """What was sealed for this purpose; what is not sealed, as it is. Raises StoreError."""
        if not kept.startswith(PREFIX):
            return kept
        return self._open(kept, purpose, list(self._bodies.keys.identities().values()))

    def opens(self, kept: str, purpose: str, identity: Any) -> bool:
        """Whether this key alone does."""
        try:
            self._open(kept, purpose, [identity])
        except StoreError:
            return False
        return True

    def _open(self, kept: str, purpose: str, keys: list[Any]) -> str:
        place = self._bodies.keys.place
        try:
            plain = str(pyrage.decrypt(base64.b64decode(kept.removeprefix(PREFIX), validate=True), keys), "utf-8")
        except (pyrage.DecryptError, binascii.Error, UnicodeDecodeError) as error:
            raise StoreError(f"the sealed value of {purpose} cannot be opened with {place}: {error}") from error
        name, _, text = plain.partition("\0")
        if name != purpose:
            raise StoreError(f"the sealed value of {purpose} was sealed for something else")
        return text


def _sealed(text: str, purpose: str, recipient: Any) -> str:
    return PREFIX + base64.b64encode(pyrage.encrypt(f"{purpose}\0{text}".encode(), [recipient])).decode()


async def seal_old(database: Database, bodies: Bodies) -> int:
    """Seal what an older version left readable; returns how many values. Raises StoreError."""
    return await _again(database, bodies, lambda kept, _: not kept.startswith(PREFIX))


async def reseal(database: Database, bodies: Bodies, identity: Any) -> tuple[int, tuple[str, ...]]:
    """Seal anew what this key does not open; returns how many values, and for what no key opens one.

    Raises StoreError.
    """
    seal, broken = Seal(bodies), list[str]()

    def due(kept: str, purpose: str) -> bool:
        if seal.opens(kept, purpose, identity):
            return False
        try:
            seal.open(kept, purpose)
        except StoreError:
            broken.append(purpose)
            return False
        return True

    return await _again(database, bodies, due, identity.to_public()), tuple(broken)


async def _again(database: Database, bodies: Bodies, due: Callable[[str, str], bool], recipient: Any = None) -> int:
    seal, count = Seal(bodies), 0
    for table, key, column, kind in _PLACES:
        async with database.read() as connection:
            rows = (await connection.execute(select(key, column).where(column != ""))).all()
        for name, kept in rows:
            purpose = f"{kind}:{name}"
            if not due(kept, purpose):
                continue
            text = seal.open(kept, purpose)
            fresh = await seal.close(text, purpose) if recipient is None else _sealed(text, purpose, recipient)
            count += await _replace(database, update(table).where(key == name, column == kept), column, fresh)
    return count


async def _replace(database: Database, which: Any, column: Column[Any], fresh: str) -> int:
    """Unless it was changed meanwhile."""

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(which.values({column.name: fresh}))).rowcount

    return await database.write(work)
