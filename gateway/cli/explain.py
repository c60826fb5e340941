"""``civicgate explain``: what the gateway would do with a message, rule by rule, and what the client would read.

Sends nothing, holds nothing, changes nothing. Evidence is redacted as everywhere.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.app import load_policy, own_hostname
from gateway.checks.inspector import Inspector
from gateway.checks.virus import VirusScanner
from gateway.deliver import NextHop
from gateway.directory import Directory
from gateway.errors import ClientError, ControlError, NextHopError, OperatorError
from gateway.hold import open_hold
from gateway.model.envelope import Client, Envelope, ExceptionRecord, Recipient
from gateway.model.finding import Check, ControlFailure, Findings, Questions
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RecipientGroup, TransformKind, Verdict
from gateway.pipeline.membership import Membership
from gateway.pipeline.recipients import RELAY_DENIED, mailbox, own_names, resolve, routed
from gateway.pipeline.trace import header_facts
from gateway.pipeline.transaction import LOOP, too_large
from gateway.policy import Explanation, InformationType, Outcome, RuleSet, decide, decide_early, explain
from gateway.settings import Settings
from gateway.spool import SpooledMessage
from gateway.wire.command import PathArgument, parse_path

_SIDE = {True: "inside", False: "outside"}


def register(commands: Any) -> None:
    """Add the sub-command."""
    sub = commands.add_parser("explain", help="say what would become of a message, rule by rule, and why")
    sub.add_argument("file", metavar="FILE.eml", type=Path, help="the message; - reads standard input")
    sub.add_argument(
        "--from", dest="sender", required=True, metavar="ADDRESS", help="reverse-path; <> for the null one"
    )
    sub.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="recipient; may be repeated")
    sub.add_argument("--client", default="", metavar="IP", help="client address; default: inside if the sender is")
    sub.add_argument("--all", action="store_true", help="show the conditions of rules that do not fire too")
    sub.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the explanation. Exit code 0, whatever the verdict."""
    rules, directory, types = load_policy(settings)
    message = SpooledMessage.of(_read(args.file))
    whole = _envelope(args, settings, directory)
    exceptions = asyncio.run(_exceptions(settings, directory))
    now = datetime.now(UTC)
    early = _Early(whole, rules, now, exceptions)
    refused = early.recipients()
    envelope = replace(whole, recipients=tuple(r for r in whole.recipients if r not in refused) or whole.recipients)
    findings = asyncio.run(_findings(message, envelope, rules.questions, types, settings))
    verdict = decide(envelope, findings, rules, now, exceptions)
    explanations = explain(whole, findings, rules, now, exceptions)
    content = replace(early, envelope=envelope).content(message, settings)
    report = _Report(whole, findings, verdict, explanations, rules, refused, content, args.all)
    if args.json:
        print(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in report.lines():
            print(line)
    return 0


def _read(path: Path) -> bytes:
    """The octets of the message with the line ends that SMTP would give it. Raises OperatorError."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}") from error
    return re.sub(rb"\r?\n", b"\r\n", raw)


def _envelope(args: argparse.Namespace, settings: Settings, directory: Directory) -> Envelope:
    sender = _path(args.sender).address
    network = settings.network
    if args.client:
        inside = Membership(network.internal_networks)(args.client)
    else:
        inside = bool(sender) and network.is_internal(sender)
    paths = [(given, _path(given)) for given in args.to]
    hosts = _hosts(settings) if any(routed(path.address) for _, path in paths) else ()
    recipients: dict[str, Recipient] = {}
    for given, path in paths:
        found = resolve(path, inside=inside, network=network, directory=directory, hosts=hosts)
        if found is RELAY_DENIED and not settings.listeners:  # the mail server that asks us has decided that
            found = resolve(path, inside=True, network=network, directory=directory, hosts=hosts)
        if isinstance(found, Reply):
            raise OperatorError(f"The gateway would refuse {given}, the client being {_SIDE[inside]}: {found}")
        recipients.setdefault(mailbox(found.address), found)
    client = Client(args.client or ("127.0.0.1" if inside else "192.0.2.1"), inside=inside)
    return Envelope("explain", client, directory.sender(sender), tuple(recipients.values()))


def _hosts(settings: Settings) -> tuple[str, ...]:
    """What our servers call themselves. The next hop is asked as a start asks it, with EHLO and no more."""
    hostname = own_hostname(settings)
    return own_names(hostname, asyncio.run(_next_hop_name(settings, hostname)))


async def _next_hop_name(settings: Settings, hostname: str) -> str:
    next_hop = NextHop(settings.next_hop, hostname)
    try:
        return (await next_hop.probe()).name
    except NextHopError as error:
        print(f"A route through the next hop's own name would be refused, but its name is not known: {error.detail}",
              file=sys.stderr)  # fmt: skip
        return ""
    finally:
        await next_hop.close()


def _path(given: str) -> PathArgument:
    """An address as MAIL and RCPT take it, with or without angle brackets. Raises OperatorError."""
    bare = given.strip()
    try:
        path = parse_path(bare if bare.startswith("<") else f"<{bare}>", "")
    except ClientError as error:
        raise OperatorError(f"The gateway would refuse {given}: {error.reply}") from error
    assert path is not None, "every path begins with nothing"
    return path


async def _findings(
    message: SpooledMessage,
    envelope: Envelope,
    questions: Questions,
    types: tuple[InformationType, ...],
    settings: Settings,
) -> Findings:
    inspector = Inspector(settings.inspection, types)
    try:
        items, failures, known, apart = await inspector.examine(message, envelope, questions)
    finally:
        await inspector.close()
    if Check.VIRUS in questions.checks:
        virus = VirusScanner(settings.clamd)
        try:
            found = await virus.scan(message)
            if apart is not None:
                found = found or await virus.scan(apart)
            items = (*items, *found)
            if not any(failure.check is Check.VIRUS for failure in failures):
                known |= {Check.VIRUS}
        except ControlError as error:
            failures = (*failures, ControlFailure(Check.VIRUS, error.reason, error.detail))
        finally:
            if apart is not None:
                apart.close()
            await virus.close()
    return Findings(message.size, items, failures, known)


async def _exceptions(settings: Settings, directory: Directory) -> tuple[ExceptionRecord, ...]:
    """The exceptions that hold now; none when there is no store yet (it is not made for a question)."""
    if settings.store.database == "sqlite" and not (settings.store.directory / "store.db").exists():
        return ()
    hold = await open_hold(settings, directory)
    try:
        return await hold.exceptions.snapshot()
    finally:
        await hold.close()


def reply_for(verdict: Verdict) -> Reply:
    """What the client would read, as far as it is the gateway's to say."""
    if verdict.refusal is not None:
        return verdict.refusal
    if any(group.disposition is Disposition.HOLD for group in verdict.groups):
        return Reply.of(250, "2.0.0", "Accepted, held for a decision as ID")
    if all(group.disposition is Disposition.DISCARD for group in verdict.groups):
        return Reply.of(250, "2.0.0", "OK ID")
    if len(verdict.groups) > 1 or any(_one_by_one(group) for group in verdict.groups):
        return Reply.of(250, "2.0.0", "Accepted for delivery as ID")
    return Reply.of(250, "", "(the next hop's reply)")


def _one_by_one(group: RecipientGroup) -> bool:
    """Encrypted for several recipients it goes to each by itself, through the store."""
    return len(group.recipients) > 1 and any(t.kind is TransformKind.ENCRYPT for t in group.transforms)


@dataclass(frozen=True, slots=True)
class _Early:
    """What is refused before the end of data, as in :class:`~gateway.pipeline.transaction.Transaction`."""

    envelope: Envelope
    rules: RuleSet
    now: datetime
    exceptions: tuple[ExceptionRecord, ...]

    def recipients(self) -> dict[Recipient, Reply]:
        """Whom the envelope alone refuses, at RCPT: the others get the message."""
        replies = ((recipient, self._at(recipient, 0)) for recipient in self.envelope.recipients)
        return {recipient: reply for recipient, reply in replies if reply is not None}

    def content(self, message: SpooledMessage, settings: Settings) -> Reply | None:
        """What is said to the content whatever is in it: the gateway's own limits, and rules that come before them."""
        limit = settings.smtp.max_message_size
        if message.size <= limit:
            return LOOP if header_facts(message.buffer).hops > settings.smtp.max_hops else None
        for threshold in self.rules.size_thresholds:
            for recipient in self.envelope.recipients if threshold < limit else ():
                reply = self._at(recipient, threshold + 1)
                if reply is not None:
                    return reply
        return too_large(limit)

    def _at(self, recipient: Recipient, size: int) -> Reply | None:
        """The refusal of one recipient that is certain after so many octets."""
        findings = Findings(size, (), (), frozenset(), complete=False)
        envelope = replace(self.envelope, recipients=(recipient,))
        return decide_early(envelope, findings, self.rules, self.now, self.exceptions)


@dataclass(frozen=True, slots=True)
class _Report:
    """All that is to be printed."""

    envelope: Envelope
    findings: Findings
    verdict: Verdict
    explanations: tuple[Explanation, ...]
    rules: RuleSet
    refused: Mapping[Recipient, Reply]
    """At RCPT."""
    content: Reply | None
    """The content's refusal by what comes before the rules."""
    everything: bool

    @property
    def reply(self) -> Reply:
        """What the client reads last."""
        return next(iter(self.refused.values())) if self._nobody else self.content or reply_for(self.verdict)

    @property
    def _nobody(self) -> bool:
        return len(self.refused) == len(self.envelope.recipients)

    @property
    def _groups(self) -> tuple[RecipientGroup, ...]:
        """Nobody's when the content is not taken."""
        return () if self._nobody or self.content is not None else self.verdict.groups

    def lines(self) -> Iterator[str]:
        """The report, for a person."""
        side = _SIDE[self.envelope.client.inside]
        yield f"Message of {self.findings.size} octets from <{self.envelope.sender.address}> ({side})"
        for failure in self.findings.failures:
            yield f"Control {failure.check} failed ({failure.reason}): {failure.detail}"
        yield from ("", "What was found", *(self._found() or ["  nothing"]))
        yield from ("", "Rules", *self._rules())
        yield from ("", "Outcome", *self._outcome())
        yield from ("", "Reply to the client")
        for row in self.reply.encode().decode("utf-8", "replace").splitlines():
            yield f"  {row}"

    def _found(self) -> list[str]:
        rows = []
        for finding in self.findings.items:
            if finding.check is Check.HEADER and not finding.evidence:
                continue
            where = f" in part {finding.part}" if finding.part else ""
            times = f" ({finding.count} times)" if finding.count > 1 else ""
            rows.append(f"  {finding.check}: {finding.kind}{where}{times} {finding.evidence}".rstrip())
        return rows

    def _rules(self) -> Iterator[str]:
        quiet = 0
        for one in self.explanations:
            if one.outcome is Outcome.OFF or (one.outcome is Outcome.DOES_NOT and not self.everything):
                quiet += 1
                continue
            rule = self.rules.get(one.rule)
            first, *rest = one.lines()
            yield f"  {first} — {one.title}" + (f" [{', '.join(rule.source)}]" if rule else "")
            yield from (f"  {row}" for row in rest)
        if quiet:
            yield f"  {quiet} more do not fire" + ("" if self.everything else " (--all shows them)")

    def _outcome(self) -> Iterator[str]:
        for recipient, reply in self.refused.items():
            yield f"  <{recipient.address}>: refused at RCPT: {reply}"
        if self.content is not None and not self._nobody:
            yield "  the content is refused, whatever the rules say"
        for group in self._groups:
            to = ", ".join(f"<{recipient.address}>" for recipient in group.recipients)
            changes = ", ".join(transform.kind for transform in group.transforms)
            yield f"  {to}: {group.disposition}" + (f", changed: {changes}" if changes else "")
            for order in group.holds:
                who = order.asked or "the fallback role"
                yield f"    held in «{order.queue}» for {who}: {order.reason}"

    def as_json(self) -> dict[str, Any]:
        """The report, for a program."""
        return {
            "reply": _reply_json(self.reply),
            "refused": [{"recipient": to.address, "reply": _reply_json(said)} for to, said in self.refused.items()],
            "failures": [{"check": f.check, "reason": f.reason, "detail": f.detail} for f in self.findings.failures],
            "findings": [
                {"check": f.check, "kind": f.kind, "part": f.part, "count": f.count, "evidence": f.evidence}
                for f in self.findings.items
            ],
            "groups": [
                {
                    "recipients": [recipient.address for recipient in group.recipients],
                    "disposition": group.disposition,
                    "transforms": [transform.kind for transform in group.transforms],
                    "queues": [order.queue for order in group.holds],
                }
                for group in self._groups
            ],
            "rules": [
                {"rule": one.rule, "recipient": one.recipient, "outcome": one.outcome, "why": list(one.lines()[1:])}
                for one in self.explanations
            ],
        }


def _reply_json(reply: Reply) -> dict[str, Any]:
    return {"code": reply.code, "enhanced": reply.enhanced, "lines": list(reply.lines)}
