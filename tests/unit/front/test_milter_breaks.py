"""What broke the milter front once, or could have: each test is named for it."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import load_policy
from gateway.front.edits import ServerEdits
from gateway.model.envelope import Client
from gateway.pipeline import Transaction
from gateway.wire.milter import Action, Protocol, Step
from tests import pace
from tests.serving import MailServer
from tests.unit.front.asking import RULES, Asking, beside, milter

HELD = {
    "held": """
id: held
title: Held
source: [milwaukee/encrypted-email]
when: {recipient: {address: held@city.example}}
then: {hold: {queue: city, approvers: [director], reason: It waits.}}
cases:
  - it: holds
    message: {from: a@city.example, to: held@city.example, text: x}
    expect: {disposition: hold}
  - it: leaves
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""
}
HERE = b"desk\x004\x30\x39127.0.0.1\0"
CLEANUP = b"localhost\x004\x00\x00127.0.0.1\0"


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """The next hop of what the store delivers."""
    async with MailServer() as one:
        yield one


async def test_a_recipient_that_the_server_does_not_find_was_held_and_delivered(
    tmp_path: Path, server: MailServer
) -> None:
    """Postfix does not find a source route, nor what its sendmail command was given: nobody is left to it then."""
    async with milter(tmp_path, server, HELD, milter={"next_hop_asks": False}) as port:
        for client, said, last in (
            (HERE, b"<held@city.example>", [b"-", b"a"]),
            (HERE, b"<@far.example:held@city.example>", [b"d"]),
            (CLEANUP, b"held@city.example", [b"d"]),
            (CLEANUP, b"<held@city.example>", [b"d"]),
        ):
            one = await Asking.connect(port)
            one.say(Step.CONNECT, client)
            await one.envelope("a@city.example", "b@city.example")
            one.say(Step.RCPT, said + b"\0")
            assert (await one.answer())[0] == b"c"
            one.header(("Subject", "x"))
            answers = await one.end(b"x\r\n")
            assert [code for code, _ in answers] == last, said
            await one.close()
        async with asyncio.timeout(10):
            while sum("b@city.example" in "".join(got.rcpts) for got in server.received) < 3:
                await asyncio.sleep(0.05)
    assert not [got for got in server.received if "held@" in "".join(got.rcpts)]


async def test_a_client_with_odd_octets_in_its_hello_could_not_be_held(tmp_path: Path, server: MailServer) -> None:
    """The store keeps text: such mail was put off for ever. The deadline for a silent server frees what it began."""
    async with milter(tmp_path, server, HELD, milter={"idle_timeout": "2 s"}) as port:
        one = await Asking.connect(port)
        one.say(Step.MACROS, b"C{client_name}\0\xff\xfe.example\0{client_addr}\0local\0")
        one.say(Step.CONNECT, b"\xff\xfe.example" + HERE[4:])
        one.say(Step.HELO, b"d\xe4sk\xff\0")
        one.say(Step.MACROS, b"M{auth_authen}\0cl\xe4rk\0i\0\xff\0")
        await one.envelope("a@city.example", "held@city.example")
        one.header(("Subject", "x"))
        assert await one.end(b"x\r\n") == [(b"d", b"")]
        await one.envelope("a@city.example", "held@city.example")
        one.header()
        one.say(Step.BODY, b"0123456789abcd\r\n" * 4000)
        for _ in range(4):
            one.say(Step.BODY, b"0123456789abcd\r\n" * 4000)
        one.writer.write(b"\0\0\0\x09Bhalf")
        async with asyncio.timeout(10):
            assert await one.reader.read() == b""
            while list((tmp_path / "spool").iterdir()):
                await asyncio.sleep(0.02)
        await one.close()


async def test_who_stops_ends_the_message_first(tmp_path: Path, server: MailServer) -> None:
    """SIGTERM in the middle of a message: it has its verdict, then the connection ends; an idle one ends at once."""
    async with beside(tmp_path, server) as (gateway, port):
        one, idle = await Asking.connect(port), await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        ending = asyncio.create_task(gateway.drain())
        assert await idle.reader.read() == b""
        one.header(("X-Legend", "yes"))
        assert [code for code, _ in await one.end(b"x\r\n")] == [b"b", b"a"]
        assert await one.reader.read() == b""
        await ending
        for each in (one, idle):
            await each.close()


async def test_rules_loaded_under_an_open_connection_saw_an_empty_message(tmp_path: Path, server: MailServer) -> None:
    """No content was agreed, for there were no rules: the server is told to connect again, and then sends it."""
    async with beside(tmp_path, server, {}) as (gateway, port):
        one = await Asking.connect(port)
        assert Protocol.NO_BODY in Protocol(one.steps)
        await one.envelope("a@city.example", "b@city.example")
        (tmp_path / "rules" / "legend.yaml").write_text(RULES["legend"], "utf-8")
        await gateway._use(gateway.settings, *load_policy(gateway.settings))
        assert await one.end() == [(b"a", b"")]  # begun under the old rules, ended under them
        (_, (code, text)) = await one.envelope("a@city.example", "b@city.example")
        assert (code, text[:9]) == (b"y", b"421 4.3.2")
        await one.close()
        again = await Asking.connect(port)
        assert not Protocol.NO_BODY & Protocol(again.steps)
        await again.close()


async def test_a_large_header_was_kept_in_memory(tmp_path: Path, server: MailServer) -> None:
    """Header fields go to the spool before the header ends; a body for such a message comes from our store."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.say(Step.HEADER, b"X-Legend\0 yes\0")
        field = b"X-Many\0 " + b"x" * 1000 + b"\0"
        for _ in range(1300):
            one.say(Step.HEADER, field)
        await one.writer.drain()
        async with asyncio.timeout(10):
            while sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) < 1_000_000:
                await asyncio.sleep(0.02)
        one.header()
        assert await one.end(b"x\r\n") == [(b"d", b"")]
        (got,) = await server.wait_for(1)
        assert got.content.count(b"X-Many: x") == 1300
        await one.close()


async def test_who_is_out_of_step_hung_for_an_hour(tmp_path: Path, server: MailServer) -> None:
    """Packets that are well made, and belong to no message: the connection ends, whatever was begun for them."""
    odd = (
        (Step.HEADER, b"X\0 y\0"),
        (Step.BODY, b"x"),
        (Step.END_OF_HEADER, b""),
        (Step.END_OF_BODY, b""),
        (Step.RCPT, b"<b@city.example>\0"),
        (Step.MAIL, b""),
        (Step.CONNECT, b"x"),
        (Step.MACROS, b"Mi\0"),
        (Step.OPTIONS, b"\0\0\0\1" + bytes(8)),
    )
    async with milter(tmp_path, server, HELD) as port:
        for step, data in odd:
            one = await Asking.connect(port)
            one.say(step, data)
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionResetError):
                    assert await one.reader.read() == b"", step
            await one.close()


async def test_old_servers_have_an_answer_to_everything(tmp_path: Path, server: MailServer) -> None:
    """Versions 2, 3 and 4: no silence, no skipping, no leading space; a legend is put on all the same."""
    async with milter(tmp_path, server) as port:
        for version, steps in ((2, 0x7F), (3, 0x17F), (4, 0x37F)):
            one = Asking(*await asyncio.open_connection("127.0.0.1", port))
            one.say(Step.OPTIONS, struct.pack("!III", version, 0x3F, steps))
            code, data = await one.answer()
            assert (code, struct.unpack("!III", data)[0]) == (b"O", version)
            talk = [(Step.CONNECT, HERE), (Step.HELO, b"desk\0"), (Step.MAIL, b"<a@city.example>\0")]
            talk += [(Step.RCPT, b"<b@city.example>\0"), (Step.HEADER, b"X-Legend\0yes\0")]
            talk += [(Step.HEADER, b"Subject\0 two spaces\0"), (Step.END_OF_HEADER, b""), (Step.BODY, b"x\r\n")]
            for step, octets in talk:
                one.say(step, octets)
                assert await one.answer() == (b"c", b""), step
            answers = await one.end()
            assert [code for code, _ in answers] == [b"b", b"a"]
            await one.close()


async def test_a_body_that_is_refused_is_skipped_where_the_server_lets_us(tmp_path: Path, server: MailServer) -> None:
    """What is too large is read no further; the refusal waits for the end, where the client hears it."""
    async with milter(tmp_path, server, smtp={"max_message_size": "100 KB"}) as port:
        for steps, answer in ((int(Protocol.SKIP), b"s"), (0, b"c")):
            one = await Asking.connect(port, steps=steps)
            await one.envelope("a@city.example", "b@city.example")
            one.say(Step.END_OF_HEADER)
            assert (await one.answer())[0] == b"c"
            for number in range(3):
                one.say(Step.BODY, b"0123456789abcde\n"[:15] * 4000 + b"\r\n")
                assert (await one.answer())[0] == (b"c" if number == 0 else answer)
            (last,) = await one.end()
            assert last[1].startswith(b"552 5.3.4 ")
            await one.close()


async def test_a_body_came_in_a_packet_for_each_piece(tmp_path: Path, server: MailServer) -> None:
    """Packets are full but for the last, however the new body was put together."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.header(("X-Legend", "yes"))
        for _ in range(10):
            one.say(Step.BODY, b"0123456789abcd\r\n" * 4000)
        answers = await one.end()
        sizes = [len(data) for code, data in answers if code == b"b"]
        assert sizes[:-1] == [65_535] * (len(sizes) - 1)
        assert 640_000 < sum(sizes) < 640_100
        await one.close()


async def test_the_limits_of_smtp_became_ours_with_a_reload(tmp_path: Path, server: MailServer) -> None:
    """One connection of a client is SMTP's limit here; a mail server has as many as before."""
    async with beside(tmp_path, server, HELD, smtp={"max_connections": 1}) as (gateway, port):
        await gateway._use(gateway.settings, *load_policy(gateway.settings))
        several = [await Asking.connect(port) for _ in range(3)]
        for one in several:
            await one.close()


async def test_a_route_through_the_servers_own_name_went_round_a_hold(tmp_path: Path, server: MailServer) -> None:
    """Postfix undoes ``list%city@own-name``; to us it was mail to elsewhere. Foreign ones are let pass."""
    async with milter(tmp_path, server, HELD) as port:
        one = await Asking.connect(port)
        one.say(Step.MACROS, b"Cj\0front.city.example\0{daemon_name}\0mx.city.example\0")
        one.say(Step.CONNECT, HERE)
        await one.envelope("a@city.example")
        for address, code in (
            ("held%city.example@Front.city.example", b"y"),
            ("city.example!held@front.city.example", b"y"),
            ('"held@city.example"@mx.city.example', b"y"),
            ("held%city.example@localhost", b"y"),
            ("held%city.example@city.example", b"y"),
            ("some%body@elsewhere.example", b"c"),
            ("b@front.city.example", b"c"),
        ):
            one.say(Step.RCPT, f"<{address}>\0".encode())
            answer = await one.answer()
            assert answer[0] == code, address
            assert code == b"c" or answer[1].startswith(b"550 5.7.1 "), answer
        await one.close()


async def test_another_client_on_the_same_connection(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QUIT_NC: the next client is nobody that the one before was; ABORT and MAIL at any stage leave nothing behind."""
    async with beside(tmp_path, server) as (gateway, port):
        seen: list[Client] = []
        begin = gateway.pipeline.begin_beside

        def note(client: Client, edits: ServerEdits) -> Transaction:
            seen.append(client)
            return begin(client, edits)

        monkeypatch.setattr(gateway.pipeline, "begin_beside", note)
        one = await Asking.connect(port)
        one.say(Step.MACROS, b"C{client_addr}\x00203.0.113.9\0{client_name}\0far.example\0")
        one.say(Step.CONNECT, HERE)
        one.say(Step.HELO, b"far\0")
        one.say(Step.MACROS, b"M{auth_authen}\0clerk\0")
        await one.envelope("a@city.example", "b@city.example")
        one.header(("X-Legend", "yes"))
        one.say(Step.BODY, b"of the first")
        await one.envelope("a@city.example", "b@city.example")
        one.say(Step.ABORT)
        one.say(Step.QUIT_AND_STAY)
        one.say(Step.CONNECT, b"desk\x006\x30\x39IPv6:::1\0")
        await one.envelope("a@city.example", "b@city.example")
        one.header(("Subject", "x"))
        assert await one.end(b"x\r\n") == [(b"a", b"")]
        await one.close()
    assert [(client.address, client.login, client.helo, client.name) for client in seen] == [
        ("203.0.113.9", "clerk", "far", "far.example"),
        ("203.0.113.9", "", "far", "far.example"),
        ("::1", "", "", "desk"),
    ]


async def test_octet_by_octet(tmp_path: Path, server: MailServer) -> None:
    """A whole session, one octet at a time: the same answers."""
    async with milter(tmp_path, server) as port:
        one = await Asking.connect(port, actions=sum(Action))
        parts = [(Step.CONNECT, HERE), (Step.MAIL, b"<a@city.example>\0"), (Step.RCPT, b"<b@city.example>\0")]
        parts += [(Step.HEADER, b"X-Legend\0 yes\0"), (Step.END_OF_HEADER, b""), (Step.BODY, b"x\r\n")]
        parts += [(Step.END_OF_BODY, b"")]
        for step, data in parts:
            for octet in struct.pack("!I", 1 + len(data)) + step.value + data:
                one.writer.write(bytes((octet,)))
                await one.writer.drain()
                await asyncio.sleep(0)
        expected = [*([] if one.steps & Protocol.SILENT_MAIL else [b"c"]), b"c", b"b", b"a"]
        assert [(await one.answer())[0] for _ in expected] == expected
        await one.close()


class _Slow:
    """An inspector that takes its time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def examine(self, *arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return await self._inner.examine(*arguments)

    async def inspect(self, *arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return await self._inner.inspect(*arguments)


async def test_a_server_that_waits_hears_that_the_verdict_is_being_made(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word that we are at it comes again and again, before the verdict and never behind it."""
    monkeypatch.setattr("gateway.front.answering._PROGRESS", 0.1)
    async with beside(tmp_path, server) as (gateway, port):
        services = gateway.pipeline.services
        gateway.pipeline.install(replace(services, inspector=_Slow(services.inspector)))
        one = await Asking.connect(port)
        for _ in range(2):
            await one.envelope("a@city.example", "b@city.example")
            one.header(("Subject", "x"))
            one.say(Step.END_OF_BODY, b"text\r\n")
            codes = [(await one.answer())[0]]
            while codes[-1] == b"p":
                codes.append((await one.answer())[0])
            assert codes.count(b"p") >= 2
            assert codes[-1] == b"a"
        await one.close()


async def test_every_step_has_its_own_time_whatever_came_before_it(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer serves a connection: a short step behind a long one is still cut, a long one behind a short one not."""
    naps = {"mail": 0.0, "finish": 0.0}

    def slow(name: str) -> None:
        whole = getattr(Transaction, name)

        async def napping(self: Transaction, *args: Any) -> Any:
            await asyncio.sleep(naps[name])
            return await whole(self, *args)

        monkeypatch.setattr(Transaction, name, napping)

    slow("mail")
    slow("finish")

    async def message(one: Asking) -> list[tuple[bytes, bytes]]:
        _, answer = await one.envelope("a@city.example", "b@city.example")
        if answer[0] != b"c":
            return [answer]
        one.header(("Subject", "x"))
        return await one.end(b"x\r\n")

    times = {"command_timeout": "300 ms", "message_timeout": "2 s"}
    async with milter(tmp_path, server, HELD, milter=times) as port:
        one = await Asking.connect(port)
        one.say(Step.CONNECT, HERE)
        for mail, finish, wanted in (
            (0.0, 0.7, b"a"), (5.0, 0.0, b"y451 4.7.1"), (0.0, 0.0, b"a"), (0.0, 6.0, b"y451 4.7.1"),
            (5.0, 0.0, b"y451 4.7.1"), (0.0, 0.7, b"a"),
        ):  # fmt: skip
            naps["mail"], naps["finish"] = mail, finish
            begun = asyncio.get_running_loop().time()
            answers = await message(one)
            took = asyncio.get_running_loop().time() - begun
            said = next(code + data for code, data in answers if code != b"c")
            assert said.startswith(wanted), (mail, finish, answers)
            assert took >= min(mail, 0.3) + min(finish, 2.0) - 0.05
        await one.close()


async def test_a_server_that_goes_while_a_step_is_late_leaves_nothing(
    tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends in the middle of a long step: its message leaves the spool, others are served."""

    async def never(self: Transaction, *args: Any) -> Any:
        await asyncio.sleep(60)

    spool = tmp_path / "spool"
    async with milter(tmp_path, server, HELD, milter={"message_timeout": "500 ms"}) as port:
        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "_judge", never)
            one = await Asking.connect(port)
            await one.envelope("a@city.example", "b@city.example")
            one.header(("Subject", "x"))
            one.say(Step.END_OF_HEADER)
            for _ in range(20):  # more than stays in memory
                one.say(Step.BODY, b"x" * 30_000 + b"\r\n")
            one.say(Step.END_OF_BODY)
            await pace.until(lambda: list(spool.iterdir()))
            one.writer.transport.abort()
            await pace.until(lambda: not list(spool.iterdir()))
            await asyncio.sleep(0.7)  # its alarm would ring now
        another = await Asking.connect(port)
        await another.envelope("a@city.example", "b@city.example")
        another.header(("Subject", "x"))
        assert (await another.end(b"x\r\n"))[-1][0] == b"a"
        await another.close()
