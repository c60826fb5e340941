"""Takes the octets of one message from the socket to the spool, chunk by chunk, and notes why it must be refused.

Once something is wrong the rest is drained, not kept: the client hears the refusal where the protocol lets it listen.
Refuses to drain for ever: past ``drain_limit`` octets ``hopeless`` tells the session to cut the line.
"""

from gateway.errors import StoreError
from gateway.model.reply import Reply
from gateway.spool import SpooledMessage, SpoolWriter
from gateway.wire.data import BdatDecoder, DataDecoder, Fault

_FAULTS = {
    Fault.BARE_CR: Reply.of(550, "5.6.11", "The message has a CR without LF; lines end in CR LF (RFC 5321 2.3.8)"),
    Fault.BARE_LF: Reply.of(550, "5.6.11", "The message has a LF without CR; lines end in CR LF (RFC 5321 2.3.8)"),
    Fault.NUL: Reply.of(550, "5.6.11", "The message has a NUL octet, which mail must not have (RFC 5322 2.2)"),
}


class Receiver:
    """One message on its way in. ``limit`` octets are kept at most; one more and ``too_large`` is the refusal."""

    __slots__ = ("_decoder", "_limit", "_too_large", "_writer", "drain_limit", "received", "refusal", "started")

    def __init__(
        self, writer: SpoolWriter, decoder: DataDecoder | BdatDecoder, limit: int, too_large: Reply, started: float
    ) -> None:
        self._writer = writer
        self._decoder = decoder
        self._limit = limit
        self._too_large = too_large
        self.drain_limit = 4 * limit + 100_000_000
        self.received = 0
        """Octets from the wire, kept or drained."""
        self.refusal: Reply | None = None
        self.started = started

    @property
    def fault(self) -> Fault | None:
        """The line discipline violation that refused the message, if that was it."""
        return self._decoder.fault

    @property
    def hopeless(self) -> bool:
        """True when the client goes on sending what will be refused anyway."""
        return self.refusal is not None and self.received > self.drain_limit

    def data(self, chunk: bytes) -> bytes | None:
        """Feed a chunk of DATA. Returns what came behind the end of data, None while it has not come."""
        assert isinstance(self._decoder, DataDecoder)
        self.received += len(chunk)
        self._keep(self._decoder.feed(chunk))
        return self._decoder.rest if self._decoder.done else None

    def bdat(self, chunk: bytes) -> None:
        """Feed octets of a BDAT chunk."""
        assert isinstance(self._decoder, BdatDecoder)
        self.received += len(chunk)
        self._keep(self._decoder.feed(chunk))

    def finish(self) -> SpooledMessage | None:
        """The message, or None when it is refused (``refusal`` says why; nothing is left in the spool)."""
        if isinstance(self._decoder, BdatDecoder):
            self._keep(self._decoder.finish())
        if self.refusal is None:
            try:
                return self._writer.close(disciplined=True)  # what did not was refused, or was repaired
            except StoreError as error:
                self._refuse(error.reply)
        return None

    def abort(self) -> None:
        """Forget the message."""
        self._writer.abort()

    def _keep(self, decoded: bytes) -> None:
        if self.refusal is not None:
            return
        if self._decoder.fault is not None:
            self._refuse(_FAULTS[self._decoder.fault])
        elif self._writer.size + len(decoded) > self._limit:
            self._refuse(self._too_large)
        elif decoded:
            try:
                self._writer.write(decoded)
            except StoreError as error:
                self._refuse(error.reply)

    def _refuse(self, reply: Reply) -> None:
        self.refusal = reply
        self._writer.abort()
