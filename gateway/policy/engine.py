"""The engine: envelope, findings and rules in, one verdict out. Pure: no I/O, no clock, no global state.

Every rule is evaluated. Per recipient the strongest disposition wins (reject > defer > hold > discard > pass),
transforms and hold roles add up. A rule that stays undecided at end of data because a check could not answer acts by
its ``on_failure``: refuses to treat «not known» as «nothing found». Design section 5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.model.envelope import Envelope, ExceptionRecord, Recipient, domain_of, fold
from gateway.model.finding import Findings, Questions
from gateway.model.reply import Reply
from gateway.model.verdict import (
    STRENGTH,
    Disposition,
    HoldOrder,
    Mode,
    Notice,
    RecipientGroup,
    RuleMatch,
    Transform,
    TransformKind,
    Verdict,
)
from gateway.policy.compiled import Rule
from gateway.policy.finding_conditions import AutomaticReply
from gateway.policy.logic import NO, UNKNOWN, YES, Aspect, Facts, grounds
from gateway.policy.ruleset import RuleSet

_ORDER = {kind: n for n, kind in enumerate(TransformKind)}
_AUTOMATIC = AutomaticReply()
_NOTHING_YET = Findings(0, (), (), frozenset(), complete=False)
_LOOKED_AT = 20
_UNTOUCHED: "_Treatment"


@dataclass(frozen=True, slots=True)
class _Treatment:
    """What becomes of the recipients that are alike."""

    disposition: Disposition = Disposition.PASS
    transforms: tuple[Transform, ...] = ()
    holds: tuple[HoldOrder, ...] = ()
    reply: Reply | None = None
    matches: tuple[RuleMatch, ...] = ()
    notices: tuple[Notice, ...] = ()
    used: tuple[str, ...] = ()


_UNTOUCHED = _Treatment()


def decide(
    envelope: Envelope,
    findings: Findings,
    rules: RuleSet,
    now: datetime,
    exceptions: Sequence[ExceptionRecord] = (),
) -> Verdict:
    """The verdict at end of data, for all recipients of the envelope.

    ``findings.complete`` must be true. ``exceptions`` may hold records that do not apply; ``now`` is aware of its time
    zone. A reject or defer for one recipient refuses the whole message (RFC 5321 has one reply after the final dot).
    """
    facts = Facts(envelope, findings, now, exceptions)
    recipients = envelope.recipients
    ways, silent = rules.ways(frozenset([recipient.direction for recipient in recipients])), facts.silent
    going = [rule for rule in ways.going if rule.needs.isdisjoint(silent)]
    treatments: list[tuple[_Treatment, tuple[Recipient, ...]]]
    if len(recipients) == 1:
        treatments = [(_treat(facts, _for_one(facts, going, recipients[0]), recipients[0]), recipients)]
    else:
        fixed, varying = _sift(facts, going)
        if not varying:
            treatments = [(_treat(facts, fixed, None), recipients)] if recipients else []
        else:
            treatments = _by_recipient(facts, fixed, varying, recipients)
    groups = _groups(treatments)
    refusals = [g for g in groups if g.disposition in (Disposition.REJECT, Disposition.DEFER)]
    worst = max(refusals, key=lambda g: STRENGTH[g.disposition], default=None)
    rows = [treatment for treatment, _ in treatments]
    return Verdict(
        groups=groups,
        refusal=worst.reply if worst else None,
        notices=tuple(dict.fromkeys(n for t in rows for n in t.notices)),
        used_exceptions=tuple(dict.fromkeys(u for t in rows for u in t.used)),
    )


def decide_early(
    envelope: Envelope,
    findings: Findings,
    rules: RuleSet,
    now: datetime,
    exceptions: Sequence[ExceptionRecord] = (),
) -> Reply | None:
    """The refusal that is certain already, or None.

    At MAIL with no recipients: certain for every possible recipient. At RCPT with that one recipient. While receiving
    with all recipients and ``findings.size`` so far, ``complete`` False: certain for any of them, as that refuses the
    whole message. The declared size (RFC 1870) counts as a lower bound.
    """
    if not rules.early:
        return None
    facts = Facts(envelope, findings, now, exceptions)
    best: Rule | None = None
    for rule in rules.early:
        value = rule.value(facts, None)
        if value == UNKNOWN and rule.aspects and envelope.recipients:
            value = max(rule.value(facts, recipient) for recipient in envelope.recipients)
        if value == YES:
            if rule.disposition is Disposition.REJECT:
                return rule.reply
            best = best or rule
    return best.reply if best else None


def asked(envelope: Envelope, rules: RuleSet, now: datetime, exceptions: Sequence[ExceptionRecord] = ()) -> Questions:
    """What the checks have to find out about a message with this envelope.

    A rule that the envelope alone rules out for every recipient asks nothing: what is certain stays certain, whatever
    the content. With many recipients everything is asked.
    """
    recipients = envelope.recipients
    if not 0 < len(recipients) <= _LOOKED_AT:
        return rules.questions
    facts = Facts(envelope, _NOTHING_YET, now, exceptions)
    ways = rules.ways(frozenset([recipient.direction for recipient in recipients]))
    left = ways.open.union(
        [rule.id for rule in ways.others if any(rule.when.value(facts, one) != NO for one in recipients)]
    )
    return rules.questions if len(left) == len(rules.active) else rules.questions_of(left)


def _for_one(facts: Facts, rules: Iterable[Rule], recipient: Recipient) -> list[tuple[Rule, int]]:
    """What the rules say to the only recipient; those that an exception may have kept from acting stay in."""
    outcomes = []
    for rule in rules:
        value = rule.value(facts, recipient)
        if value != NO or (rule.exceptions and facts.exceptions):
            outcomes.append((rule, value))
    return outcomes


def _sift(facts: Facts, rules: Iterable[Rule]) -> tuple[list[tuple[Rule, int]], list[Rule]]:
    """Rules decided for all recipients alike, and those that need a look at each; most rules fall out here."""
    fixed: list[tuple[Rule, int]] = []
    varying: list[Rule] = []
    for rule in rules:
        if rule.exceptions and facts.exceptions:
            if rule.when.value(facts, None) != NO:
                varying.append(rule)
            continue
        value = rule.value(facts, None)
        if value == NO:
            continue
        if value == YES or not rule.aspects:
            fixed.append((rule, value))
        else:
            varying.append(rule)
    return fixed, varying


def _by_recipient(
    facts: Facts, fixed: list[tuple[Rule, int]], varying: list[Rule], recipients: Iterable[Recipient]
) -> list[tuple[_Treatment, tuple[Recipient, ...]]]:
    """Recipients that the varying rules cannot tell apart are treated once.

    So are those for whom the rules answer alike; the evidence in ``why`` is then that of the first of them.
    """
    aspects = Aspect.NONE
    for rule in varying:
        aspects |= rule.aspects
    alike: dict[object, list[Recipient]] = {}
    by_address, by_domain, by_lists = Aspect.ADDRESS in aspects, Aspect.DOMAIN in aspects, Aspect.LISTS in aspects
    for recipient in recipients:
        place = fold(recipient.address) if by_address else domain_of(recipient.address) if by_domain else ""
        key = (recipient.direction, place, recipient.lists if by_lists else ())
        row = alike.get(key)
        if row is None:
            alike[key] = [recipient]
        else:
            row.append(recipient)
    made: dict[object, _Treatment] = {}
    out = []
    for row in alike.values():
        values = tuple(rule.value(facts, row[0]) for rule in varying)
        used = tuple(u for rule in varying if rule.exceptions for u in rule.used(facts, row[0]))
        treatment = made.get((values, used))
        if treatment is None:
            outcomes = [*fixed, *zip(varying, values, strict=True)]
            treatment = _treat(facts, sorted(outcomes, key=lambda outcome: outcome[0].place), row[0])
            made[values, used] = treatment
        out.append((treatment, tuple(row)))
    return out


def _treat(facts: Facts, outcomes: Sequence[tuple[Rule, int]], recipient: Recipient | None) -> _Treatment:
    """Add up what the rules want for one kind of recipient."""
    if not outcomes:
        return _UNTOUCHED
    best, reply = Disposition.PASS, None
    transforms: list[Transform] = []
    holds: list[HoldOrder] = []
    matches: list[RuleMatch] = []
    notices: list[Notice] = []
    used: list[str] = []
    for rule, value in outcomes:
        if value == NO:
            used.extend(rule.used(facts, recipient))
            continue
        wanted, refusal, hold, match = _outcome(rule, value, facts, recipient)
        matches.append(match)
        if rule.mode is not Mode.ENFORCE:
            continue
        if STRENGTH[wanted] > STRENGTH[best]:
            best, reply = wanted, refusal
        if hold:
            holds.append(hold)
        if value == YES:
            transforms.extend(rule.transforms)
            notices.extend(rule.notices)
        elif hold:  # nobody knows whether it is confidential: whoever releases it does not send it in clear
            transforms.extend(t for t in rule.transforms if t.kind is TransformKind.ENCRYPT)
    refused = best in (Disposition.REJECT, Disposition.DEFER, Disposition.DISCARD)
    return _Treatment(
        best,
        () if refused else combine(transforms, _is_automatic(facts)),
        tuple(dict.fromkeys(holds)) if best is Disposition.HOLD else (),
        reply,
        tuple(matches),
        tuple(notices),
        tuple(used),
    )


def _outcome(
    rule: Rule, value: int, facts: Facts, recipient: Recipient | None
) -> tuple[Disposition, Reply | None, HoldOrder | None, RuleMatch]:
    if value == YES:
        why = grounds(rule.when.trace(facts, recipient))
        wanted, reply, hold = rule.disposition, rule.reply, rule.hold
        if hold and _is_automatic(facts):  # never held, and anybody can call a message automatic: it is refused
            wanted, reply, hold = Disposition.REJECT, rule.refusal, None
        return wanted, reply, hold, RuleMatch(rule.id, rule.title, rule.mode, wanted, rule.source, why)
    checks = rule.blame(facts, recipient)
    names = ", ".join(sorted(checks))
    wanted, reply, hold = rule.failure(checks, _is_automatic(facts), facts.limited)
    why = f"not decided: no answer from {names}"
    return wanted, reply, hold, RuleMatch(rule.id, rule.title, rule.mode, wanted, rule.source, why, names)


def _is_automatic(facts: Facts) -> bool:
    return _AUTOMATIC.value(facts, None) == YES


def combine(transforms: Iterable[Transform], automatic: bool = False) -> tuple[Transform, ...]:
    """In the order of application, each change once; of two rules that want the same, the stronger on_failure stays.

    For an automatic reply a failed transform refuses instead of holding (man/out-of-office).
    """
    merged: dict[object, Transform] = {}
    for transform in transforms:
        key = _identity(transform)
        kept = merged.get(key)
        merged[key] = transform if kept is None else _merge(kept, transform)
    rows = sorted(merged.values(), key=lambda t: _ORDER[t.kind])
    if automatic:
        rows = [replace(t, on_failure=Disposition.REJECT) if t.on_failure is Disposition.HOLD else t for t in rows]
    return tuple(rows)


def _identity(transform: Transform) -> object:
    if transform.kind is TransformKind.ENCRYPT:
        return transform.kind
    if transform.kind in (TransformKind.LEGEND, TransformKind.BANNER):
        return transform.kind, transform.id
    return transform.kind, transform.name.lower(), transform.value, transform.lines


def _merge(kept: Transform, other: Transform) -> Transform:
    stronger = max(kept.on_failure, other.on_failure, key=STRENGTH.__getitem__)
    # Both rules must be content with the method; with none in common the first rule's stand: never in clear.
    methods = tuple(m for m in kept.methods if m in other.methods) or kept.methods
    return replace(kept, on_failure=stronger, methods=methods)


def _groups(treatments: Iterable[tuple[_Treatment, tuple[Recipient, ...]]]) -> tuple[RecipientGroup, ...]:
    """One group for all recipients with the same disposition, transforms, holds and reply; in order of appearance."""
    rows: dict[object, tuple[_Treatment, list[Recipient], dict[RuleMatch, None]]] = {}
    for treatment, recipients in treatments:
        key = (treatment.disposition, treatment.transforms, treatment.holds, treatment.reply)
        row = rows.setdefault(key, (treatment, [], {}))
        row[1].extend(recipients)
        row[2].update(dict.fromkeys(treatment.matches))
    return tuple(
        RecipientGroup(tuple(people), t.disposition, t.transforms, t.holds, t.reply, tuple(matches))
        for t, people, matches in rows.values()
    )
