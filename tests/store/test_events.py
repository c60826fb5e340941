"""The record of events: append-only, chained, verifiable."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.errors import StoreError
from gateway.hold import Acceptance, Hold


@pytest.fixture
async def three(hold: Hold, acceptance: Callable[..., Acceptance], by_hand: Any) -> Any:
    """A database with three events, behind the gateway's back."""
    for transaction in ("T1", "T2", "T3"):
        await hold.accept(acceptance(transaction))
    return by_hand


async def test_a_good_chain_verifies(hold: Hold, three: Any) -> None:
    """An untouched record counts its rows and ends in the last hash."""
    last = (await hold.history("T3-h1"))[-1].hash
    assert await hold.verify_events() == (3, last)


@pytest.mark.parametrize("statement", ["UPDATE event SET actor = 'x'", "DELETE FROM event WHERE seq = 2"])
async def test_events_cannot_be_changed(three: Any, statement: str) -> None:
    """The database itself refuses to change or delete an event."""
    with pytest.raises((sqlite3.IntegrityError, asyncpg.RaiseError), match="append-only"):
        await three(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET actor = 'somebody else' WHERE seq = 2",
        "UPDATE event SET at = at + 1 WHERE seq = 1",
        "DELETE FROM event WHERE seq = 2",
        "UPDATE event SET seq = 9 WHERE seq = 3",
    ],
)
async def test_tampering_shows(hold: Hold, three: Any, statement: str) -> None:
    """Whoever takes the triggers away and alters a row is found out."""
    if isinstance(three.at, Path):
        await three("DROP TRIGGER event_no_update", "DROP TRIGGER event_no_delete", statement)
    else:
        await three("DROP TRIGGER event_append_only ON event", statement)
    with pytest.raises(StoreError, match="altered"):
        await hold.verify_events()
