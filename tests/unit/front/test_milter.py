"""The milter front, by a client that speaks the protocol as a mail server does, and as none should."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import load_policy
from gateway.front.edits import ServerEdits
from gateway.wire.milter import Action, Protocol, Step
from tests.serving import MailServer
from tests.unit.front.asking import Asking, beside, milter


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """The next hop of what the store delivers."""
    async with MailServer() as one:
        yield one


async def test_it_asks_for_what_the_rules_need(tmp_path: Path, server: MailServer) -> None:
    """With rules: content without an answer to each piece. Without rules: no content at all."""
    async with milter(tmp_path / "with", server) as port:
        one = await Asking.connect(port)
        steps = Protocol(one.steps)
        assert Protocol.SILENT_HEADER | Protocol.SILENT_BODY | Protocol.LEADING_SPACE in steps
        assert not steps & (Protocol.NO_BODY | Protocol.NO_HEADER | Protocol.SKIP)
        assert Action(one.actions) == (
            Action.ADD_HEADER | Action.CHANGE_HEADER | Action.CHANGE_BODY | Action.DELETE_RECIPIENT
        )
        await one.close()
    async with milter(tmp_path / "without", server, {}) as port:
        one = await Asking.connect(port)
        assert Protocol.NO_BODY | Protocol.NO_HEADER in Protocol(one.steps)
        await one.envelope("a@city.example", "b@city.example")
        assert await one.end() == [(b"a", b"")]
        await one.close()


async def test_many_messages_on_one_connection(tmp_path: Path, server: MailServer) -> None:
    """A message that is given up in the middle leaves nothing behind for the next one."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        one.say(Step.CONNECT, b"desk\x004\x00\x19127.0.0.1\0")
        one.say(Step.HELO, b"desk\0")
        for number in range(5):
            assert {code for code, _ in await one.envelope("a@city.example", "b@city.example")} == {b"c"}
            one.header(("X-Legend", "yes"))
            one.say(Step.BODY, b"half a message\r\n")
            one.say(Step.ABORT)
            assert {code for code, _ in await one.envelope("a@city.example", "b@city.example")} == {b"c"}
            one.header(("Subject", f"number {number}"))
            one.say(Step.BODY, b"a whole one\r\n")
            assert await one.end(b"its end\r\n") == [(b"a", b"")]
        assert list((tmp_path / "spool").iterdir()) == []
        await one.close()


async def test_a_legend_is_a_new_body(tmp_path: Path, server: MailServer) -> None:
    """What a rule puts into the body comes back in packets of at most 64 KiB, and only the fields that changed."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("From", "a@city.example"), ("X-Legend", "yes"), ("Subject", "one\n two"))
        body = b"Plain words.\r\n" * 20_000
        for at in range(0, len(body), 65_535):
            one.say(Step.BODY, body[at : at + 65_535])
        answers = await one.end()
        assert answers[-1] == (b"a", b"")
        pieces = [data for code, data in answers if code == b"b"]
        assert max(map(len, pieces)) <= 65_535
        replaced = b"".join(pieces)
        assert replaced.endswith(body)
        assert b"THIS IS CONFIDENTIAL" in replaced[: len(replaced) - len(body)]
        assert {code for code, _ in answers} <= {b"b", b"a", b"i", b"m"}
        await one.close()


async def test_envelope_rules_answer_at_rcpt(tmp_path: Path, server: MailServer) -> None:
    """One recipient is refused in our words, the other stays."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        answers = await one.envelope("a@city.example", "nobody@city.example", "b@city.example")
        assert [code for code, _ in answers] == [b"c", b"y", b"c"]
        assert answers[1][1].startswith(b"550 5.1.1 Nobody is here")
        one.header(("Subject", "x"))
        assert await one.end(b"x\r\n") == [(b"a", b"")]
        await one.close()


SIZES = """
id: sizes
title: Nothing large
source: [milwaukee/encrypted-email]
when: {size: {over: 10 KB}}
then: {reject: {code: 552, enhanced: 5.3.4, text: "Too large for us"}}
cases:
  - it: refuses
    message: {from: a@city.example, to: b@city.example, text: x, size: 11 KB}
    expect: {disposition: reject}
  - it: takes
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""
SENDERS = """
id: senders
title: Nobody from there
source: [milwaukee/encrypted-email]
when: {sender: {domain: bad.example}}
then: {reject: {code: 550, enhanced: 5.1.8, text: "Nobody from there"}}
cases:
  - it: refuses
    message: {from: a@bad.example, to: b@city.example, text: x}
    expect: {disposition: reject}
  - it: takes
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""


async def test_what_is_wrong_at_mail_is_said_to_each_recipient(tmp_path: Path, server: MailServer) -> None:
    """Where no sender can be refused the server does not wait at MAIL; the next message is another one."""
    async with milter(tmp_path, server, {"sizes": SIZES}) as port:
        one = await Asking.connect(port)
        assert one.steps & Protocol.SILENT_MAIL
        one.say(Step.MAIL, b"<a@city.example>\0SIZE=20000\0")
        for recipient in (b"<b@city.example>\0", b"<c@city.example>\0"):
            one.say(Step.RCPT, recipient)
            assert (await one.answer())[1].startswith(b"552 5.3.4 Too large for us")
        one.say(Step.MAIL, b"no address\0")
        one.say(Step.RCPT, b"<b@city.example>\0")
        assert (await one.answer())[1].startswith(b"553 5.1.3")
        one.say(Step.ABORT)
        assert [code for code, _ in await one.envelope("a@city.example", "b@city.example")] == [b"c", b"c"]
        one.header(("Subject", "x"))
        assert await one.end(b"x\r\n") == [(b"a", b"")]
        await one.close()


async def test_a_rule_that_refuses_senders_answers_at_mail(tmp_path: Path, server: MailServer) -> None:
    """The server waits there; one that had connected before the rule was loaded hears it at RCPT."""
    async with beside(tmp_path, server, {"sizes": SIZES}) as (gateway, port):
        before = await Asking.connect(port)
        (tmp_path / "rules" / "senders.yaml").write_text(SENDERS, "utf-8")
        await gateway._use(gateway.settings, *load_policy(gateway.settings))
        one = await Asking.connect(port)
        assert not one.steps & Protocol.SILENT_MAIL
        ((code, text),) = await one.envelope("a@bad.example")
        assert (code, text[:9]) == (b"y", b"550 5.1.8")
        (_, (code, text)) = await before.envelope("a@bad.example", "b@city.example")
        assert (code, text[:9]) == (b"y", b"550 5.1.8")
        for each in (one, before):
            await each.close()


@pytest.mark.parametrize("when", ["at-connect", "at-mail", "before-options-of-mail"])
async def test_a_login_makes_it_the_citys_own(tmp_path: Path, server: MailServer, when: str) -> None:
    """The login comes as a macro, with whatever step the server likes: outbound rules then apply to a far client."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        login = b"{auth_authen}\0clerk\0"
        step = b"C" if when == "at-connect" else b"M"
        if when == "before-options-of-mail":
            one.say(Step.MACROS, step + login)
        one.say(Step.MACROS, b"C{client_addr}\x00203.0.113.9\0")
        if when == "at-connect":
            one.say(Step.MACROS, step + login)
        one.say(Step.CONNECT, b"far.example\x004\x00\x19203.0.113.9\0")
        if when == "at-mail":
            one.say(Step.MACROS, step + login)
        await one.envelope("a@city.example", "b@elsewhere.example")
        one.header(("X-Stay", "yes"))
        (answer,) = await one.end(b"x\r\n")
        assert answer[0] == b"y"
        assert answer[1].startswith(b"550 5.7.1 100%% of this stays")
        await one.close()


async def test_a_server_that_takes_no_edits(tmp_path: Path, server: MailServer) -> None:
    """What must be changed and cannot be is deferred, never passed as it is; what needs no change passes."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port, actions=0, steps=0)
        assert (await one.envelope("a@city.example", "b@city.example"))[0][0] == b"c"
        one.say(Step.HEADER, b"X-Legend\0yes\0")
        assert (await one.answer())[0] == b"c"
        one.say(Step.END_OF_HEADER)
        assert (await one.answer())[0] == b"c"
        assert (await one.end(b"x\r\n"))[0][1].startswith(b"451 ")
        assert (await one.envelope("a@city.example", "b@city.example"))[0][0] == b"c"
        one.say(Step.HEADER, b"Subject\0x\0")
        await one.answer()
        one.say(Step.END_OF_HEADER)
        await one.answer()
        assert await one.end(b"x\r\n") == [(b"a", b"")]
        await one.close()


async def test_a_failure_after_the_first_edit_defers(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last word is 451: the server throws the half-made change away with the message."""

    async def break_down(self: ServerEdits, pieces: object) -> None:
        self.remove  # noqa: B018
        raise OSError("the disk is gone")

    monkeypatch.setattr(ServerEdits, "replace_body", break_down)
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("X-Legend", "yes"))
        answers = await one.end(b"x\r\n")
        assert answers[-1][0] == b"y"
        assert answers[-1][1].startswith(b"451 ")
        await one.close()


async def test_a_dead_server_frees_everything(tmp_path: Path, server: MailServer) -> None:
    """A connection that is cut in the middle of a large message leaves no file and no transaction."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("Subject", "x"))
        for _ in range(20):
            one.say(Step.BODY, b"0123456789abcde\n" * 4000)
        await one.writer.drain()
        one.writer.transport.abort()
        async with asyncio.timeout(10):
            while list((tmp_path / "spool").iterdir()):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO there\r\n",
        struct.pack("!I", 1) + b"?",
        struct.pack("!I", 1) + b"E",
        struct.pack("!I", 1) + b"R",
        struct.pack("!I", 3) + b"Mab",
        struct.pack("!I", 0),
    ],
    ids=["smtp", "unknown-command", "end-without-message", "rcpt-without-mail", "no-string-end", "empty"],
)
async def test_who_is_out_of_step_is_cut_off(tmp_path: Path, server: MailServer, octets: bytes) -> None:
    """A connection that cannot be understood ends; the gateway goes on."""
    async with milter(tmp_path, server) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets + b"\0" * 8)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        one = await Asking.connect(port)
        await one.close()


async def test_a_verdict_that_takes_too_long_is_451(tmp_path: Path, server: MailServer) -> None:
    """Our deadline comes before the server's: it reads a reason, not a silence."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    rules = {
        "virus": """
id: virus
title: No viruses
source: [milwaukee/encrypted-email]
when: {virus: true}
then: {reject: {code: 554, enhanced: 5.7.1, text: "No"}}
on_failure: defer
cases:
  - it: refuses
    message: {from: a@city.example, to: b@city.example, text: x}
    given: {virus: Eicar}
    expect: {disposition: reject}
  - it: leaves
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""
    }
    hanging = await asyncio.start_unix_server(never, tmp_path / "clamd.sock")
    async with hanging, milter(tmp_path, server, rules, milter={"message_timeout": "1 s"}) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("Subject", "x"))
        (answer,) = await one.end(b"x\r\n")
        assert answer[1].startswith(b"451 4.7.1 ")
        await one.close()


async def test_bare_line_ends_are_refused_as_in_smtp(tmp_path: Path, server: MailServer) -> None:
    """Both fronts refuse what could be read in two ways."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("Subject", "x"))
        (answer,) = await one.end(b"one\ntwo\r\n")
        assert answer[1].startswith(b"550 5.6.11 ")
        await one.close()
