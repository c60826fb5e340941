"""One client's socket: aiosmtpd's session class with our own way in and out of it.

What is taken over from aiosmtpd, and why: its constructor looks through itself and its handler by introspection for
every connection (most of what a connection costs); here nothing is looked for. Its reader hands out line by line; here
chunks go straight to whoever wants them. Its timer is cancelled and set anew for every command; here one timer looks at
a deadline.

Refuses to hold more of what a client pipelines than a bound, or to wait for one that does not read its replies.
"""

import asyncio
import contextlib
import ssl
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Session

from gateway.front.limits import Admission, Drainable
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.reply import Reply
from gateway.settings import ListenerSettings, SmtpSettings

MAX_LINE = 4096
"""Octets of a command line. RFC 5321 section 4.5.3.1.4 says 512 plus what extensions add; DSN adds the most."""
MAX_BUFFERED = 128 * 1024
"""Octets of pipelined commands that wait; beyond it the socket is not read."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds for a TLS handshake."""
LINGER = 30.0
"""Seconds for which the last replies wait for a client that does not read them."""

TIMED_OUT = Reply.of(421, "4.4.2", "Timed out waiting for you, closing the connection")
GOING_DOWN = Reply.of(421, "4.3.2", "The gateway is stopping, please try again")


class Connection(SMTP):
    """Transport, replies and deadlines. What is said on it is its subclass's."""

    _listener: ListenerSettings
    _limits: SmtpSettings

    def __init__(
        self,
        listener: ListenerSettings,
        limits: SmtpSettings,
        admission: Admission,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # aiosmtpd's own constructor is not run: see the module's first paragraph.
        self.loop = loop
        self._listener = listener
        self._limits = limits
        self._admission = admission
        self._tls_context = tls
        self.session: Any = None
        self.transport: Any = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._eof = False
        self._closing = False
        self._reading_paused = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._admitted = False
        self._busy = self._draining = False
        self._counted_as = ""
        self.place: Drainable | None = None
        """Who held this session's place in the admission before it."""
        self.peer = ""
        self.peer_port = 0
        self._errors = 0

    # --- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse the connection."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer, self.peer_port = (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)
        self._counted_as = self._first_counted_as()
        refusal = None
        if self.place is None or not self._admission.take_over(self.place, self):
            refusal = self._admission.enter(self, self._counted_as)
        if refusal is not None:
            CONNECTIONS_REFUSED.labels("limit").inc()
            self._closing = True
            self.transport.write(refusal.encode())
            self.transport.close()
            return
        self._admitted = True
        self.session = Session(self.loop)
        self.session.peer = peer
        self._set_deadline(self._limits.idle_timeout)

    def _first_counted_as(self) -> str:
        """Behind a load balancer everybody would be one client: who it is follows in the PROXY header."""
        return "" if self._listener.proxy_protocol else self.peer

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._closing = self._eof = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._admitted:
            self._admission.leave(self, self._counted_as)
            self._admitted = False
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Octets from the client wait their turn."""
        self._buffer += data
        if len(self._buffer) > MAX_BUFFERED:
            self._pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The client sends no more. What it has already sent is still answered."""
        self._eof = True
        self._wake()
        return self.session is not None and self.session.ssl is None

    def pause_writing(self) -> None:
        """The client does not read its replies."""
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            self.transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self) -> None:
        """Wait until something happens on the socket."""
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # --- replies -------------------------------------------------------------------------------------------------

    async def push(self, status: Any) -> None:
        """Reply in aiosmtpd's way, for what is inherited from it."""
        self.reply(Reply.of(int(status[:3]), "", status[4:]))

    def reply(self, reply: Reply) -> None:
        """Answer one command. Answers to pipelined commands leave together (RFC 2920 section 3.2)."""
        self._out.append(reply.encode())
        if reply.code >= 500:
            self._errors += 1

    def flush(self) -> None:
        """Send what was answered."""
        if self._out and not self._closing:
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def close(self, last: Reply | None = None) -> None:
        """End the session, with a last word if there is one."""
        if last is not None:
            self.reply(last)
        self.flush()
        if not self._closing:
            self._closing = True
            unsent = self.transport.get_write_buffer_size()  # a TLS transport cannot say it once it is closed
            self.transport.close()
            if unsent:
                # a client that never reads must not hold the connection, which closes only when all is written
                self.loop.call_later(LINGER, self.transport.abort)
        self._wake()

    # --- deadlines -----------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        """The session ends unless this is called again in time. The one timer is only set anew when it is too late."""
        self._deadline = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._tick)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._closing:
            return
        now = self.loop.time()
        if self._busy or now < self._deadline:
            self._timer = self.loop.call_at(max(self._deadline, now + 1.0), self._tick)
            return
        CONNECTIONS_REFUSED.labels("timeout").inc()
        self.close(TIMED_OUT)
        # A client that does not even read cannot hold the socket by leaving our last word unread.
        self.loop.call_later(5.0, self.transport.abort)

    def drain(self) -> None:
        """The gateway stops: an idle session ends now, a busy one after the answer it waits for."""
        self._draining = True
        if self._waiter is not None and not self._in_transaction():
            self.close(GOING_DOWN)

    def cut(self) -> None:
        """Time is up: a client in the middle of a transaction reads why, and that it may try again.

        Not while the next hop or the store is asked: that answer may still come, and 421 in its place would make a
        duplicate of a message that has just been accepted.
        """
        if not (self._busy or self._closing or self.session is None):
            self.close(GOING_DOWN)

    def _in_transaction(self) -> bool:
        """Whether an end now would cut something off."""
        return False

    # --- octets --------------------------------------------------------------------------------------------------

    async def take(self, octets: int) -> bytes:
        """Exactly so many octets. Raises :class:`ConnectionError` when the client goes away first."""
        while len(self._buffer) < octets:
            if self._eof or self._closing:
                raise ConnectionResetError
            await self._more()
        taken = bytes(self._buffer[:octets])
        del self._buffer[:octets]
        return taken

    async def take_until(self, separator: bytes) -> bytes:
        """Octets up to and with ``separator``. Raises :class:`ConnectionError` when the client goes or goes on."""
        while (end := self._buffer.find(separator)) < 0:
            if self._eof or self._closing or len(self._buffer) > MAX_LINE:
                raise ConnectionResetError
            await self._more()
        return await self.take(end + len(separator))

    # --- TLS -----------------------------------------------------------------------------------------------------

    async def _start_tls(self) -> bool:
        """Upgrade. What was sent in clear behind STARTTLS is thrown away, never read (RFC 3207 section 4.2)."""
        self.flush()
        self._buffer.clear()
        self._resume_reading()
        try:
            transport = await self.loop.start_tls(
                self.transport,
                self,
                cast("ssl.SSLContext", self._tls_context),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, ssl.SSLError, ConnectionError) as error:
            SMTP_ERRORS.labels("tls").inc()
            del error
            self._closing = True
            with contextlib.suppress(Exception):
                self.transport.abort()
            return False
        # What is in the buffer now came through TLS: the handshake's last octets and EHLO often arrive together.
        self.transport = transport
        self.session.ssl = transport.get_extra_info("ssl_object") if transport else None
        self.session.host_name = None
        return True
