"""What we say to a mail server that asks: answers of the milter protocol, together where they can be.

Refuses to say what the event does not allow, to say anything where the server expects nothing, to hold more of a new
body than the server reads, and to be silent for long while a verdict is made.
"""

import asyncio
import contextlib

from gateway.front.agreement import Agreement
from gateway.model.reply import Reply
from gateway.wire import milter as wire
from gateway.wire.milter import Answer, Step

_PROGRESS = 20.0
"""Seconds after which a server that waits for a verdict hears that it is still being made."""
_CONTINUE = wire.packet(Answer.CONTINUE)


class Answering(asyncio.Protocol):
    """Our half of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._agreed = Agreement()

    def pause_writing(self) -> None:
        """The server does not read what we change."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _say_progress_later(self) -> None:
        self._beat = self._loop.call_later(_PROGRESS, self._say_progress)

    def _say_progress(self) -> None:
        self._answer(Step.END_OF_BODY, Answer.PROGRESS)
        self._flush()
        self._say_progress_later()

    def _stop_progress(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _is_answered(self, step: Step) -> bool:
        return step not in self._agreed.quiet

    def _answer(self, step: Step, answer: Answer) -> None:
        if step not in self._agreed.quiet:
            wire.check(step, answer)
            self._out.append(_CONTINUE if answer is Answer.CONTINUE else wire.packet(answer))

    def _refuse(self, step: Step, reply: Reply) -> None:
        wire.check(step, Answer.REPLY)
        if 400 <= reply.code < 600:
            self._out.append(wire.reply(reply))
        else:
            self._out.append(wire.packet(Answer.TEMPFAIL))

    async def _drained(self) -> None:
        self._flush()
        if self._transport is None:
            raise ConnectionResetError
        if self._writable is not None:
            await self._writable

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def _hang_up(self) -> None:
        """All that was answered, and no more."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
