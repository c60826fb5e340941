"""The milter front: a mail server lets us look at each message, and makes the changes that we name.

One connection carries one SMTP session of the server's, with any number of messages; what is known of the client comes
as macros. Header fields and body chunks go to the spool as they come, without an answer each; MAIL, RCPT and the end
are answered. Refuses to let a message through that it could not look at: whatever fails is answered with 451, and the
server's ``milter_default_action`` must be ``tempfail`` for what cannot be answered (docs/milter.md says why).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import ClassVar, cast

import structlog

from gateway.errors import ClientError
from gateway.front.agreement import agree
from gateway.front.alarm import Alarm
from gateway.front.answering import Answering
from gateway.front.edits import ServerEdits
from gateway.front.hearsay import Hearsay, forward_path, reverse_path
from gateway.front.limits import Admission
from gateway.front.receiver import Receiver
from gateway.metrics import CONNECTIONS_REFUSED, SMTP_ERRORS
from gateway.model.envelope import Client
from gateway.model.reply import Reply
from gateway.pipeline import Pipeline, Transaction
from gateway.pipeline.mishap import mishap
from gateway.pipeline.recipients import ROUTED, routed
from gateway.settings import MilterListenerSettings, MilterSettings
from gateway.wire import milter as wire
from gateway.wire.data import BdatDecoder
from gateway.wire.milter import Answer, Decoder, Event, MilterError, Step

Work = Coroutine[object, object, None]
"""What an event asks that may have to wait."""

_LATE = Reply.of(451, "4.7.1", "The policy could not be asked in time, please try again later")
_BROKEN = Reply.of(451, "4.3.0", "Local problem, please try again later")
_ANEW = Reply.of(421, "4.3.2", "The policy has changed since you connected, please connect again")
_PENDING = 256 * 1024
"""Octets that wait behind an answer before the socket is left alone."""
_EMPTY = 64
"""Octets for which a packet counts beside its data: it costs memory, too."""
_HEADER_KEPT = 64 * 1024
"""Octets of header fields that are kept until the header ends; more of them go to the spool as they come."""


class MilterSession(Answering):
    """One connection of a mail server."""

    def __init__(
        self,
        listener: MilterListenerSettings,
        settings: MilterSettings,
        pipeline: Pipeline,
        admission: Admission,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop)
        self._listener = listener
        self._settings = settings
        self._pipeline = pipeline
        self._admission = admission
        self._decoder = Decoder()
        self._events: deque[Event] = deque()
        self._waiting = 0
        """Octets that came since there were no events: more than wait, if some of them were taken."""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = Alarm(loop, self._too_late)
        self._late = False
        """The present step was cancelled because it took too long."""
        self._heard = 0.0
        self._admitted = self._draining = self._paused = False
        self._told = Hearsay()
        self._transaction: Transaction | None = None
        self._refused: Reply | None = None
        """What is wrong with the message's MAIL, to be said at RCPT."""
        self._edits: ServerEdits | None = None
        self._fields: list[bytes] = []
        self._kept = 0
        """Octets of the fields."""
        self._in_header = False
        self._receiver: Receiver | None = None

    # --- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the server or let it go; a server that is let go defers its mail."""
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        if self._admission.enter(self, "") is not None:
            CONNECTIONS_REFUSED.labels("limit").inc()
            transport.close()
            return
        self._admitted = True
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(self._settings.idle_timeout, self._tick)

    def connection_lost(self, error: Exception | None) -> None:
        """The server is gone, and with it what it had not yet handed over: it keeps the message."""
        self._alarm.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._admitted:
            self._admission.leave(self, "")
            self._admitted = False
        if self._writable is not None and not self._writable.done():
            self._writable.cancel()
        if self._task is not None:
            self._task.cancel()
        else:
            self._forget_message()
        self._transport = None
        self._forget_events()

    def data_received(self, data: bytes) -> None:
        """Packets: taken in order, each when the one before has its answer."""
        self._heard = self._loop.time()
        try:
            events = self._decoder.feed(data)
        except MilterError as error:
            self._out_of_step(error)
            return
        if not events:
            return
        self._events.extend(events)
        if self._task is None:
            self._go_on()
            return
        self._waiting += len(data) + _EMPTY * len(events)
        if self._waiting > _PENDING and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _tick(self) -> None:
        """Let a server go that says nothing for long: it may be dead, and its host with it."""
        quiet = self._loop.time() - self._heard
        if self._task is None and quiet >= self._settings.idle_timeout:
            CONNECTIONS_REFUSED.labels("timeout").inc()
            if self._transport is not None:
                self._transport.abort()  # not close: what a dead server has not read would never be written
            return
        self._timer = self._loop.call_later(max(1.0, self._settings.idle_timeout - quiet), self._tick)

    def drain(self) -> None:
        """The gateway stops: between two messages the connection ends, in the middle of one after its answer."""
        self._draining = True
        if self._task is None and self._transaction is None:
            self.cut()

    def cut(self) -> None:
        """End now, unless an answer is being made."""
        if self._task is None:
            self._hang_up()

    def _forget_events(self) -> None:
        """Nothing that comes behind is heard."""
        self._events.clear()
        self._waiting = 0

    def _out_of_step(self, error: MilterError) -> None:
        SMTP_ERRORS.labels("milter").inc()
        structlog.get_logger().warning("milter connection cut", listener=self._listener.name, problem=error.detail)
        self._forget_events()
        if self._transport is not None:
            self._transport.abort()

    # --- events --------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Take events until one has to wait for something. Answers leave together."""
        if self._task is None and (waiting := self._next()) is not None:
            self._task = self._loop.create_task(self._work(*waiting))
        self._flush()
        if self._paused and self._waiting <= _PENDING and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if self._draining and self._task is None and self._transaction is None and not self._events:
            self.cut()

    def _next(self) -> tuple[Step, Work] | None:
        """Take events up to the first that waits."""
        while self._events and self._transport is not None:
            event = self._events.popleft()
            try:
                work = self._TAKEN[event.step](self, event)
            except MilterError as error:
                self._out_of_step(error)
                return None
            if work is not None:
                return event.step, work
        self._waiting = 0
        return None

    async def _work(self, step: Step, work: Work) -> None:
        """An event that waits, and those behind it: one task, since most of them wait in name only."""
        waiting: tuple[Step, Work] | None = (step, work)
        try:
            while waiting is not None:
                await self._done(*waiting)
                self._flush()
                waiting = self._next()
        finally:
            self._task = None
            if self._transport is None:
                self._forget_message()
        self._go_on()

    async def _done(self, step: Step, work: Work) -> None:
        """One event. Whatever goes wrong in it is a 451 for the server, and ours to read about."""
        of_step = self._settings.message_timeout if step is Step.END_OF_BODY else self._settings.command_timeout
        self._alarm.set(of_step)
        self._late = False
        try:
            await work
        except asyncio.CancelledError:
            if not self._late or self._transport is None:
                self._forget_message()
                raise
            assert self._task is not None
            self._task.uncancel()
            self._give_up(step, _LATE)
        except TimeoutError:
            self._give_up(step, _LATE)
        except ClientError as error:
            SMTP_ERRORS.labels("command").inc()
            self._give_up(step, error.reply)
        except MilterError as error:
            self._out_of_step(error)
        except Exception:  # noqa: BLE001 - nobody awaits this task
            mishap("milter", step=step.name)
            self._give_up(step, _BROKEN)

    def _too_late(self) -> None:
        if self._task is not None:
            self._late = True
            self._task.cancel()

    def _give_up(self, step: Step, reply: Reply) -> None:
        """Say why, where the protocol has a place for it."""
        if step is not Step.RCPT:
            self._forget_message()
        if step is Step.MAIL or (wire.ALLOWED[step] and self._is_answered(step)):
            self._refuse(step, reply)
        elif self._transport is not None:
            self._transport.abort()

    def _refuse(self, step: Step, reply: Reply) -> None:
        """What is refused at MAIL is said to each RCPT where the server expects no answer to MAIL."""
        if step is Step.MAIL and not self._is_answered(step):
            self._refused = reply
        else:
            super()._refuse(step, reply)

    # what each step asks; what must wait comes back as a coroutine

    def _options(self, event: Event) -> None:
        """Ask for the steps that the rules need, and say to which we shall not answer."""
        rules = self._pipeline.services.rules
        self._agreed = agree(wire.read_options(event), content=self._looks_inside, senders=rules.refuses_senders)
        self._out.append(self._agreed.encode())

    def _macros(self, event: Event) -> None:
        self._told.macros(event)

    def _connect(self, event: Event) -> None:
        self._told.connect(wire.read_peer(event))
        self._answer(Step.CONNECT, Answer.CONTINUE)

    def _helo(self, event: Event) -> None:
        self._told.helo("".join(event.strings()))
        self._answer(Step.HELO, Answer.CONTINUE)

    def _begin_message(self, event: Event) -> Work:
        self._forget_message(Step.MAIL)
        return self._mail(event)

    def _go_by(self, event: Event) -> None:
        """DATA, and what the server itself did not know."""
        self._answer(event.step, Answer.CONTINUE)

    def _end_header(self, event: Event) -> Work | None:
        return self._content(b"", event.step)

    def _body(self, event: Event) -> Work | None:
        return self._content(event.data, event.step)

    def _abort(self, event: Event) -> None:
        self._forget_message()

    def _quit_and_stay(self, event: Event) -> None:
        self._forget_message()
        self._told.forget()

    def _quit(self, event: Event) -> None:
        self._forget_message()
        self._forget_events()
        self._hang_up()

    # --- one message ---------------------------------------------------------------------------------------------

    def _client(self) -> Client:
        client = self._told.client()
        return replace(client, inside=self._pipeline.inside(client, self._listener.direction, local=self._told.local))

    @property
    def _looks_inside(self) -> bool:
        """Whether anybody asks for what is in a message: a rule, or we, for the mark of a copy of ours."""
        return self._pipeline.services.rules.reads_messages or self._settings.next_hop_asks

    async def _mail(self, event: Event) -> None:
        if self._looks_inside and not self._agreed.content:
            # rules were loaded since: this server would send us nothing that they could look at
            self._refuse(Step.MAIL, _ANEW)
            return
        path = reverse_path(event)
        edits = ServerEdits(self._agreed, self._out, self._drained, by_smtp=self._told.by_smtp)
        transaction = self._pipeline.begin_beside(self._client(), edits)
        refusal = await transaction.mail(path)
        if refusal is not None:
            self._refuse(Step.MAIL, refusal)
            self._told.forget_message()
            return
        self._transaction, self._edits, self._in_header = transaction, edits, True
        self._answer(Step.MAIL, Answer.CONTINUE)

    async def _rcpt(self, event: Event) -> None:
        if self._refused is not None:
            self._refuse(Step.RCPT, self._refused)
            return
        if self._transaction is None or self._edits is None:
            raise MilterError("a recipient without a sender")
        path = forward_path(event)
        if routed(path.address) and self._told.is_server(path.address.rpartition("@")[2]):
            raise ClientError("a route through the server", ROUTED)
        reply = await self._transaction.recipient(path)
        if reply.positive:
            self._edits.name(path.address, event.strings()[0])
            self._answer(Step.RCPT, Answer.CONTINUE)
        else:
            self._refuse(Step.RCPT, reply)

    def _header(self, event: Event) -> Work | None:
        if not self._in_header:
            raise MilterError("a header field outside of a header")
        field = wire.field_of(event, leading_space=self._agreed.leading_space)
        self._fields.append(field)
        self._kept += len(field)
        if self._kept > _HEADER_KEPT:
            return self._spill()
        self._answer(Step.HEADER, Answer.CONTINUE)
        return None

    def _content(self, chunk: bytes, step: Step | None) -> Work | None:
        """Octets of the message. The first ones wait until the policy has said where to stop reading."""
        if self._receiver is None or self._in_header:
            return self._begin(chunk, step)
        self._keep(chunk, step)
        return None

    async def _begin(self, chunk: bytes, step: Step | None) -> None:
        """The header is over."""
        self._fields.append(b"\r\n")
        self._in_header = False
        await self._write_fields()
        self._keep(chunk, step)

    async def _spill(self) -> None:
        """A header larger than any that people write: not ours to keep in memory."""
        await self._write_fields()
        self._answer(Step.HEADER, Answer.CONTINUE)

    async def _write_fields(self) -> None:
        transaction = self._transaction
        if transaction is None:
            raise MilterError("content without a sender")
        if self._receiver is None:
            limit, too_large = await transaction.cutoff()
            self._receiver = Receiver(transaction.new_spool(), BdatDecoder(), limit, too_large, self._loop.time())
        self._receiver.bdat(b"".join(self._fields))
        self._fields.clear()
        self._kept = 0

    def _keep(self, chunk: bytes, step: Step | None) -> None:
        """``step`` None: the server does not wait for an answer here."""
        assert self._receiver is not None
        if chunk:
            self._receiver.bdat(chunk)
        if step is None:
            return
        if self._receiver.refusal is not None and step is Step.BODY and self._is_answered(step):
            self._answer(step, Answer.SKIP if self._agreed.skips else Answer.CONTINUE)
        else:
            self._answer(step, Answer.CONTINUE)

    async def _end(self, event: Event) -> None:
        """All octets are here: the verdict is the answer."""
        transaction, edits, chunk = self._transaction, self._edits, event.data
        if transaction is None or edits is None:
            raise MilterError("an end without a beginning")
        transaction.queue_id = self._told.macro("i")
        if self._in_header:
            await self._begin(chunk, None)
        else:
            self._keep(chunk, None)
        receiver = self._receiver
        assert receiver is not None
        self._say_progress_later()
        try:
            message = receiver.finish()
            if message is None:
                reply = receiver.refusal or _BROKEN
                if receiver.fault is not None:
                    SMTP_ERRORS.labels(receiver.fault.value).inc()
                transaction.refused(reply, receiver.received)
            else:
                reply = await transaction.finish(message)
        finally:
            self._stop_progress()
            self._receiver = None
        if not reply.positive:
            self._refuse(Step.END_OF_BODY, reply)
        else:
            self._answer(Step.END_OF_BODY, Answer.DISCARD if edits.discarded else Answer.ACCEPT)
        self._transaction = None
        self._forget_message()

    def _forget_message(self, beginning: Step | None = None) -> None:
        """``beginning``: the step with which another one begins; its macros are there already."""
        self._told.forget_message(beginning)
        transaction, self._transaction = self._transaction, None
        receiver, self._receiver = self._receiver, None
        self._edits, self._refused, self._in_header = None, None, False
        self._fields.clear()
        self._kept = 0
        if receiver is not None:
            receiver.abort()
        if transaction is not None:
            transaction.abort()

    _TAKEN: ClassVar[Mapping[Step, Callable[["MilterSession", Event], Work | None]]] = {
        Step.OPTIONS: _options,
        Step.MACROS: _macros,
        Step.CONNECT: _connect,
        Step.HELO: _helo,
        Step.MAIL: _begin_message,
        Step.RCPT: _rcpt,
        Step.DATA: _go_by,
        Step.UNKNOWN: _go_by,
        Step.HEADER: _header,
        Step.END_OF_HEADER: _end_header,
        Step.BODY: _body,
        Step.END_OF_BODY: _end,
        Step.ABORT: _abort,
        Step.QUIT: _quit,
        Step.QUIT_AND_STAY: _quit_and_stay,
    }
    """Step → what is done."""
