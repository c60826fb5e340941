"""Conditions about links, encryption and classes of attachments: what fits, what does not, what is not known."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from gateway.errors import ConfigErrors
from gateway.model.finding import Check, Finding
from gateway.policy import decide, load_rules, schema
from gateway.policy.when_schema import Condition

KEY, OTHER = "0123456789ABCDEF", "FEDCBA9876543210"


def holds(world: Any, when: dict[str, Any], *items: Finding, failed: tuple[Check, ...] = ()) -> str:
    """``yes``, ``no``, or ``unknown`` when a check has not answered."""
    rules = world.rules({"when": when, "then": {"discard": True}, "on_failure": "pass"})
    verdict = decide(world.envelope(world.to("b@x.example")), world.findings(*items, failed=failed), rules, world.now)
    matches = verdict.groups[0].matches
    return "no" if not matches else "unknown" if matches[0].failed_control else "yes"


def link(kind: str, host: str) -> Finding:
    """A link."""
    return Finding(Check.LINK, kind, host, "1", evidence=host)


def sealed(kind: str, *keys: str) -> Finding:
    """Something encrypted."""
    return Finding(Check.ENCRYPTION, kind, "\n".join(keys), "2")


def file(kind: str, size: int, name: str = "a", offset: int = 1, part: str = "2") -> Finding:
    """An attachment, or with offset -1 a file inside one."""
    return Finding(Check.ATTACHMENT, kind, name, part, offset, size=size)


@pytest.mark.parametrize(
    ("when", "answer"),
    [
        ({"kind": "look-alike"}, "yes"),
        ({"kind": ["form", "look-alike"]}, "yes"),
        ({"kind": "form"}, "no"),
        ({"host": "*.test"}, "yes"),
        ({"host": "c1ty.example"}, "no"),
        ({"kind": "look-alike", "except": "ctiy.*"}, "no"),
        ({"kind": "look-alike", "host": "ctiy.test", "except": "*.city.example"}, "yes"),
    ],
    ids=["kind", "kinds", "other-kind", "host", "other-host", "except", "all"],
)
def test_links(world: Any, when: dict[str, Any], answer: str) -> None:
    """One link must fit all keys."""
    assert holds(world, {"link": when}, link("look-alike", "ctiy.test"), link("ip-address", "127.0.0.1")) == answer


@pytest.mark.parametrize(
    ("when", "items", "answer"),
    [
        ({"format": "openpgp"}, [sealed("openpgp", OTHER)], "yes"),
        ({"format": ["smime", "zip"]}, [sealed("openpgp", OTHER)], "no"),
        ({"key_ids_without": KEY}, [sealed("openpgp", OTHER)], "yes"),
        ({"key_ids_without": KEY}, [sealed("openpgp", OTHER, KEY.lower())], "no"),
        ({"key_ids_without": [OTHER, KEY]}, [sealed("openpgp", KEY)], "no"),
        ({"key_ids_without": "A" * 24 + KEY}, [sealed("openpgp", KEY)], "no"),
        ({"key_ids_without": KEY}, [sealed("openpgp", "0" * 16)], "yes"),
        ({"key_ids_without": KEY}, [sealed("openpgp", KEY), sealed("zip")], "yes"),
        ({"key_ids_without": KEY, "format": "openpgp"}, [sealed("openpgp", KEY), sealed("zip")], "no"),
        ({"key_ids_without": "0a:1b@CN=X, O=Y"}, [sealed("smime", "A1B@cn=x,o=y")], "no"),
        ({"key_ids_without": KEY}, [], "no"),
    ],
    ids=[
        *("format", "other-format", "without", "with", "any-of", "fingerprint", "hidden", "one-of-two", "narrowed"),
        *("serial", "nothing"),
    ],
)
def test_encryption(world: Any, when: dict[str, Any], items: list[Finding], answer: str) -> None:
    """Holds when one of the things that are encrypted is for none of the keys."""
    assert holds(world, {"encrypted": when}, *items) == answer


def test_what_could_not_be_read_may_be_encrypted(world: Any) -> None:
    """Attachments that were not read to the end leave the question open; what was found counts."""
    broken = Finding(Check.STRUCTURE, "content-unreadable")
    when = {"encrypted": {"key_ids_without": KEY}}
    assert holds(world, {**when, "structure": "content-unreadable"}, broken) == "unknown"
    assert holds(world, {**when, "structure": "content-unreadable"}, broken, sealed("zip")) == "yes"
    assert holds(world, when, failed=(Check.ENCRYPTION,)) == "unknown"
    assert holds(world, {"link": {"kind": "form"}}, failed=(Check.LINK,)) == "unknown"


@pytest.mark.parametrize(
    ("items", "answer"),
    [
        ([file("video/mp4", 11), file("audio/mpeg", 11, offset=9, part="3")], "yes"),
        ([file("video/mp4", 11)], "no"),
        ([file("video/mp4", 11), file("video/mp4", 11, "b")], "no"),
        ([file("video/mp4", 11, offset=-1), file("video/mp4", 11, offset=-1)], "yes"),
        ([file("video/mp4", 11), file("image/png", 11, offset=9)], "no"),
        ([file("application/vnd.rn-realmedia", 21)], "yes"),
        ([file("video/mp4", 20)], "no"),
    ],
    ids=["two", "one", "two-names", "archive", "picture", "real", "equal"],
)
def test_sizes_of_a_class(world: Any, items: list[Finding], answer: str) -> None:
    """All of a class together, one with two names once, those of archives each."""
    assert holds(world, {"attachment": {"class": "media", "total_over": 20}}, *items) == answer


def test_a_class_by_itself(world: Any) -> None:
    """A class may stand with the other keys, and counts real types alone."""
    assert holds(world, {"attachment": {"class": ["image", "media"], "name": "a"}}, file("image/png", 1)) == "yes"
    assert holds(world, {"attachment": {"class": "archive"}}, file("application/x-7z-compressed", 1)) == "yes"
    assert holds(world, {"attachment": {"class": "document"}}, file("video/mp4", 1, "a.pdf")) == "no"


@pytest.mark.parametrize(
    "when",
    [
        {"link": {}},
        {"link": {"kind": "phishing"}},
        {"encrypted": {}},
        {"encrypted": {"format": "rot13"}},
        {"encrypted": {"key_ids_without": "the city's key"}},
        {"encrypted": {"key_ids_without": "89ABCDEF"}},
        {"attachment": {"class": "films"}},
        {"attachment": {"class": "media", "total_over": "much"}},
    ],
    ids=["empty-link", "kind", "empty-encrypted", "format", "words", "short-id", "class", "size"],
)
def test_what_cannot_be_meant_is_refused(when: dict[str, Any]) -> None:
    """By loading, and by the exported schema where it says as much."""
    with pytest.raises(ValidationError):
        Condition.model_validate(when)


def test_the_exported_schema_knows_the_keys() -> None:
    """An editor accepts what loading accepts, and marks a kind that is none."""
    rule = {
        "id": "r", "title": "t", "source": "man/circumvent", "then": {"discard": True}, "cases": [],
        "when": {"link": {"kind": "form", "except": "a.test"}, "encrypted": [{"key_ids_without": [KEY]}],
                 "attachment": {"class": "media", "total_over": "20 MB"}},
    }  # fmt: skip
    validator = jsonschema.Draft202012Validator(schema())
    assert list(validator.iter_errors(rule)) == []
    assert list(validator.iter_errors({**rule, "when": {"link": {"kind": "phishing"}}}))


def test_questions_carry_domains_and_wrappers(tmp_path: Path) -> None:
    """Only rules about links ask for them; the file of wrappers is read with the rules and changes the digest."""
    text = (Path(__file__).parents[3] / "rules/inbound/look-alike-links.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text)
    plain = load_rules(tmp_path, domains=("city.example",))
    assert (plain.questions.domains, plain.questions.wrappers) == (("city.example",), ())
    (tmp_path / "link-wrappers.txt").write_text("# known\nSafe.example\n*.click.example\n")
    known = load_rules(tmp_path, domains=("city.example",))
    assert known.questions.wrappers == ("safe.example", "click.example")
    assert known.digest != plain.digest
    assert known.questions_of(frozenset()).wrappers == ()
    (tmp_path / "link-wrappers.txt").write_bytes(b"\xff\n")
    with pytest.raises(ConfigErrors, match="UTF-8"):
        load_rules(tmp_path)
