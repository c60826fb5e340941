"""The table of a held item's states, cell by cell."""

import itertools

import pytest

from gateway.hold.states import OPEN, Event, Impossible, State, step

EXPECTED = """
          approve attest complete reject   expire  withdraw  remind escalate split start     delivered refuse  hold-again return   damage  view      comment
attesting -       held   -        -        expired withdrawn -      -        -     -         -         -       -          -        damaged attesting attesting
held      held    -      approved rejected expired withdrawn held   held     held  -         -         -       -          -        damaged held      held
approved  -       -      -        -        -       -         -      -        -     releasing -         -       -          -        damaged approved  approved
releasing -       -      -        -        -       -         -      -        -     -         released  refused held       -        damaged releasing releasing
released  -       -      -        -        -       -         -      -        -     -         -         -       -          -        -       released  released
refused   -       -      -        -        -       -         -      -        -     -         -         -       -          -        -       refused   refused
rejected  -       -      -        -        -       -         -      -        -     -         -         -       -          returned -       rejected  rejected
expired   -       -      -        -        -       -         -      -        -     -         -         -       -          returned -       expired   expired
returned  -       -      -        -        -       -         -      -        -     -         -         -       -          -        -       returned  returned
withdrawn -       -      -        -        -       -         -      -        -     -         -         -       -          -        -       withdrawn withdrawn
damaged   -       -      -        rejected expired withdrawn -      -        -     -         -         -       -          -        -       -         damaged
"""  # noqa: E501 - one row a state
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
    reached, edge = {State.ATTESTING}, {State.ATTESTING}
    while edge:
        edge = {State(CELLS[s, e]) for s in edge for e in Event if CELLS[s, e] != "-"} - reached
        reached |= edge
    assert reached == set(State)
    ends = {s for s in State if all(CELLS[s, e] in ("-", s) for e in Event)}
    assert ends == {State.RELEASED, State.REFUSED, State.RETURNED, State.WITHDRAWN}
    assert not ends & OPEN
