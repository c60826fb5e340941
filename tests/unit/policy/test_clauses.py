"""The texts of the clauses: every rule has them, the same as the documentation; what is no text is refused."""

import re
from pathlib import Path

import pytest

from gateway.errors import ConfigErrors
from gateway.policy import load_rules
from gateway.policy.clauses import load_clauses

ROOT = Path(__file__).resolve().parents[3]


def test_every_clause_has_the_documentations_text() -> None:
    """config/clauses.yaml and docs/policy-clauses.md say the same, clause by clause."""
    text = (ROOT / "docs" / "policy-clauses.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| ([a-z]{3}/[a-z-]+) \| (.*?) \| ", text, re.MULTILINE))
    assert dict(load_clauses(ROOT / "config" / "clauses.yaml")) == documented


def test_every_rules_clause_has_a_text() -> None:
    """Approvers read a sentence beside each id."""
    named = {clause for rule in load_rules(ROOT / "rules").rules for clause in rule.source}
    assert named <= set(load_clauses(ROOT / "config" / "clauses.yaml"))


@pytest.mark.parametrize(
    "text",
    ["- a\n", "wdm/all-city: 7\n", "All City: text\n", 'wdm/all-city: ""\n'],
    ids=["list", "number", "id", "empty"],
)
def test_what_is_no_text_is_refused(tmp_path: Path, text: str) -> None:
    """With the file and the place."""
    file = tmp_path / "clauses.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigErrors, match=r"clauses\.yaml:1"):
        load_clauses(file)
