"""Runs the cases that stand in the rules' own files: builds the message, takes the given facts, compares the outcome.

A case tells all of its world: its city is ``city.example`` with its subdomains, everybody else is outside, and what a
directory or a server would say stands under ``given``. So cases stay true whatever a city configures. A case is
run with its rule alone, as if its mode were enforce. Refuses to inspect anything itself: whoever calls says how.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Protocol

from gateway.model.envelope import Client, Direction, Envelope, ExceptionRecord, Recipient, Sender, domain_of, fold
from gateway.model.finding import Check, ControlFailure, Finding, Findings, Questions
from gateway.model.verdict import RecipientGroup, Verdict
from gateway.policy.case_schema import Case, CaseAttachment, CaseMessage, Expect
from gateway.policy.compiled import Rule
from gateway.policy.engine import decide
from gateway.policy.ruleset import RuleSet

CITY = "city.example"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""The instant of a case that names none."""


class Inspect(Protocol):
    """All passive checks on one message: what ``gateway.checks`` does, without a server."""

    def __call__(self, message: bytes, envelope: Envelope, questions: Questions) -> Findings:
        """Findings with ``known`` set to the checks that ran."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case."""

    rule: str
    it: str
    file: str
    line: int
    problems: tuple[str, ...]
    """Empty: as expected."""

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}: {self.rule}: {self.it}"
        return head + "".join(f"\n    {problem}" for problem in self.problems)


def run_cases(rules: RuleSet, inspect: Inspect) -> Iterator[CaseResult]:
    """Every case of every rule, those of rules with mode off included."""
    for rule in rules.rules:
        alone = replace(rules.alone(rule.id), domains=(CITY, f"*.{CITY}"))
        for n, case in enumerate(rule.spec.cases):
            problems = run_case(alone, rule, case, inspect)
            yield CaseResult(rule.id, case.it, rule.file, rule.lines[n], problems)


def run_case(rules: RuleSet, rule: Rule, case: Case, inspect: Inspect) -> tuple[str, ...]:
    """One case of ``rule`` under ``rules``; what differs from its expectation, in words."""
    envelope = envelope_of(case)
    try:
        message = message_of(case.message, Path(rule.file).parent)
    except OSError as error:
        return (f"file {case.message.file} cannot be read: {error.strerror}",)
    findings = given(case, inspect(message, envelope, rules.questions))
    verdict = decide(envelope, findings, rules, case.given.now or NOW, exceptions_of(case))
    return compare(rule.id, case, verdict)


def envelope_of(case: Case) -> Envelope:
    """The envelope of a case, directions and directory facts included."""
    message, facts = case.message, case.given
    inside = facts.inside if facts.inside is not None else _in_city(message.from_)
    lists = {fold(address): ids for address, ids in facts.lists.items()}
    sender = Sender(message.from_, frozenset(facts.sender.marks), facts.sender.department, facts.sender.lists)
    return Envelope(
        transaction="case",
        client=Client("192.0.2.1", inside=inside),
        sender=sender,
        recipients=tuple(
            Recipient(to, _direction(inside, _in_city(to)), (), lists.get(fold(to), ())) for to in message.to
        ),
    )


def _in_city(address: str) -> bool:
    return f".{domain_of(address)}".endswith(f".{CITY}")


def _direction(inside: bool, to_city: bool) -> Direction:
    if inside:
        return Direction.INTERNAL if to_city else Direction.OUTBOUND
    return Direction.INBOUND if to_city else Direction.OUTBOUND


def message_of(spec: CaseMessage, folder: Path) -> bytes:
    """The octets of a case's message, CRLF ended. Raises OSError when its file cannot be read."""
    raw = spec.raw.encode() if spec.raw is not None else (folder / spec.file).read_bytes() if spec.file else None
    if raw is not None:
        return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    message = EmailMessage(policy=SMTP)
    message["From"] = spec.from_ or "Mail Delivery System <mailer-daemon@elsewhere.example>"
    message["To"] = ", ".join(spec.to)
    message["Subject"] = spec.subject
    message["Date"] = "Thu, 15 Jan 2026 12:00:00 +0000"
    message["Message-ID"] = "<case@city.example>"
    for name, values in spec.headers.items():
        del message[name]
        for value in (values,) if isinstance(values, str) else values:
            message[name] = value
    if spec.text is not None or spec.html is None:
        message.set_content(spec.text or "")
        if spec.html is not None:
            message.add_alternative(spec.html, subtype="html")
    else:
        message.set_content(spec.html, subtype="html")
    for attachment in spec.attachments:
        main, _, sub = attachment.type.partition("/")
        message.add_attachment(_octets(attachment), main, sub or "octet-stream", filename=attachment.name or None)
    return message.as_bytes()


def _octets(attachment: CaseAttachment) -> bytes:
    content = (attachment.text or "").encode()
    if attachment.base64 is not None:
        content = base64.b64decode("".join(attachment.base64.split()))
    return content.ljust(attachment.size or 0, b"\0")


def given(case: Case, seen: Findings) -> Findings:
    """What was inspected, with the facts that the case takes for granted laid over it."""
    facts = case.given
    items, known = seen.items, seen.known | {Check.VIRUS}
    items += tuple(Finding(Check.ENCRYPTION, e.format, "\n".join(e.key_ids)) for e in facts.encrypted)
    if facts.virus is not None:
        items = (*items, Finding(Check.VIRUS, facts.virus))
    failed = tuple(ControlFailure(check, "unavailable", "given by the case") for check in facts.failed)
    failed += tuple(ControlFailure(check, "limit", "given by the case") for check in facts.limited)
    without = {failure.check for failure in failed}
    if failed:
        items = tuple(f for f in items if f.check not in without)
    size = seen.size if case.message.size is None else case.message.size
    return replace(
        seen, size=size, items=items, known=known - without, failures=(*seen.failures, *failed), complete=True
    )


def exceptions_of(case: Case) -> tuple[ExceptionRecord, ...]:
    """The exception records of a case."""
    now = case.given.now or NOW
    return tuple(
        ExceptionRecord(
            id=f"exception-{n}",
            kind=e.kind,
            sender=e.sender,
            recipient=e.recipient,
            reason="given by the case",
            approver="it-director",
            created=min(now, e.expires or now) - timedelta(days=1),
            expires=e.expires or now + timedelta(days=1),
            uses_left=e.uses_left,
            max_size=e.max_size,
        )
        for n, e in enumerate(case.given.exceptions, 1)
    )


def compare(rule: str, case: Case, verdict: Verdict) -> tuple[str, ...]:
    """How the verdict differs from what the case expects of ``rule``; empty when it does not."""
    groups = {fold(r.address): group for group in verdict.groups for r in group.recipients}
    problems: list[str] = []
    for expect in case.expect:
        for to in expect.to or case.message.to:
            group = groups.get(fold(to))
            if group is None:
                problems.append(f"<{to}> is not a recipient of the case")
            else:
                problems.extend(f"<{to}>: {problem}" for problem in _differences(rule, expect, group))
    return tuple(problems)


def _differences(rule: str, expect: Expect, group: RecipientGroup) -> Iterator[str]:
    why = "; ".join(f"{match.rule}: {match.why}" for match in group.matches) or "no rule matched"
    if group.disposition is not expect.disposition:
        yield f"expected disposition {expect.disposition}, got {group.disposition} ({why})"
    kinds = tuple(t.kind for t in group.transforms)
    if kinds != expect.transforms:
        yield f"expected transforms {_names(expect.transforms)}, got {_names(kinds)} ({why})"
    matched = tuple(match.rule for match in group.matches)
    if expect.matches is not None and set(matched) != set(expect.matches):
        yield f"expected matches {_names(expect.matches)}, got {_names(matched)}"
    elif (rule in matched) != expect.fires(rule):
        yield f"expected the rule {'to match, it did not' if expect.fires(rule) else f'not to match, it did ({why})'}"
    if expect.reply is not None and (group.reply is None or expect.reply not in str(group.reply)):
        yield f"expected a reply with «{expect.reply}», got «{group.reply or 'none'}»"


def _names(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(values) + "]"
