"""Builders for envelopes, findings and rules, so that a test shows only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.model.envelope import Client, Direction, Envelope, ExceptionRecord, Recipient, Sender
from gateway.model.finding import Check, ControlFailure, Finding, Findings
from gateway.policy.compiled import compile_rule
from gateway.policy.ruleset import RuleSet
from gateway.policy.schema import RuleFile
from gateway.source import Document

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
CASES = [
    {"it": "fires", "message": {"from": "a@x.example", "to": "b@y.example"}, "expect": {"matches": ["r"]}},
    {"it": "near miss", "message": {"from": "a@x.example", "to": "b@y.example"}, "expect": {}},
]


class World:
    """Short words for the values of the model."""

    now = NOW

    @staticmethod
    def to(address: str, direction: str = "outbound", *lists: str) -> Recipient:
        """One recipient."""
        return Recipient(address, Direction(direction), (), lists)

    @staticmethod
    def envelope(*recipients: Recipient, sender: str = "clerk@city.example", declared: int | None = None, **of: Any
                 ) -> Envelope:  # fmt: skip
        """An envelope from a sender with directory facts ``of``."""
        return Envelope("T1", Client("192.0.2.1"), Sender(sender, **of), recipients, (), declared)

    @staticmethod
    def findings(*items: Finding, size: int = 1000, failed: tuple[Check, ...] = (), known: Any = None) -> Findings:
        """A complete inspection: every check has answered but those that failed."""
        failures = tuple(ControlFailure(check, "timeout", "") for check in failed)
        return Findings(size, items, failures, frozenset(Check) if known is None else frozenset(known))

    @staticmethod
    def before(size: int = 0) -> Findings:
        """What is known before the message is whole."""
        return Findings(size, known=frozenset(), complete=False)

    @staticmethod
    def exception(kind: str, sender: str = "*", recipient: str = "*", **more: Any) -> ExceptionRecord:
        """An exception record in force."""
        span = {"created": NOW - timedelta(hours=1), "expires": NOW + timedelta(hours=1), **more}
        return ExceptionRecord(f"x-{kind}", kind, sender, recipient, "because", "it-director", **span)

    @staticmethod
    def rules(*rows: dict[str, Any]) -> RuleSet:
        """Rules from plain data; id, title, source and cases are filled in."""
        made = []
        for place, row in enumerate(rows):
            id_ = row.get("id", f"r{place}")
            cases = [{**CASES[0], "expect": {"matches": [id_]}}, CASES[1]]
            data = {"id": id_, "title": f"Title {id_}", "source": "man/circumvent", "cases": cases, **row}
            made.append(compile_rule(RuleFile.model_validate(data), Document("r.yaml", data, {}), place))
        return RuleSet(tuple(made), "digest")


@pytest.fixture
def world() -> World:
    """The builders."""
    return World()
