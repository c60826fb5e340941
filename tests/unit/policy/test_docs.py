"""The documents say what the code does: every rule key, every clause, every defect code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.mime.tree import DefectCode
from gateway.model.verdict import Mode
from gateway.policy import load_rules, load_types, schema
from gateway.policy.ruleset import FROM_ATTACHMENTS
from gateway.source import read_yaml

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "rules.md").read_text("utf-8")


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


KEYS = sorted({key for found in _objects(schema()) for key in found["properties"]})


@pytest.mark.parametrize("key", KEYS)
def test_every_rule_key_is_described(key: str) -> None:
    """Each key of the schema stands in a table of docs/rules.md."""
    assert re.search(rf"^\| (?:`[a-z_.]+`, )*`{key}`", REFERENCE, re.MULTILINE), key


@pytest.mark.parametrize("code", [*DefectCode, *FROM_ATTACHMENTS, "text-truncated", "candidates-capped"])
def test_every_structure_code_is_described(code: str) -> None:
    """Each code that a rule can name under structure is there, and what it means."""
    assert f"| `{code}` |" in REFERENCE


def test_every_example_in_the_reference_loads(tmp_path: Path) -> None:
    """Whole rules shown in the reference are rules."""
    shown = [
        text for text in re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL) if "\ncases:" in text
    ]
    assert shown
    for n, text in enumerate(shown):
        (tmp_path / f"{n}.yaml").write_text(text)
    assert len(load_rules(tmp_path).rules) == len(shown)


def test_clauses_name_exactly_the_shipped_rules() -> None:
    """The last column of docs/policy-clauses.md is what the rules' sources say; what does not act is in italics."""
    told: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "policy-clauses.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "/" in cells[0] and len(cells) == 4:
            told[cells[0]] = {name for name in cells[3].split(", ") if name != "—"}
    real: dict[str, set[str]] = {clause: set() for clause in told}
    for rule in load_rules(ROOT / "rules").rules:
        for clause in rule.source:
            real[clause].add(rule.id if rule.mode is Mode.ENFORCE else f"*{rule.id}*")
    assert told == real


def test_information_types_name_clauses_that_exist() -> None:
    """A type's source is a clause as well."""
    clauses = (ROOT / "docs" / "policy-clauses.md").read_text("utf-8")
    for type_ in load_types(ROOT / "rules"):
        for clause in read_yaml(ROOT / "rules" / "types" / f"{type_.id}.yaml").data["source"]:
            assert f"| {clause} |" in clauses
