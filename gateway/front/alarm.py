"""One timer for the steps of a connection: each step must be over in its time, and nearly all are.

asyncio.timeout would make and cancel a timer for each of the steps of each message, which costs more than some of them
take. Refuses nothing itself: who set it decides what to do when it rings.
"""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings once the step that it was last set for has taken too long."""

    __slots__ = ("_late", "_loop", "_rings", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        """``late`` is called when it rings, maybe after the step is over: whether it is, the caller knows."""
        self._loop = loop
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._rings = self._until = 0.0
        """When the timer rings, and when the step must be over, by the loop's clock."""

    def set(self, seconds: float) -> None:
        """A step begins that may take so long. A timer that rings before that is left alone: it looks then."""
        self._until = self._loop.time() + seconds
        if self._timer is None or self._rings > self._until:
            if self._timer is not None:
                self._timer.cancel()
            self._wait()

    def cancel(self) -> None:
        """Never ring again. Lets go of whom it was to call, who holds the alarm: nobody need look for the circle."""
        self._late = _nobody
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer, self._rings = self._loop.call_at(self._until, self._ring), self._until

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._until:
            self._wait()
        else:
            self._late()


def _nobody() -> None:
    """Whom an alarm calls that was cancelled."""
