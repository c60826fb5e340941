"""The circuit breaker: its table, cell by cell, and its behaviour in time."""

from itertools import product

import pytest

from gateway.checks.virus.breaker import TRANSITIONS, Breaker, Event, State

SHUT, OPEN, HALF = State.CLOSED, State.OPEN, State.PROBING
EXPECTED = {
    # state: success, failure, last failure, due, abandoned
    SHUT: (SHUT, SHUT, OPEN, SHUT, SHUT),
    OPEN: (SHUT, OPEN, OPEN, HALF, OPEN),
    HALF: (SHUT, OPEN, OPEN, HALF, OPEN),
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_cell(state: State, event: Event) -> None:
    """Every state with every event goes where this second table, written apart, says."""
    assert TRANSITIONS[state, event] is EXPECTED[state][list(Event).index(event)]


def test_the_table_has_no_other_cells() -> None:
    """The table is complete and holds nothing else."""
    assert set(TRANSITIONS) == set(product(State, Event))


def test_opens_after_failures_in_a_row() -> None:
    """Two failures of three leave it closed, a success starts the count anew, three in a row open it."""
    breaker = Breaker(3, 10.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0.0)
    assert breaker.state is SHUT
    assert breaker.admit(0.0)
    breaker.failed(1.0)
    assert breaker.state is OPEN
    assert not breaker.admit(1.0)


def test_lets_one_probe_through() -> None:
    """After the reset time one scan may ask, the next may not until the probe has told."""
    breaker = Breaker(1, 10.0)
    breaker.failed(100.0)
    assert breaker.wait(103.0) == 7.0
    assert not breaker.admit(109.9)
    assert breaker.admit(110.0)
    assert breaker.state is HALF
    assert not breaker.admit(110.0)
    breaker.succeeded()
    assert breaker.state is SHUT
    assert breaker.admit(110.0)


def test_failed_probe_opens_for_another_while() -> None:
    """A failed probe starts the reset time anew."""
    breaker = Breaker(1, 10.0)
    breaker.failed(0.0)
    assert breaker.admit(10.0)
    breaker.failed(12.0)
    assert not breaker.admit(21.9)
    assert breaker.admit(22.0)


def test_abandoned_probe_makes_room_for_the_next() -> None:
    """A probe whose client went away tells nothing; the next scan probes at once."""
    breaker = Breaker(1, 10.0)
    breaker.failed(0.0)
    assert breaker.admit(10.0)
    breaker.abandoned()
    assert breaker.state is OPEN
    assert breaker.admit(10.0)


def test_late_failures_do_not_put_off_the_probe() -> None:
    """Scans that were under way when it opened may fail later without moving the reset time."""
    breaker = Breaker(1, 10.0)
    breaker.failed(0.0)
    breaker.failed(9.0)
    assert breaker.admit(10.0)


def test_late_success_closes() -> None:
    """An answer to a scan from before the opening shows that clamd lives."""
    breaker = Breaker(1, 10.0)
    breaker.failed(0.0)
    breaker.succeeded()
    assert breaker.admit(0.0)
    breaker.failed(0.0)
    assert breaker.state is OPEN
