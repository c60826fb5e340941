"""Explanations: every rule, every recipient, the outcome and each condition's answer."""

from typing import Any

from gateway.model.finding import Check, Finding
from gateway.policy import Outcome, explain

SIZE = {"size": {"over": 10}}


def test_every_outcome_has_its_word(world: Any) -> None:
    """fires, does not, undecided, monitor, off, excepted."""
    reject = {"reject": {"text": "No."}}
    rules = world.rules(
        {"when": SIZE, "then": reject},
        {"when": {"size": {"over": "1 GB"}}, "then": reject},
        {"when": {"virus": True}, "then": reject, "on_failure": "hold"},
        {"when": SIZE, "then": reject, "mode": "monitor"},
        {"when": SIZE, "then": reject, "mode": "off"},
        {"when": SIZE, "unless": {"exception": "big"}, "then": reject},
    )
    findings = world.findings(failed=(Check.VIRUS,))
    rows = explain(world.envelope(world.to("a@b.c")), findings, rules, world.now, (world.exception("big"),))
    assert [row.outcome for row in rows] == [
        Outcome.FIRES, Outcome.DOES_NOT, Outcome.UNDECIDED, Outcome.MONITOR, Outcome.OFF, Outcome.EXCEPTED,
    ]  # fmt: skip
    assert rows[0].reply is not None
    assert rows[2].disposition == "hold"


def test_trace_says_each_condition_with_redacted_evidence(world: Any) -> None:
    """The lines name condition, answer and evidence, and never the value that was found."""
    when = {"content": {"types": ["us-ssn"]}, "not": {"sender": {"null": True}}, "direction": "outbound"}
    rules = world.rules({"when": when, "then": {"discard": True}})
    found = Finding(Check.CONTENT, "us-ssn", value="536-90-4399", part="1", evidence="***-**-4399")
    (row,) = explain(world.envelope(world.to("a@b.c")), world.findings(found), rules, world.now)
    assert row.lines() == (
        "r0: fires for <a@b.c>",
        "  yes: all of",
        "    yes: not",
        "      no: sender null",
        "    yes: direction is outbound",
        "    yes: content has us-ssn (medium or surer) (us-ssn in part 1 ***-**-4399)",
    )


def test_unknown_says_which_check_is_missing(world: Any) -> None:
    """Before the message is there, and when the check failed."""
    rules = world.rules({"when": {"virus": True}, "then": {"discard": True}})
    (before,) = explain(world.envelope(), world.before(), rules, world.now)
    assert before.lines() == ("r0: undecided", "  unknown: a virus is found (virus not known yet)")
    envelope = world.envelope(world.to("a@b.c"))
    (failed,) = explain(envelope, world.findings(failed=(Check.VIRUS,)), rules, world.now)
    assert failed.trace[0].evidence == "virus failed"
