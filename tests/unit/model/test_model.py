"""The shared vocabulary's own invariants: replies on the wire, errors' words, findings, verdicts, addresses."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    CivicgateError,
    ClientError,
    ConfigError,
    ConfigErrors,
    ControlError,
    NextHopError,
    OperatorError,
    StoreError,
    TransformError,
)
from gateway.model.envelope import Direction, Recipient, domain_of, fold
from gateway.model.finding import Check, Confidence, ControlFailure, Finding, Findings
from gateway.model.reply import Reply
from gateway.model.verdict import STRENGTH, Disposition, RecipientGroup, Verdict

_LINE = re.compile(rb"(\d{3})([ -])5\.7\.1 [^\r\n\x00-\x08\x0b-\x1f\x7f]*\r\n")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_reply_from_any_text_is_well_formed(text: str) -> None:
    """Whatever a rule or a neighbour says: whole lines, one code, only the last line ends it (RFC 5321 4.2)."""
    wire = Reply.of(550, "5.7.1", text).encode()
    rows = wire.split(b"\r\n")[:-1]
    assert len(rows) == text.count("\n") + 1
    matches = [_LINE.fullmatch(row + b"\r\n") for row in rows]
    assert all(match is not None and match[1] == b"550" for match in matches)
    assert [match[2] for match in matches if match] == [b"-"] * (len(rows) - 1) + [b" "]


def test_replies_without_enhanced_code() -> None:
    """Greeting, EHLO and 354 have none (RFC 2034 section 4)."""
    assert Reply.of(354, "", "go on").encode() == b"354 go on\r\n"
    assert str(Reply.of(354, "", "go on")) == "354 go on"
    assert str(Reply.of(550, "5.7.1", "a\nb")) == "550 5.7.1 a b"


@pytest.mark.parametrize(
    ("code", "positive", "temporary"), [(250, True, False), (451, False, True), (554, False, False)]
)
def test_reply_classes(code: int, *, positive: bool, temporary: bool) -> None:
    """2yz is positive, 4yz temporary, 5yz neither."""
    reply = Reply.of(code, "", "x")
    assert (reply.positive, reply.temporary) == (positive, temporary)


@pytest.mark.parametrize("kind", [CivicgateError, NextHopError, StoreError, ClientError, OperatorError])
def test_an_errors_detail_is_not_in_the_clients_reply(kind: type[CivicgateError]) -> None:
    """What is for the log is not for strangers."""
    error = kind("/var/lib/secret: permission denied")
    assert error.detail == str(error) == "/var/lib/secret: permission denied"
    assert "secret" not in str(error.reply)
    assert error.reply.code == 451


def test_an_error_may_bring_its_own_reply() -> None:
    """The reply given outranks the class's, for that error only."""
    error = StoreError("full", Reply.of(452, "4.3.1", "Come later"))
    assert str(error.reply) == "452 4.3.1 Come later"
    assert StoreError("full").reply.code == 451


def test_errors_carry_their_stable_codes() -> None:
    """Metrics label by reason and code."""
    assert ControlError("timeout", "d").reason == "timeout"
    assert TransformError("no-certificate", "d").code == "no-certificate"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("bad", "f.yaml", 3, 7), "f.yaml:3:7: bad"),
        (ConfigError("bad", "f.yaml"), "f.yaml: bad"),
        (ConfigError("bad"), "bad"),
        (ConfigErrors([ConfigError("a", "f", 1, 2), ConfigError("b", "g")]), "f:1:2: a\ng: b"),
    ],
)
def test_config_errors_say_where(error: CivicgateError, text: str) -> None:
    """File, line and column as far as they are known; several in one, a line each."""
    assert (str(error), error.detail, error.temporary) == (text, text, False)


def test_findings_of_one_check_and_failures() -> None:
    """A check that failed is not a check that found nothing."""
    virus, header = Finding(Check.VIRUS, "Eicar"), Finding(Check.HEADER, "subject")
    findings = Findings(10, (virus, header), (ControlFailure(Check.CONTENT, "timeout", ""),))
    assert findings.of(Check.VIRUS) == (virus,)
    assert findings.of(Check.CONTENT) == ()
    assert findings.failed(Check.CONTENT)
    assert not findings.failed(Check.VIRUS)
    assert Confidence.LOW < Confidence.MEDIUM < Confidence.HIGH


def test_the_strongest_disposition_is_the_verdicts() -> None:
    """Reject > defer > hold > discard > pass, whatever the order of groups; without groups: pass."""
    to = (Recipient("a@city.example", Direction.INTERNAL),)
    ranked = sorted(Disposition, key=STRENGTH.__getitem__)
    assert ranked == [
        Disposition.PASS, Disposition.DISCARD, Disposition.HOLD, Disposition.DEFER, Disposition.REJECT
    ]  # fmt: skip
    for n, strongest in enumerate(ranked):
        for groups in (ranked[: n + 1], ranked[n::-1]):
            assert Verdict(tuple(RecipientGroup(to, one) for one in groups)).disposition is strongest
    assert Verdict(()).disposition is Disposition.PASS


@settings(deadline=None)
@given(st.text(alphabet="aB@.", max_size=20))
def test_addresses_are_compared_folded(address: str) -> None:
    """Folding twice changes nothing; the domain is what stands behind the last @."""
    assert fold(fold(address)) == fold(address)
    assert domain_of(address) == (fold(address).rsplit("@", 1)[1] if "@" in address else "")


def test_folding_takes_any_text_in_linear_time() -> None:
    """Header fields hold octets that are no letters, and labels without end; neither raises nor takes long."""
    assert fold("a@\udcff.example").startswith("a@xn--")
    assert fold("A@" + "ü" * 1_000_000) == "a@" + "ü" * 1_000_000
    assert fold("@") == "@"
