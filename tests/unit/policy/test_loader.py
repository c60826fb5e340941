"""Loading: order, digest, placeholders, questions, the schema for editors."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.errors import ConfigErrors
from gateway.model.finding import Check, LegendText
from gateway.policy import load_rules, schema
from gateway.source import read_yaml

RULES = Path(__file__).parents[3] / "rules"
SCHEMA = jsonschema.Draft202012Validator(schema())
RULE = """\
id: {id}
title: T
source: roc/legend
when: {when}
then: {then}
cases:
  - {{it: fires, message: {{from: a@x.example, to: b@y.example}}, expect: {{matches: [{id}]}}}}
  - {{it: misses, message: {{from: a@x.example, to: b@y.example}}, expect: {{}}}}
"""


def _write(folder: Path, name: str, id_: str, when: str = "{size: {over: 1}}", then: str = "{discard: true}") -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(RULE.format(id=id_, when=when, then=then))


def test_rules_stand_in_the_order_of_their_paths(tmp_path: Path) -> None:
    """The order does not depend on the file system; ``types`` is left out."""
    for name, id_ in (("b/a.yaml", "one"), ("a/z.yaml", "two"), ("a/b.yaml", "three"), ("types/x.yaml", "four")):
        _write(tmp_path, name, id_)
    assert [rule.id for rule in load_rules(tmp_path).rules] == ["three", "two", "one"]


def test_digest_follows_names_and_octets(tmp_path: Path) -> None:
    """Same files, same digest; another octet or another name, another digest."""
    _write(tmp_path, "a.yaml", "one")
    first = load_rules(tmp_path).digest
    assert load_rules(tmp_path).digest == first
    (tmp_path / "a.yaml").write_text((tmp_path / "a.yaml").read_text() + "\n")
    second = load_rules(tmp_path).digest
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    assert len({first, second, load_rules(tmp_path).digest}) == 3


def test_placeholders_are_resolved_once_at_load_time(tmp_path: Path) -> None:
    """Values of variables stand in texts and lines; the capitals of each are there too."""
    _write(tmp_path, "a.yaml", "one", then='{legend: {id: l, lines: ["OF {city_name_capitals}", "{city_name}"]}}')
    (rule,) = load_rules(tmp_path, variables={"city_name": "City of {x}"}).rules
    assert rule.transforms[0].lines == ("OF CITY OF {X}", "City of {x}")


def test_questions_ask_what_active_rules_need_and_no_more(tmp_path: Path) -> None:
    """Checks, fields, types, legends and wordings come from the conditions."""
    _write(tmp_path, "a.yaml", "one", "{header: {name: Subject, present: true}, content: {types: [t]}}")
    _write(tmp_path, "b.yaml", "two", "{legend: {present: l}}")
    _write(tmp_path, "c.yaml", "three", "{signature_block: {missing: [A, B]}}", "{legend: {id: l, lines: [L]}}")
    questions = load_rules(tmp_path).questions
    assert questions.checks == {Check.HEADER, Check.CONTENT, Check.LEGEND, Check.SIGNATURE_BLOCK}
    assert questions.headers == {"subject"}
    assert questions.types == {"t"}
    assert questions.legends == (LegendText("l", ("L",)),)
    assert questions.signature_wordings == ("A", "B")


def test_missing_folder_is_an_error_not_an_empty_policy(tmp_path: Path) -> None:
    """A mistyped path must not switch the policy off."""
    with pytest.raises(ConfigErrors, match="is not a folder of rules"):
        load_rules(tmp_path / "no")


def test_alone_enforces_one_rule(tmp_path: Path) -> None:
    """Cases see their own rule only."""
    _write(tmp_path, "a.yaml", "one")
    _write(tmp_path, "b.yaml", "two")
    rules = load_rules(tmp_path)
    assert [rule.id for rule in rules.alone("two").active] == ["two"]
    with pytest.raises(KeyError):
        rules.alone("three")


@pytest.mark.parametrize("path", sorted(RULES.rglob("[!.]*.yaml")), ids=lambda p: p.stem)
def test_schema_accepts_every_shipped_rule(path: Path) -> None:
    """The JSON Schema that editors use agrees with the loader on what is shipped."""
    if path.relative_to(RULES).parts[0] != "types":
        # JSON knows no null as a key: an editor reads «null: true» as the key "null", and so does the loader.
        SCHEMA.validate(json.loads(json.dumps(read_yaml(path).data)))


def _broken(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**data, "whne": {}},
        {**data, "mode": "maybe"},
        {**data, "then": {"reject": {}}},
        {**data, "when": {"direction": "up"}},
        {**data, "when": {"content": {"types": []}}},
        {key: value for key, value in data.items() if key != "then"},
    ]


@pytest.mark.parametrize("number", range(6))
def test_schema_refuses_what_an_editor_can_see(number: int) -> None:
    """Unknown keys, wrong values, missing and empty ones are seen while typing."""
    data = read_yaml(RULES / "size" / "large-message.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(_broken(data)[number])


def test_a_rule_on_mismatched_types_asks_for_attachments_too(tmp_path: Path) -> None:
    """The mismatch is found by who looks at attachments; such a rule alone never fired."""
    (tmp_path / "one.yaml").write_text(
        """
id: one
title: Disguised files
source: [man/circumvent]
mode: enforce
when: {structure: [type-mismatch]}
then: {reject: {text: "no"}}
cases:
  - it: fires on a picture that is a program
    message:
      from: a@city.example
      to: [b@city.example]
      attachments: [{name: a.jpg, type: image/jpeg, base64: TVqQAAMAAAAEAAAA//8AALgAAAA=}]
    expect: {to: b@city.example, disposition: reject}
  - it: leaves text alone
    message: {from: a@city.example, to: [b@city.example], text: hello}
    expect: {to: b@city.example, disposition: pass}
""",
        encoding="utf-8",
    )
    assert {Check.STRUCTURE, Check.ATTACHMENT} <= load_rules(tmp_path).questions.checks
