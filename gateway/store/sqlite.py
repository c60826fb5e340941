"""SQLite: one file in WAL mode with ``synchronous=FULL``, so that a commit that returned survives a power cut.

A write begins IMMEDIATE, so that a reader never turns into a writer and meets a lock half-way; writes of one process
queue up in fair order, those of several wait on SQLite's lock. Refuses nothing that PostgreSQL takes, and is for one
machine: SQLite's locks do not hold on network file systems.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.errors import StoreError
from gateway.store.migrations import HEAD
from gateway.store.schema import upgrade

READ_ONLY = "civicgate_read_only"


class SqliteEngine:
    """Connections to one file."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path, self._busy_timeout = path, busy_timeout
        self.place = str(path)
        self.engine = create_async_engine(
            f"sqlite+aiosqlite:///{path}", connect_args={"timeout": busy_timeout}, pool_size=4, hide_parameters=True
        )
        _prepare(self.engine.sync_engine)
        self.view = {READ_ONLY: True}
        self._writer = asyncio.Lock()

    async def migrate(self) -> None:
        """Make or upgrade the file. Raises StoreError."""
        await asyncio.to_thread(migrate, self.path, self._busy_timeout)

    def turn(self, *, alone: bool) -> asyncio.Lock:
        """One write at a time."""
        return self._writer

    async def begin(self, connection: AsyncConnection, *, alone: bool) -> str:
        """Nothing to do: every write is alone, and a commit always has an answer."""
        return ""

    def is_conflict(self, error: Exception) -> bool:
        """Never: writers wait for each other from the beginning."""
        return False

    async def was_committed(self, transaction: str) -> bool:
        """Never asked."""
        return False

    @asynccontextmanager
    async def sole(self, name: str) -> AsyncIterator[bool]:
        """A lock on a file beside the database."""
        path = self.path.with_suffix(f".{name}-lock")
        with path.open("wb") as lock:
            _same_owner(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


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
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    _same_owner(path)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": busy_timeout}, poolclass=NullPool)
    _prepare(engine)
    try:
        with engine.begin() as connection:
            upgrade(connection, str(path))
    finally:
        engine.dispose()
