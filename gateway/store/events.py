"""The append-only record of everything that happened to held items and exceptions, as a chain of hashes.

Each row's hash covers the row before it, so that a row that was changed, taken out or put in shows. Cutting off the
newest rows shows only against a hash that was noted elsewhere: :func:`verify` returns the last one for that.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError
from gateway.store.postgres import alone
from gateway.store.tables import event
from gateway.store.text import plain

FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: the person as named, and the login of the operating system behind the command."""

    name: str
    """Address of a person, or ``gateway``."""
    os_user: str = ""


GATEWAY = Actor("gateway")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as recorded."""

    seq: int
    item: str
    at: datetime
    actor: str
    os_user: str
    event: str
    comment: str
    hash: str


async def append(
    connection: AsyncConnection, item: str, name: str, at: datetime, actor: Actor, comment: str = ""
) -> None:
    """Add one row inside the caller's transaction.

    Writers of events come one after the other, on PostgreSQL by a lock that is held from here to the commit, so the row
    before is the row before. The number is given here: a database's own sequence has gaps where a write was undone.
    """
    await alone(connection)
    last = (await connection.execute(select(event.c.seq, event.c.hash).order_by(event.c.seq.desc()).limit(1))).first()
    number, previous = (0, FIRST) if last is None else last
    row: dict[str, Any] = {
        "item": item,
        "at": at,
        "actor": plain(actor.name),
        "os_user": plain(actor.os_user),
        "event": name,
        "comment": plain(comment),
    }
    await connection.execute(insert(event).values(**row, seq=number + 1, hash=chain(previous, row)))


def chain(previous: str, row: dict[str, Any]) -> str:
    """SHA-256 over the previous hash and the row in canonical form (sorted keys, time in microseconds, no spaces)."""
    canonical = orjson.dumps(row | {"at": row["at"].isoformat(timespec="microseconds")}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(previous.encode() + canonical).hexdigest()


async def entries(connection: AsyncConnection, item: str) -> tuple[Entry, ...]:
    """All events of one item, oldest first."""
    rows = await connection.execute(select(event).where(event.c.item == item).order_by(event.c.seq))
    return tuple(Entry(**row) for row in rows.mappings())


async def verify(connection: AsyncConnection) -> tuple[int, str]:
    """Check the whole chain; returns the number of rows and the last hash. Raises StoreError at the first false row."""
    last, count = FIRST, 0
    rows = await connection.stream(select(event).order_by(event.c.seq))
    async for found in rows.mappings():
        row = {str(key): value for key, value in found.items()}
        seq, stated = row.pop("seq"), row.pop("hash")
        count += 1
        if seq != count or chain(last, row) != stated:
            raise StoreError(f"the record of events was altered at or before number {seq}")
        last = stated
    return count, last
