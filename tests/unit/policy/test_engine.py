"""The decision at end of data: strength, sums, groups, failures, exceptions."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.model.finding import Check, Finding
from gateway.model.verdict import Disposition, Mode, TransformKind
from gateway.policy import decide

ACTIONS: dict[str, dict[str, Any]] = {
    "reject": {"reject": {"text": "No."}},
    "defer": {"defer": {"text": "Later."}},
    "hold": {"hold": {"queue": "q", "approvers": ["mayor"], "reason": "Because."}},
    "discard": {"discard": True},
    "pass": {"header": {"name": "X-Seen", "value": "yes"}},
}
ALWAYS = {"size": {"over": 0}}
SSN = Finding(Check.CONTENT, "us-ssn", evidence="***-**-4399", part="1")


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [(a, b) for n, a in enumerate(ACTIONS) for b in list(ACTIONS)[n + 1 :]],
)
def test_strongest_disposition_wins_in_either_order(world: Any, stronger: str, weaker: str) -> None:
    """Reject > defer > hold > discard > pass, whichever rule stands first; both are recorded."""
    for names in ((stronger, weaker), (weaker, stronger)):
        rules = world.rules(*({"when": ALWAYS, "then": ACTIONS[name]} for name in names))
        group = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now).groups[0]
        assert group.disposition == stronger
        assert [m.disposition for m in group.matches] == list(names)


def test_nothing_matches_nothing_happens(world: Any) -> None:
    """No rule, one group, pass, no reply."""
    rules = world.rules({"when": {"size": {"over": "1 GB"}}, "then": ACTIONS["reject"]})
    verdict = decide(world.envelope(world.to("a@b.c"), world.to("d@e.f")), world.findings(), rules, world.now)
    assert [len(g.recipients) for g in verdict.groups] == [2]
    assert verdict.disposition is Disposition.PASS
    assert verdict.refusal is None


def test_refusal_carries_policy_clause_and_rule(world: Any) -> None:
    """The reply has the policy's words, then the clause and the rule's id."""
    rules = world.rules({"id": "too-odd", "when": ALWAYS, "then": {"reject": {"text": "No.\nReally", "code": 554}}})
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now)
    assert verdict.refusal is not None
    assert verdict.refusal.lines == ("No.", "Really. Policy man/circumvent [too-odd]")
    assert str(verdict.refusal).startswith("554 5.7.1 No.")


def test_reject_of_one_recipient_refuses_the_message(world: Any) -> None:
    """There is one reply after the final dot: the refusal stands beside the groups."""
    rules = world.rules({"when": {"recipient": {"domain": "bad.example"}}, "then": ACTIONS["reject"]})
    envelope = world.envelope(world.to("a@good.example"), world.to("b@bad.example"))
    verdict = decide(envelope, world.findings(), rules, world.now)
    assert {g.recipients[0].address: g.disposition.value for g in verdict.groups} == {
        "a@good.example": "pass",
        "b@bad.example": "reject",
    }
    assert verdict.refusal is not None


def test_refusal_is_the_strongest_groups(world: Any) -> None:
    """A defer for the first recipient does not hide the reject for the second."""
    rules = world.rules(
        {"when": {"recipient": {"domain": "later.example"}}, "then": ACTIONS["defer"]},
        {"when": {"recipient": {"domain": "never.example"}}, "then": ACTIONS["reject"]},
    )
    envelope = world.envelope(world.to("a@later.example"), world.to("b@never.example"))
    verdict = decide(envelope, world.findings(), rules, world.now)
    assert verdict.refusal is not None
    assert verdict.refusal.code == 550


def test_transforms_add_up_in_order_once(world: Any) -> None:
    """header, signature block, banner, legend, encrypt; two rules that want the same get it once."""
    block = {"lines": ["L"], "wordings": ["w"]}
    rules = world.rules(
        {"when": ALWAYS, "then": {"encrypt": {"methods": ["smime"]}, "legend": {"id": "c", "lines": ["C"]}},
         "on_failure": "hold"},
        {"when": ALWAYS, "then": {"banner": {"id": "b", "lines": "B\nB2"}, "legend": {"id": "c", "lines": ["C"]}}},
        {"when": ALWAYS, "then": {"insert_signature_block": block, **ACTIONS["pass"]}},
        {"when": ALWAYS, "then": {"encrypt": {"methods": ["smime"]}}, "on_failure": "defer"},
    )  # fmt: skip
    group = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now).groups[0]
    assert [t.kind for t in group.transforms] == list(TransformKind)
    assert group.transforms[2].lines == ("B", "B2")
    encrypt = group.transforms[-1]
    assert (encrypt.rule, encrypt.on_failure) == ("r0", Disposition.DEFER)


def test_hold_orders_add_up_and_keep_transforms(world: Any) -> None:
    """Every order that applies is there; what has to be changed on release stays."""
    other = {"hold": {"queue": "p", "approvers": ["clerk"], "expires": "2 h", "reason": "Too."}, **ACTIONS["pass"]}
    rules = world.rules({"when": ALWAYS, "then": ACTIONS["hold"]}, {"when": ALWAYS, "then": other})
    group = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now).groups[0]
    assert [(h.rule, h.queue, h.roles) for h in group.holds] == [("r0", "q", ("mayor",)), ("r1", "p", ("clerk",))]
    assert group.holds[1].expires_after == timedelta(hours=2)
    assert [t.kind for t in group.transforms] == [TransformKind.HEADER]


def test_stronger_than_hold_drops_holds_and_transforms(world: Any) -> None:
    """What is refused is neither held nor changed."""
    rules = world.rules({"when": ALWAYS, "then": ACTIONS["hold"]}, {"when": ALWAYS, "then": ACTIONS["reject"]})
    group = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now).groups[0]
    assert (group.holds, group.transforms) == ((), ())


def test_recipients_with_the_same_treatment_form_one_group(world: Any) -> None:
    """Groups are by treatment, not by the rule or the order that led there."""
    rules = world.rules(
        {"when": {"direction": "outbound"}, "then": ACTIONS["pass"]},
        {"when": {"recipient": {"domain": "x.example"}}, "then": ACTIONS["pass"], "mode": "monitor"},
    )
    envelope = world.envelope(
        world.to("a@x.example"),
        world.to("i@city.example", "internal"),
        world.to("b@y.example"),
        world.to("c@x.example"),
    )
    verdict = decide(envelope, world.findings(), rules, world.now)
    assert [[r.address for r in g.recipients] for g in verdict.groups] == [
        ["a@x.example", "c@x.example", "b@y.example"],
        ["i@city.example"],
    ]
    assert [m.rule for m in verdict.groups[0].matches] == ["r0", "r1"]


def test_monitor_is_recorded_and_does_nothing(world: Any) -> None:
    """A match in monitor mode counts: no disposition, no transform, no notice."""
    then = {**ACTIONS["hold"], "notify": {"roles": ["mayor"], "reason": "So."}}
    rules = world.rules({"when": ALWAYS, "then": then, "mode": "monitor"})
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now)
    assert verdict.disposition is Disposition.PASS
    assert [(m.rule, m.mode, m.disposition) for m in verdict.groups[0].matches] == [
        ("r0", Mode.MONITOR, Disposition.HOLD)
    ]
    assert verdict.notices == ()


def test_off_is_not_evaluated(world: Any) -> None:
    """A rule that is off leaves no trace, nor a question to the checks."""
    rules = world.rules({"when": {"virus": True}, "then": ACTIONS["reject"], "mode": "off"})
    findings = world.findings(Finding(Check.VIRUS, "Eicar"))
    assert decide(world.envelope(world.to("a@b.c")), findings, rules, world.now).groups[0].matches == ()
    assert rules.questions.checks == frozenset()


def test_notices_are_said_once_for_many_recipients(world: Any) -> None:
    """One match, one notice, however many recipients."""
    then = {**ACTIONS["reject"], "notify": {"roles": ["mayor"], "reason": "So."}}
    rules = world.rules({"when": {"direction": "outbound"}, "then": then})
    envelope = world.envelope(world.to("a@b.c"), world.to("d@e.f"))
    assert len(decide(envelope, world.findings(), rules, world.now).notices) == 1


def test_evidence_in_why_is_redacted_and_says_where(world: Any) -> None:
    """``why`` has the type, the part and the redacted evidence."""
    rules = world.rules({"when": {"content": {"types": ["us-ssn"]}}, "then": ACTIONS["hold"]})
    group = decide(world.envelope(world.to("a@b.c")), world.findings(SSN), rules, world.now).groups[0]
    assert group.matches[0].why == "us-ssn in part 1 ***-**-4399"


FAILURES = {"defer": 451, "reject": 554, "hold": None, "pass": None}


def test_what_is_held_because_nobody_could_read_it_leaves_encrypted(world: Any) -> None:
    """Released, it must not go in clear: the rule's encryption stays with the hold, its other changes do not."""
    rules = world.rules(
        {"when": {"content": {"types": ["us-ssn"]}}, "then": {"encrypt": {"methods": ["smime"]},
         "header": {"name": "X-Seen", "value": "yes"}}, "on_failure": "hold"},
    )  # fmt: skip
    findings = world.findings(failed=(Check.CONTENT,))
    (group,) = decide(world.envelope(world.to("a@b.c")), findings, rules, world.now).groups
    assert group.disposition is Disposition.HOLD
    assert [t.kind for t in group.transforms] == [TransformKind.ENCRYPT]


@pytest.mark.parametrize("on_failure", FAILURES)
def test_failed_control_acts_by_on_failure(world: Any, on_failure: str) -> None:
    """A rule that its failed check leaves undecided acts by on_failure, and says which check failed."""
    rules = world.rules({"when": {"virus": True}, "then": ACTIONS["reject"], "on_failure": on_failure})
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(failed=(Check.VIRUS,)), rules, world.now)
    group = verdict.groups[0]
    assert group.disposition == on_failure
    assert (verdict.refusal.code if verdict.refusal else None) == FAILURES[on_failure]
    assert group.matches[0].failed_control == "virus"
    assert bool(group.holds) == (on_failure == "hold")
    if on_failure == "defer":
        assert verdict.refusal is not None
        assert verdict.refusal.enhanced == "4.7.1"


def test_check_that_never_ran_is_a_failure_not_a_clean_bill(world: Any) -> None:
    """At end of data nothing fails open: a check that was forgotten counts as one that failed."""
    rules = world.rules({"when": {"virus": True}, "then": ACTIONS["reject"]})
    findings = world.findings(known=set(Check) - {Check.VIRUS})
    verdict = decide(world.envelope(world.to("a@b.c")), findings, rules, world.now)
    assert verdict.disposition is Disposition.DEFER


def test_failed_control_does_not_touch_rules_that_are_certain_without_it(world: Any) -> None:
    """A rule that another condition rules out is not affected by the failure."""
    when = {"virus": True, "direction": "outbound", "sender": {"domain": "else.example"}}
    rules = world.rules({"when": when, "then": ACTIONS["reject"]})
    findings = world.findings(failed=(Check.VIRUS,))
    assert decide(world.envelope(world.to("a@b.c")), findings, rules, world.now).groups[0].matches == ()
    verdict = decide(world.envelope(world.to("a@b.c", "inbound"), sender="x@else.example"), findings, rules, world.now)
    assert verdict.groups[0].matches == ()


def test_failure_concerns_the_recipients_whom_the_rule_concerns(world: Any) -> None:
    """Outbound is held, internal passes."""
    when = {"content": {"types": ["us-ssn"]}}
    rules = world.rules({"direction": "outbound", "when": when, "then": ACTIONS["pass"], "on_failure": "hold"})
    envelope = world.envelope(world.to("a@b.c"), world.to("d@city.example", "internal"))
    verdict = decide(envelope, world.findings(failed=(Check.CONTENT,)), rules, world.now)
    assert [g.disposition.value for g in verdict.groups] == ["hold", "pass"]


def test_found_is_found_even_if_the_check_broke_off(world: Any) -> None:
    """What a check found before it failed is certain."""
    rules = world.rules({"when": {"virus": True}, "then": ACTIONS["reject"]})
    findings = world.findings(Finding(Check.VIRUS, "Eicar"), failed=(Check.VIRUS,))
    match = decide(world.envelope(world.to("a@b.c")), findings, rules, world.now).groups[0].matches[0]
    assert (match.disposition, match.failed_control) == (Disposition.REJECT, "")


def test_unread_unless_leaves_the_rule_undecided(world: Any) -> None:
    """An exemption that cannot be checked neither applies nor fails to: on_failure acts."""
    unless = {"header": {"name": "X-Ok", "present": True}}
    rules = world.rules({"when": ALWAYS, "unless": unless, "then": ACTIONS["discard"]})
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(failed=(Check.HEADER,)), rules, world.now)
    assert verdict.disposition is Disposition.DEFER
    assert verdict.groups[0].matches[0].failed_control == "header"


def test_automatic_replies_are_deferred_where_others_are_held_for_a_failure(world: Any) -> None:
    """man/out-of-office: null-sender mail is never held, also not by a failed control."""
    rules = world.rules({"when": {"virus": True}, "then": ACTIONS["reject"], "on_failure": "hold"})
    envelope = world.envelope(world.to("a@b.c"), sender="")
    assert decide(envelope, world.findings(failed=(Check.VIRUS,)), rules, world.now).disposition is Disposition.DEFER


@pytest.mark.parametrize("mark", ["null sender", "auto-replied"])
def test_an_automatic_reply_is_refused_where_others_are_held(world: Any, mark: str) -> None:
    """man/out-of-office: never held, but no way round the rule either; the roles are told as ever."""
    rules = world.rules({"when": ALWAYS, "then": {**ACTIONS["hold"], "notify": {"roles": ["mayor"], "reason": "Why."}}})
    sender = "" if mark == "null sender" else "clerk@city.example"
    items = [Finding(Check.HEADER, "auto-submitted", "auto-replied")] if mark == "auto-replied" else []
    verdict = decide(world.envelope(world.to("a@b.c"), sender=sender), world.findings(*items), rules, world.now)
    (group,) = verdict.groups
    assert (group.disposition, group.holds) == (Disposition.REJECT, ())
    assert (group.matches[0].disposition, group.matches[0].rule) == (Disposition.REJECT, "r0")
    assert verdict.refusal is not None
    assert str(verdict.refusal).startswith("554 5.7.1")
    assert "[r0]" in str(verdict.refusal)
    assert [notice.rule for notice in verdict.notices] == ["r0"]


def test_automatic_mail_of_other_kinds_is_held(world: Any) -> None:
    """A list's or a machine's mail waits like a person's: only replies are never held."""
    rules = world.rules({"when": ALWAYS, "then": ACTIONS["hold"]})
    marks = [Finding(Check.HEADER, "auto-submitted", "auto-generated"), Finding(Check.HEADER, "list-id", "<a.b.c>")]
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(*marks), rules, world.now)
    assert verdict.disposition is Disposition.HOLD


def test_rules_that_hold_ask_whether_a_message_is_an_automatic_reply(world: Any) -> None:
    """Without a condition on it, since the answer changes what the rule does."""
    rules = world.rules({"when": {"size": {"over": 1}}, "then": ACTIONS["hold"], "on_failure": "pass"})
    assert "auto-submitted" in rules.questions.headers


def test_failed_transform_of_an_automatic_reply_refuses(world: Any) -> None:
    """Where a failed transform would hold, it refuses an automatic reply."""
    rules = world.rules({"when": ALWAYS, "then": {"encrypt": {"methods": ["smime"]}}, "on_failure": "hold"})
    auto = Finding(Check.HEADER, "auto-submitted", "auto-replied")
    group = decide(world.envelope(world.to("a@b.c")), world.findings(auto), rules, world.now).groups[0]
    assert group.transforms[0].on_failure is Disposition.REJECT


def test_exception_keeps_the_rule_from_its_recipients_only(world: Any) -> None:
    """A record for one recipient leaves the rule to the others, and is reported as used."""
    rules = world.rules({"when": ALWAYS, "unless": {"exception": "big"}, "then": ACTIONS["discard"]})
    envelope = world.envelope(world.to("a@b.example"), world.to("c@d.example"))
    records = (world.exception("big", "Clerk@city.example", "@B.example"),)
    verdict = decide(envelope, world.findings(), rules, world.now, records)
    assert [(g.recipients[0].address, g.disposition.value) for g in verdict.groups] == [
        ("a@b.example", "pass"),
        ("c@d.example", "discard"),
    ]
    assert verdict.used_exceptions == ("x-big",)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "other"},
        {"kind": "big", "sender": "someone@city.example"},
        {"kind": "big", "recipient": "@else.example"},
        {"kind": "big", "uses_left": 0},
        {"kind": "big", "max_size": 999},
        {"kind": "big", "expires": 0},
        {"kind": "big", "created": 1},
    ],
)
def test_exception_that_does_not_apply(world: Any, record: dict[str, Any]) -> None:
    """Another kind, party, window, size or a used-up record changes nothing and is not reported as used."""
    for key in ("expires", "created"):
        if key in record:
            record[key] = world.now + timedelta(seconds=record[key])
    rules = world.rules({"when": ALWAYS, "unless": {"exception": "big"}, "then": ACTIONS["discard"]})
    records = (world.exception(record.pop("kind"), **record),)
    verdict = decide(world.envelope(world.to("a@b.example")), world.findings(), rules, world.now, records)
    assert (verdict.disposition, verdict.used_exceptions) == (Disposition.DISCARD, ())


def test_exception_not_needed_is_not_used(world: Any) -> None:
    """A record is used only when the rule would have acted."""
    rules = world.rules({"when": {"size": {"over": "1 GB"}}, "unless": {"exception": "big"}, "then": ACTIONS["hold"]})
    verdict = decide(world.envelope(world.to("a@b.c")), world.findings(), rules, world.now, (world.exception("big"),))
    assert verdict.used_exceptions == ()


def test_ten_thousand_recipients_are_grouped_not_repeated(world: Any) -> None:
    """Two groups out of ten thousand recipients, each recipient in exactly one."""
    rules = world.rules({"when": {"content": {"types": ["us-ssn"]}}, "direction": "outbound", "then": ACTIONS["hold"]})
    people = [world.to(f"p{n}@x.example", "outbound" if n % 2 else "internal") for n in range(10_000)]
    verdict = decide(world.envelope(*people), world.findings(SSN), rules, world.now)
    assert [len(g.recipients) for g in verdict.groups] == [5000, 5000]
    assert {r.address for g in verdict.groups for r in g.recipients} == {p.address for p in people}


@pytest.mark.parametrize("direction", ["outbound", "inbound", "internal"])
def test_an_only_recipient_is_treated_as_among_others(world: Any, direction: str) -> None:
    """One recipient takes a shorter way through the engine; what becomes of the message is the same."""
    spared = {**ALWAYS, "direction": "outbound"}
    rules = world.rules(
        {"when": {"recipient": {"domain": "x.example"}}, "then": ACTIONS["hold"]},
        {"when": {"direction": "inbound"}, "then": ACTIONS["pass"]},
        {"when": spared, "unless": {"exception": "e"}, "then": ACTIONS["discard"]},
        {"when": {"content": {"types": ["us-ssn"]}}, "then": {"header": {"name": "X-Ssn", "value": "yes"}}},
    )
    me, other = world.to("a@x.example", direction), world.to("b@y.example", direction)
    for exceptions in ((), (world.exception("e"),)):
        alone, among = (
            decide(world.envelope(*recipients), world.findings(SSN), rules, world.now, exceptions)
            for recipients in ((me,), (other, me))
        )
        mine = next(group for group in among.groups if me in group.recipients)
        assert alone.groups[0].matches == mine.matches
        assert alone.groups[0].disposition is mine.disposition
        assert alone.groups[0].transforms == mine.transforms
        assert alone.used_exceptions == among.used_exceptions
