"""Why each rule does what it does, per recipient, in words with redacted evidence. Refuses to act: it only tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.model.envelope import Envelope, ExceptionRecord, Recipient
from gateway.model.finding import Findings
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, Mode, TransformKind
from gateway.policy.compiled import Rule
from gateway.policy.logic import NO, YES, Facts, Trace, Truth
from gateway.policy.ruleset import RuleSet


class Outcome(StrEnum):
    """What came of a rule for a recipient."""

    FIRES = "fires"
    DOES_NOT = "does not"
    UNDECIDED = "undecided"
    MONITOR = "monitor"
    """Would fire; its mode only counts."""
    OFF = "off"
    EXCEPTED = "excepted"
    """``when`` holds and so does ``unless``."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One rule, one recipient."""

    rule: str
    title: str
    mode: Mode
    recipient: str
    """Address; ``""`` before there is one."""
    outcome: Outcome
    disposition: Disposition
    """What the rule wants, if it acts: its own disposition, or its ``on_failure`` when undecided."""
    transforms: tuple[TransformKind, ...]
    reply: Reply | None
    trace: tuple[Trace, ...]
    """The conditions of ``when``, then those of ``unless`` under «unless»."""

    def lines(self) -> tuple[str, ...]:
        """For a terminal: the outcome, then each condition with its answer, indented."""
        head = f"{self.rule}: {self.outcome}" + (f" for <{self.recipient}>" if self.recipient else "")
        return (head, *(row for trace in self.trace for row in _rows(trace, 1)))


def explain(
    envelope: Envelope,
    findings: Findings,
    rules: RuleSet,
    now: datetime,
    exceptions: Sequence[ExceptionRecord] = (),
) -> tuple[Explanation, ...]:
    """Every rule for every recipient, rules in their order. Takes what :func:`decide` takes, also when incomplete."""
    facts = Facts(envelope, findings, now, exceptions)
    recipients: Sequence[Recipient | None] = envelope.recipients or (None,)
    return tuple(_explain(rule, facts, recipient) for rule in rules.rules for recipient in recipients)


def _explain(rule: Rule, facts: Facts, recipient: Recipient | None) -> Explanation:
    value = rule.value(facts, recipient)
    outcome = _outcome(rule, value, facts, recipient)
    disposition, reply = rule.disposition, rule.reply
    if outcome is Outcome.UNDECIDED:
        disposition, reply, _ = rule.failure(rule.blame(facts, recipient), automatic=False, limited=facts.limited)
    trace = [rule.when.trace(facts, recipient)]
    if rule.unless is not None:
        below = rule.unless.trace(facts, recipient)
        trace.append(Trace("unless", below.truth, "", (below,)))
    kinds = tuple(t.kind for t in rule.transforms)
    address = recipient.address if recipient else ""
    return Explanation(
        rule.id, rule.title, rule.mode, address, outcome, disposition, kinds, reply, tuple(trace)
    )  # fmt: skip


def _outcome(rule: Rule, value: int, facts: Facts, recipient: Recipient | None) -> Outcome:
    if rule.mode is Mode.OFF:
        return Outcome.OFF
    if value == YES:
        return Outcome.FIRES if rule.mode is Mode.ENFORCE else Outcome.MONITOR
    if value != NO:
        return Outcome.UNDECIDED
    excepted = rule.unless is not None and rule.when.value(facts, recipient) == YES
    return Outcome.EXCEPTED if excepted else Outcome.DOES_NOT


def _rows(trace: Trace, depth: int) -> list[str]:
    answer = {Truth.YES: "yes", Truth.NO: "no", Truth.UNKNOWN: "unknown"}[trace.truth]
    tail = f" ({trace.evidence})" if trace.evidence else ""
    rows = [f"{'  ' * depth}{answer}: {trace.words}{tail}"]
    return rows + [row for child in trace.children for row in _rows(child, depth + 1)]
