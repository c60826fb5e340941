"""The shipped rules' own cases against the real checks, and that a case can fail."""

from pathlib import Path

import pytest

from gateway.checks.passive import PASSIVE, Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.directory import load_directory
from gateway.model.envelope import Envelope
from gateway.model.finding import Findings, Questions
from gateway.policy import RuleSet, load_rules, run_cases
from gateway.policy.case_schema import Case
from gateway.policy.cases import envelope_of, message_of
from gateway.policy.envelope_conditions import SenderIs
from gateway.policy.finding_conditions import AutomaticReply, HeaderIs
from gateway.policy.logic import walk
from gateway.settings import InspectionSettings
from gateway.source import parse_yaml, validate
from tests.shipped import shipped_scanner, shipped_types

ROOT = Path(__file__).parents[3]


class Checks:
    """All passive checks, in this process."""

    def __init__(self) -> None:
        self.types = shipped_types()
        self.scanner = shipped_scanner()

    def __call__(self, message: bytes, envelope: Envelope, questions: Questions) -> Findings:
        """Inspect one message."""
        items = inspect(message, envelope, questions, self.scanner, InspectionSettings(), Means(readers=open_reader))
        return Findings(len(message), items, (), questions.checks & PASSIVE)


@pytest.fixture(scope="module")
def checks() -> Checks:
    """The compiled checks."""
    return Checks()


@pytest.fixture(scope="module")
def shipped(checks: Checks) -> RuleSet:
    """The shipped rules, names checked against the shipped types and the example directory."""
    roles = load_directory(ROOT / "config" / "directory.yaml").role_names
    return load_rules(ROOT / "rules", frozenset(t.id for t in checks.types), known_roles=roles)


def test_every_case_of_every_shipped_rule_holds(shipped: RuleSet, checks: Checks) -> None:
    """Each case comes out as its file says."""
    results = list(run_cases(shipped, checks))
    assert len(results) > 60
    assert [str(result) for result in results if result.problems] == []


def test_shipped_rules_name_clauses_that_exist(shipped: RuleSet) -> None:
    """Every source is a clause of docs/policy-clauses.md."""
    clauses = (ROOT / "docs" / "policy-clauses.md").read_text("utf-8")
    for rule in shipped.rules:
        for clause in rule.source:
            assert f"| {clause} |" in clauses, f"{rule.file}: {clause}"


def test_what_the_sender_writes_excuses_nobody(shipped: RuleSet) -> None:
    """No shipped rule spares automatic replies, and none that holds spares a header or a reverse-path."""
    for rule in shipped.rules:
        spared = list(walk(rule.unless)) if rule.unless else []
        assert not [node for node in spared if isinstance(node, AutomaticReply)], rule.id
        if rule.hold:
            assert not [node for node in spared if isinstance(node, HeaderIs | SenderIs)], rule.id


@pytest.mark.parametrize(
    ("size", "expect", "problem"),
    [
        ("60 MB", "{disposition: pass}", "expected disposition pass, got reject"),
        ("40 MB", "{disposition: reject}", "expected disposition reject, got pass (no rule matched)"),
        ("60 MB", "{disposition: reject, reply: wrong words}", "expected a reply with «wrong words», got «552 5.3.4"),
        ("60 MB", "{disposition: reject, transforms: [legend]}", "expected transforms [legend], got []"),
        ("40 MB", "{matches: [large-message]}", "expected matches [large-message], got []"),
        ("40 MB", "{to: nobody@elsewhere.example}", "<nobody@elsewhere.example> is not a recipient of the case"),
    ],
)
def test_case_that_does_not_hold_says_how(tmp_path: Path, checks: Checks, size: str, expect: str, problem: str) -> None:
    """A wrong expectation is reported with rule, file, line and what came instead."""
    text = (ROOT / "rules" / "size" / "large-message.yaml").read_text("utf-8")
    case = f"  - it: broken\n    message: {{from: clerk@city.example, to: partner@elsewhere.example, size: {size}}}\n"
    (tmp_path / "a.yaml").write_text(f"{text}{case}    expect: {expect}\n")
    (failed,) = (result for result in run_cases(load_rules(tmp_path), checks) if result.problems)
    assert problem in str(failed)
    assert str(failed).startswith(f"{tmp_path / 'a.yaml'}:{text.count(chr(10)) + 1}: large-message: broken")


def _case(text: str) -> Case:
    return validate(parse_yaml(text, "case"), Case)


def test_message_of_a_case_is_mail() -> None:
    """Fields, both bodies and attachments stand in CRLF-ended octets."""
    case = _case(
        "it: x\nmessage: {from: a@city.example, to: [b@c.example], subject: Grüße, text: T, html: <p>H</p>, "
        "headers: {X-A: [one, two]}, attachments: [{name: a.bin, base64: 'QUI=', size: 4}]}\nexpect: {}"
    )
    raw = message_of(case.message, Path())
    assert raw.count(b"\n") == raw.count(b"\r\n")
    for piece in (b"X-A: one\r\nX-A: two\r\n", b"text/html", b"QUIAAA==", b"=?utf-8?"):
        assert piece in raw


def test_file_of_a_case_stands_beside_the_rule(tmp_path: Path) -> None:
    """Line endings of the file become CRLF."""
    (tmp_path / "m.eml").write_bytes(b"Subject: a\r\nX: b\n\nc\n")
    case = _case("it: x\nmessage: {from: a@b.c, to: d@e.f, file: m.eml}\nexpect: {}")
    assert message_of(case.message, tmp_path) == b"Subject: a\r\nX: b\r\n\r\nc\r\n"


def test_directions_of_a_case_come_from_its_addresses() -> None:
    """city.example and its subdomains are the city; ``inside`` says otherwise."""
    text = "it: x\nmessage: {from: %s, to: [a@it.city.example, b@notcity.example]}\ngiven: %s\nexpect: {}"
    ways = [
        [r.direction.value for r in envelope_of(_case(text % (sender, given))).recipients]
        for sender, given in (("a@city.example", "{}"), ("a@x.example", "{}"), ('""', "{inside: true}"))
    ]
    assert ways == [["internal", "outbound"], ["inbound", "outbound"], ["internal", "outbound"]]
