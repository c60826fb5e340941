"""What is told of a transaction when it is over: one log line, and the counters. No subject, no content, ever.

Values come from strangers: whatever could break a line or colour a terminal is escaped before it is written.
"""

import sys
import time
from typing import Any

import structlog

from gateway.metrics import MESSAGE_BYTES, MESSAGES, RECIPIENTS, RULE_MATCHES
from gateway.model.envelope import Envelope
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, RuleMatch, Verdict
from gateway.settings import LogSettings

_SHOWN_RECIPIENTS = 10


class Record:
    """Facts of one transaction, collected while it runs."""

    __slots__ = (
        "actions", "envelope", "message_id", "notes", "problem", "recipients", "size", "times", "total", "verdict"
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
        self.notes: list[str] = []
        self.problem = ""
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
        self._messages: dict[tuple[str, str], Any] = {}
        self._matches: dict[tuple[str, str], Any] = {}
        self._recipients: dict[tuple[str, str], Any] = {}

    def __call__(self, record: Record, reply: Reply) -> None:
        """Count and log one transaction. ``reply`` is what the client got."""
        direction, disposition = record.direction(), disposition_of(record, reply)
        matches = record.matches()
        self._count(record, direction, disposition, matches)
        self._log.info("message", **self._fields(record, reply, direction, disposition, matches))

    def _count(self, record: Record, direction: str, disposition: str, matches: list[RuleMatch]) -> None:
        key = (direction, disposition)
        counter = self._messages.get(key)
        if counter is None:
            counter = self._messages[key] = MESSAGES.labels(*key)
        counter.inc()
        for group in record.verdict.groups if record.verdict else ():
            for recipient in group.recipients:
                pair = (recipient.direction.value, group.disposition.value)
                counter = self._recipients.get(pair)
                if counter is None:
                    counter = self._recipients[pair] = RECIPIENTS.labels(*pair)
                counter.inc()
        for match in matches:
            pair = (match.rule, match.mode.value)
            counter = self._matches.get(pair)
            if counter is None:
                counter = self._matches[pair] = RULE_MATCHES.labels(*pair)
            counter.inc()
        if record.size:
            MESSAGE_BYTES.observe(record.size)

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
        if envelope.client.login:
            fields["login"] = envelope.client.login
        if matches:
            fields["rules"] = ",".join(f"{m.rule}{'' if m.mode == 'enforce' else '(' + m.mode + ')'}" for m in matches)
        failed = sorted({m.failed_control for m in matches if m.failed_control})
        if failed:
            fields["failed_controls"] = ",".join(failed)
        if record.actions:
            fields["actions"] = ",".join(record.actions)
        if record.notes:
            fields["notes"] = "; ".join(record.notes)
        if record.problem:
            fields["problem"] = record.problem
        for stage, seconds in record.times.items():
            fields[f"{stage}_ms"] = round(seconds * 1000, 2)
        fields["total_ms"] = round(record.total * 1000, 2)
        return fields


# --- how lines are written ---------------------------------------------------------------------------------------


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _safe(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    for key, value in fields.items():
        if type(value) is str and not value.isprintable():
            fields[key] = _escape(value)
    return fields


class _Timestamp:
    """ISO 8601 in UTC with milliseconds; the date part is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, _: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return {"time": f"{self._text}.{int((now - second) * 1000):03d}Z", **fields}


def _level(_: Any, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    fields["level"] = method
    return fields


def _quote(value: Any) -> str:
    text = str(value)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _keyvalue(_: Any, __: str, fields: dict[str, Any]) -> str:
    event = fields.pop("event", "")
    when = fields.pop("time", "")
    level = fields.pop("level", "info")
    rest = " ".join(f"{key}={_quote(value)}" for key, value in fields.items() if value != "")
    return f"{when} {level} {event} {rest}" if rest else f"{when} {level} {event}"


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def logger(settings: LogSettings) -> Any:
    """A structlog logger on standard error, as the settings say."""
    renderer = structlog.processors.JSONRenderer() if settings.format == "json" else _keyvalue
    return structlog.wrap_logger(
        structlog.PrintLogger(_StandardError()),
        processors=[_level, _safe, _Timestamp(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()


class _StandardError:
    """Standard error, looked up at each write so that redirection works, one write a line."""

    def write(self, text: str) -> None:
        """As a text file does."""
        sys.stderr.write(text)

    def flush(self) -> None:
        """As a text file does."""
        sys.stderr.flush()
