"""What is told of a transaction when it is over: one log line, and the counters. No subject, no content, ever.

Refuses to tell more: what a rule saw is told as its id.
"""

from typing import Any

from gateway.metrics import (
    MESSAGE_BYTES,
    MESSAGES,
    RECIPIENTS,
    RULE_MATCHES,
    Distribution,
    Tally,
    flush_distributions,
)
from gateway.model.envelope import Envelope
from gateway.model.finding import ControlFailure
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RuleMatch, Verdict
from gateway.records.log import logger
from gateway.settings import LogSettings

_SHOWN_RECIPIENTS = 10
_bytes = Distribution(MESSAGE_BYTES)


class Record:
    """Facts of one transaction, collected while it runs."""

    __slots__ = (
        "actions", "envelope", "failures", "message_id", "notes", "problem", "queue_id", "recipients", "size", "times",
        "total", "verdict", "viruses",
    )  # fmt: skip

    def __init__(self, envelope: Envelope, size: int, message_id: str, times: dict[str, float]) -> None:
        self.envelope = envelope
        self.size = size
        self.message_id = message_id
        self.times = times
        self.verdict: Verdict | None = None
        self.recipients = tuple(recipient.address for recipient in envelope.recipients)
        self.actions: list[str] = []
        """What was done to the message: ``legend``, ``encrypt`` …"""
        self.failures: tuple[ControlFailure, ...] = ()
        """Controls that could not answer, whatever the rules made of it."""
        self.viruses: tuple[str, ...] = ()
        """Names of the signatures that the scanner found: for the log, never for the outside."""
        self.notes: list[str] = []
        self.problem = ""
        self.queue_id = ""
        self.total = 0.0

    def matches(self) -> list[RuleMatch]:
        """Every rule that matched for anybody, once."""
        if self.verdict is None:
            return []
        return list({m.rule: m for group in self.verdict.groups for m in group.matches}.values())

    def direction(self) -> str:
        """One direction for all recipients, or ``mixed``; ``none`` before the first."""
        directions = {recipient.direction.value for recipient in self.envelope.recipients}
        return directions.pop() if len(directions) == 1 else ("mixed" if directions else "none")


def disposition_of(record: Record, reply: Reply) -> str:
    """The disposition that the client met: the verdict's, unless the next hop or a failure said otherwise."""
    if not reply.positive:
        return (Disposition.DEFER if reply.temporary else Disposition.REJECT).value
    if record.verdict is None:
        return Disposition.PASS.value
    return record.verdict.disposition.value


class Recorder:
    """Writes records. One per process."""

    def __init__(self, settings: LogSettings) -> None:
        self._log = logger(settings)
        self._messages = Tally(MESSAGES)
        self._matches = Tally(RULE_MATCHES)
        self._recipients = Tally(RECIPIENTS)

    def use(self, settings: LogSettings) -> None:
        """Write as these settings say from now on; what was counted stays."""
        self._log = logger(settings)

    def flush(self) -> None:
        """Make what was counted visible to Prometheus."""
        for tally in (self._messages, self._matches, self._recipients):
            tally.flush()
        flush_distributions()

    def __call__(self, record: Record, reply: Reply) -> None:
        """Count and log one transaction. ``reply`` is what the client got."""
        direction, disposition = record.direction(), disposition_of(record, reply)
        matches = record.matches()
        self._count(record, direction, disposition, matches)
        self._log.info("message", **self._fields(record, reply, direction, disposition, matches))

    def _count(self, record: Record, direction: str, disposition: str, matches: list[RuleMatch]) -> None:
        self._messages.add(direction, disposition)
        for group in record.verdict.groups if record.verdict else ():
            for recipient in group.recipients:
                self._recipients.add(recipient.direction.value, group.disposition.value)
        for match in matches:
            self._matches.add(match.rule, match.mode.value)
        if record.size:
            _bytes.observe(record.size)

    @staticmethod
    def _fields(
        record: Record, reply: Reply, direction: str, disposition: str, matches: list[RuleMatch]
    ) -> dict[str, Any]:
        envelope = record.envelope
        recipients = record.recipients
        shown = ",".join(recipients[:_SHOWN_RECIPIENTS])
        if len(recipients) > _SHOWN_RECIPIENTS:
            shown += f",+{len(recipients) - _SHOWN_RECIPIENTS}"
        fields: dict[str, Any] = {
            "id": envelope.transaction,
            "client": envelope.client.address,
            "from": f"<{envelope.sender.address}>",
            "to": shown,
            "message_id": record.message_id,
            "size": record.size,
            "direction": direction,
            "disposition": disposition,
            "reply": str(reply)[:300],
        }
        fields |= _told(record, matches)
        for stage, seconds in record.times.items():
            fields[f"{stage}_ms"] = round(seconds * 1000, 2)
        fields["total_ms"] = round(record.total * 1000, 2)
        return fields


def _told(record: Record, matches: list[RuleMatch]) -> dict[str, str]:
    """What is said only when there is something to say."""
    found = {
        "queue_id": record.queue_id,
        "login": record.envelope.client.login,
        "rules": ",".join(f"{m.rule}{'' if m.mode == 'enforce' else '(' + m.mode + ')'}" for m in matches),
        "failed_controls": "; ".join(f"{f.check} {f.reason}: {f.detail}" for f in record.failures),
        "virus": ",".join(record.viruses),
        "actions": ",".join(record.actions),
        "notes": "; ".join(record.notes),
        "problem": record.problem,
    }
    return {name: text for name, text in found.items() if text}
