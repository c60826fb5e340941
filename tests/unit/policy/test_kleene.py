"""Three-valued logic, held by properties: more knowledge never turns a certain answer round."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.envelope import Client, Direction, Envelope, Recipient, Sender
from gateway.model.finding import Check, Finding, Findings
from gateway.policy.compiled import compile_condition
from gateway.policy.logic import NO, UNKNOWN, YES, Facts
from gateway.policy.when_schema import Condition

NOW = datetime(2026, 1, 15, tzinfo=UTC)
TO = Recipient("a@b.example", Direction.OUTBOUND)
LEAVES = [
    {"virus": True},
    {"content": {"types": ["t"]}},
    {"header": {"name": "X-A", "absent": True}},
    {"structure": ["nul"]},
    {"attachment": {"name": "*.exe"}},
    {"direction": "outbound"},
    {"direction": "internal"},
    {"recipient": {"outside": True}},
    {"sender": {"null": True}},
    {"size": {"over": 100}},
    {"size": {"under": 100}},
]
ITEMS = [
    Finding(Check.VIRUS, "v"),
    Finding(Check.CONTENT, "t"),
    Finding(Check.HEADER, "x-a"),
    Finding(Check.STRUCTURE, "nul"),
    Finding(Check.ATTACHMENT, "a/b", "x.exe"),
]
conditions: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda rows: {"all": rows}),
        st.lists(inner, min_size=1, max_size=3).map(lambda rows: {"any": rows}),
        inner.map(lambda row: {"not": row}),
    ),
    max_leaves=6,
)


def _facts(items: list[Finding], known: set[Check], size: int, complete: bool) -> Facts:
    envelope = Envelope("t", Client(""), Sender("a@city.example"), (TO,))
    return Facts(envelope, Findings(size, tuple(items), (), frozenset(known), complete), NOW, ())


@settings(max_examples=200, deadline=None)
@given(conditions, st.lists(st.sampled_from(ITEMS)), st.sets(st.sampled_from(list(Check))), st.integers(0, 200))
def test_more_knowledge_keeps_certain_answers(
    condition: dict[str, Any], items: list[Finding], known: set[Check], size: int
) -> None:
    """From MAIL through some checks to all of them, yes stays yes and no stays no; in the end nothing is unknown."""
    node = compile_condition(Condition.model_validate(condition))
    # A check that has answered has given all its findings; one that has not may have given none yet.
    early = [item for item in items if item.check in known]
    stages = [
        (_facts([], set(), size // 2, False), None),
        (_facts([], set(), size // 2, False), TO),
        (_facts(early, known, size, True), TO),
        (_facts(items, set(Check), size, True), TO),
    ]
    answers = [node.value(facts, recipient) for facts, recipient in stages]
    for before, after in pairwise(answers):
        assert before in (UNKNOWN, after)
    assert answers[-1] != UNKNOWN


@settings(max_examples=100, deadline=None)
@given(conditions, conditions, st.sets(st.sampled_from(list(Check))))
def test_de_morgan(one: dict[str, Any], other: dict[str, Any], known: set[Check]) -> None:
    """Not (a and b) is (not a) or (not b), also with unknowns."""
    facts = _facts([], known, 50, True)
    left = compile_condition(Condition.model_validate({"not": {"all": [one, other]}}))
    right = compile_condition(Condition.model_validate({"any": [{"not": one}, {"not": other}]}))
    assert left.value(facts, TO) == right.value(facts, TO)


@settings(max_examples=100, deadline=None)
@given(conditions, st.sets(st.sampled_from(list(Check))))
def test_whatever_is_unknown_has_a_check_to_blame(condition: dict[str, Any], known: set[Check]) -> None:
    """At end of data an unknown answer names checks that have not answered, so that on_failure can say which."""
    node = compile_condition(Condition.model_validate(condition))
    facts = _facts([], known, 50, True)
    blamed = node.blame(facts, TO)
    assert bool(blamed) == (node.value(facts, TO) == UNKNOWN)
    assert blamed.isdisjoint(known)


def test_values_are_ordered() -> None:
    """Min is and, max is or: they need no < unknown < yes."""
    assert NO < UNKNOWN < YES


@settings(max_examples=200, deadline=None)
@given(conditions, st.lists(st.sampled_from(ITEMS)), st.integers(0, 200), st.sampled_from(list(Direction)))
def test_what_never_holds_for_a_direction_does_not_hold(
    condition: dict[str, Any], items: list[Finding], size: int, direction: Direction
) -> None:
    """A rule that is passed over for a direction would have said no, whatever the message."""
    node = compile_condition(Condition.model_validate(condition))
    to = Recipient("a@b.example", direction)
    answers = [
        node.value(_facts(held, checks, size, complete), to)
        for held in ([], items) for checks in (set[Check](), set(Check)) for complete in (False, True)
    ]  # fmt: skip
    assert not node.never(direction) or answers == [NO] * len(answers)


@settings(max_examples=200, deadline=None)
@given(conditions, st.lists(st.sampled_from(ITEMS)), st.sets(st.sampled_from(list(Check))), st.integers(0, 200))
def test_what_needs_a_finding_does_not_hold_without(
    condition: dict[str, Any], items: list[Finding], known: set[Check], size: int
) -> None:
    """A rule that is passed over because a check was silent would have said no."""
    node = compile_condition(Condition.model_validate(condition))
    facts = _facts([item for item in items if item.check in known], known, size, True)
    assert node.needs().isdisjoint(facts.silent) or node.value(facts, TO) == NO
