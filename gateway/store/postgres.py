"""PostgreSQL, for several nodes: connections that come back by themselves, locks that let no two writers cross.

Transactions are READ COMMITTED, views REPEATABLE READ and read-only. A write that is alone holds one advisory lock
(:func:`alone`) from its first statement, so that the chain of events and everything that is read before it is written
are as they are on SQLite. A node that hangs or is cut off holds nobody up for longer than :data:`IDLE`. Refuses a
password in the address, and never prints one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from gateway.errors import StoreError
from gateway.store.migrations import HEAD
from gateway.store.schema import upgrade

WRITERS = 0x43697669
"""Advisory lock of whoever writes alone, and of the chain of events."""
MIGRATION = 0x43697667
"""Advisory lock of whoever makes or upgrades the schema."""
IDLE = 60.0
"""Seconds for which a transaction may stand still, and a statement may take, before the server ends it."""
CONNECTIONS = 8
"""Connections of one process at most."""
UNDONE = ("40001", "40P01")
"""SQLSTATEs: serialization_failure, deadlock_detected."""
PATIENCE = 5.0
"""Seconds for which the fate of a commit without an answer is asked for."""
ALONE = "civicgate_alone"
_INCARNATION = "coalesce((SELECT token FROM incarnation), '')"
_MARK = (
    "INSERT INTO incarnation SELECT 1, gen_random_uuid()::text WHERE NOT EXISTS (SELECT FROM incarnation) "
    "ON CONFLICT DO NOTHING"
)
"""After a crash the table is empty (it is unlogged): whoever connects first says that it is another server now."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the database is: an address without a password, and the password."""

    url: str
    """``postgresql://USER@HOST:PORT/NAME?sslmode=…`` (libpq's parameters)."""
    password: str = field(default="", repr=False)
    """Empty: none, or what the driver finds in ``~/.pgpass``."""

    async def connect(self, seconds: float) -> Any:
        """One connection of the driver. Raises asyncpg's errors and OSError."""
        return await asyncpg.connect(
            self.url,
            password=self.password or None,
            timeout=seconds,
            command_timeout=IDLE,
            server_settings={
                "application_name": "civicgate",
                "jit": "off",  # statements are small: compiling them costs more than running them
                "lock_timeout": f"{round(seconds * 1000)}ms",
                "statement_timeout": f"{round(IDLE * 1000)}ms",
                "idle_in_transaction_session_timeout": f"{round(IDLE * 1000)}ms",
                "tcp_keepalives_idle": "30",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
            },
        )


class PostgresEngine:
    """Connections to one server."""

    def __init__(self, server: Server, busy_timeout: float) -> None:
        self.server, self._busy_timeout = server, busy_timeout
        self.place = server.url
        self.engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=4,
            max_overflow=CONNECTIONS - 4,
            pool_timeout=busy_timeout,
            pool_pre_ping=True,
            hide_parameters=True,
        )
        event.listen(self.engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
        self.view = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._alone = asyncio.Lock()

    async def _connect(self) -> Any:
        connection = await self.server.connect(self._busy_timeout)
        try:
            if await connection.fetchval("SELECT to_regclass('incarnation')") is not None:
                await connection.execute(_MARK)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def migrate(self) -> None:
        """Make or upgrade the schema, one node at a time, all or nothing. Raises StoreError."""
        try:
            async with self.engine.begin() as connection:
                if await _revision(connection) == HEAD:
                    return
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION})"))
                if await _revision(connection) != HEAD:
                    await connection.run_sync(upgrade, self.place)
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StoreError(f"the store {self.place} cannot be opened: {cause}") from error

    def turn(self, *, alone: bool) -> contextlib.AbstractAsyncContextManager[Any]:
        """Who will write alone waits here first: one connection of the process waits for the lock, not all."""
        return self._alone if alone else contextlib.nullcontext()

    async def begin(self, connection: AsyncConnection, *, alone: bool) -> str:
        """Take the lock of whoever writes alone; returns the transaction's number and the server's incarnation."""
        lock = f"pg_advisory_xact_lock({WRITERS}), " if alone else ""
        row = (await connection.execute(text(f"SELECT {lock}pg_current_xact_id()::text, {_INCARNATION}"))).one()
        if alone:
            await connection.execution_options(**{ALONE: True})
        return f"{row[-2]} {row[-1]}"

    def is_conflict(self, error: Exception) -> bool:
        """Deadlock or serialisation."""
        return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in UNDONE

    async def was_committed(self, transaction: str) -> bool:
        """Ask the server, over a new connection, for as long as :data:`PATIENCE`.

        A server that crashed forgets numbers that no log on its disk had, and gives them to other transactions: what
        it says of one from before the crash is about somebody else's. Raises OSError then, and when it is away.
        """
        number, incarnation = transaction.split(" ")
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                connection = await self.server.connect(self._busy_timeout)
                try:
                    asked = f"SELECT pg_xact_status($1::text::xid8) AS state, {_INCARNATION} AS incarnation"
                    row = await connection.fetchrow(asked, number)
                finally:
                    await connection.close(timeout=2.0)
                if not incarnation or row["incarnation"] != incarnation:
                    break
                if row["state"] != "in progress":
                    return bool(row["state"] == "committed")
                problem: Exception = TimeoutError("it is still in progress")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                problem = error
            if asyncio.get_running_loop().time() > deadline:
                raise OSError(f"the connection was lost, and nobody knows whether it was committed: {problem}")
            await asyncio.sleep(0.1)
        raise OSError("the server crashed in the middle of a commit, and nobody knows whether it was committed")

    @contextlib.asynccontextmanager
    async def sole(self, name: str) -> AsyncIterator[bool]:
        """An advisory lock of a connection of its own: it goes when the connection does."""
        connection = await self.server.connect(self._busy_timeout)
        try:
            yield bool(await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"civicgate {name}"))
        finally:
            await connection.close(timeout=2.0)


async def alone(connection: AsyncConnection) -> None:
    """From here to the end of the transaction nobody else writes alone or appends an event. Free on SQLite.

    What was read before this may have changed: read it again, or lock it.
    """
    if connection.dialect.name != "postgresql":
        return
    inside = connection.sync_connection
    if inside is None or not inside.get_execution_options().get(ALONE, False):
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITERS})"))


async def _revision(connection: AsyncConnection) -> str:
    if (await connection.execute(text("SELECT to_regclass('alembic_version')"))).scalar() is None:
        return ""
    return str((await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() or "")


def _without_nul(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    """PostgreSQL's text holds no NUL; what strangers wrote may: it is kept as U+FFFD."""

    def clean(values: Any) -> Any:
        return tuple(v.replace("\0", "\ufffd") if isinstance(v, str) and "\0" in v else v for v in values)

    if executemany:
        return statement, [clean(values) for values in parameters]
    return statement, clean(parameters)
