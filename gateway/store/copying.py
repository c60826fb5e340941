"""From SQLite to PostgreSQL: every row in one transaction, while nobody writes; bodies stay where they are.

Refuses a target that has rows already. The old file then names its successor, cannot be opened any more, and takes no
write of who has it open: no gateway goes on in it by mistake, not even one that was not stopped.
"""

from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.store import events
from gateway.store.database import Database
from gateway.store.opening import MOVED
from gateway.store.tables import metadata, store

STEP = 500


async def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy all tables; returns how many rows each has. Raises OperatorError, StoreError; then the target is empty."""

    async def read(old: AsyncConnection) -> dict[str, int]:
        async def write(new: AsyncConnection) -> dict[str, int]:
            counts = {table.name: await _copy_table(old, new, table) for table in metadata.sorted_tables}
            await events.verify(new)
            return counts

        counts = await target.write(write)
        await old.execute(insert(store).values(name=MOVED, value=target.kind.place))
        await _close(old, target.kind.place)
        return counts

    return await source.write(read)


async def _close(old: AsyncConnection, place: str) -> None:
    """Whoever has the file open is refused from the commit on: a 250 for what only the old file has would lose mail."""
    words = f"it was copied to {place}".replace("'", "''")
    for table in metadata.sorted_tables:
        for verb in ("INSERT", "UPDATE", "DELETE"):
            when = f"CREATE TRIGGER moved_{table.name}_{verb.lower()} BEFORE {verb} ON {table.name}"
            await old.exec_driver_sql(f"{when} BEGIN SELECT RAISE(ABORT, '{words}'); END")


async def _copy_table(old: AsyncConnection, new: AsyncConnection, table: Any) -> int:
    if (await new.execute(select(table).limit(1))).first() is not None:
        raise OperatorError(f"The target's table «{table.name}» is not empty: nothing was copied.")
    keys = list(table.primary_key.columns)
    count = 0
    while True:
        rows = (await old.execute(select(table).order_by(*keys).limit(STEP).offset(count))).mappings().all()
        if not rows:
            break
        await new.execute(insert(table), [dict(row) for row in rows])
        count += len(rows)
    (key, *more) = keys
    if new.dialect.name == "postgresql" and not more and key.type.python_type is int:
        sequence = (await new.execute(text(f"SELECT pg_get_serial_sequence('{table.name}', '{key.name}')"))).scalar()
        if sequence:
            largest = (await new.execute(select(func.coalesce(func.max(key), 0)))).scalar_one()
            await new.execute(text("SELECT setval(:name, :next, false)"), {"name": sequence, "next": largest + 1})
    return count
