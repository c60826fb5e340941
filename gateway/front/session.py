"""One SMTP session: commands in, replies out; content to the spool chunk by chunk. Its socket is :mod:`.connection`'s.

The command table is made once per class: aiosmtpd makes it anew for every connection. Its replies lack enhanced codes
(RFC 2034) and its MAIL and RCPT refuse DSN parameters; ours do not.

Refuses what RFC 5321 does not allow, with a reply that says so, and cuts off who keeps doing it. Decides nothing about
mail: that is the pipeline's.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from gateway.errors import CivicgateError, ClientError
from gateway.front.connection import GOING_DOWN, MAX_BUFFERED, MAX_LINE, TIMED_OUT, Connection
from gateway.front.limits import Admission
from gateway.front.receiver import Receiver
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.reply import Reply
from gateway.pipeline.mishap import mishap
from gateway.settings import ListenerSettings, SmtpSettings

BURST = 256 * 1024
"""Octets of content that one session takes before the others have their turn."""
COMMANDS_BURST = 50
"""Pipelined commands that one session is answered before the others have their turn."""

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
TOO_SLOW = Reply.of(421, "4.4.2", "You send too slowly, closing the connection")
LOCAL_PROBLEM = Reply.of(451, "4.3.0", "Local problem, please try again later")
BROKEN = Reply.of(421, "4.3.0", "Local problem, closing the connection; please try again later")
HELPLESS = Reply.of(214, "2.0.0", "See RFC 5321; the administrator of this gateway can tell you more")

Command = Callable[[Any, str], Awaitable[None]]


class SmtpSession(Connection):
    """Commands, content and their pace. Subclasses add what the commands do, and what comes before them."""

    _commands: ClassVar[dict[bytes, Command]] = {}

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
        super().__init__(listener, limits, admission, loop, tls)
        self._task: asyncio.Task[None] | None = None
        self._receiver: Receiver | None = None
        self._burst = 0
        self._until = 0.0
        """When the transaction must be over, 0 when none is open."""
        self._count = 0

    # --- the session's course ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse the connection, and begin."""
        super().connection_made(transport)
        if self._admitted:
            self._task = self.loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Octets from the client: content goes to the spool at once, commands wait their turn."""
        if self._receiver is not None and not self._buffer:
            self._receive_data(data)
        else:
            super().data_received(data)

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
        """What comes before the commands. False: nothing comes after it."""
        return True

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
