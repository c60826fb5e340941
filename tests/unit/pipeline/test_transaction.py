"""Transactions with rules, over real SMTP: early refusals, exceptions, failing controls, relay, loops."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.errors import ControlError, StoreError
from gateway.metrics import REGISTRY
from gateway.model.envelope import ExceptionRecord
from gateway.model.finding import Check, ControlFailure, Finding
from gateway.model.reply import Reply
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage
from tests.serving import Client, MailServer, prepare, running, settings_for
from tests.unit.pipeline.acting import install

MESSAGE = b"From: a@city.example\r\nTo: b@city.example\r\nSubject: hello\r\n\r\nthe body\r\n"
SIZE = """
id: big
title: Nothing large
source: mon/x
when: {size: {over: 20000}}
unless: {exception: large-mail}
then: {reject: {code: 552, enhanced: 5.3.4, text: Too large for the city.}}
cases:
  - {it: refuses, message: {from: a@city.example, to: b@city.example, size: 30000},
     expect: {disposition: reject, reply: 552 5.3.4}}
  - {it: small, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""
SENDER = """
id: blocked
title: A sender that is blocked
source: mon/x
when: {sender: {address: blocked@city.example}}
then: {reject: {text: You are blocked.}}
cases:
  - {it: refuses, message: {from: blocked@city.example, to: b@city.example}, expect: {disposition: reject}}
  - {it: others, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""
RECIPIENT = """
id: closed
title: A mailbox that is closed
source: mon/x
when: {recipient: {address: closed@city.example}}
then: {reject: {text: This mailbox is closed.}}
cases:
  - {it: refuses, message: {from: a@city.example, to: closed@city.example}, expect: {disposition: reject}}
  - {it: others, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""
VIRUS = """
id: virus
title: No viruses
source: mon/x
when: {virus: true}
then: {reject: {text: A virus was found.}}
on_failure: ON_FAILURE
cases:
  - {it: refuses, message: {from: a@city.example, to: b@city.example}, given: {virus: Eicar},
     expect: {disposition: reject}}
  - {it: clean, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""
SUBJECT = """
id: subject
title: No such subject
source: mon/x
when: {header: {name: Subject, contains: [forbidden]}}
then: {reject: {text: Not this subject.}}
on_failure: ON_FAILURE
cases:
  - {it: refuses, message: {from: a@city.example, to: b@city.example, subject: forbidden},
     expect: {disposition: reject}}
  - {it: others, message: {from: a@city.example, to: b@city.example}, expect: {disposition: pass}}
"""


class Scene:
    """A gateway with rules, a client, and the records that the gateway wrote."""

    def __init__(self, gateway: Gateway, client: Client) -> None:
        self.gateway, self.client = gateway, client
        self.records: list[tuple[Record, Reply]] = []
        self.change(record=lambda record, reply: self.records.append((record, reply)))

    def change(self, **services: object) -> None:
        """Replace services."""
        install(self.gateway, **services)


Start = Callable[..., Any]


@pytest.fixture
def scene(tmp_path: Path, server: MailServer) -> Start:
    """Start a gateway with these rules in front of the recording server."""

    @asynccontextmanager
    async def start(rules: Mapping[str, str], **settings: Any) -> AsyncIterator[Scene]:
        prepare(tmp_path, rules)
        async with running(settings_for(tmp_path, server, **settings)) as gateway:
            client = await (await Client.connect(gateway.ports[0])).hello()
            try:
                yield Scene(gateway, client)
            finally:
                await client.close()

    return start


# --- early -----------------------------------------------------------------------------------------------------------


async def test_a_rule_that_is_certain_at_mail_answers_there(scene: Start, server: MailServer) -> None:
    """The sender alone decides: refused at MAIL, recorded, the next hop hears nothing."""
    async with scene({"a": SENDER}) as one:
        before = len(server.commands)
        reply = await one.client.say("MAIL FROM:<BLOCKED@city.example> SIZE=77")
        assert reply.startswith("550 5.7.1 ")
        assert "You are blocked." in reply
        assert (await one.client.say("MAIL FROM:<a@city.example>")).startswith("250")
        assert len(server.commands) == before
        ((record, said),) = one.records
        assert (record.size, said.code, record.envelope.sender.address) == (77, 550, "BLOCKED@city.example")


async def test_a_declared_size_is_refused_at_mail(scene: Start) -> None:
    """SIZE= is «at least so many»: the rule and the gateway's own limit answer before the content."""
    async with scene({"a": SIZE}, smtp={"max_message_size": "1 MB"}) as one:
        assert (await one.client.say("MAIL FROM:<a@city.example> SIZE=20001")).startswith("552 5.3.4 Too large for")
        assert (await one.client.say("MAIL FROM:<a@city.example> SIZE=1000001")) == (
            "552 5.3.4 The message is larger than this gateway takes (1000000 octets)"
        )
        assert (await one.client.say("MAIL FROM:<a@city.example> SIZE=20000")).startswith("250")


async def test_a_rule_that_is_certain_at_rcpt_refuses_that_recipient(scene: Start, server: MailServer) -> None:
    """The others go on; the next hop never hears of the one refused."""
    async with scene({"a": RECIPIENT}) as one:
        await one.client.say("MAIL FROM:<a@city.example>")
        assert "This mailbox is closed." in await one.client.say("RCPT TO:<Closed@city.example>")
        assert (await one.client.say("RCPT TO:<b@city.example>")).startswith("250")
        await one.client.say("DATA")
        assert (await one.client.say(MESSAGE.decode() + ".")).startswith("250 ")
        assert server.received[0].rcpts == ["TO:<b@city.example>"]
        refusal, passed = one.records
        assert (refusal[0].recipients, refusal[1].code) == (("Closed@city.example",), 550)
        assert passed[1].code == 250


@pytest.mark.parametrize("over", [1, 3_000_000])
async def test_octets_beyond_a_certain_refusal_are_not_spooled(scene: Start, server: MailServer, over: int) -> None:
    """While receiving: the threshold of a size rule is where keeping ends; the refusal comes at the end of data."""
    async with scene({"a": SIZE}) as one:
        kept = []
        writer_type = type(one.gateway.pipeline.spool.new("probe"))
        original = writer_type.write

        def counting(self: Any, data: bytes) -> None:
            kept.append(len(data))
            original(self, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writer_type, "write", counting)
            head = b"Subject: x\r\n\r\n"
            body = b"x" * 76 + b"\r\n"
            content = head + body * ((20000 + over - len(head)) // len(body) + 1)
            reply = await one.client.send("a@city.example", ["b@city.example"], content)
        assert reply.startswith("552 5.3.4 Too large for the city.")
        assert sum(kept) <= 20000
        assert not server.received
        assert not server.unfinished
        assert not list(one.gateway.settings.spool.directory.glob("**/*.eml"))
        assert one.records[-1][1].code == 552


async def test_exactly_the_threshold_passes(scene: Start, server: MailServer) -> None:
    """«over» is strictly more."""
    async with scene({"a": SIZE}) as one:
        head = b"Subject: x\r\n\r\n"
        content = head + b"x" * 76 + b"\r\n"
        content += (b"y" * 76 + b"\r\n") * ((20000 - len(content)) // 78 - 1)
        content += b"z" * (20000 - len(content) - 2) + b"\r\n"
        assert len(content) == 20000
        assert (await one.client.send("a@city.example", ["b@city.example"], content)).startswith("250 ")
        assert (await one.client.send("a@city.example", ["b@city.example"], b"a" + content)).startswith("552 ")
        assert len(server.received) == 1


# --- exceptions ------------------------------------------------------------------------------------------------------


async def _exception(gateway: Gateway, uses: int | None) -> None:
    now = datetime.now(UTC)
    assert gateway._hold is not None
    await gateway._hold.exceptions.add(
        ExceptionRecord("e1", "large-mail", "a@city.example", "*", "plans", "boss", now, now + timedelta(days=1), uses)
    )


async def test_an_exception_is_used_once_and_then_the_rule_acts(scene: Start, server: MailServer) -> None:
    """One use: the first large message passes, the second is refused; another sender was never let through."""
    large = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 400
    async with scene({"a": SIZE}) as one:
        await _exception(one.gateway, 1)
        assert (await one.client.send("other@city.example", ["b@city.example"], large)).startswith("552 ")
        assert (await one.client.send("a@city.example", ["b@city.example"], MESSAGE)).startswith("250 ")
        assert (await one.client.send("a@city.example", ["b@city.example"], large)).startswith("250 ")
        assert (await one.client.send("a@city.example", ["b@city.example"], large)).startswith("552 ")
        assert len(server.received) == 2
        ((row, state),) = await one.gateway._hold.exceptions.list(everything=True)
        assert (row.uses_left, state) == (0, "used up")


async def test_an_exception_used_up_in_between_defers_and_the_retry_meets_the_rule(
    scene: Start, server: MailServer
) -> None:
    """Somebody else took the last use between the verdict and its effect: 451, then the rule."""
    large = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 400

    class Late:
        def __init__(self, real: Any) -> None:
            self.real, self.stolen = real, False

        async def snapshot(self) -> tuple[ExceptionRecord, ...]:
            records: tuple[ExceptionRecord, ...] = await self.real.snapshot()
            return records

        async def use(self, ids: Any) -> None:
            if not self.stolen:
                self.stolen = True
                await self.real.use(ids)
            await self.real.use(ids)

    async with scene({"a": SIZE}) as one:
        await _exception(one.gateway, 1)
        one.change(exceptions=Late(one.gateway._hold.exceptions))
        assert (await one.client.send("a@city.example", ["b@city.example"], large)).startswith("451 4.3.1 ")
        assert not server.received
        assert not server.unfinished
        assert (await one.client.send("a@city.example", ["b@city.example"], large)).startswith("552 ")


async def test_exceptions_that_cannot_be_read_defer(scene: Start, server: MailServer) -> None:
    """A store that does not answer is never read as «no exception», nor as «all are»."""

    class Broken:
        async def snapshot(self) -> tuple[ExceptionRecord, ...]:
            raise StoreError("locked")

        async def use(self, ids: Any) -> None:
            raise AssertionError

    async with scene({"a": SIZE}) as one:
        one.change(exceptions=Broken())
        assert (await one.client.send("a@city.example", ["b@city.example"], MESSAGE)).startswith("451 4.3.1 ")
        assert not server.received


# --- controls --------------------------------------------------------------------------------------------------------


class Scanner:
    """A virus control that answers what a test says."""

    def __init__(self, answer: tuple[Finding, ...] | ControlError) -> None:
        self.answer = answer

    async def scan(self, message: SpooledMessage) -> tuple[Finding, ...]:
        """Answer."""
        if isinstance(self.answer, ControlError):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("reason", ["timeout", "limit"])
@pytest.mark.parametrize(
    ("on_failure", "code", "relayed"), [("defer", 451, 0), ("reject", 550, 0), ("pass", 250, 1), ("hold", 250, 0)]
)
async def test_a_scanner_that_fails_is_decided_by_its_rule(
    scene: Start, server: MailServer, reason: str, on_failure: str, code: int, relayed: int
) -> None:
    """A control without an answer never counts as clean; it is counted and told in the record."""
    rules = {"v": VIRUS.replace("ON_FAILURE", on_failure), "s": SUBJECT.replace("ON_FAILURE", "defer")}
    async with scene(rules) as one:
        one.change(scanner=Scanner(ControlError(reason, "clamd is away")))
        labels = {"control": "virus", "reason": reason}
        before = REGISTRY.get_sample_value("civicgate_control_failures_total", labels) or 0
        reply = await one.client.send("a@city.example", ["b@city.example"], MESSAGE)
        assert int(reply[:3]) in ({code} if on_failure != "reject" else set(range(500, 600)))
        assert len([r for r in server.received if r.rcpts == ["TO:<b@city.example>"]]) == relayed
        assert REGISTRY.get_sample_value("civicgate_control_failures_total", labels) == before + 1
        assert one.records[-1][0].failures == (ControlFailure(Check.VIRUS, reason, "clamd is away"),)


async def test_a_virus_is_refused_whether_or_not_other_checks_are_asked(scene: Start, server: MailServer) -> None:
    """The virus control alone, and beside passive checks; clean mail passes."""
    found = (Finding(Check.VIRUS, "Eicar-Test"),)
    async with scene({"v": VIRUS.replace("ON_FAILURE", "defer")}) as one:
        one.change(scanner=Scanner(found))
        assert "A virus was found." in await one.client.send("a@city.example", ["b@city.example"], MESSAGE)
        one.change(scanner=Scanner(()))
        assert (await one.client.send("a@city.example", ["b@city.example"], MESSAGE)).startswith("250 ")
        assert len(server.received) == 1


@pytest.mark.parametrize(("on_failure", "code"), [("defer", "4"), ("reject", "5"), ("pass", "2")])
async def test_an_inspector_that_fails_is_decided_by_its_rule(scene: Start, on_failure: str, code: str) -> None:
    """The passive checks' failure is the rule's to decide as well."""

    class Crashed:
        async def inspect(self, message: Any, envelope: Any, questions: Any) -> Any:
            failures = tuple(ControlFailure(check, "crashed", "signal 11") for check in questions.checks)
            return (), failures, frozenset()

    async with scene({"s": SUBJECT.replace("ON_FAILURE", on_failure)}) as one:
        one.change(inspector=Crashed())
        assert (await one.client.send("a@city.example", ["b@city.example"], MESSAGE))[0] == code


# --- refusals of the gateway itself ----------------------------------------------------------------------------------


async def test_strangers_reach_only_the_city(scene: Start, server: MailServer) -> None:
    """A client from outside may write to the city's own, and to nobody else; both are recorded."""
    listener = {"name": "mx", "address": "127.0.0.1:0", "direction": "inbound"}
    async with scene({}, listeners=[listener]) as one:
        await one.client.say("MAIL FROM:<a@elsewhere.example>")
        assert (await one.client.say("RCPT TO:<b@other.example>")).startswith("550 5.7.1 This gateway relays only")
        assert (await one.client.say("RCPT TO:<b@city.example>")).startswith("250")
        ((record, reply),) = one.records
        assert (record.recipients, reply.code) == (("b@other.example",), 550)
        assert not any("other.example" in command for command in server.commands)


@pytest.mark.parametrize(("hops", "code"), [(5, "250"), (6, "554")])
async def test_loops_end(scene: Start, server: MailServer, hops: int, code: str) -> None:
    """As many Received fields as the setting allows pass, one more does not, whatever their case and folding."""
    trace = [b"Received: from a\r\n by b;\r\n\tdate\r\n", b"RECEIVED: x\r\n", b"received:\r\n y\r\n"]
    async with scene({}, smtp={"max_hops": 5}) as one:
        content = b"".join(trace[n % 3] for n in range(hops)) + MESSAGE
        assert (await one.client.send("a@city.example", ["b@city.example"], content))[:3] == code
        assert len(server.received) == (1 if code == "250" else 0)
        assert server.unfinished == []


async def test_a_next_hop_that_is_down_is_told_at_rcpt_and_recorded(scene: Start, server: MailServer) -> None:
    """451 4.4.1, with the reason in the record and not in the reply."""
    async with scene({}) as one:
        await one.gateway.next_hop.close()
        await server.__aexit__()
        await one.client.say("MAIL FROM:<a@city.example>")
        reply = await one.client.say("RCPT TO:<b@city.example>")
        assert reply.startswith("451 4.4.1 ")
        ((record, _),) = one.records
        assert record.problem
        assert record.problem not in reply


async def test_the_log_has_neither_subject_nor_content(
    scene: Start, server: MailServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line for the message with ids and addresses; what people wrote is not in it."""
    content = b"Subject: quarterly-figures\r\nMessage-ID: <77@x>\r\n\r\nthe contents of the letter\r\n"
    async with scene({"s": SUBJECT.replace("ON_FAILURE", "defer")}, log={"level": "info"}) as one:
        one.change(record=one.gateway._recorder)
        await one.client.send("a@city.example", ["b@city.example"], content)
    lines = [line for line in capfd.readouterr().err.splitlines() if " message " in line]
    assert len(lines) == 1
    assert "message_id=<77@x>" in lines[0]
    assert "quarterly" not in lines[0]
    assert "letter" not in lines[0]
