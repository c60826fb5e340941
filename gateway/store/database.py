"""The database: pragmas, migration at start, and the two ways in: ``read`` and ``write``.

A write is one transaction that begins IMMEDIATE, so that a reader never turns into a writer and meets a lock half-way;
writes of one process queue up in fair order, those of several wait on SQLite's lock. Whatever goes wrong in the
database leaves as :class:`~gateway.errors.StoreError` and leaves nothing half-written.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.errors import StoreError
from gateway.store.migrations import HEAD

Result = TypeVar("Result")
MIGRATIONS = Path(__file__).parent / "migrations"
READ_ONLY = "civicgate_read_only"


class Database:
    """One SQLite file in WAL mode with ``synchronous=FULL``: a commit that returned survives a power cut."""

    def __init__(self, path: Path, busy_timeout: float = 10.0) -> None:
        self.path = path
        self._engine = _engine(path, busy_timeout)
        self._writer = asyncio.Lock()
        self._out = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, busy_timeout: float = 10.0) -> "Database":
        """Make or migrate the file, then open it. Several processes may do so at once. Raises StoreError."""
        await asyncio.to_thread(migrate, path, busy_timeout)
        return cls(path, busy_timeout)

    async def close(self) -> None:
        """Refuse new work, wait for what is under way, then close all connections."""
        self._closed = True
        await uninterrupted(self._close())

    async def _close(self) -> None:
        await self._nobody.wait()
        await self._engine.dispose()

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
            except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
                raise StoreError(f"the store's database cannot be read: {error}") from error

    async def _lend(self) -> AsyncConnection:
        opening = asyncio.ensure_future(self._open_one())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await uninterrupted(_abandon(opening))
            raise

    async def _open_one(self) -> AsyncConnection:
        connection = await _Patient(self._engine).start()
        return await connection.execution_options(**{READ_ONLY: True})

    async def write(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction; commit when it returns, undo when it raises.

        A caller that is cancelled does not tear the transaction: it is finished first, then the cancellation goes on.
        Raises StoreError for the database's failures and lets the errors of ``work`` through.
        """
        return await uninterrupted(self._write(work))

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        try:
            with self._counted():
                async with self._writer, self._engine.begin() as connection:
                    return await work(connection)
        except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
            raise StoreError(f"the store's database cannot be written: {error}") from error


async def uninterrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """Await to the end even when the caller is cancelled meanwhile, once or often; the cancellation goes on after."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: the caller has gone
        raise


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
    with suppress(SQLAlchemyError, sqlite3.Error, OSError):
        await (await opening).close()


def _engine(path: Path, busy_timeout: float) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": busy_timeout}, pool_size=4)
    _prepare(engine.sync_engine)
    return engine


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # the «begin» below is ours; the driver's own leaves DDL outside
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("wb") as lock:
        _same_owner(path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def migrate(path: Path, busy_timeout: float = 10.0) -> None:
    """Bring the file to the newest revision, one process at a time. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _revision(path) == HEAD:
            return
        with _alone(path.with_suffix(".lock")):
            if _revision(path) != HEAD:
                _upgrade(path, busy_timeout)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error


def _same_owner(path: Path) -> None:
    """A store that the superuser makes belongs to whom its folder belongs."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _revision(path: Path) -> str:
    if not path.exists():
        return ""
    with closing(sqlite3.connect(path, timeout=10.0)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return ""
    return str(row[0]) if row else ""


def _upgrade(path: Path, busy_timeout: float) -> None:
    from alembic import command  # noqa: PLC0415 - only the first start pays for loading it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    _same_owner(path)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": busy_timeout}, poolclass=NullPool)
    _prepare(engine)
    try:
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"the store {path} is of another version of the gateway: {error}") from error
    finally:
        engine.dispose()
