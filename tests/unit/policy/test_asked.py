"""Questions by envelope: a rule that the envelope rules out asks nothing, and the verdict is the same for it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.checks.passive import PASSIVE, inspect
from gateway.model.envelope import Client, Direction, Envelope, Recipient, Sender
from gateway.model.finding import Check, Finding, Findings, Questions
from gateway.policy import asked, decide
from gateway.policy.logic import NO, Facts
from gateway.settings import InspectionSettings
from tests.shipped import shipped_rules, shipped_scanner

RULES = Path(__file__).parents[3] / "rules"
ORDINARY = sorted((RULES.parent / "tests" / "rules" / "ordinary").rglob("*.eml"))
NOW = datetime(2026, 1, 15, tzinfo=UTC)


def envelope(direction: Direction, *marks: str) -> Envelope:
    """One message to one recipient."""
    inside = direction is not Direction.INBOUND
    to = Recipient("b@elsewhere.example" if direction is Direction.OUTBOUND else "b@city.example", direction)
    return Envelope("t", Client("192.0.2.1", inside=inside), Sender("a@city.example", frozenset(marks)), (to,))


def test_only_contractors_are_asked_for_a_signature_block() -> None:
    """The rule looks at contractors alone; nobody else's mail is searched for a signature block."""
    plain = asked(envelope(Direction.OUTBOUND), shipped_rules(), NOW)
    marked = asked(envelope(Direction.OUTBOUND, "contractor"), shipped_rules(), NOW)
    assert Check.SIGNATURE_BLOCK not in plain.checks
    assert Check.SIGNATURE_BLOCK in marked.checks
    assert marked.signature_wordings == shipped_rules().questions.signature_wordings


@pytest.mark.parametrize("direction", list(Direction))
def test_rules_that_are_not_looked_at_could_not_be_ruled_out(direction: Direction) -> None:
    """A shipped rule that counts as asked without a look at the envelope asks, whoever sends to whomever."""
    ways = shipped_rules().ways(frozenset({direction}))
    assert ways.open
    for which in (
        envelope(direction),
        envelope(direction, "contractor"),
        replace(envelope(direction), sender=Sender("")),
    ):
        facts = Facts(which, Findings(0, (), (), frozenset(), complete=False), NOW, ())
        for rule in shipped_rules().active:
            asks = rule.when.value(facts, which.recipients[0]) != NO
            assert asks or rule.id not in ways.open
            assert rule in ways.going or not asks


def test_what_is_asked_of_content_is_all_or_nothing() -> None:
    """One set of types is compiled, not one an envelope."""
    for direction in Direction:
        questions = asked(envelope(direction), shipped_rules(), NOW)
        assert questions.types in (frozenset(), shipped_rules().questions.types)


def test_many_recipients_are_asked_everything() -> None:
    """Looking at thousands of recipients would cost more than it saves."""
    one = envelope(Direction.OUTBOUND)
    many = Envelope(one.transaction, one.client, one.sender, one.recipients * 21)
    assert asked(many, shipped_rules(), NOW) is shipped_rules().questions


@pytest.mark.parametrize("marks", [(), ("contractor",)])
@pytest.mark.parametrize("direction", list(Direction))
def test_the_verdict_is_that_of_all_questions(direction: Direction, marks: tuple[str, ...]) -> None:
    """What was not asked changes no verdict, on every ordinary message and with a virus found."""
    which = envelope(direction, *marks)
    assert ORDINARY
    for path in ORDINARY:
        for virus in ((), (Finding(Check.VIRUS, "Test"),)):
            few, whole = (
                decide(which, findings(path.read_bytes(), which, questions, virus), shipped_rules(), NOW)
                for questions in (asked(which, shipped_rules(), NOW), shipped_rules().questions)
            )
            assert few == whole, path.name


def findings(message: bytes, which: Envelope, questions: Questions, virus: tuple[Finding, ...]) -> Findings:
    """What the checks answer when asked so."""
    items = inspect(message, which, questions, shipped_scanner(), InspectionSettings())
    known = (questions.checks & PASSIVE) | {Check.VIRUS}
    return Findings(len(message), (*items, *virus), (), known)
