"""The table of a held item's states, cell by cell."""

import itertools

import pytest

from gateway.hold.states import OPEN, Event, Impossible, State, step

EXPECTED = """
            approve  complete reject   expire  start     delivered refuse  hold-again return   damage  view
held        held     approved rejected expired -         -         -       -          -        damaged held
approved    -        -        -        -       releasing -         -       -          -        damaged approved
releasing   -        -        -        -       -         released  refused held       -        damaged releasing
released    -        -        -        -       -         -         -       -          -        -       released
refused     -        -        -        -       -         -         -       -          -        -       refused
rejected    -        -        -        -       -         -         -       -          returned -       rejected
expired     -        -        -        -       -         -         -       -          returned -       expired
returned    -        -        -        -       -         -         -       -          -        -       returned
damaged     -        -        rejected expired -         -         -       -          -        -       -
"""
HEAD, *ROWS = [line.split() for line in EXPECTED.strip().splitlines()]
CELLS = {(row[0], event): cell for row in ROWS for event, cell in zip(HEAD, row[1:], strict=True)}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_cell(state: State, event: Event) -> None:
    """Every pair of state and event leads where the table in this file says, or is impossible."""
    wanted = CELLS[state, event]
    if wanted == "-":
        with pytest.raises(Impossible, match=f"{state} item cannot take «{event}»"):
            step(state, event)
    else:
        assert step(state, event) == wanted


def test_every_state_can_be_reached_and_left() -> None:
    """No state is an island: all but the first are entered, and from every open one there is a way to an end."""
    reached, edge = {State.HELD}, {State.HELD}
    while edge:
        edge = {State(CELLS[s, e]) for s in edge for e in Event if CELLS[s, e] != "-"} - reached
        reached |= edge
    assert reached == set(State)
    ends = {s for s in State if all(CELLS[s, e] in ("-", s) for e in Event)}
    assert ends == {State.RELEASED, State.REFUSED, State.RETURNED}
    assert not ends & OPEN
