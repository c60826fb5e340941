"""What the tests of the checks share: the product's own types, compiled once, and one way to ask."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.checks.passive import PASSIVE, inspect
from gateway.checks.scanner import Scanner
from gateway.model.envelope import Client, Envelope, Sender
from gateway.model.finding import Check, Finding, LegendText, Questions
from gateway.policy.types import InformationType, load_types
from gateway.settings import InspectionSettings

ROOT = Path(__file__).resolve().parents[3]
ENVELOPE = Envelope("t1", Client("127.0.0.1"), Sender("clerk@city.example"))
Inspect = Callable[..., tuple[Finding, ...]]


@pytest.fixture(scope="session")
def types() -> tuple[InformationType, ...]:
    """The types in ``rules/types`` that the product ships."""
    return tuple(t for t in load_types(ROOT / "rules") if t.id in ("us-ssn", "payment-card"))


@pytest.fixture(scope="session")
def scanner(types: tuple[InformationType, ...]) -> Scanner:
    """They, compiled."""
    return Scanner(types)


@pytest.fixture(scope="session")
def envelope() -> Envelope:
    """An envelope; the passive checks look at the message alone."""
    return ENVELOPE


@pytest.fixture(scope="session")
def everything(types: tuple[InformationType, ...]) -> Questions:
    """All that can be asked."""
    return Questions(
        checks=PASSIVE,
        headers=frozenset({"subject", "from", "x-tag"}),
        types=frozenset(t.id for t in types),
        legends=(LegendText("confidential", ("THIS MESSAGE CONTAINS CONFIDENTIAL INFORMATION",)),),
        signature_wordings=("contractor", "non-city employee"),
    )


@pytest.fixture(scope="session")
def look(scanner: Scanner, everything: Questions) -> Inspect:
    """Inspect a message here; ``check`` and ``kind`` choose from the findings."""

    def run(
        message: bytes,
        check: Check | None = None,
        kind: str = "",
        settings: InspectionSettings | None = None,
        questions: Questions = everything,
    ) -> tuple[Finding, ...]:
        found = inspect(message, ENVELOPE, questions, scanner, settings or InspectionSettings())
        return tuple(f for f in found if check in (None, f.check) and kind in ("", f.kind))

    return run
