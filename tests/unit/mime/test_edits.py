"""Edits by byte range: what no edit covers stays, octet for octet."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mime import Edit, EditPlan


@st.composite
def plans(draw: st.DrawFn) -> tuple[bytes, list[Edit]]:
    """Octets and edits on them that do not overlap, in any order."""
    data = draw(st.binary(max_size=200))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    edits = [Edit(start, end, draw(st.binary(max_size=10))) for start, end in pairs]
    return data, draw(st.permutations(edits))


def _applied(data: bytes, edits: list[Edit]) -> bytes:
    return b"".join(bytes(piece) for piece in EditPlan(edits).pieces(data))


@given(plans())
def test_unedited_octets_stay(drawn: tuple[bytes, list[Edit]]) -> None:
    """Between edits the output is the input; delta is the growth; new octets stand in their places."""
    data, edits = drawn
    plan = EditPlan(edits)
    result = b"".join(bytes(piece) for piece in plan.pieces(data))
    assert len(result) == len(data) + plan.delta
    position = at = 0
    for edit in plan.edits:
        kept = data[at : edit.start]
        assert result[position : position + len(kept)] == kept
        position += len(kept)
        assert result[position : position + len(edit.data)] == edit.data
        position += len(edit.data)
        at = edit.end
    assert result[position:] == data[at:]


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 50), st.integers(1, 20))
def test_overlap_is_refused(first: int, length: int, second: int, other: int) -> None:
    """Two replacements are accepted exactly when their ranges have no octet in common."""
    edits = [Edit(first, first + length, b"a"), Edit(second, second + other, b"b")]
    if first + length <= second or second + other <= first:
        EditPlan(edits)
    else:
        with pytest.raises(ValueError, match="overlap"):
            EditPlan(edits)


def test_insertion_inside_a_replacement_is_refused() -> None:
    """An insertion at an inner octet of a replaced range has no place; at its edges it has."""
    with pytest.raises(ValueError, match="overlap"):
        EditPlan([Edit(2, 6, b"x"), Edit(4, 4, b"y")])
    assert _applied(b"abcdefgh", [Edit(2, 6, b"X"), Edit(2, 2, b"<"), Edit(6, 6, b">")]) == b"ab<X>gh"


def test_insertions_at_one_point_keep_their_order() -> None:
    """First given, first in the message."""
    assert _applied(b"ab", [Edit(1, 1, b"1"), Edit(1, 1, b"2"), Edit(1, 1, b"3")]) == b"a123b"


def test_edits_that_cannot_be_are_refused() -> None:
    """Backwards, before the start, or beyond the end (that before the first piece)."""
    with pytest.raises(ValueError, match="backwards"):
        Edit(3, 2, b"")
    with pytest.raises(ValueError, match="backwards"):
        Edit(-1, 2, b"")
    with pytest.raises(ValueError, match="beyond"):
        EditPlan([Edit(0, 4, b"")]).pieces(b"abc")


def test_pieces_are_views_of_bounded_size() -> None:
    """A large message is not copied: pieces are views on it of at most 256 KiB."""
    data = bytes(1_000_000)
    pieces = list(EditPlan([Edit(500_000, 500_001, b"x")]).pieces(data))
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert len(pieces) == len(views) + 1
    assert all(len(view) <= 256 * 1024 and view.obj is data for view in views)
    assert sum(map(len, pieces)) == len(data)


def test_plan_travels_between_processes() -> None:
    """Plans are picklable values."""
    plan = EditPlan([Edit(1, 2, b"x"), Edit(0, 0, b"y")])
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert not EditPlan()
    assert plan.edits[0].data == b"y"
