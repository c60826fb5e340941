"""Scans messages with clamd: a few connections, deadlines, a circuit breaker. Never blocks the event loop.

On a unix socket the open file itself is handed over (FILDES) in a session that is kept for the next message; on TCP
the octets travel in large chunks (INSTREAM), one connection a message. Measurements behind both: docs/virus.md.
Refuses to call a message clean for anything but clamd's plain OK to all of its octets.
"""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Protocol

from gateway.checks.virus.breaker import Breaker, State
from gateway.checks.virus.connection import Connection, PeerClosedError, connect
from gateway.checks.virus.place import UnixPlace, parse_place
from gateway.checks.virus.reply import read_reply, shown
from gateway.errors import ControlError
from gateway.model.finding import Check, Finding
from gateway.settings import ClamdSettings

CHUNK = 512 * 1024
"""Octets of one INSTREAM chunk."""
LARGE = 1024 * 1024
"""Octets above which a message may take only half of the connections, so that small ones are not kept waiting."""
IDLE_LIMIT = 4.0
"""Seconds after which a kept session is not used again; below clamd's shortest sensible CommandReadTimeout (5 s)."""

_FIRST = b"zIDSESSION\0zFILDES\0-"
_NEXT = b"zFILDES\0-"
_INSTREAM = b"zINSTREAM\0"
_STREAM_END = b"\0\0\0\0"
_NO_GATE = nullcontext()


class Scannable(Protocol):
    """What is scanned: a closed message in the spool."""

    @property
    def size(self) -> int:
        """Octets."""

    def fileno(self) -> int:
        """An open file with the whole content; its offset is not looked at."""

    def chunks(self, start: int = 0, end: int | None = None, step: int = CHUNK) -> Iterator[memoryview]:
        """The content in views of at most ``step`` octets, each good until the next is asked for."""


class OwnFaultError(ControlError):
    """The scan failed on our side, before clamd had a fair chance; it says nothing about clamd."""


class VirusScanner:
    """The virus control of one worker. Lives on one event loop."""

    def __init__(self, settings: ClamdSettings) -> None:
        """Opens nothing yet. Raises ConfigError when ``settings.address`` names no socket."""
        self._settings = settings
        self._place = parse_place(settings.address)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_reset)
        self._slots = asyncio.Semaphore(settings.connections)
        self._large_slots = asyncio.Semaphore(max(1, settings.connections // 2))
        self._idle: list[Connection] = []

    @property
    def breaker_state(self) -> State:
        """For the metrics."""
        return self._breaker.state

    async def scan(self, message: Scannable) -> tuple[Finding, ...]:
        """No finding: clamd looked at all of it and knows nothing bad. One finding: ``kind`` is the signature's name.

        clamd stops at the first signature, so there is never more than one. Raises ControlError (reason ``timeout``,
        ``unavailable``, ``limit``, ``protocol``, ``crashed``). Clause wdm/virus.
        """
        loop = asyncio.get_running_loop()
        if not self._breaker.admit(loop.time()):
            wait = self._breaker.wait(loop.time())
            raise ControlError("unavailable", f"clamd failed repeatedly; it is asked again in {wait:.1f} s")
        probe = self._breaker.state is State.PROBING
        try:
            name = await self._scan_in_time(message)
        except ControlError as error:
            self._note(error, probe=probe, now=loop.time())
            raise
        except BaseException:
            if probe:
                self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        return () if name is None else (Finding(check=Check.VIRUS, kind=name),)

    async def ping(self) -> bool:
        """True when clamd answers PONG within the connect timeout. Asks past the breaker and the connections' limit."""
        try:
            return await self._command(b"zPING\0") == "PONG"
        except ControlError:
            return False

    async def version(self) -> str:
        """What clamd calls itself and its database, e.g. ``ClamAV 1.4.3/27800/Sat Nov 21 …``. Raises ControlError."""
        return await self._command(b"zVERSION\0")

    async def close(self) -> None:
        """End the kept sessions. Scans under way end by themselves."""
        while self._idle:
            self._idle.pop().close()

    def _note(self, error: ControlError, *, probe: bool, now: float) -> None:
        """Tell the breaker. A limit is an answer: it says something of the message, nothing of clamd."""
        if isinstance(error, OwnFaultError):
            if probe:
                self._breaker.abandoned()
        elif error.reason == "limit":
            self._breaker.succeeded()
        else:
            self._breaker.failed(now)

    async def _scan_in_time(self, message: Scannable) -> str | None:
        """Wait for a slot and scan, both under the scan's deadline."""
        limit = self._settings.scan_timeout
        deadline = asyncio.get_running_loop().time() + limit
        asked = deadline
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._large_slots if message.size > LARGE else _NO_GATE,
                self._slots,
            ):
                asked = asyncio.get_running_loop().time()
                if isinstance(self._place, UnixPlace):
                    return await self._scan_file(message)
                return await self._scan_stream(message)
        except TimeoutError as error:
            if deadline - asked > limit / 2:
                raise ControlError("timeout", f"clamd did not answer within {limit:g} s") from error
            raise OwnFaultError(
                "timeout", f"waited too long for one of {self._settings.connections} connections"
            ) from error

    async def _scan_file(self, message: Scannable) -> str | None:
        """FILDES in a kept session; when that has just been closed, in a new one."""
        try:
            fd = message.fileno()
        except OSError as error:
            raise OwnFaultError("unavailable", f"no file to hand to clamd: {error.strerror}") from error
        kept = self._take()
        if kept is not None:
            try:
                return await self._request(kept, _NEXT, fd)
            except PeerClosedError:
                pass
        try:
            return await self._request(await self._connect(), _FIRST, fd)
        except PeerClosedError as error:
            raise ControlError("crashed", f"clamd closed the connection: {error}") from error

    async def _request(self, connection: Connection, command: bytes, fd: int) -> str | None:
        try:
            connection.requests += 1
            await connection.send(command, fd=fd)
            name = read_reply(await connection.reply(), connection.requests)
        except BaseException:
            connection.close()
            raise
        connection.used = asyncio.get_running_loop().time()
        self._idle.append(connection)
        return name

    async def _scan_stream(self, message: Scannable) -> str | None:
        """INSTREAM on a connection of its own."""
        connection = await self._connect()
        try:
            complete = await _send_stream(connection, message)
            reply = await connection.reply()
        finally:
            connection.close()
        name = read_reply(reply)
        if name is None and not complete:
            raise ControlError("protocol", f"clamd answered before it had everything: {shown(reply)}")
        return name

    def _take(self) -> Connection | None:
        """The session used last, if it is still good."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.used < IDLE_LIMIT and connection.fresh():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        limit = self._settings.connect_timeout
        try:
            async with asyncio.timeout(limit):
                return await connect(self._place)
        except TimeoutError as error:
            raise ControlError("timeout", f"clamd at {self._place} took no connection within {limit:g} s") from error

    async def _command(self, command: bytes) -> str:
        limit = self._settings.connect_timeout
        try:
            async with asyncio.timeout(limit):
                connection = await self._connect()
                try:
                    await connection.send(command)
                    return (await connection.reply()).decode("ascii", "replace")
                finally:
                    connection.close()
        except PeerClosedError as error:
            raise ControlError("crashed", f"clamd closed the connection: {error}") from error
        except TimeoutError as error:
            raise ControlError("timeout", f"clamd did not answer within {limit:g} s") from error


async def _send_stream(connection: Connection, message: Scannable) -> bool:
    """Send the message; False when clamd spoke or closed before the end, so that the rest is pointless."""
    try:
        await connection.send(_INSTREAM)
        for chunk in message.chunks(step=CHUNK):
            await connection.send(len(chunk).to_bytes(4, "big"), chunk)
            await asyncio.sleep(0)
            if connection.answered:
                return False
        await connection.send(_STREAM_END)
    except PeerClosedError:
        return False
    return True
