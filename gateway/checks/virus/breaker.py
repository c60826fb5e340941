"""Keeps a clamd that does not answer from costing every message its whole deadline.

After ``threshold`` failures in a row the breaker opens: scans are answered «unavailable» at once. After ``reset``
seconds one scan is let through as a probe; its success closes the breaker, its failure opens it for another while.
No clock of its own: whoever asks brings the time.
"""

from enum import StrEnum


class State(StrEnum):
    """What the breaker does with the next scan."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it, until the reset time."""
    PROBING = "probing"
    """Refuses it, for a probe is under way."""


class Event(StrEnum):
    """What happened."""

    SUCCESS = "success"
    """clamd answered."""
    FAILURE = "failure"
    """clamd did not answer; fewer than ``threshold`` times in a row."""
    LAST_FAILURE = "last-failure"
    """clamd did not answer, the ``threshold``-th time in a row or more."""
    DUE = "due"
    """A scan asks, and the reset time has come."""
    ABANDONED = "abandoned"
    """The probe ended without telling anything about clamd (its client went away)."""


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CLOSED, Event.SUCCESS): State.CLOSED,
    (State.CLOSED, Event.FAILURE): State.CLOSED,
    (State.CLOSED, Event.LAST_FAILURE): State.OPEN,
    (State.CLOSED, Event.DUE): State.CLOSED,
    (State.CLOSED, Event.ABANDONED): State.CLOSED,
    # An answer to a scan that began before the breaker opened tells as much as a probe's would.
    (State.OPEN, Event.SUCCESS): State.CLOSED,
    (State.OPEN, Event.FAILURE): State.OPEN,
    (State.OPEN, Event.LAST_FAILURE): State.OPEN,
    (State.OPEN, Event.DUE): State.PROBING,
    (State.OPEN, Event.ABANDONED): State.OPEN,
    (State.PROBING, Event.SUCCESS): State.CLOSED,
    (State.PROBING, Event.FAILURE): State.OPEN,
    (State.PROBING, Event.LAST_FAILURE): State.OPEN,
    (State.PROBING, Event.DUE): State.PROBING,
    (State.PROBING, Event.ABANDONED): State.OPEN,
}
"""Every state with every event."""


class Breaker:
    """The state, the failures in a row, and when the next probe is due. Times are seconds of a monotonic clock."""

    __slots__ = ("_due", "_failures", "_reset", "_threshold", "state")

    def __init__(self, threshold: int, reset: float) -> None:
        self.state = State.CLOSED
        self._threshold = threshold
        self._reset = reset
        self._failures = 0
        self._due = 0.0

    def admit(self, now: float) -> bool:
        """True when a scan may ask clamd. In :attr:`State.PROBING` that scan is the probe: tell how it ended."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN and now >= self._due:
            self.state = TRANSITIONS[self.state, Event.DUE]
            return True
        return False

    def succeeded(self) -> None:
        """Clamd answered, whatever it said."""
        self._failures = 0
        self.state = TRANSITIONS[self.state, Event.SUCCESS]

    def failed(self, now: float) -> None:
        """Clamd did not answer, or not with sense."""
        self._failures += 1
        event = Event.LAST_FAILURE if self._failures >= self._threshold else Event.FAILURE
        before, self.state = self.state, TRANSITIONS[self.state, event]
        if self.state is State.OPEN and before is not State.OPEN:
            self._due = now + self._reset

    def abandoned(self) -> None:
        """The probe ended without an answer to the question; the next scan may probe at once."""
        self.state = TRANSITIONS[self.state, Event.ABANDONED]

    def wait(self, now: float) -> float:
        """Seconds until a probe is due, 0 when one is due, under way or not needed."""
        return max(0.0, self._due - now) if self.state is State.OPEN else 0.0
