"""Compiled databases are handed from one process to another."""

import pytest

from gateway.checks import databases
from gateway.checks.databases import Databases
from gateway.checks.scanner import Scanner, Tally
from tests.shipped import shipped_scanner, shipped_types

TEXT = b"The Social Security number is 536-90-4399, the card 4111 1111 1111 1111.\n"


def test_a_scanner_reads_what_another_has_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the same and compiles nothing."""
    ready = shipped_scanner().compiled

    def refuse(*_: object) -> None:
        raise AssertionError("something is compiled")

    with monkeypatch.context() as patch:
        patch.setattr(databases, "compiled", refuse)
        other = Scanner(shipped_types(), ready)
    found = []
    for scanner in (shipped_scanner(), other):
        tally = Tally()
        scanner.scan(TEXT, "1", tally)
        found.append(scanner.findings(tally))
    assert found[0] == found[1]
    assert {item.kind for item in found[0]} >= {"us-ssn", "payment-card"}


def test_another_database_is_not_taken_for_one() -> None:
    """One that was compiled from something else is of no use, and is not used."""
    first = Databases()
    first.of([b"abc"], [0], [7])
    second = Databases(first.serialized())
    seen: list[int] = []
    second.of([b"abc"], [0], [8]).scan(b"abc", match_event_handler=lambda number, *_: seen.append(number))
    assert seen == [8]
