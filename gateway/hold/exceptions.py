"""Approved, expiring exceptions to rules: add, list, revoke, use; and a snapshot for the hot path.

Refuses an exception that is over before it begins, and a use that is not left.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import rows
from gateway.hold.core import Core
from gateway.model.envelope import ExceptionRecord, fold
from gateway.store import events
from gateway.store.events import Actor
from gateway.store.tables import exception
from gateway.store.text import plain

FRESH = 1.0
"""Seconds for which a snapshot is good: an exception counts, or counts no more, at most that much later."""


class Exceptions:
    """The exception records of one database."""

    def __init__(self, core: Core, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._core, self._monotonic = core, monotonic
        self._current: tuple[ExceptionRecord, ...] = ()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def snapshot(self) -> tuple[ExceptionRecord, ...]:
        """All that hold now. From memory; read anew when older than :data:`FRESH`. Raises StoreError, never stale."""
        if self._monotonic() - self._read_at < FRESH:
            return self._current
        async with self._reading:
            if self._monotonic() - self._read_at >= FRESH:
                at = self._monotonic()
                self._current = await self._active()
                self._read_at = at
        return self._current

    async def use(self, ids: Iterable[str]) -> None:
        """Count one use of each, all or none. Raises StoreError when one is used up, revoked or over meanwhile."""
        wanted, now = sorted(set(ids)), self._core.clock()
        if not wanted:
            return

        async def work(connection: AsyncConnection) -> None:
            for ident in wanted:
                row = (await connection.execute(_holding(now).where(exception.c.id == ident))).mappings().first()
                if row is None:
                    raise StoreError(f"exception {ident} is used up, revoked or over")
                if row["uses_left"] is not None:
                    left = {"uses_left": row["uses_left"] - 1}
                    await connection.execute(update(exception).where(exception.c.id == ident).values(left))
                    await events.append(connection, ident, "exception-used", now, events.GATEWAY)

        counted = {record.id for record in await self.snapshot() if record.uses_left is None}
        if set(wanted) <= counted:
            return  # nothing to count: no write on the hot path
        try:
            await self._core.database.write(work)
        finally:
            self._read_at = float("-inf")

    async def give_back(self, ids: Iterable[str]) -> None:
        """Take one use of each back, for a message that did not leave after all. Raises StoreError."""
        wanted, now = sorted(set(ids)), self._core.clock()

        async def work(connection: AsyncConnection) -> None:
            for ident in wanted:
                counted = update(exception).where(exception.c.id == ident, exception.c.uses_left.is_not(None))
                if (await connection.execute(counted.values(uses_left=exception.c.uses_left + 1))).rowcount:
                    await events.append(connection, ident, "exception-given-back", now, events.GATEWAY)

        counted = {record.id for record in self._current if record.uses_left is None}
        if set(wanted) <= counted:
            return
        try:
            await self._core.database.write(work)
        finally:
            self._read_at = float("-inf")

    async def add(self, record: ExceptionRecord, os_user: str = "") -> ExceptionRecord:
        """Store it; returns it with addresses folded. Raises OperatorError."""
        record = checked(record)

        async def work(connection: AsyncConnection) -> None:
            await insert_record(connection, record, os_user)

        await self._core.database.write(work)
        self._read_at = float("-inf")
        return record

    async def list(self, *, everything: bool = False) -> tuple[tuple[ExceptionRecord, str], ...]:
        """Records with their state: active, used up, over, revoked; without ``everything``, the active only."""
        now = self._core.clock()
        async with self._core.database.read() as connection:
            found = (await connection.execute(select(exception).order_by(exception.c.created))).mappings().all()
        listed = tuple((_record(row), _state(row, now)) for row in found)
        return listed if everything else tuple(pair for pair in listed if pair[1] == "active")

    async def revoke(self, prefix: str, who: str = "", comment: str = "", origin: str = "") -> str:
        """End one now; returns its id. ``origin``: from where; by default as ``who``. Raises OperatorError."""
        now = self._core.clock()

        async def work(connection: AsyncConnection) -> str:
            ident = await rows.resolve(connection, prefix, exception, "exception")
            gone = update(exception).where(exception.c.id == ident, exception.c.revoked.is_(None)).values(revoked=now)
            if (await connection.execute(gone)).rowcount != 1:
                raise OperatorError(f"{ident} is revoked already; nothing was changed.")
            await events.append(
                connection, ident, "exception-revoked", now, Actor(who or "gateway", origin or who), comment
            )
            return ident

        ident = await self._core.database.write(work)
        self._read_at = float("-inf")
        return ident

    async def _active(self) -> tuple[ExceptionRecord, ...]:
        async with self._core.database.read() as connection:
            found = (await connection.execute(_holding(self._core.clock()))).mappings().all()
        return tuple(_record(row) for row in found)


def checked(record: ExceptionRecord) -> ExceptionRecord:
    """With addresses folded. Raises OperatorError for one that means nothing."""
    for name, value in (("sender", record.sender), ("recipient", record.recipient)):
        if value != "*" and ("@" not in value.removesuffix("@") or not value.isprintable()):
            raise OperatorError(f"The {name} must be an address, @domain or *, not «{plain(value)}».")
    if record.expires <= record.created:
        raise OperatorError(f"The exception would be over before it begins ({record.expires:%Y-%m-%d %H:%M} UTC).")
    if not plain(record.reason).strip() or not record.approver.strip():
        raise OperatorError("An exception needs a reason and an approver: it is the written approval.")
    sender, recipient = fold(record.sender), fold(record.recipient)
    return replace(record, sender=sender, recipient=recipient, reason=plain(record.reason).strip())


async def insert_record(connection: AsyncConnection, record: ExceptionRecord, os_user: str) -> None:
    """Add one, with its event, inside the caller's transaction. ``record``: :func:`checked`."""
    await connection.execute(
        insert(exception).values(
            id=record.id,
            kind=record.kind,
            sender=record.sender,
            recipient=record.recipient,
            reason=record.reason,
            approver=record.approver,
            created=record.created,
            expires=record.expires,
            uses_left=record.uses_left,
            max_size=record.max_size,
            revoked=None,
        )
    )
    words = f"{record.kind}: {record.sender} to {record.recipient} until {record.expires.isoformat()}"
    actor = Actor(record.approver, os_user)
    await events.append(connection, record.id, "exception-added", record.created, actor, words)


def _holding(now: datetime) -> Any:
    left = or_(exception.c.uses_left.is_(None), exception.c.uses_left > 0)
    return select(exception).where(and_(exception.c.revoked.is_(None), exception.c.expires > now, left))


def _record(row: Any) -> ExceptionRecord:
    return ExceptionRecord(**{key: value for key, value in row.items() if key != "revoked"})


def _state(row: Any, now: datetime) -> str:
    if row["revoked"] is not None:
        return "revoked"
    if row["uses_left"] == 0:
        return "used up"
    return "over" if row["expires"] <= now else "active"
