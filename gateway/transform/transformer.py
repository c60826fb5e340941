"""Applying a verdict's transforms to a spooled message for a group of recipients.

Small messages are planned where we stand; large ones by a runner that the composition root gives, in another process.
Refuses to hand out a message when any demanded transform failed.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from gateway.errors import ControlError, StoreError, TransformError
from gateway.mime import Buffer, EditPlan, Limits, header_bounds, line_ending, parse
from gateway.model.verdict import STRENGTH, Transform
from gateway.settings import EncryptionSettings
from gateway.transform.certificates import CertificateFolder
from gateway.transform.failure import TransformFailed
from gateway.transform.planner import Planned, plan
from gateway.transform.protection import split_header
from gateway.transform.smime import Enveloper

_INLINE = 64 * 1024
_STEP = 256 * 1024
_ROOT_ONLY = Limits(max_parts=1)


class Spooled(Protocol):
    """A spooled message, as far as it is needed here."""

    @property
    def size(self) -> int:
        """Octets."""

    @property
    def buffer(self) -> Buffer:
        """All of it."""

    def chunks(self, start: int = 0, end: int | None = None, step: int = _STEP) -> Iterator[memoryview]:
        """Its octets in order."""

    def close(self) -> None:
        """Free it."""


class Writer(Protocol):
    """Takes a new message."""

    def write(self, data: bytes) -> None:
        """Append."""

    def close(self) -> Spooled:
        """The finished message."""

    def abort(self) -> None:
        """Forget it."""


class SpoolFolder(Protocol):
    """Where new messages go."""

    def new(self, transaction: str) -> Writer:
        """A writer for one."""


Runner = Callable[[Spooled, tuple[Transform, ...]], Awaitable[Planned]]
"""Calls :func:`gateway.transform.planner.plan` on the message's buffer elsewhere; lets TransformFailed through.

Raises :class:`ControlError` when nobody could plan."""


class Outgoing:
    """A message as it leaves. The spooled message that it was made from must stay open until it is closed."""

    __slots__ = ("_edits", "_made", "_source", "notes", "size")

    def __init__(
        self, source: Spooled, edits: EditPlan | None, notes: tuple[str, ...], made: Spooled | None = None
    ) -> None:
        self._source = source
        self._edits = edits
        self._made = made
        self.notes = notes
        self.size = made.size if made is not None else source.size + (edits.delta if edits else 0)

    def chunks(self) -> Iterator[memoryview | bytes]:
        """All octets, in pieces of at most 256 KiB, as often as asked. A piece is good until the next is taken."""
        if self._made is not None:
            yield from self._made.chunks()
        elif self._edits:
            for piece in self._edits.pieces(self._source.buffer):
                yield piece
                if isinstance(piece, memoryview):
                    with contextlib.suppress(BufferError):  # a transport still holds it: it goes when that is done
                        piece.release()
        else:
            yield from self._source.chunks()

    def close(self) -> None:
        """Free what was made for it, not the message that it came from. Doing it twice is harmless."""
        made, self._made = self._made, None
        if made is not None:
            made.close()


class Transformer:
    """Applies transforms."""

    def __init__(
        self, settings: EncryptionSettings, spool: SpoolFolder, runner: Runner | None = None, inline: int = _INLINE
    ) -> None:
        """``inline``: messages up to so many octets are planned without the runner."""
        self._settings = settings
        self._spool = spool
        self._runner = runner
        self._inline = inline
        self._certificates = CertificateFolder(settings.certificates)
        self._enveloper = Enveloper(settings.openssl, settings.timeout)

    async def apply(
        self, message: Spooled, transforms: tuple[Transform, ...], recipients: tuple[str, ...], transaction: str = "out"
    ) -> Outgoing:
        """The message with all transforms applied, encrypted for all ``recipients`` when that is asked.

        Raises :class:`TransformFailed` (a TransformError that carries its transform); then there is nothing to send.
        """
        if not transforms:
            return Outgoing(message, None, ())
        if self._runner is None or message.size <= self._inline:
            planned = plan(message.buffer, transforms)
        else:
            planned = await self._planned_elsewhere(self._runner, message, transforms)
        if planned.encrypt is None:
            return Outgoing(message, planned.edits, planned.notes)
        try:
            made = await self._seal(message, planned.edits, planned.encrypt, recipients, transaction)
        except StoreError as error:
            raise TransformFailed("spool", error.detail, planned.encrypt) from error
        except TransformFailed:
            raise
        except TransformError as error:
            raise TransformFailed(error.code, error.detail, planned.encrypt) from error
        return Outgoing(message, None, (*planned.notes, "encrypt: S/MIME, AES-256"), made)

    @staticmethod
    async def _planned_elsewhere(runner: Runner, message: Spooled, transforms: tuple[Transform, ...]) -> Planned:
        """Who planned is gone, and did not say over which change: it fails as the strictest of their rules wants."""
        try:
            return await runner(message, transforms)
        except ControlError as error:
            strictest = max(transforms, key=lambda transform: STRENGTH[transform.on_failure])
            raise TransformFailed(error.reason, error.detail, strictest) from error

    async def _seal(
        self, message: Spooled, edits: EditPlan, transform: Transform, recipients: tuple[str, ...], transaction: str
    ) -> Spooled:
        if transform.methods and "smime" not in transform.methods:
            raise TransformError("no-method", f"no method of {', '.join(transform.methods)} is built in")
        certificates = self._certificates.find(recipients)
        newline = line_ending(message.buffer)
        header, body = _header_and_body(message, edits)
        split = split_header(header, newline)
        writer = self._spool.new(transaction)
        try:
            writer.write(split.outer + _outer_fields(newline))
            entity = _entity(split.inner, body)
            await self._enveloper.encrypt(entity, certificates, writer.write, newline)
            return writer.close()
        except BaseException:
            writer.abort()
            raise


def _outer_fields(newline: bytes) -> bytes:
    return newline.join(
        (
            b"MIME-Version: 1.0",
            b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data;",
            b' name="smime.p7m"',
            b"Content-Transfer-Encoding: base64",
            b'Content-Disposition: attachment; filename="smime.p7m"',
            b"",
            b"",
        )
    )


def _header_and_body(message: Spooled, edits: EditPlan) -> tuple[bytes, Iterator[bytes]]:
    """The edited header block without its empty line, and the edited body in pieces.

    The parser says where the header ends, so that lines of a malformed header are not lost between the two.
    """
    pieces = _copies(edits, message.buffer)
    wanted = header_bounds(message.buffer).end + max(0, edits.delta) + 4
    head = b""
    for piece in pieces:
        head += piece
        if len(head) > wanted:
            break
    root = parse(head, _ROOT_ONLY).root
    return head[root.header.start : root.header.end], _chain(head[root.body.start :], pieces)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _copies(edits: EditPlan, buffer: Buffer) -> Iterator[bytes]:
    for piece in edits.pieces(buffer):
        yield bytes(piece)
        if isinstance(piece, memoryview):
            piece.release()


def _entity(header: bytes, body: Iterator[bytes]) -> Iterator[bytes]:
    """The entity to encrypt in canonical form: CRLF at every line's end (RFC 8551 section 3.1.1)."""
    yield header + b"\r\n"
    held = b""
    for piece in body:
        data = held + piece
        held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)]
        if data.count(b"\n") != data.count(b"\r\n"):
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        yield data
    if held:
        yield held
