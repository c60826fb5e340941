"""Exception records: added, snapshotted, used, revoked."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.errors import OperatorError, StoreError
from gateway.hold import Exceptions, Hold
from gateway.model.envelope import ExceptionRecord


@pytest.fixture
def record(clock: Any) -> Callable[..., ExceptionRecord]:
    """Makes a record that holds for a day."""

    def make(**changes: Any) -> ExceptionRecord:
        now = clock()
        values = {
            "id": "ex-1",
            "kind": "large-message",
            "sender": "Maps@City.Example",
            "recipient": "*",
            "reason": "Plans for the bridge",
            "approver": "ida@city.example",
            "created": now,
            "expires": now + timedelta(days=1),
        }
        return ExceptionRecord(**values | changes)

    return make


async def test_a_record_comes_back(hold: Hold, record: Callable[..., ExceptionRecord]) -> None:
    """What was added is in the next snapshot, addresses folded, with an event that names the approver."""
    added = await hold.exceptions.add(record(uses_left=2, max_size=200_000_000))
    assert added == replace(record(uses_left=2, max_size=200_000_000), sender="maps@city.example")
    assert await hold.exceptions.snapshot() == (added,)
    assert [e.event for e in await hold.history("ex-1")] == ["exception-added"]


@pytest.mark.parametrize(
    "changes",
    [{"sender": "nobody"}, {"recipient": ""}, {"reason": " "}, {"approver": ""}, {"expires": None}],
)
async def test_a_record_that_says_nothing_is_refused(
    hold: Hold, record: Callable[..., ExceptionRecord], clock: Any, changes: dict[str, Any]
) -> None:
    """Without parties, reason, approver and a time to come there is no exception."""
    if "expires" in changes:
        changes = {"expires": clock() - timedelta(seconds=1)}
    with pytest.raises(OperatorError):
        await hold.exceptions.add(record(**changes))
    assert await hold.exceptions.snapshot() == ()


async def test_expired_used_up_and_revoked_are_not_in_the_snapshot(
    hold: Hold, record: Callable[..., ExceptionRecord], clock: Any
) -> None:
    """The hot path sees only what holds; the list says why the others do not."""
    now = clock()
    await hold.exceptions.add(record(id="ex-over", expires=now + timedelta(minutes=1)))
    await hold.exceptions.add(record(id="ex-once", uses_left=1))
    await hold.exceptions.add(record(id="ex-gone"))
    await hold.exceptions.add(record(id="ex-good"))
    await hold.exceptions.use(["ex-once"])
    with pytest.raises(OperatorError, match="several"):
        await hold.exceptions.revoke("ex-go")
    await hold.exceptions.revoke("ex-gone", "root")
    clock.move(minutes=2)
    fresh = Exceptions(hold.core)
    assert [r.id for r in await fresh.snapshot()] == ["ex-good"]
    states = {r.id: state for r, state in await fresh.list(everything=True)}
    assert states == {"ex-over": "over", "ex-once": "used up", "ex-gone": "revoked", "ex-good": "active"}
    with pytest.raises(OperatorError, match="already"):
        await fresh.revoke("ex-gone")


async def test_the_snapshot_is_read_once_a_second(hold: Hold, record: Callable[..., ExceptionRecord]) -> None:
    """Within a second the same tuple is handed out; afterwards another process's change shows."""
    now = [100.0]
    mine, other = Exceptions(hold.core, monotonic=lambda: now[0]), Exceptions(hold.core)
    first = await mine.snapshot()
    await other.add(record())
    now[0] += 0.9
    assert await mine.snapshot() is first
    now[0] += 0.2
    assert [r.id for r in await mine.snapshot()] == ["ex-1"]
    await other.revoke("ex-1")
    now[0] += 1.1
    assert await mine.snapshot() == ()


async def test_the_last_use_is_given_once(hold: Hold, record: Callable[..., ExceptionRecord]) -> None:
    """Ten at once for one use: one gets it, nine get a StoreError; all or none of a set."""
    await hold.exceptions.add(record(uses_left=1))
    doors = [Exceptions(hold.core) for _ in range(10)]
    results = await asyncio.gather(*(door.use(["ex-1"]) for door in doors), return_exceptions=True)
    assert [type(r) for r in results if r is not None] == [StoreError] * 9
    await hold.exceptions.add(record(id="ex-2", uses_left=5))
    with pytest.raises(StoreError, match="used up"):
        await hold.exceptions.use(["ex-2", "ex-1"])
    left = {r.id: r.uses_left for r, _ in await hold.exceptions.list(everything=True)}
    assert left == {"ex-1": 0, "ex-2": 5}


async def test_an_unlimited_use_writes_nothing(hold: Hold, record: Callable[..., ExceptionRecord]) -> None:
    """Using an exception without a count costs no transaction."""
    await hold.exceptions.add(record())
    before = await hold.verify_events()
    await hold.exceptions.use(["ex-1"])
    assert await hold.verify_events() == before
