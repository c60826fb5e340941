"""One SMTP connection to the next hop: commands out, replies matched to them in order, deadlines, back-pressure.

Refuses to go on after anything that is not the answer to a question: octets that are no reply, a reply that nobody
waits for, 421, silence beyond the deadline, end of file. The connection is then dropped at once, whoever waits gets a
:class:`~gateway.errors.NextHopError`, and it is never used again.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from gateway.deliver.capabilities import Capabilities
from gateway.errors import NextHopError
from gateway.model.reply import Reply
from gateway.wire.reply import ReplyError, ReplyParser

SLOW = Reply.of(451, "4.4.2", "The mail server behind this gateway does not answer in time, please try again later")
INSECURE = Reply.of(451, "4.7.5", "The mail server behind this gateway cannot be reached securely, please try later")

HIGH_WATER = 256 * 1024
"""Octets that may wait in a connection's write buffer before the sender has to."""
_QUIT_TIMEOUT = 5.0
_TICK = 0.001
"""Seconds; the clock of an event loop is no finer."""

OnReply = Callable[[str, int], None]


class Owner(Protocol):
    """Whom a connection tells about its end."""

    def lost(self, connection: "Connection") -> None:
        """The connection is dropped; called once."""

    def idle_expired(self, connection: "Connection") -> None:
        """The connection has been idle for as long as it may."""


class Exchange:
    """A group of commands written together, and their replies as they come.

    ``done`` resolves when all replies are there or the connection has failed; then ``error`` is set, and ``replies``
    holds what came before.
    """

    __slots__ = ("done", "error", "replies", "timeout", "verbs")

    def __init__(self, verbs: tuple[str, ...], timeout: float, done: "asyncio.Future[None]") -> None:
        self.verbs = verbs
        self.timeout = timeout
        self.replies: list[Reply] = []
        self.error: NextHopError | None = None
        self.done = done

    def finish(self, error: NextHopError | None = None) -> None:
        """Wake who waits."""
        self.error = error
        if not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """The protocol object. Made by the event loop; the greeting is the first exchange."""

    def __init__(self, owner: Owner, timeout: float, on_reply: OnReply | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._timeout = timeout
        self._on_reply = on_reply
        self._transport: asyncio.Transport | None = None
        self._parser = ReplyParser()
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._idle = False
        self.greeting = Exchange(("CONNECT",), timeout, self._loop.create_future())
        self._pending: deque[Exchange] = deque((self.greeting,))
        self.fault: NextHopError | None = None
        self.dead = False
        """True when the peer closed the connection or said 421, as opposed to answering wrongly or not at all."""
        self.uses = 0
        """Transactions begun on it."""
        self.pooled = False
        """True when it has lain in the pool: it may have died there unnoticed."""
        self.ready = False
        """True when EHLO and TLS are done."""
        self.capabilities = Capabilities()

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: wait for the greeting."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        endpoint = transport.get_extra_info("socket")
        if endpoint is not None and endpoint.family in (socket.AF_INET, socket.AF_INET6):
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arm(self._timeout)

    def data_received(self, data: bytes) -> None:
        """Hand complete replies to the exchanges that wait for them."""
        fault: NextHopError | None = None
        try:
            replies = self._parser.feed(data)
        except ReplyError as error:
            replies, fault = list(error.before), error
        for reply in replies:
            if self.fault is not None:
                return
            self._take(reply)
        if fault is None and not self._pending and self._parser.pending:
            fault = NextHopError("the next hop sends what nobody asked for")
        if fault is not None:
            self.fail(fault)

    def _take(self, reply: Reply) -> None:
        if not self._pending:
            self.dead = reply.code == 421
            self.fail(NextHopError(f"unsolicited reply from the next hop: {reply}"))
            return
        exchange = self._pending[0]
        replies = exchange.replies
        if self._on_reply is not None:
            self._on_reply(exchange.verbs[len(replies)], reply.code)
        replies.append(reply)
        if len(replies) == len(exchange.verbs):
            self._pending.popleft()
            exchange.finish()
            self._wake()
        if reply.code == 421:
            self.dead = True
            self.fail(NextHopError(f"the next hop closes: {reply}"))
        elif self._pending:
            self._arm(self._pending[0].timeout)
        else:
            self._deadline = None

    def eof_received(self) -> bool:
        """The peer has said its last word, and so has this connection."""
        self._gone("the next hop closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever still waits waits in vain."""
        self._gone(f"the connection to the next hop is lost{f': {exc}' if exc else ''}")

    def _gone(self, detail: str) -> None:
        if self.fault is None:
            self.dead = True
            self.fail(NextHopError(detail))

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # -- deadlines: one lazy timer, moved only when it fires too early

    def _arm(self, seconds: float) -> None:
        if self.fault is not None:
            return
        at = self._deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._tick)
        elif self._timer.when() > at + _TICK:
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline - self._loop.time() > _TICK:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        elif self._idle:
            self._deadline = None
            self._owner.idle_expired(self)
        else:
            waiting = self._pending[0].verbs[len(self._pending[0].replies)] if self._pending else "data"
            self.fail(NextHopError(f"the next hop did not answer {waiting} in time", SLOW))

    # -- what a session calls

    @property
    def usable(self) -> bool:
        """True when nothing is wrong and nothing is outstanding."""
        return self.fault is None and not self._pending

    def check(self) -> None:
        """Raise what ended the connection, if anything did."""
        if self.fault is not None:
            raise NextHopError(self.fault.detail, self.fault.reply)

    def ask(self, payload: bytes, verbs: tuple[str, ...], seconds: float | None = None) -> Exchange:
        """Write a group of commands in one go; the replies come into the exchange. Raises NextHopError when broken."""
        self.check()
        exchange = self.expect(verbs, seconds)
        self.write(payload)
        return exchange

    def expect(self, verbs: tuple[str, ...], seconds: float | None = None) -> Exchange:
        """As :meth:`ask`, but what shall be answered is written later, with :meth:`write`."""
        exchange = Exchange(verbs, seconds or self._timeout, self._loop.create_future())
        if not self._pending:
            self._arm(exchange.timeout)
        self._pending.append(exchange)
        return exchange

    def withdraw(self, exchange: Exchange) -> None:
        """Its question will not be asked after all; an answer to it that is already there breaks the connection."""
        if exchange in self._pending:
            self._pending.remove(exchange)
            self._deadline = None
        elif self.fault is None:
            self.fail(NextHopError("the next hop sends what nobody asked for"))

    async def command(self, payload: bytes, verb: str, seconds: float | None = None) -> Reply:
        """One command and its reply. Raises NextHopError."""
        exchange = self.ask(payload, (verb,), seconds)
        await exchange.done
        return self.only(exchange)

    @staticmethod
    def only(exchange: Exchange) -> Reply:
        """The reply of an exchange of one command. Raises NextHopError when there is none."""
        if not exchange.replies:
            raise exchange.error or NextHopError("the next hop did not answer")
        return exchange.replies[0]

    def write(self, data: bytes) -> None:
        """Octets to the transport, whose buffer may grow beyond :data:`HIGH_WATER` by one piece."""
        if self._transport is not None and self.fault is None:
            self._transport.write(data)

    async def drain(self, exchange: Exchange) -> None:
        """Wait for room in the write buffer, or for ``exchange`` to end; its timeout starts anew."""
        self._arm(exchange.timeout)
        while self._paused and not exchange.done.done():
            self._writable = self._loop.create_future()
            await self._writable

    def touch(self, exchange: Exchange) -> None:
        """The exchange's time starts now."""
        self._arm(exchange.timeout)

    @property
    def unsent(self) -> bool:
        """True when octets still wait in our own write buffer: the peer cannot have answered them."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    async def start_tls(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """The handshake after 220. Raises NextHopError.

        Octets that came before it were read as replies that nobody waits for, so that the connection is broken already
        (RFC 3207 section 6: nothing learnt in clear survives).
        """
        self.check()
        transport = self._transport
        if transport is None:
            raise NextHopError("not connected")
        try:
            secure = await self._loop.start_tls(
                transport, self, context, server_hostname=name, ssl_handshake_timeout=seconds
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are among them
            failed = NextHopError(f"TLS with the next hop: {error}", INSECURE)
            self.fail(failed)
            raise failed from error
        self.check()
        if secure is None:
            raise NextHopError("the next hop closed the connection during the TLS handshake", INSECURE)
        self._transport = secure
        secure.set_write_buffer_limits(high=HIGH_WATER)
        self._parser = ReplyParser()
        self._paused = False

    def rest(self, seconds: float) -> None:
        """Idle from now on, for so long at most."""
        self._idle = self.pooled = True
        self._arm(seconds)

    def use(self) -> None:
        """Idle no more: a transaction begins."""
        self._idle = False
        self._deadline = None
        self.uses += 1

    def quit(self) -> None:
        """Say QUIT and close when the answer is there, or soon after."""
        self._idle = False
        if not self.usable:
            self.abort("closed")
            return
        exchange = self.ask(b"QUIT\r\n", ("QUIT",), min(self._timeout, _QUIT_TIMEOUT))
        exchange.done.add_done_callback(lambda _: self.abort("closed"))

    def abort(self, detail: str) -> None:
        """Drop it: what is in the write buffer is not sent."""
        self.fail(NextHopError(detail))

    def fail(self, error: NextHopError) -> None:
        """Break the connection for good; every exchange ends."""
        first = self.fault is None
        self.fault = self.fault or error
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self._pending:
            self._pending.popleft().finish(NextHopError(self.fault.detail, self.fault.reply))
        self._wake()
        if first:
            self._owner.lost(self)
