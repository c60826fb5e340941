"""One connection to clamd on the event loop (asyncio's or uvloop's): octets, an open file, a reply. No deadlines here.

Works on the bare socket: a stream or transport would add a copy and cannot send an open file. Every send that the
kernel does not take at once waits for room; every reply is bounded in length. Refuses to say anything about what a
reply means (``reply``) or when to give up (``scanner``).
"""

import asyncio
import socket
import struct
from contextlib import suppress

from gateway.checks.virus.place import TcpPlace, UnixPlace
from gateway.checks.virus.reply import shown
from gateway.errors import ControlError

MAX_REPLY = 4096
"""Octets; a signature's name and an error fit many times over."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05

Octets = bytes | bytearray | memoryview


class PeerClosedError(Exception):
    """A send failed because clamd's end is closed. There may be a last reply to read."""


class Connection:
    """Owns a connected, non-blocking socket until :meth:`close`. One request at a time."""

    __slots__ = ("_data", "_ended", "_loop", "_sock", "_waiter", "requests", "used")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._data = bytearray()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.requests = 0
        """Requests sent in this session, which clamd counts too."""
        self.used = 0.0
        """The loop's time when it was last put back, in seconds."""
        loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """End it, whatever is under way. Doing it twice is harmless."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        self._ended = True

    @property
    def answered(self) -> bool:
        """True when clamd has said something that nobody has read yet, or has closed its end."""
        return self._ended or bool(self._data)

    def fresh(self) -> bool:
        """True when another request may be sent: the other end is open and has said nothing unasked."""
        if self.answered:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    async def send(self, *parts: Octets, fd: int = -1) -> None:
        """Send all octets of all parts; ``fd`` travels with the first of them (unix(7), SCM_RIGHTS).

        Raises PeerClosedError.
        """
        rest = [memoryview(part) for part in parts if len(part)]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
        while rest:
            try:
                sent = self._sock.sendmsg(rest, ancillary)
            except (BlockingIOError, InterruptedError):
                await self._room()
                continue
            except OSError as error:
                raise PeerClosedError(error.strerror or type(error).__name__) from error
            ancillary = []
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = rest[0][sent:]

    async def reply(self) -> bytes:
        """The next reply without its end mark (NUL).

        Raises ControlError: ``crashed`` when clamd closes without a word, ``protocol`` when it closes in the middle
        of one, talks too long, or says more than one reply.
        """
        while True:
            text, end, more = self._data.partition(b"\0")
            if end:
                if more:
                    raise ControlError("protocol", f"clamd says more than was asked: {shown(bytes(self._data))}")
                self._data.clear()
                return bytes(text)
            if len(self._data) > MAX_REPLY:
                raise ControlError("protocol", f"clamd's reply has no end: {shown(bytes(self._data))}")
            if self._ended and self._data:
                raise ControlError("protocol", f"clamd closed within its reply: {shown(bytes(self._data))}")
            if self._ended:
                raise ControlError("crashed", "clamd closed the connection without a reply")
            await self._more()

    async def _more(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _room(self) -> None:
        waiter = self._loop.create_future()
        self._loop.add_writer(self._sock.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            if self._sock.fileno() >= 0:
                self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        """Called by the loop; also on an idle connection, so that it is known when clamd has closed one."""
        try:
            data = self._sock.recv(MAX_REPLY + 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._data += data
        if not data or len(self._data) > MAX_REPLY:
            self._ended = not data
            self._loop.remove_reader(self._sock.fileno())
        if self._waiter is not None:
            _wake(self._waiter)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def connect(place: UnixPlace | TcpPlace) -> Connection:
    """A new connection. Raises ControlError ``unavailable``; the deadline is the caller's."""
    loop = asyncio.get_running_loop()
    try:
        sock = await (_connect_unix(place) if isinstance(place, UnixPlace) else _connect_tcp(loop, place))
    except OSError as error:
        raise ControlError("unavailable", f"clamd at {place}: {error.strerror or error}") from error
    return Connection(loop, sock)


async def _connect_unix(place: UnixPlace) -> socket.socket:
    """A unix socket connects at once or, with clamd's queue full, not at all: EAGAIN, and nothing to wait on."""
    sock = _socket(socket.AF_UNIX)
    pause = _FIRST_PAUSE
    try:
        while True:
            with suppress(BlockingIOError):
                sock.connect(place.path)
                return sock
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
    except BaseException:
        sock.close()
        raise


async def _connect_tcp(loop: asyncio.AbstractEventLoop, place: TcpPlace) -> socket.socket:
    """The first of the host's addresses that takes a connection."""
    if place.numeric:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        return await _connect_to(loop, family, (place.host, place.port))
    last = OSError(f"no address for {place.host}")
    for family, *_, address in await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM):
        try:
            return await _connect_to(loop, family, address)
        except OSError as error:
            last = error
    raise last


async def _connect_to(
    loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, address: tuple[object, ...]
) -> socket.socket:
    sock = _socket(family)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock
