"""The queue before inspection processes: nobody waits long behind one slow message, and nothing grows without bound."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import pytest_asyncio

from gateway.checks.lanes import PATIENCE, Lane
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage
from tests import pace

pytestmark = pytest.mark.asyncio(loop_scope="module")
MESSAGE = SpooledMessage.of(b"Subject: x\r\n\r\nwords\r\n")


@pytest.fixture(scope="module")
def bad() -> Iterator[ModuleType]:
    """The hostile functions, importable here and in inspection processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "hostile"))
        yield importlib.import_module("hostile_functions")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lane(bad: ModuleType) -> AsyncIterator[Lane]:
    """One process, and one more when it is needed."""
    assert bad.__name__ == "hostile_functions"
    one = Lane(InspectionSettings.model_validate({"timeout": "20 s", "processes": 1}), more=1)
    yield one
    await one.close()


async def slept(lane: Lane, bad: ModuleType, seconds: float) -> int:
    """The process that slept so long."""
    pid: int = await lane.call(bad.sleep, MESSAGE, lambda _told: (seconds,))
    return pid


async def test_quick_requests_share_one_process(lane: Lane, bad: ModuleType) -> None:
    """Nobody waits long, so nothing is started."""
    assert len(set(await asyncio.gather(*(slept(lane, bad, 0.01) for _ in range(8))))) == 1


async def test_nobody_waits_for_a_slow_one(lane: Lane, bad: ModuleType) -> None:
    """While one message takes its time, the next is read by a process more, which begins within moments."""
    slow = asyncio.create_task(slept(lane, bad, 8.0))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    other = await slept(lane, bad, 0.0)
    assert not slow.done()
    assert time.monotonic() - started > PATIENCE / 2
    started = time.monotonic()
    assert await slept(lane, bad, 0.0) == other  # it stays as long as it is needed
    assert time.monotonic() - started < pace.seconds(1.0)
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_a_bound_holds(lane: Lane, bad: ModuleType) -> None:
    """However many are slow, there is one process more and no third; and all are served in the end."""
    pids = await asyncio.gather(*(slept(lane, bad, 0.6) for _ in range(4)))
    assert len(set(pids)) == 2


async def test_the_queue_shrinks_again(lane: Lane, bad: ModuleType) -> None:
    """When nobody waits any more, requests that come together share one process as before."""
    await asyncio.gather(*(slept(lane, bad, 0.4) for _ in range(3)))
    assert len(set(await asyncio.gather(*(slept(lane, bad, 0.01) for _ in range(6))))) == 1
