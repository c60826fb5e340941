"""What a client can make a session hold on to: the event loop, memory, a connection, a message half received."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.front import connection
from gateway.front import session as session_module
from gateway.model.envelope import ExceptionRecord
from tests.serving import Client, MailServer, prepare, running, settings_for

SIZE_RULE = """
id: large
title: Large mail is refused
source: city/size
when:
  size: {over: 5 MB}
unless:
  exception: large
then:
  reject: {code: 552, enhanced: 5.3.4, text: Too large}
cases:
  - it: refuses
    message: {from: a@city.example, to: b@city.example, size: 6 MB}
    expect: {disposition: reject}
  - it: passes
    message: {from: a@city.example, to: b@city.example, text: short}
    expect: {disposition: pass}
"""


class SlowExceptions:
    """Exception records that take their time, as a busy database does."""

    async def snapshot(self) -> tuple[ExceptionRecord, ...]:
        """None, a little later."""
        await asyncio.sleep(0.05)
        return ()

    async def use(self, ids: object) -> None:
        """Nothing to count."""

    async def give_back(self, ids: object) -> None:
        """Nothing to count."""


async def test_content_that_comes_while_the_policy_is_asked_does_not_stall(tmp_path: Path, server: MailServer) -> None:
    """200 KB right behind 354 once paused a socket that nobody resumed, until the data timeout."""
    prepare(tmp_path, {"large": SIZE_RULE})
    async with running(settings_for(tmp_path, server)) as gateway:
        gateway.pipeline.install(replace(gateway.pipeline.services, exceptions=SlowExceptions()))
        assert gateway.pipeline.services.rules.size_thresholds
        client = await (await Client.connect(gateway.ports[0])).hello()
        async with asyncio.timeout(5):
            reply = await client.send("a@city.example", ["b@city.example"], b"A: b\r\n\r\n" + b"x" * 200_000)
        assert reply == "250 2.0.0 queued as SINK1"
        await client.close()


async def test_pipelined_commands_leave_the_others_their_turn(plain_gateway: Gateway) -> None:
    """480 KB of EHLO in one go once kept everybody else waiting for 0.2 s."""
    flood = await (await Client.connect(plain_gateway.ports[0])).hello()
    other = await (await Client.connect(plain_gateway.ports[0])).hello()
    flood.writer.write(b"EHLO x\r\n" * 60_000)
    turns = 0
    for _ in range(20):
        await other.say("NOOP")
        turns += 1
        waiting = [len(session._out) for session in plain_gateway._admissions[0].sessions]  # type: ignore[attr-defined]
        assert max(waiting) <= session_module.COMMANDS_BURST
    assert turns == 20
    flood.writer.transport.abort()
    await other.close()


async def test_replies_to_a_client_that_never_reads_are_bounded(plain_gateway: Gateway) -> None:
    """Commands are answered only as fast as the answers are read."""
    flood = await (await Client.connect(plain_gateway.ports[0])).hello()
    flood.writer.transport.pause_reading()  # type: ignore[attr-defined]
    flood.writer.write(b"EHLO x\r\n" * 99_000)
    await asyncio.sleep(1.0)
    (session,) = plain_gateway._admissions[0].sessions
    assert session.transport.get_write_buffer_size() < 500_000  # type: ignore[attr-defined]
    flood.writer.transport.abort()


async def test_a_closed_session_does_not_wait_for_ever_to_be_read(
    plain_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QUIT behind replies that are never read once kept the connection, and its place, for good."""
    monkeypatch.setattr(connection, "LINGER", 0.2)
    client = await (await Client.connect(plain_gateway.ports[0])).hello()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (session,) = plain_gateway._admissions[0].sessions
    session.transport.write(b"250 x\r\n" * 2_000_000)  # type: ignore[attr-defined]
    session.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while plain_gateway._admissions[0].sessions and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not plain_gateway._admissions[0].sessions
    client.writer.transport.abort()


async def test_a_mistake_of_ours_in_a_command_is_451_and_the_session_goes_on(plain_gateway: Gateway) -> None:
    """An unexpected error once ended the session without a word."""
    services = plain_gateway.pipeline.services
    plain_gateway.pipeline.install(replace(services, directory=None))  # type: ignore[arg-type]
    client = await (await Client.connect(plain_gateway.ports[0])).hello()
    assert (await client.say("MAIL FROM:<a@city.example>")).startswith("451 4.3.0 ")
    plain_gateway.pipeline.install(services)
    assert (await client.say("MAIL FROM:<a@city.example>")).startswith("250 ")
    await client.close()


async def test_behind_a_load_balancer_each_client_is_counted_as_itself(tmp_path: Path, server: MailServer) -> None:
    """The limit for one client once was the limit for everybody behind the balancer."""
    prepare(tmp_path)
    settings = settings_for(
        tmp_path,
        server,
        listeners=[{"name": "proxy", "address": "127.0.0.1:0", "proxy_protocol": True}],
        smtp={"max_connections_per_client": 2},
    )
    async with running(settings) as gateway:
        clients = []
        for number in (1, 1, 2, 2, 1):
            client = await Client.connect(gateway.ports[0])
            client.writer.write(b"PROXY TCP4 203.0.113.%d 127.0.0.1 1 2\r\n" % number)
            clients.append(client)
        greetings = [await client.reply() for client in clients]
        assert [greeting[:3] for greeting in greetings] == ["220", "220", "220", "220", "421"]
        assert await clients[-1].reply() == ""
        for client in clients:
            await client.close()
        await asyncio.sleep(0.05)
        assert not gateway._admissions[0].sessions
        assert not gateway._admissions[0]._clients


async def test_good_mail_forgives_errors(tmp_path: Path, server: MailServer) -> None:
    """A mail server that keeps its connection was once cut off after its twenty-first refused recipient."""
    prepare(tmp_path)
    server.replies["RCPT gone@city.example"] = b"550 5.1.1 gone\r\n"
    async with running(settings_for(tmp_path, server, smtp={"max_errors": 3})) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        for _ in range(4):
            await client.say("MAIL FROM:<a@city.example>")
            for _ in range(2):
                assert (await client.say("RCPT TO:<gone@city.example>")).startswith("550 ")
            await client.say("RCPT TO:<b@city.example>")
            await client.say("DATA")
            client.writer.write(b"A: b\r\n\r\n.\r\n")
            assert (await client.reply()).startswith("250 ")
        await client.close()


async def test_a_transaction_cannot_be_kept_open_by_doing_nothing(tmp_path: Path, server: MailServer) -> None:
    """NOOP now and then once held a transaction, and its place with the next hop, for as long as the client liked."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server, smtp={"transaction_timeout": "500 ms"})) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        await client.say("MAIL FROM:<a@city.example>")
        assert (await client.say("RCPT TO:<b@city.example>")).startswith("250 ")
        await asyncio.sleep(0.6)
        assert (await client.say("NOOP")).startswith("421 4.4.2 ")
        assert await client.reply() == ""
        await client.close()
        patient = await (await Client.connect(gateway.ports[0])).hello()
        await patient.send("a@city.example", ["b@city.example"], b"A: b\r\n\r\n")
        await asyncio.sleep(0.6)
        assert (await patient.say("NOOP")).startswith("250 ")
        await patient.close()


@pytest.mark.parametrize("stage", ["MAIL FROM:<a@city.example>", "RCPT TO:<b@city.example>", "DATA", "BDAT 5"])
async def test_who_is_cut_off_at_the_drain_deadline_reads_421(stage: str, tmp_path: Path, server: MailServer) -> None:
    """Clients in the middle of a transaction were once dropped without a word, which looks like a broken network."""
    prepare(tmp_path)
    lines = ["MAIL FROM:<a@city.example>", "RCPT TO:<b@city.example>", stage]
    async with running(settings_for(tmp_path, server, smtp={"drain_timeout": "300 ms"})) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        for line in lines[: lines.index(stage)]:
            assert (await client.say(line)).startswith("250 ")
        client.writer.write(stage.encode() + b"\r\n" + (b"12345" if stage.startswith("BDAT") else b""))
        assert (await client.reply())[0] in "23"
        await gateway.drain()
        assert (await client.reply()).startswith("421 4.3.2 ")
        assert await client.reply() == ""
        await client.close()


async def test_who_waits_for_an_answer_at_the_drain_deadline_is_not_told_another(
    tmp_path: Path, server: MailServer
) -> None:
    """421 in place of the next hop's answer would have the client send again what may have been delivered."""
    prepare(tmp_path)
    server.replies["DOT"] = b"HANG"
    async with running(settings_for(tmp_path, server, smtp={"drain_timeout": "200 ms"})) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        sending = asyncio.create_task(client.send("a@city.example", ["b@city.example"], b"A: b\r\n\r\n"))
        await asyncio.sleep(0.1)
        await gateway.drain()
        assert not (await sending).startswith("421 4.3.2")
        await client.close()
