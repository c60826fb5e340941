"""A city's profile: rules as they are shipped, with what one city wants otherwise; mistakes have a place."""

from pathlib import Path

import pytest

from gateway.directory import load_directory
from gateway.errors import ConfigErrors
from gateway.model.verdict import Mode
from gateway.policy import RuleSet, load_rules
from gateway.policy.clauses import load_clauses
from gateway.source import read_yaml

ROOT = Path(__file__).resolve().parents[3]
CITIES = sorted((ROOT / "config" / "cities").glob("*.yaml"))
RULE = """
id: bomb
title: A word
source: wdm/all-city
when: {header: {name: subject, contains: bomb}}
then: {hold: {queue: q, approvers: it-director, reason: Somebody has to look., expires: 24 h}}
cases:
  - {it: holds, message: {from: a@city.example, to: [b@x.example], subject: bomb}, expect: {disposition: hold}}
  - {it: not, message: {from: a@city.example, to: [b@x.example]}, expect: {disposition: pass}}
"""
PLAIN = RULE.replace("id: bomb", "id: plain").replace(
    "hold: {queue: q, approvers: it-director, reason: Somebody has to look., expires: 24 h}", "discard: true"
)


def load(folder: Path, profile: str) -> RuleSet:
    """The rule above with this profile."""
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "bomb.yaml").write_text(RULE, "utf-8")
    (folder / "city.yaml").write_text(profile, "utf-8")
    roles = frozenset({"director", "it-director"})
    return load_rules(folder / "rules", frozenset(), {}, roles, (), folder / "city.yaml")


def test_a_profile_takes_the_place_of_what_it_names_alone(tmp_path: Path) -> None:
    """Mode, approvers and attestation are the city's; queue, reason and expiry stay the rule's. The digest tells."""
    (rule,) = (
        found := load(
            tmp_path,
            "title: A city\nrules:\n  bomb:\n    mode: monitor\n    hold:\n"
            "      approvers: {any: [director, it-director]}\n      attestation: {text: I confirm it.}\n",
        )
    ).rules
    assert rule.hold is not None
    assert (rule.mode, rule.hold.roles, rule.hold.need) == (Mode.MONITOR, ("director", "it-director"), 1)
    assert (rule.hold.attestation, rule.hold.queue, rule.hold.reason) == ("I confirm it.", "q", "Somebody has to look.")
    assert rule.hold.expires_after is not None
    assert found.digest != load_rules(tmp_path / "rules").digest
    assert rule.file.endswith("bomb.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bomb:\n    hold:\n      approvers: nobody", "city.yaml:5:7: role «nobody» is not known"),
        ("bomb:\n    hold:\n      attestation: {text: 'I, {mayor}'}", "city.yaml:5:21: {mayor} has no value"),
        ("bomb:\n    hold:\n      remind_after: 3 d", "city.yaml:5:7: "),
        ("bomb:\n    hold:\n      queue: other", "city.yaml:5:7: unknown key «queue»"),
        ("bomb:\n    mode: sometimes", "city.yaml:4:5: "),
        ("bomp:\n    mode: monitor", "city.yaml:3:3: there is no rule «bomp»"),
        ("bomb:\n    then: {}", "city.yaml:4:5: "),
    ],
    ids=["role", "placeholder", "time", "key", "mode", "rule", "more than hold"],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    """In the profile's file, not in the rule's, which is right."""
    with pytest.raises(ConfigErrors) as refused:
        load(tmp_path, f"title: A city\nrules:\n  {text}\n")
    assert complaint in str(refused.value)
    assert "bomb.yaml" not in str(refused.value)


def test_a_hold_for_a_rule_without_one_is_refused(tmp_path: Path) -> None:
    """A profile makes no rule hold that does something else."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "plain.yaml").write_text(PLAIN.replace("disposition: hold", "disposition: discard"), "utf-8")
    with pytest.raises(ConfigErrors, match=r"city\.yaml:4:5: the rule plain holds nothing"):
        load(tmp_path, "title: A city\nrules:\n  plain:\n    hold: {reason: Because.}\n")


@pytest.mark.parametrize("path", CITIES, ids=lambda path: path.stem)
def test_a_shipped_profile_asks_for_the_senders_word(path: Path) -> None:
    """It loads over the shipped rules, the sender confirms official business, and its clauses are known."""
    roles = load_directory(ROOT / "config" / "directory.yaml").role_names
    rules = load_rules(ROOT / "rules", known_roles=roles, profile=path)
    (rule,) = (rule for rule in rules.rules if rule.id == "all-city-approval")
    assert rule.hold is not None
    assert rule.hold.attestation.startswith("I confirm that")
    (cited,) = [clause for clause in load_clauses(ROOT / "config" / "clauses.yaml") if clause in rule.hold.attestation]
    assert cited in rule.source
    assert read_yaml(path).data["title"].startswith("City of ")


def test_profiles_are_shipped() -> None:
    """At least those of the two cities whose policies want mail to everybody to be official business."""
    assert {path.stem for path in CITIES} >= {"manitowoc", "west-des-moines"}
