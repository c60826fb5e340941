"""The database: one interface, ``read`` and ``write``, over SQLite (one file) or PostgreSQL (several nodes).

A read is a consistent view. A write is one transaction; by default nobody else writes meanwhile, on either database, so
that what the transaction has read still holds when it writes. Whatever goes wrong in the database leaves as
:class:`~gateway.errors.StoreError` and leaves nothing half-written; its text names no value that was to be stored.
A database that is away is asked anew by each call: work goes on by itself when it returns.
"""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import CursorResult
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import StoreError
from gateway.store.postgres import PostgresEngine, Server
from gateway.store.sqlite import SqliteEngine
from gateway.store.waiting import uninterrupted

__all__ = ["Database", "uninterrupted"]

Result = TypeVar("Result")
FAULTS = (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError)
TRIES = 6
"""How often a transaction is tried that the database undid because of another one (deadlock, serialisation)."""


class Kind(Protocol):
    """What the two databases do differently."""

    engine: AsyncEngine
    place: str
    """For messages; holds no secret."""
    view: Mapping[str, Any]
    """Execution options that make a transaction a consistent view."""

    async def migrate(self) -> None:
        """Make or upgrade the schema; several processes may do so at once. Raises StoreError."""

    def turn(self, *, alone: bool) -> AbstractAsyncContextManager[Any]:
        """Where a write waits for others of this process, before it takes a connection."""

    async def begin(self, connection: AsyncConnection, *, alone: bool) -> str:
        """First statement of a write; returns the transaction's name when its fate can be asked for later, else ""."""

    def is_conflict(self, error: Exception) -> bool:
        """Whether the transaction was undone because of another one, so that the same again may succeed."""

    def sole(self, name: str) -> AbstractAsyncContextManager[bool]:
        """A lock of that name over all processes and nodes, held through the block; False when another has it."""

    async def was_committed(self, transaction: str) -> bool:
        """What became of a transaction whose commit got no answer. Raises one of :data:`FAULTS` when nobody knows."""


class Database:
    """One process's connections to the store's database."""

    def __init__(self, place: Path | Server, busy_timeout: float = 10.0) -> None:
        """``place``: the SQLite file, or the PostgreSQL server. ``busy_timeout``: seconds to wait for a lock."""
        kind = SqliteEngine(place, busy_timeout) if isinstance(place, Path) else PostgresEngine(place, busy_timeout)
        self.kind: SqliteEngine | PostgresEngine = kind
        self._out = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._closed = False

    @classmethod
    async def open(cls, place: Path | Server, busy_timeout: float = 10.0) -> "Database":
        """Make or migrate the schema, then open. Several processes and nodes may do so at once. Raises StoreError."""
        database = cls(place, busy_timeout)
        try:
            await uninterrupted(database.kind.migrate())
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Refuse new work, wait for what is under way, then close all connections."""
        self._closed = True
        await uninterrupted(self._close())

    async def _close(self) -> None:
        await self._nobody.wait()
        await self.kind.engine.dispose()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Somebody is inside: a connection that outlives the event loop would end in its thread's traceback."""
        if self._closed:
            raise StoreError("the store is closed")
        self._out += 1
        self._nobody.clear()
        try:
            yield
        finally:
            self._out -= 1
            if not self._out:
                self._nobody.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view. A cancelled caller loses no connection: opening and closing are finished first.

        Raises StoreError.
        """
        with self._counted():
            try:
                connection = await self._lend()
                try:
                    yield connection
                finally:
                    await uninterrupted(connection.close())
            except FAULTS as error:
                raise StoreError(f"the store's database {self.kind.place} cannot be read: {_why(error)}") from error

    async def _lend(self) -> AsyncConnection:
        opening = asyncio.ensure_future(self._open_one())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await uninterrupted(_abandon(opening))
            raise

    async def _open_one(self) -> AsyncConnection:
        connection = await _Patient(self.kind.engine).start()
        return await connection.execution_options(**self.kind.view)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[Result]], *, alone: bool = True) -> Result:
        """Run ``work`` in one transaction; commit when it returns, undo when it raises.

        ``alone``: no other write of any node runs meanwhile, as it always is on SQLite: read, then write, and nothing
        has changed in between. Say False only for work that bears others beside it (its statements compare what they
        change, lock the rows that they count on, and append no event before they have locked the rest). ``work`` may
        run more than once: a transaction that the database undid because of another is begun again; it must not do
        anything but to the connection.

        A caller that is cancelled does not tear the transaction: it is finished first, then the cancellation goes on.
        Raises StoreError for the database's failures and lets the errors of ``work`` through. When a connection is
        lost in the middle of a commit, the database is asked what became of it.
        """
        return await uninterrupted(self._write(work, alone=alone))

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[Result]], *, alone: bool) -> Result:
        for left in reversed(range(TRIES)):
            try:
                with self._counted():
                    async with self.kind.turn(alone=alone):
                        return await self._transaction(work, alone=alone)
            except FAULTS as error:
                if not left or not self.kind.is_conflict(error):
                    place = self.kind.place
                    raise StoreError(f"the store's database {place} cannot be written: {_why(error)}") from error
            await asyncio.sleep(random.uniform(0.005, 0.05) * (TRIES - left))  # noqa: S311 - no secret
        raise AssertionError  # the last try returned or raised

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[Result]], *, alone: bool) -> Result:
        async with self.kind.engine.connect() as connection:
            await connection.begin()
            name = await self.kind.begin(connection, alone=alone)
            result = await work(connection)
            try:
                await connection.commit()
            except FAULTS:
                if not name:
                    raise
                await connection.invalidate()  # lets go of what is left of it, so that its fate is sealed
                if not await self.kind.was_committed(name):
                    raise
            return result


class _Patient(AsyncConnection):
    """A connection whose statements are finished even when the caller is cancelled meanwhile.

    A statement that is torn leaves the driver's thread with a connection that nobody closes.
    """

    __slots__ = ()

    async def execute(self, *args: Any, **kwargs: Any) -> CursorResult[Any]:
        """As its parent's, to the end."""
        return await uninterrupted(super().execute(*args, **kwargs))


async def _abandon(opening: "asyncio.Future[AsyncConnection]") -> None:
    """Close a connection that nobody waits for any more, as soon as it is open."""
    with suppress(*FAULTS):
        await (await opening).close()


def _why(error: Exception) -> str:
    """The driver's own words on one line, without the statement and its values, which may be somebody's mail."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__
