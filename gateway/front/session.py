"""One SMTP session: aiosmtpd's session class with our own way in and out of the socket.

What is taken over from aiosmtpd, and why: its constructor looks through itself and its handler by introspection for
every connection (most of what a connection costs); here the command table is made once per class. Its reader hands out
line by line; here chunks go straight to the spool. Its timer is cancelled and set anew for every command; here one
timer looks at a deadline. Its replies lack enhanced codes (RFC 2034) and its MAIL and RCPT refuse DSN parameters.

Refuses what RFC 5321 does not allow, with a reply that says so, and cuts off who keeps doing it. Decides nothing about
mail: that is the pipeline's.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from aiosmtpd.smtp import SMTP, Session

from gateway.errors import CivicgateError, ClientError
from gateway.front.limits import Admission, Drainable
from gateway.front.receiver import Receiver
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.reply import Reply
from gateway.pipeline.mishap import mishap
from gateway.settings import ListenerSettings, SmtpSettings

MAX_LINE = 4096
"""Octets of a command line. RFC 5321 section 4.5.3.1.4 says 512 plus what extensions add; DSN adds the most."""
MAX_BUFFERED = 128 * 1024
"""Octets of pipelined commands that wait; beyond it the socket is not read."""
BURST = 256 * 1024
"""Octets of content that one session takes before the others have their turn."""
COMMANDS_BURST = 50
"""Pipelined commands that one session is answered before the others have their turn."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds for a TLS handshake."""
LINGER = 30.0
"""Seconds for which the last replies wait for a client that does not read them."""

_NOT_SMTP = frozenset({b"GET", b"POST", b"PUT", b"CONNECT", b"HEAD", b"OPTIONS", b"CONTENT-TYPE:", b"HOST:"})

OK = Reply.of(250, "2.0.0", "OK")
BYE = Reply.of(221, "2.0.0", "Goodbye")
UNKNOWN = Reply.of(500, "5.5.2", "Command not recognised")
TOO_LONG = Reply.of(500, "5.5.2", "Command line too long")
BAD_LINE_END = Reply.of(500, "5.5.2", "Command lines end in CR LF")
BAD_CHARACTER = Reply.of(500, "5.5.2", "Command line has a character that no command has")
TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors, closing the connection")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands, closing the connection")
NOT_HTTP = Reply.of(421, "4.7.0", "This is a mail server, closing the connection")
TIMED_OUT = Reply.of(421, "4.4.2", "Timed out waiting for you, closing the connection")
TOO_SLOW = Reply.of(421, "4.4.2", "You send too slowly, closing the connection")
GOING_DOWN = Reply.of(421, "4.3.2", "The gateway is stopping, please try again")
LOCAL_PROBLEM = Reply.of(451, "4.3.0", "Local problem, please try again later")
BROKEN = Reply.of(421, "4.3.0", "Local problem, closing the connection; please try again later")
HELPLESS = Reply.of(214, "2.0.0", "See RFC 5321; the administrator of this gateway can tell you more")

Command = Callable[[Any, str], Awaitable[None]]


class SmtpSession(SMTP):
    """Socket, commands and deadlines. Subclasses add what the commands do."""

    _commands: ClassVar[dict[bytes, Command]] = {}
    _listener: ListenerSettings
    _limits: SmtpSettings

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the command table once per class rather than once per connection."""
        super().__init_subclass__(**kwargs)
        cls._commands = {
            name.removeprefix("smtp_").encode(): getattr(cls, name)
            for name in dir(cls)
            if name.startswith("smtp_") and name != "smtp_AUTH"
        }

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
        self._task: asyncio.Task[None] | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._eof = False
        self._closing = False
        self._reading_paused = False
        self._receiver: Receiver | None = None
        self._burst = 0
        self._deadline = 0.0
        self._until = 0.0
        """When the transaction must be over, 0 when none is open."""
        self._timer: asyncio.TimerHandle | None = None
        self._admitted = False
        self._draining = False
        self._busy = False
        self._counted_as = ""
        self.place: Drainable | None = None
        """Who held this session's place in the admission before it."""
        self.peer = ""
        self.peer_port = 0
        self._errors = 0
        self._count = 0

    # --- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse the connection, and begin."""
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
        self._task = self.loop.create_task(self._run())

    def _first_counted_as(self) -> str:
        """Behind a load balancer everybody would be one client: who it is follows in the PROXY header."""
        return "" if self._listener.proxy_protocol else self.peer

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone. A verdict on its way is carried out all the same; half a message is forgotten."""
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
        """Octets from the client: content goes to the spool at once, commands wait their turn."""
        if self._receiver is not None and not self._buffer:
            self._receive_data(data)
            return
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
        if self._waiter is not None and self._receiver is None and not self._in_transaction():
            self.close(GOING_DOWN)

    def cut(self) -> None:
        """Time is up: a client in the middle of a transaction reads why, and that it may try again.

        Not while the next hop or the store is asked: that answer may still come, and 421 in its place would make a
        duplicate of a message that has just been accepted.
        """
        if not (self._busy or self._closing or self.session is None):
            self.close(GOING_DOWN)

    def _in_transaction(self) -> bool:
        return False

    # --- commands ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            if await self._open():
                await self._serve()
        except ConnectionError:
            pass
        except Exception:  # noqa: BLE001 - nobody awaits this task: what ends it must be told here
            mishap("smtp session")
        finally:
            await self._end()
            if not self._closing:
                self.close()

    async def _open(self) -> bool:
        """Greet. Subclasses put what comes before the greeting in front of this."""
        self.reply(self._greeting())
        return True

    def _greeting(self) -> Reply:
        """The first reply; every subclass has its own."""
        raise NotImplementedError

    async def _end(self) -> None:
        """The session is over: free what it holds."""
        self._out.clear()

    async def _serve(self) -> None:
        while not self._closing:
            line = self._take_line()
            if line is None:
                self.flush()
                if self._writable is not None:
                    await self._writable
                if self._eof or self._closing:
                    return
                if self._draining and not self._in_transaction():
                    self.close(GOING_DOWN)
                    return
                await self._more()
                continue
            now = self.loop.time()
            if self._until and now > self._until:
                CONNECTIONS_REFUSED.labels("timeout").inc()
                self.close(TIMED_OUT)
                return
            self._deadline = now + self._limits.idle_timeout
            await self._command(line)
            if self._count % COMMANDS_BURST == 0:
                await self._let_others()
            if self._errors > self._limits.max_errors:
                CONNECTIONS_REFUSED.labels("errors").inc()
                self.close(TOO_MANY_ERRORS)

    async def _let_others(self) -> None:
        """In the middle of many pipelined commands: their replies leave, and the other sessions have their turn."""
        self.flush()
        if self._writable is not None:
            await self._writable
        await asyncio.sleep(0)

    def _take_line(self) -> bytes | None:
        """The next command line with its line end, None while there is none. An overlong one is answered here."""
        buffer = self._buffer
        end = buffer.find(b"\n")
        if end < 0:
            if len(buffer) > MAX_LINE:
                # keep one octet past the limit: the line is refused when its end comes, whatever its length
                del buffer[MAX_LINE:-1]
            self._resume_reading()
            return None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        if len(buffer) <= MAX_BUFFERED:
            self._resume_reading()
        return line

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

    async def _command(self, line: bytes) -> None:
        self._count += 1
        refusal = self._refuse_line(line)
        if refusal is not None:
            SMTP_ERRORS.labels("command").inc()
            self.reply(refusal)
            return
        verb, _, rest = line[:-2].partition(b" ")
        verb = verb.upper()
        command = self._commands.get(verb)
        if command is None:
            SMTP_ERRORS.labels("command").inc()
            if verb in _NOT_SMTP:
                self.close(NOT_HTTP)
            else:
                self.reply(UNKNOWN)
            return
        if self._count > self._limits.max_commands:
            CONNECTIONS_REFUSED.labels("commands").inc()
            self.close(TOO_MANY_COMMANDS)
            return
        try:
            await command(self, rest.strip(b" ").decode("utf-8", "surrogateescape"))
        except ClientError as error:
            SMTP_ERRORS.labels("command").inc()
            self.reply(error.reply)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a mistake of ours is the client's to retry, and ours to read about
            if not isinstance(error, CivicgateError):
                mishap("smtp", verb=verb.decode("ascii", "replace"))
            if verb in (b"DATA", b"BDAT"):
                self.close(BROKEN)  # content may be on its way: nothing behind this can be read as a command
            else:
                self.reply(error.reply if isinstance(error, CivicgateError) else LOCAL_PROBLEM)

    @staticmethod
    def _refuse_line(line: bytes) -> Reply | None:
        if len(line) > MAX_LINE:
            return TOO_LONG
        if not line.endswith(b"\r\n"):
            return BAD_LINE_END
        if b"\r" in line[:-2] or b"\0" in line:
            return BAD_CHARACTER
        return None

    # --- content -------------------------------------------------------------------------------------------------

    def _receive_data(self, data: bytes) -> None:
        """A chunk of DATA. After a burst the socket rests until the others had their turn."""
        receiver = cast("Receiver", self._receiver)
        rest = receiver.data(data)
        if rest is not None:
            self._receiver = None
            self._buffer += rest
            self._wake()
            return
        self._watch(receiver)
        self._burst += len(data)
        if self._burst >= BURST:
            self._burst = 0
            self._pause_reading()
            self.loop.call_soon(self._resume_reading)

    def _watch(self, receiver: Receiver) -> None:
        """Hold the sender to a pace: new octets within the data timeout, and enough of them over time."""
        now = self.loop.time()
        self._deadline = now + self._limits.data_timeout
        elapsed = now - receiver.started
        if receiver.hopeless:
            CONNECTIONS_REFUSED.labels("flood").inc()
            self.close(receiver.refusal)
        elif (self._until and now > self._until) or (
            elapsed > 30.0 and receiver.received < self._limits.min_data_rate * elapsed
        ):
            CONNECTIONS_REFUSED.labels("slow").inc()
            self.close(TOO_SLOW)

    async def _receive_until_end(self, receiver: Receiver) -> bool:
        """Run a DATA transfer. True when the end of data came, False when the client went away before."""
        self._receiver = receiver
        self._burst = 0
        self._set_deadline(self._limits.data_timeout)
        if self._buffer:
            first = bytes(self._buffer)
            self._buffer.clear()
            self._receive_data(first)
        self._resume_reading()
        while self._receiving():
            if self._eof or self._closing:
                self._receiver = None
                return False
            await self._more()
        return True

    def _receiving(self) -> bool:
        return self._receiver is not None

    async def _receive_counted(self, receiver: Receiver, octets: int) -> bool:
        """Run one BDAT chunk. True when all its octets came."""
        self._set_deadline(self._limits.data_timeout)
        while octets:
            if self._buffer:
                piece = bytes(self._buffer[: min(octets, BURST)])
                del self._buffer[: len(piece)]
                receiver.bdat(piece)
                octets -= len(piece)
                self._watch(receiver)
                if len(piece) == BURST:
                    await asyncio.sleep(0)
                continue
            self._resume_reading()
            if self._eof or self._closing:
                return False
            await self._more()
        return True

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
