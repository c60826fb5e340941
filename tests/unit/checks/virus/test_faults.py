"""clamd at its worst: gone, stopped, killed, talking nonsense. Each fault has its reason, the next mail its chance."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deploy.dev.clamd import TINY_DATABASE, start_clamd, stop_clamd
from gateway.checks.virus import VirusScanner
from gateway.checks.virus.breaker import State
from gateway.checks.virus.scanner import CHUNK
from gateway.errors import ControlError
from gateway.spool import SpooledMessage
from tests.ports import free_port
from tests.unit.checks.virus.conftest import Clamd, MakeScanner

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SMALL = b"Subject: small\r\n\r\nhello\r\n"


async def reason(scanner: VirusScanner, content: bytes = SMALL) -> str:
    """The reason for which a scan fails; it must fail."""
    message = SpooledMessage.of(content)
    try:
        with pytest.raises(ControlError) as raised:
            await scanner.scan(message)
    finally:
        message.close()
    return raised.value.reason


@asynccontextmanager
async def hostile(handler: Handler, path: Path | None = None) -> AsyncIterator[str]:
    """A server that speaks like no clamd should, on a unix socket or on TCP; gives its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    if path is not None:
        server, address = await asyncio.start_unix_server(one, path), f"unix:{path}"
    else:
        server = await asyncio.start_server(one, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield address
    finally:
        server.close()
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        await server.wait_closed()


def saying(reply: bytes, pause: float = 0.0) -> Handler:
    """Reads the command, says ``reply`` octet by octet or at once, and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        for piece in [reply[n : n + 1] for n in range(len(reply))] if pause else [reply]:
            writer.write(piece)
            await asyncio.sleep(pause)
        writer.close()

    return handle


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", "crashed"),
        (b"1: fd[3]: O", "protocol"),
        (b"1: fd[3]: OK", "protocol"),
        (b"1: fd[3]: OK\n", "protocol"),
        (b"2: fd[3]: OK\0", "protocol"),
        (b"fd[3]: OK\0", "protocol"),
        (b"1: fd[3]: OK\0001: fd[3]: X FOUND\0", "protocol"),
        (b"\0", "protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "protocol"),
        (b"A" * 100_000, "protocol"),
        (b"1: fd[3]: lstat() failed: Permission denied. ERROR\0", "crashed"),
        (b"1: fd[3]: Heuristics.Limits.Exceeded.MaxFiles FOUND\0", "limit"),
        (b"COMMAND READ TIMED OUT\n", "protocol"),
    ],
)
async def test_replies_that_are_no_answer(
    make_scanner: MakeScanner, tmp_path: Path, reply: bytes, expected: str
) -> None:
    """Nothing, half a reply, a foreign one, garbage, an error: each is a fault with its reason, none is clean."""
    async with hostile(saying(reply), tmp_path / "s") as address:
        assert await reason(make_scanner(address, scan_timeout="5 s"), SMALL) == expected


async def test_reply_octet_by_octet(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """A good reply may come in as many pieces as it likes."""
    async with hostile(saying(b"1: fd[3]: OK\0", pause=0.001), tmp_path / "s") as address:
        assert await make_scanner(address).scan(SpooledMessage.of(SMALL)) == ()


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_silence(make_scanner: MakeScanner, tmp_path: Path, way: str) -> None:
    """A clamd that says nothing costs the deadline and no more, and ping says no."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with hostile(silent, tmp_path / "s" if way == "unix" else None) as address:
        scanner = make_scanner(address, scan_timeout="200 ms", connect_timeout="100 ms")
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await reason(scanner) == "timeout"
        assert 0.15 < loop.time() - began < 2.0
        assert not await scanner.ping()


async def test_clean_before_the_end(make_scanner: MakeScanner) -> None:
    """On TCP an OK that comes before everything was sent is no answer."""
    async with hostile(saying(b"stream: OK\0")) as address:
        assert await reason(make_scanner(address), b"x" * (CHUNK * 40)) == "protocol"


async def test_reset_while_streaming(make_scanner: MakeScanner) -> None:
    """On TCP a connection reset in the middle of the message is a crash, not an exception of another kind."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with hostile(reset) as address:
        assert await reason(make_scanner(address), b"x" * (CHUNK * 40)) == "crashed"


async def test_back_pressure(make_scanner: MakeScanner) -> None:
    """A clamd that reads slowly gets every octet in order, chunk by chunk, and its answer counts."""
    content = os.urandom(CHUNK * 5 + 17)
    got = bytearray()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(10) == b"zINSTREAM\0"
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            assert size <= CHUNK
            while size:
                piece = await reader.read(min(size, 65536))
                got.extend(piece)
                size -= len(piece)
                await asyncio.sleep(0.0005)
        writer.write(b"stream: OK\0")
        writer.close()

    async with hostile(slow) as address:
        assert await make_scanner(address).scan(SpooledMessage.of(content)) == ()
    assert bytes(got) == content


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_nobody_there(make_scanner: MakeScanner, tmp_path: Path, way: str) -> None:
    """No socket file, nobody on the port: unavailable at once."""
    address = f"unix:{tmp_path / 'none'}" if way == "unix" else f"127.0.0.1:{free_port()}"
    scanner = make_scanner(address)
    assert await reason(scanner) == "unavailable"
    assert not await scanner.ping()
    with pytest.raises(ControlError) as raised:
        await scanner.version()
    assert raised.value.reason == "unavailable"


async def test_full_queue(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """A unix socket whose queue is full refuses with EAGAIN: waited for, up to the deadline."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        assert await reason(make_scanner(path, connect_timeout="100 ms")) == "timeout"
        scan = asyncio.ensure_future(make_scanner(path).scan(SpooledMessage.of(SMALL)))
        await asyncio.sleep(0.05)
        assert not scan.done()
        listener.accept()[0].close()
        await asyncio.sleep(0.1)
        listener.setblocking(False)
        peer = listener.accept()[0]
        with peer:
            peer.settimeout(2.0)
            assert peer.recv(100).startswith(b"zIDSESSION\0zFILDES\0")
            peer.sendall(b"1: fd[9]: OK\0")
            assert await scan == ()


async def test_breaker(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """After the failures in a row clamd is left alone, then probed once, and its recovery ends it."""
    asked, replies = 0, [b"nonsense\0"] * 3

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read(4096)
        await asyncio.sleep(0.02)
        writer.write(replies.pop(0) if replies else b"1: fd[9]: OK\0")
        writer.close()

    async with hostile(serve, tmp_path / "s") as address:
        scanner = make_scanner(address, breaker_failures=2, breaker_reset="200 ms")
        assert [await reason(scanner) for _ in range(4)] == ["protocol", "protocol", "unavailable", "unavailable"]
        assert asked == 2
        await asyncio.sleep(0.25)
        both = await asyncio.gather(reason(scanner), reason(scanner))
        assert sorted(both) == ["protocol", "unavailable"]
        assert asked == 3, "one probe, no more"
        await asyncio.sleep(0.25)
        assert await scanner.scan(SpooledMessage.of(SMALL)) == ()
        assert scanner.breaker_state is State.CLOSED


async def test_cancelled_probe(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """A probe whose client goes away leaves the breaker ready for the next probe, and no connection open."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        await reader.read()
        gone.set()
        writer.close()

    path = tmp_path / "s"
    scanner = make_scanner(path, breaker_failures=1, breaker_reset="10 ms")
    assert await reason(scanner) == "unavailable"
    await asyncio.sleep(0.02)
    async with hostile(serve, path):
        scan = asyncio.ensure_future(scanner.scan(SpooledMessage.of(SMALL)))
        await asyncio.sleep(0.05)
        states = [scanner.breaker_state]
        scan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scan
        assert [*states, scanner.breaker_state] == [State.PROBING, State.OPEN]
        await asyncio.wait_for(gone.wait(), 2.0)


async def test_waiting_for_a_slot(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """A message whose time is up before a connection became free is a timeout that the breaker does not count."""
    scanner = make_scanner(tmp_path / "s", connections=1, breaker_failures=1, scan_timeout="50 ms")
    async with scanner._slots:
        assert await reason(scanner) == "timeout"
    assert scanner.breaker_state is State.CLOSED
    async with hostile(saying(b"1: fd[3]: OK\0"), tmp_path / "s"):
        assert await scanner.scan(SpooledMessage.of(SMALL)) == ()


async def test_little_time_left(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """When most of the time went by in our own queue, clamd is not blamed for the rest."""
    async with hostile(saying(b"1: fd[3]: OK\0", pause=0.05), tmp_path / "s") as address:
        scanner = make_scanner(address, connections=1, breaker_failures=1, scan_timeout="200 ms")
        await scanner._slots.acquire()
        waiting = asyncio.ensure_future(reason(scanner))
        await asyncio.sleep(0.15)
        scanner._slots.release()
        assert await waiting == "timeout"
        states = [scanner.breaker_state]
        assert await reason(scanner) == "timeout"
        assert [*states, scanner.breaker_state] == [State.CLOSED, State.OPEN]


async def test_large_messages_leave_room(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """Large messages take half of the connections at most: a small one is answered while all of them hang."""
    hanging: list[asyncio.StreamWriter] = []
    small = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        if len(hanging) < 2:
            hanging.append(writer)
            await small.wait()
        writer.write(b"1: fd[9]: OK\0")
        writer.close()

    async with hostile(serve, tmp_path / "s") as address:
        scanner = make_scanner(address, connections=4)
        large = [asyncio.ensure_future(scanner.scan(SpooledMessage.of(bytes(2_000_000)))) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(scanner.scan(SpooledMessage.of(SMALL)), 2.0) == ()
        assert len(hanging) == 2
        small.set()
        assert await asyncio.gather(*large) == [()] * 6


# --- the real clamd -------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.usefixtures("clamd")
async def test_stopped_killed_and_back(make_scanner: MakeScanner, tmp_path: Path) -> None:
    """Stopped: timeout. Going on: clean. Killed in mid-scan: crashed, then unavailable. Started again: clean."""
    process = start_clamd(tmp_path, database=TINY_DATABASE)
    try:
        path = tmp_path / "clamd.sock"
        scanner = make_scanner(path, scan_timeout="300 ms", connect_timeout="200 ms", breaker_failures=100)
        patient = make_scanner(path, breaker_failures=100)
        assert await scanner.scan(SpooledMessage.of(SMALL)) == ()
        process.send_signal(signal.SIGSTOP)
        assert await reason(scanner) == "timeout"
        assert not await scanner.ping()
        process.send_signal(signal.SIGCONT)
        assert await patient.scan(SpooledMessage.of(SMALL)) == ()
        process.send_signal(signal.SIGSTOP)
        scan = asyncio.ensure_future(reason(patient))
        await asyncio.sleep(0.05)
        process.kill()
        process.wait()
        assert await scan == "crashed"
        assert await reason(patient) == "unavailable"
        process = start_clamd(tmp_path, database=TINY_DATABASE)
        assert await patient.scan(SpooledMessage.of(SMALL)) == ()
    finally:
        stop_clamd(process)


@pytest.mark.real
async def test_restart_between_messages(make_scanner: MakeScanner, clamd: Clamd, tmp_path: Path) -> None:
    """A clamd that is restarted in order between two messages costs neither, though a session was kept."""
    del clamd
    process = start_clamd(tmp_path, database=TINY_DATABASE)
    try:
        scanner = make_scanner(tmp_path / "clamd.sock")
        assert await scanner.scan(SpooledMessage.of(SMALL)) == ()
        stop_clamd(process)
        process = start_clamd(tmp_path, database=TINY_DATABASE)
        assert await scanner.scan(SpooledMessage.of(SMALL)) == ()
    finally:
        stop_clamd(process)
