"""The information types as they are shipped: read and compiled once for all tests of a process; it takes seconds."""

from functools import cache
from pathlib import Path

from gateway.checks.scanner import Scanner
from gateway.policy import InformationType, RuleSet, load_rules, load_types

_FOLDER = Path(__file__).parents[1] / "rules"


@cache
def shipped_types() -> tuple[InformationType, ...]:
    """All of them."""
    return load_types(_FOLDER)


@cache
def shipped_rules() -> RuleSet:
    """All rules, by the embedded defaults."""
    return load_rules(_FOLDER)


@cache
def shipped_scanner() -> Scanner:
    """All of them in one database. It keeps nothing of what it has scanned."""
    return Scanner(shipped_types())
