"""What a rule's ``hold`` block says, as the order that a held message carries."""

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.model.verdict import HoldOrder
from gateway.policy import load_rules
from gateway.policy.schema import RuleFile, schema
from gateway.policy.then_schema import Hold

RULE = """
id: some-rule
title: T
source: wdm/all-city
when: {recipient: {city_wide: true}}
UNLESS
then:
  hold:
    queue: all-city
    reason: "Because of {transfer_service}."
    HOLD
cases:
  - it: holds
    message: {from: a@city.example, to: [all@city.example]}
    given: {lists: {all@city.example: [all, "@city-wide"]}}
    expect: {disposition: hold}
  - it: leaves alone
    message: {from: a@city.example, to: [b@city.example]}
    expect: {disposition: pass}
"""


def order(tmp_path: Path, *keys: str, unless: str = "") -> HoldOrder:
    """The order of a rule with these keys."""
    text = RULE.replace("HOLD", "\n    ".join(keys)).replace("UNLESS", f"unless: {unless}" if unless else "")
    (tmp_path / "rule.yaml").write_text(text)
    (rule,) = load_rules(tmp_path).rules
    assert rule.hold is not None
    return rule.hold


@pytest.mark.parametrize(
    ("written", "roles", "need", "words"),
    [
        ("director", ("director",), None, "director"),
        ("[director, clerk]", ("director", "clerk"), None, "director and clerk"),
        ("{all: [director, clerk]}", ("director", "clerk"), None, "director and clerk"),
        ("{any: [director, clerk]}", ("director", "clerk"), 1, "any of director, clerk"),
        ("{any: director}", ("director",), 1, "director"),
        ("{of: 2, roles: [a, b, c]}", ("a", "b", "c"), 2, "2 of a, b, c"),
        ("[]", (), None, ""),
    ],
    ids=["one", "list", "all", "any", "any-one", "of", "none"],
)
def test_approvers(tmp_path: Path, written: str, roles: tuple[str, ...], need: int | None, words: str) -> None:
    """A role, a list of roles, all of, any of, so many of; and how it is said to people."""
    found = order(tmp_path, f"approvers: {written}")
    assert (found.roles, found.need, found.asked) == (roles, need, words)


def test_times_escalation_and_attestation(tmp_path: Path) -> None:
    """Everything else in the block arrives, placeholders filled, an attestation on one line."""
    found = order(
        tmp_path,
        "approvers: director",
        "expires: 48 h",
        "remind_after: 8 h",
        "remind_every: 4 h",
        "escalate_after: 24 h",
        "escalate_to: [city-manager]",
        "attestation: {text: 'I work for {city_name}.\n      It is official.'}",
    )
    assert (found.remind_after, found.remind_every) == (timedelta(hours=8), timedelta(hours=4))
    assert (found.escalate_after, found.escalate_to) == (timedelta(hours=24), ("city-manager",))
    assert found.attestation == "I work for City of Example. It is official."


@pytest.mark.parametrize(
    ("unless", "kinds"),
    [
        ("", ()),
        ("{exception: one}", ("one",)),
        ("[{exception: one}, {exception: two}, {size: {under: 1 MB}}]", ("one", "two")),
        ("{exception: one, size: {under: 1 MB}}", ()),
    ],
    ids=["none", "alone", "any", "with-another-key"],
)
def test_exceptions_that_alone_keep_the_rule_from_acting(tmp_path: Path, unless: str, kinds: tuple[str, ...]) -> None:
    """Only those are offered with «release and allow»: a record that needs another condition besides would mislead."""
    assert order(tmp_path, unless=unless).exceptions == kinds


def test_the_schema_for_editors_knows_every_way_to_name_approvers() -> None:
    """A role, a list, and each of the three mappings; nothing else."""
    found = schema(RuleFile)["$defs"][Hold.__name__]["properties"]["approvers"]["anyOf"]
    assert [sorted(way.get("properties", {})) for way in found] == [[], [], ["all"], ["any"], ["of", "roles"]]
    assert all(way["additionalProperties"] is False for way in found if way["type"] == "object")
