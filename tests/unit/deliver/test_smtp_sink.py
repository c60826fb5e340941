"""Claims of gateway.deliver against Postfix's own smtp-sink, honest and told to misbehave."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.deliver import NextHop
from gateway.errors import NextHopError
from gateway.settings import Endpoint, NextHopSettings
from tests.ports import free_port
from tests.unit.deliver.scripted import CLIENT, relay

SINK = shutil.which("smtp-sink", path=os.environ.get("PATH", "") + ":/usr/sbin")
pytestmark = [pytest.mark.real, pytest.mark.skipif(SINK is None, reason="smtp-sink (Debian: postfix) is not here")]

Starter = Callable[..., Awaitable[NextHop]]


@pytest.fixture
async def sink() -> AsyncIterator[Starter]:
    """Starts smtp-sink with flags on a free port, and a next hop that uses it."""
    started: list[asyncio.subprocess.Process] = []
    hops: list[NextHop] = []

    async def starter(*flags: str, **settings: object) -> NextHop:
        port = free_port()
        user = ("-u", "root") if os.geteuid() == 0 else ()
        process = await asyncio.create_subprocess_exec(
            str(SINK), *user, *flags, f"127.0.0.1:{port}", "100", stderr=asyncio.subprocess.DEVNULL
        )
        started.append(process)
        async with asyncio.timeout(5):
            while not await _listening(port):
                assert process.returncode is None, "smtp-sink did not start"
                await asyncio.sleep(0.02)
        values = {"command_timeout": "2 s", "data_timeout": "2 s", **settings}
        hop = NextHop(
            NextHopSettings.model_validate({"address": Endpoint(host="127.0.0.1", port=port), **values}), "gw.example"
        )
        hops.append(hop)
        return hop

    yield starter
    for hop in hops:
        await hop.close()
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.mark.parametrize("flags", [(), ("-p",), ("-e",), ("-F",), ("-8",), ("-N",), ("-e", "-p", "-E")])
async def test_honest(sink: Starter, flags: tuple[str, ...]) -> None:
    """Messages get through with and without pipelining, ESMTP, XFORWARD, 8BITMIME, DSN; one connection serves all."""
    hop = await sink(*flags, pool_size=1)
    for size in (0, 2_000, 100_000, 3_000_000):
        content = b"Subject: x\r\n\r\n" + b".x\r\n" * (size // 4)
        assert (await relay(hop, content)).startswith("250 ")
    offered = hop.capabilities
    assert offered is not None
    assert offered.pipelining == (not {"-p", "-e"} & set(flags))
    assert bool(offered.xforward) == (not {"-F", "-e"} & set(flags))


async def test_content(sink: Starter, tmp_path: Path) -> None:
    """What the sink has received is what was sent."""
    hop = await sink("-d", f"{tmp_path}/mail.")
    content = b"Subject: dots\r\n\r\n" + b".\r\n..\r\n.x\r\nx.\r\n" * 20_000
    assert (await relay(hop, content)).startswith("250 ")
    received = await asyncio.to_thread(lambda: [file.read_bytes() for file in tmp_path.glob("mail.*")])
    assert len(received) == 1
    assert received[0].replace(b"\n", b"\r\n").endswith(content + b"\r\n")


async def test_many_at_once(sink: Starter) -> None:
    """Two hundred messages over ten connections."""
    hop = await sink(pool_size=10, connect_timeout="10 s")
    replies = await asyncio.gather(*(relay(hop) for _ in range(200)))
    assert all(reply.startswith("250 ") for reply in replies)


@pytest.mark.parametrize(("kind", "code"), [("-f", 500), ("-r", 450)])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_refusals(sink: Starter, kind: str, code: int, verb: str) -> None:
    """Refusals, hard and soft, come back with their code wherever they are given."""
    hop = await sink(kind, verb)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    reply = await transaction.rcpt("b@example.org")
    if verb in ("DATA", "."):
        assert reply.code == 250
        reply = await transaction.send([b"x\r\n"])
    assert reply.code == code
    transaction.abort()


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
async def test_disconnects(sink: Starter, verb: str) -> None:
    """A next hop that hangs up is an error wherever it does so."""
    hop = await sink("-q", verb)
    with pytest.raises(NextHopError) as raised:
        await relay(hop)
    assert str(raised.value.reply).startswith("451 4.4.1 ")


@pytest.mark.parametrize("verb", ["RCPT", "DATA", "."])
async def test_421(sink: Starter, verb: str) -> None:
    """421 is the reply wherever it is given."""
    hop = await sink("-Q", verb)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    reply = await transaction.rcpt("b@example.org")
    if verb != "RCPT":
        reply = await transaction.send([b"x\r\n"])
    assert reply.code == 421


async def test_early_refusal(sink: Starter) -> None:
    """A sink that refuses right behind 354 and reads no more does not hold the sender of a large message.

    It also resets the connection, and a reset may overtake the refusal: then the client is asked to come again.
    """
    hop = await sink("-A", "0")
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@example.org")
    chunks = iter([b"x" * 65534 + b"\r\n"] * 1000)
    try:
        reply = await transaction.send(chunks)
    except NextHopError as error:
        reply = error.reply
    assert reply.code in (550, 451)
    assert len(list(chunks)) > 500


async def test_slow_sink(sink: Starter) -> None:
    """A sink that answers DATA later than the deadline is 451 4.4.2."""
    hop = await sink("-w", "2", command_timeout="200 ms")
    with pytest.raises(NextHopError) as raised:
        await relay(hop)
    assert str(raised.value.reply).startswith("451 4.4.2 ")
