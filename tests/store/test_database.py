"""Opening: migration by the first of several, pragmas, schema as the code has it."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from gateway.errors import ConfigErrors, StoreError
from gateway.hold import Hold, open_hold
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.migrations import HEAD
from gateway.store.postgres import Server
from gateway.store.schema import MIGRATIONS
from gateway.store.sqlite import migrate
from gateway.store.tables import metadata
from tests.postgresql import Cluster

OPENER = """
import os, sys, time
from pathlib import Path
from gateway.store.bodies import Bodies
from gateway.store.sqlite import migrate

folder, children = Path(sys.argv[1]), []
at = time.time() + 0.3
for _ in range(8):
    child = os.fork()
    if child == 0:
        time.sleep(max(0, at - time.time()))
        migrate(folder / "store.db")
        (public,) = Bodies.local(folder / "bodies", folder / "body.key").keys.identities()
        (folder / f"key{os.getpid()}").write_text(public)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def test_the_newest_revision_is_the_one_that_is_named() -> None:
    """HEAD, by which a start knows that it has nothing to do, is alembic's head."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    """Columns, types, nullability, keys and indexes of the migrated file are those of the metadata."""
    migrate(tmp_path / "a.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'b.db'}", poolclass=NullPool)
    metadata.create_all(engine)

    def shape(path: Path) -> dict[str, Any]:
        found = inspect(create_engine(f"sqlite:///{path}", poolclass=NullPool))
        names = [name for name in found.get_table_names() if name not in ("alembic_version", "incarnation")]
        return {
            name: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
                found.get_pk_constraint(name)["constrained_columns"],
                sorted((k["constrained_columns"], k["referred_table"]) for k in found.get_foreign_keys(name)),
                sorted((i["name"], i["column_names"]) for i in found.get_indexes(name)),
                sorted((u["name"], u["column_names"]) for u in found.get_unique_constraints(name)),
            )
            for name in names
        }

    assert shape(tmp_path / "a.db") == shape(tmp_path / "b.db")


async def test_on_postgresql_migrations_make_the_same_tables(cluster: Cluster) -> None:
    """Columns, types, nullability, keys and indexes of the migrated database are those of the metadata."""

    def shape(connection: Any) -> dict[str, Any]:
        found = inspect(connection)
        return {
            name: (
                sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)),
                found.get_pk_constraint(name)["constrained_columns"],
                sorted((k["constrained_columns"], k["referred_table"]) for k in found.get_foreign_keys(name)),
                sorted((str(i["name"]), i["column_names"]) for i in found.get_indexes(name)),
                sorted((str(u["name"]), u["column_names"]) for u in found.get_unique_constraints(name)),
            )
            for name in found.get_table_names()
            if name not in ("alembic_version", "incarnation")
        }

    names = [await asyncio.to_thread(cluster.create) for _ in range(2)]
    migrated, made = await Database.open(Server(cluster.url(names[0]))), Database(Server(cluster.url(names[1])))
    try:
        async with made.kind.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            wanted = await connection.run_sync(shape)
        async with migrated.kind.engine.begin() as connection:
            assert await connection.run_sync(shape) == wanted
    finally:
        for database in (migrated, made):
            await database.close()
        for name in names:
            await asyncio.to_thread(cluster.drop, name)


async def test_several_nodes_that_start_first_at_once(cluster: Cluster) -> None:
    """Six nodes open an empty PostgreSQL database: all succeed, with one schema."""
    name = await asyncio.to_thread(cluster.create)
    opened = await asyncio.gather(*(Database.open(Server(cluster.url(name))) for _ in range(6)))
    for database in opened:
        await database.close()
    assert await cluster.ask(name, "SELECT version_num FROM alembic_version") == [[(HEAD,)]]
    await asyncio.to_thread(cluster.drop, name)


def test_several_first_starts_at_once(tmp_path: Path) -> None:
    """Eight processes open a store that is not there yet: all succeed, with one schema and one key."""
    done = subprocess.run(
        [sys.executable, "-c", OPENER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len({path.read_text() for path in tmp_path.glob("key*")}) == 1
    assert len(list(tmp_path.glob("key*"))) == 8


@pytest.mark.sqlite
async def test_the_pragmas_hold(hold: Hold) -> None:
    """WAL, synchronous=FULL and foreign keys are on in every connection."""
    async with hold.core.database.read() as one, hold.core.database.read() as two:
        for connection in (one, two):
            found = [
                (await connection.execute(text(f"PRAGMA {name}"))).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert found == ["wal", 2, 1]


async def test_a_store_from_the_future_is_refused(settings: Settings, city: Any, hold: Hold, by_hand: Any) -> None:
    """A database that a newer version has migrated is not touched by an older one."""
    await by_hand("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="9999"):
        await open_hold(settings, city)


@pytest.mark.sqlite
async def test_a_store_that_cannot_be_opened_says_which(settings: Settings, city: Any, tmp_path: Path) -> None:
    """A file where the folder should be, a database that is none: StoreError with the path."""
    settings.store.directory.write_text("not a folder")
    with pytest.raises(StoreError, match="store"):
        await open_hold(settings, city)
    settings.store.directory.unlink()
    settings.store.directory.mkdir()
    (settings.store.directory / "store.db").write_text("not a database " * 100)
    with pytest.raises(StoreError, match=r"store\.db"):
        await open_hold(settings, city)


@pytest.mark.sqlite
async def test_templates_that_are_missing_stop_the_start(settings: Settings, city: Any, tmp_path: Path) -> None:
    """Without its texts the gateway does not start."""
    own = settings.model_copy(update={"notices": settings.notices.model_copy(update={"templates": tmp_path})})
    with pytest.raises(ConfigErrors, match=r"held-approver\.txt"):
        await open_hold(own, city)
