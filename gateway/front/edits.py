"""A verdict's changes as milter packets: recipients taken out, header fields by name and number, another body.

Refuses to hold more of a new body than a few packets: the server reads them, or we wait. Says beforehand which
recipients it cannot take out for sure, for the server does not say that it found nobody of that name.
"""

from collections.abc import Awaitable, Callable, Iterator

from gateway.front.agreement import Agreement
from gateway.model.envelope import Recipient
from gateway.pipeline.recipients import mailbox
from gateway.pipeline.rewriting import Change, HeaderEdit
from gateway.wire import milter as wire
from gateway.wire.milter import Answer, Step

_AT_ONCE = 8
"""Packets of a body that leave together."""


class ServerEdits:
    """What may be changed of the one message that a server holds."""

    __slots__ = ("_agreed", "_by_smtp", "_drained", "_named", "_out", "_unsure", "discarded")

    def __init__(
        self, agreed: Agreement, out: list[bytes], drained: Callable[[], Awaitable[None]], *, by_smtp: bool
    ) -> None:
        """``out``: packets on their way; ``drained`` sends them, and waits until the server has read enough.

        ``by_smtp``: the server had the message by SMTP, and names its recipients as its client did.
        """
        self._agreed = agreed
        self._by_smtp = by_smtp
        self._out = out
        self._drained = drained
        self._named: dict[str, set[str]] = {}
        self._unsure: set[str] = set()
        self.discarded = False

    def name(self, address: str, said: str) -> None:
        """How the server named a recipient: by that name it is taken out."""
        name = mailbox(address)
        self._named.setdefault(name, set()).add(said)
        if said != f"<{address}>":
            self._unsure.add(name)

    def can_remove(self, recipient: Recipient) -> bool:
        """Whether the server is sure to find the recipient by the name that it said itself.

        Postfix compares with the address as its client wrote it, without quotes: it does not find one with a source
        route, nor one that its sendmail command was given without a domain, which it completes before it asks us.
        """
        return self._by_smtp and mailbox(recipient.address) not in self._unsure

    @property
    def can_edit(self) -> bool:
        """Whether the server agreed to all changes that a verdict may ask for."""
        return self._agreed.can_edit

    def remove(self, recipient: Recipient) -> None:
        """Take a recipient out, as the server named it."""
        for said in sorted(self._named[mailbox(recipient.address)]):
            self._say(Answer.DELETE_RECIPIENT, wire.delete_recipient(said))

    def edit(self, change: HeaderEdit) -> None:
        """Change the header."""
        value = change.value.replace(b"\r\n", b"\n")
        if not self._agreed.leading_space and value[:1] == b" ":
            value = value[1:]
        match change.change:
            case Change.INSERT:  # the server's own trace field, which we do not see, stays on top
                self._say(Answer.INSERT_HEADER, wire.insert_header(change.number + 1, change.name, value))
            case Change.APPEND:
                self._say(Answer.ADD_HEADER, wire.add_header(change.name, value))
            case Change.REPLACE | Change.REMOVE:
                self._say(Answer.CHANGE_HEADER, wire.change_header(change.name, change.number, value))

    async def replace_body(self, pieces: Iterator[bytes | memoryview]) -> None:
        """Another body, in packets that every server takes. A message that becomes empty still has a body."""
        waiting, sent = bytearray(), False
        for piece in pieces:
            waiting += piece
            while len(waiting) >= wire.CHUNK:
                self._body(bytes(waiting[: wire.CHUNK]))
                del waiting[: wire.CHUNK]
                sent = True
                if len(self._out) > _AT_ONCE:
                    await self._drained()
        if waiting or not sent:
            self._body(bytes(waiting) or b"\r\n")

    def discard(self) -> None:
        """Nobody is left."""
        self.discarded = True

    def _body(self, octets: bytes) -> None:
        self._say(Answer.REPLACE_BODY, wire.packet(Answer.REPLACE_BODY, octets))

    def _say(self, answer: Answer, packet: bytes) -> None:
        wire.check(Step.END_OF_BODY, answer)
        self._out.append(packet)
