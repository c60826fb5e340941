"""Early answers: only what is certain, at MAIL, at RCPT and while the message comes in."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.model.finding import Check, Finding, Findings
from gateway.policy import decide, decide_early

BIG = {"when": {"size": {"over": 1000}}, "then": {"reject": {"text": "Too big.", "code": 552, "enhanced": "5.3.4"}}}
EXCEPTED = {**BIG, "unless": {"exception": "big"}}


def _code(reply: Any) -> int:
    return reply.code if reply else 0


@pytest.mark.parametrize(("declared", "code"), [(None, 0), (1000, 0), (1001, 552)])
def test_declared_size_answers_at_mail(world: Any, declared: int | None, code: int) -> None:
    """SIZE= over the limit is refused at MAIL; a smaller or absent one is not an acceptance."""
    reply = decide_early(world.envelope(declared=declared), world.before(), world.rules(BIG), world.now)
    assert _code(reply) == code


@pytest.mark.parametrize(("size", "code"), [(0, 0), (1000, 0), (1001, 552)])
def test_size_so_far_answers_while_receiving(world: Any, size: int, code: int) -> None:
    """The first octet too many is enough."""
    envelope = world.envelope(world.to("a@b.c"), world.to("d@e.f"))
    assert _code(decide_early(envelope, world.before(size), world.rules(BIG), world.now)) == code


def test_thresholds_name_the_sizes_at_which_to_ask(world: Any) -> None:
    """Of enforced refusals only, ascending, each once."""
    rules = world.rules(
        BIG,
        {**BIG, "when": {"size": {"over": 500}}},
        {**BIG, "when": {"size": {"over": 500}}},
        {**BIG, "when": {"size": {"over": 7}}, "mode": "monitor"},
        {"when": {"size": {"over": 9}}, "then": {"discard": True}},
        {**BIG, "when": {"size": {"over": 11}, "virus": True}},
    )
    assert rules.size_thresholds == (500, 1000)


def test_exception_for_some_recipient_keeps_mail_open_and_is_decided_at_rcpt(world: Any) -> None:
    """At MAIL it could still apply; at RCPT it applies to one and not to the other."""
    rules, records = world.rules(EXCEPTED), (world.exception("big", "clerk@city.example", "a@b.c"),)

    def ask(*recipients: Any, sender: str = "clerk@city.example") -> int:
        envelope = world.envelope(*recipients, sender=sender, declared=2000)
        return _code(decide_early(envelope, world.before(), rules, world.now, records))

    assert ask() == 0
    assert ask(world.to("a@b.c")) == 0
    assert ask(world.to("x@b.c")) == 552
    assert ask(sender="other@city.example") == 552


def test_exception_with_a_bound_is_open_below_and_closed_above(world: Any) -> None:
    """A declared size within the approved one may grow; beyond it the record does not apply."""
    rules, records = world.rules(EXCEPTED), (world.exception("big", max_size=3000),)

    def ask(size: int) -> int:
        envelope = world.envelope(world.to("a@b.c"), declared=2000)
        return _code(decide_early(envelope, world.before(size), rules, world.now, records))

    assert [ask(0), ask(3000), ask(3001)] == [0, 0, 552]


def test_expired_exception_does_not_keep_mail_open(world: Any) -> None:
    """Expiry is exclusive: at the instant it is over."""
    records = (world.exception("big", expires=world.now),)
    envelope = world.envelope(declared=2000)
    assert _code(decide_early(envelope, world.before(), world.rules(EXCEPTED), world.now, records)) == 552
    records = (world.exception("big", expires=world.now + timedelta(seconds=1)),)
    assert _code(decide_early(envelope, world.before(), world.rules(EXCEPTED), world.now, records)) == 0


def test_recipient_rule_answers_at_its_rcpt_only(world: Any) -> None:
    """A refusal for one recipient is that recipient's reply."""
    rules = world.rules({"when": {"recipient": {"domain": "bad.example"}}, "then": {"reject": {"text": "No."}}})
    assert decide_early(world.envelope(), world.before(), rules, world.now) is None
    assert decide_early(world.envelope(world.to("a@good.example")), world.before(), rules, world.now) is None
    assert _code(decide_early(world.envelope(world.to("a@bad.example")), world.before(), rules, world.now)) == 550


@pytest.mark.parametrize(
    "rule",
    [
        {"when": {"virus": True}, "then": {"reject": {"text": "No."}}},
        {"when": {"size": {"over": 0}}, "then": {"hold": {"queue": "q", "reason": "So."}}},
        {"when": {"size": {"over": 0}}, "then": {"reject": {"text": "No."}}, "mode": "monitor"},
        {"when": {"size": {"over": 0}}, "unless": {"virus": True}, "then": {"reject": {"text": "No."}}},
        {"when": {"not": {"virus": True}}, "then": {"reject": {"text": "No."}}},
        {"when": {"size": {"under": "1 GB"}}, "then": {"reject": {"text": "No."}}},
    ],
)
def test_no_early_answer_from_what_is_not_certain(world: Any, rule: dict[str, Any]) -> None:
    """What needs the message, only monitors, holds, or could still change waits for the end."""
    envelope = world.envelope(world.to("a@b.c"), declared=5)
    assert decide_early(envelope, world.before(5), world.rules(rule), world.now) is None


def test_reject_goes_before_defer_and_earlier_before_later(world: Any) -> None:
    """The strongest certain refusal answers."""
    rules = world.rules(
        {"when": {"size": {"over": 0}}, "then": {"defer": {"text": "Later."}}},
        {"when": {"size": {"over": 0}}, "then": {"reject": {"text": "First.", "code": 551}}},
        {"when": {"size": {"over": 0}}, "then": {"reject": {"text": "Second.", "code": 552}}},
    )
    assert _code(decide_early(world.envelope(world.to("a@b.c")), world.before(1), rules, world.now)) == 551


def test_early_refusal_agrees_with_the_end(world: Any) -> None:
    """What is refused early is refused with the same reply at end of data."""
    envelope = world.envelope(world.to("a@b.c"), declared=2000)
    rules = world.rules(BIG)
    early = decide_early(envelope, world.before(), rules, world.now)
    late = decide(envelope, Findings(2000), rules, world.now).refusal
    assert early == late


def test_findings_that_come_early_do_not_make_silence_certain(world: Any) -> None:
    """While octets are still to come, «known» is not believed for what was not found."""
    rules = world.rules({"when": {"not": {"virus": True}, "size": {"over": 0}}, "then": {"reject": {"text": "No."}}})
    findings = Findings(5, (Finding(Check.HEADER, "subject"),), complete=False)
    assert decide_early(world.envelope(world.to("a@b.c")), findings, rules, world.now) is None


@pytest.mark.parametrize(
    ("when", "above"),
    [
        ({"size": {"over": 500}}, 500),
        ({"size": {"over": 500, "under": 900}}, 500),
        ({"size": {"under": 900}}, -1),
        ({"all": [{"size": {"over": 500}}, {"sender": {"null": True}}]}, 500),
        ({"any": [{"size": {"over": 500}}, {"size": {"over": 300}}]}, 300),
        ({"any": [{"size": {"over": 500}}, {"sender": {"null": True}}]}, -1),
        ({"not": {"size": {"over": 500}}}, -1),
    ],
    ids=["over", "between", "under", "all", "any size", "any", "not"],
)
def test_up_to_some_octets_no_early_answer_is_possible(world: Any, when: dict[str, Any], above: int) -> None:
    """What all refusals ask for need not be asked below it; there the answer would be none."""
    rules = world.rules({**BIG, "when": when}, {**BIG, "when": {"size": {"over": 2000}}})
    assert rules.early_above == above
    for size in (0, 300, 500, 501, 899, 900, 2000, 2001):
        for sender in ("", "clerk@city.example"):
            reply = decide_early(world.envelope(sender=sender), world.before(size), rules, world.now)
            assert reply is None or size > above


@pytest.mark.parametrize(
    ("when", "refuses"),
    [
        ({"sender": {"domain": "bad.example"}}, True),
        ({"any": [{"size": {"over": "50 MB"}}, {"sender": {"null": True}}]}, True),
        ({"not": {"sender": {"domain": "city.example"}}}, True),
        ({"size": {"over": "50 MB"}}, False),
        ({"recipient": {"address": "nobody@city.example"}}, False),
        ({"sender": {"null": True}, "recipient": {"city_wide": True}}, False),
        ({"sender": {"null": True}, "content": {"types": ["us-ssn"]}}, False),
    ],
    ids=["sender", "size-or-sender", "not-a-sender", "size", "recipient", "sender-to-recipient", "sender-with-content"],
)
def test_a_sender_can_be_refused_by_itself(world: Any, when: dict[str, Any], refuses: bool) -> None:
    """Whether anything may be certain at MAIL though no size is declared: a mail server then waits for our answer."""
    rules = world.rules({"when": when, "then": {"reject": {"text": "No."}}})
    assert rules.refuses_senders is refuses
    said = [
        decide_early(world.envelope(sender=sender), world.before(), rules, world.now)
        for sender in ("a@bad.example", "", "a@city.example")
    ]
    assert refuses or said == [None, None, None]
