"""The one timer of a connection's steps."""

import asyncio
import gc
import weakref

from gateway.front.alarm import Alarm


async def test_a_step_that_takes_too_long_is_told() -> None:
    """It rings once, when the step's time is over and not before."""
    loop = asyncio.get_running_loop()
    rung: list[float] = []
    alarm = Alarm(loop, lambda: rung.append(loop.time()))
    begun = loop.time()
    alarm.set(0.05)
    await asyncio.sleep(0.15)
    assert len(rung) == 1
    assert rung[0] >= begun + 0.05


async def test_a_later_step_moves_the_end() -> None:
    """The timer of the first step rings in the middle of the second, and nobody hears of it."""
    loop = asyncio.get_running_loop()
    rung: list[float] = []
    alarm = Alarm(loop, lambda: rung.append(loop.time()))
    begun = loop.time()
    alarm.set(0.05)
    await asyncio.sleep(0.03)
    alarm.set(0.1)
    await asyncio.sleep(0.2)
    assert len(rung) == 1
    assert rung[0] >= begun + 0.13


async def test_a_shorter_step_is_not_bound_by_the_longer_one_before() -> None:
    """A step of half a second after one of an hour is told after half a second."""
    rung: list[int] = []
    alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(1))
    alarm.set(3600)
    alarm.set(0.03)
    await asyncio.sleep(0.1)
    assert rung == [1]


async def test_a_cancelled_alarm_is_silent_and_lets_go() -> None:
    """Who held it is freed at once, not when the collector comes by."""

    class Holder:
        def __init__(self) -> None:
            self.rung = False
            self.alarm = Alarm(asyncio.get_running_loop(), self.ring)

        def ring(self) -> None:
            self.rung = True

    holder = Holder()
    seen = weakref.ref(holder)
    holder.alarm.set(0.02)
    holder.alarm.cancel()
    await asyncio.sleep(0.05)
    assert not holder.rung
    gc.disable()
    try:
        del holder
        assert seen() is None
    finally:
        gc.enable()
