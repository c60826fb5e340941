"""The record of a transaction: what is counted, what is logged, and what never is."""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from gateway.metrics import MESSAGES, RECIPIENTS, REGISTRY, RULE_MATCHES, flush_distributions
from gateway.model.envelope import Client, Direction, Envelope, Recipient, Sender
from gateway.model.finding import Check, ControlFailure
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, Mode, RecipientGroup, RuleMatch, Verdict
from gateway.records.log import logger
from gateway.records.transaction import Record, Recorder, disposition_of
from gateway.settings import LogSettings

OK = Reply.of(250, "2.0.0", "queued")


@pytest.fixture(autouse=True, scope="module")
def _as_before() -> Iterator[None]:
    """The default set-up again for who comes after."""
    yield
    logger(LogSettings(level="error"))


def _recipients(*directions: Direction) -> tuple[Recipient, ...]:
    return tuple(Recipient(f"r{n}@city.example", direction) for n, direction in enumerate(directions))


def _record(*directions: Direction, client: Client | None = None) -> Record:
    sender = Sender("a@city.example")
    return Record(
        Envelope("T1", client or Client("192.0.2.1"), sender, _recipients(*directions)), 1234, "<1@x>", {"relay": 0.002}
    )


def _match(rule: str, mode: Mode = Mode.ENFORCE) -> RuleMatch:
    return RuleMatch(rule, "a title that stays inside", mode, Disposition.PASS, (), "evidence ***")


def _total(counter: object, **labels: str) -> float:
    name = {id(MESSAGES): "civicgate_messages_total", id(RECIPIENTS): "civicgate_recipients_total",
            id(RULE_MATCHES): "civicgate_rule_matches_total"}[id(counter)]  # fmt: skip
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _line(record: Record, reply: Reply) -> str:
    with redirect_stderr(io.StringIO()) as stream:
        Recorder(LogSettings())(record, reply)
    (line,) = stream.getvalue().splitlines()
    return line


def test_a_record_is_one_line_with_the_facts() -> None:
    """The whole line of an ordinary message."""
    line = _line(_record(Direction.INTERNAL), OK)
    assert line.split(" ", 1)[1] == (
        "info message id=T1 client=192.0.2.1 from=<a@city.example> to=r0@city.example message_id=<1@x> size=1234 "
        'direction=internal disposition=pass reply="250 2.0.0 queued" relay_ms=2.0 total_ms=0.0'
    )


def test_everything_that_happened_is_told() -> None:
    """Login, rules with their mode, failed controls, actions, notes and the problem."""
    record = _record(Direction.OUTBOUND, client=Client("192.0.2.1", login="alice"))
    record.verdict = Verdict(
        (
            RecipientGroup(
                record.envelope.recipients, Disposition.PASS, matches=(_match("r1"), _match("r2", Mode.MONITOR))
            ),
        )
    )
    record.failures = (ControlFailure(Check.VIRUS, "timeout", "clamd slept"),)
    record.actions, record.notes, record.problem = ["legend", "encrypt"], ["n1", "n2"], "p"
    line = _line(record, OK)
    for part in (
        "login=alice", "rules=r1,r2(monitor)", 'failed_controls="virus timeout: clamd slept"', "actions=legend,encrypt",
        'notes="n1; n2"', "problem=p",
    ):  # fmt: skip
        assert f" {part} " in line
    assert "title that stays inside" not in line
    assert "evidence" not in line


def test_many_recipients_are_counted_not_listed() -> None:
    """Ten addresses stand in the line, the others as a number."""
    line = _line(_record(*[Direction.INTERNAL] * 13), OK)
    assert "r9@city.example,+3 " in line
    assert "r10@" not in line


def test_a_long_reply_is_cut() -> None:
    """A neighbour's essay does not fill the log."""
    assert len(_line(_record(Direction.INTERNAL), Reply.of(550, "5.7.1", "x" * 5000))) < 700


def test_directions() -> None:
    """One for all, mixed, or none before the first recipient."""
    assert _record().direction() == "none"
    assert _record(Direction.INBOUND, Direction.INBOUND).direction() == "inbound"
    assert _record(Direction.INTERNAL, Direction.OUTBOUND).direction() == "mixed"


def test_the_disposition_is_what_the_client_met() -> None:
    """The next hop's refusal outranks the verdict's pass."""
    record = _record(Direction.INTERNAL)
    assert disposition_of(record, OK) == "pass"
    assert disposition_of(record, Reply.of(451, "4.0.0", "")) == "defer"
    assert disposition_of(record, Reply.of(554, "5.0.0", "")) == "reject"
    record.verdict = Verdict((RecipientGroup(record.envelope.recipients, Disposition.HOLD),))
    assert disposition_of(record, OK) == "hold"
    assert disposition_of(record, Reply.of(550, "5.0.0", "")) == "reject"


def test_a_rule_counts_once_a_message_and_each_recipient_by_itself() -> None:
    """Two groups that met the same rule are one match; recipients are counted with their own disposition."""
    record = _record(Direction.INTERNAL, Direction.OUTBOUND)
    first, second = record.envelope.recipients
    record.verdict = Verdict(
        (
            RecipientGroup((first,), Disposition.PASS, matches=(_match("test-once"),)),
            RecipientGroup((second,), Disposition.HOLD, matches=(_match("test-once"),)),
        )
    )
    flush_distributions()  # what other tests of this process observed
    before = {
        "messages": _total(MESSAGES, direction="mixed", disposition="hold"),
        "passed": _total(RECIPIENTS, direction="internal", disposition="pass"),
        "held": _total(RECIPIENTS, direction="outbound", disposition="hold"),
        "octets": REGISTRY.get_sample_value("civicgate_message_bytes_sum") or 0.0,
    }
    recorder = Recorder(LogSettings(level="error"))
    recorder(record, OK)
    assert _total(RULE_MATCHES, rule="test-once", mode="enforce") == 0, "counted when flushed, not before"
    recorder.flush()
    assert _total(RULE_MATCHES, rule="test-once", mode="enforce") == 1
    assert _total(MESSAGES, direction="mixed", disposition="hold") == before["messages"] + 1
    assert _total(RECIPIENTS, direction="internal", disposition="pass") == before["passed"] + 1
    assert _total(RECIPIENTS, direction="outbound", disposition="hold") == before["held"] + 1
    assert REGISTRY.get_sample_value("civicgate_message_bytes_sum") == before["octets"] + 1234
