"""The record of events: append-only, chained, verifiable."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.hold import Acceptance, Hold
from gateway.settings import Settings


@pytest.fixture
async def database(hold: Hold, acceptance: Callable[..., Acceptance], settings: Settings) -> Path:
    """A database with three events."""
    for transaction in ("T1", "T2", "T3"):
        await hold.accept(acceptance(transaction))
    return settings.store.directory / "store.db"


async def test_a_good_chain_verifies(hold: Hold, database: Path) -> None:
    """An untouched record counts its rows and ends in the last hash."""
    last = (await hold.history("T3-h1"))[-1].hash
    assert await hold.verify_events() == (3, last)


@pytest.mark.parametrize("statement", ["UPDATE event SET actor = 'x'", "DELETE FROM event WHERE seq = 2"])
async def test_events_cannot_be_changed(hold: Hold, database: Path, statement: str) -> None:
    """The database itself refuses to change or delete an event."""
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET actor = 'somebody else' WHERE seq = 2",
        "UPDATE event SET at = at + 1 WHERE seq = 1",
        "DELETE FROM event WHERE seq = 2",
        "UPDATE event SET seq = 9 WHERE seq = 3",
    ],
)
async def test_tampering_shows(hold: Hold, database: Path, statement: str) -> None:
    """Whoever takes the triggers away and alters a row is found out."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TRIGGER event_no_update")
        connection.execute("DROP TRIGGER event_no_delete")
        connection.execute(statement)
        connection.commit()
    with pytest.raises(StoreError, match="altered"):
        await hold.verify_events()
