"""Transfer decoding (RFC 2045 section 6) as a stream with bounded memory, and a part's text.

Tolerant like the readers it stands in for: white space and foreign characters in base64 are skipped and counted,
padding may be missing or stand in the middle, a stray ``=`` in quoted-printable stays. An encoding that nobody
defines is read as it stands. Never raises for what a body holds.
"""

import binascii
import re
from collections.abc import Generator, Iterator

from gateway.mime.charsets import to_text
from gateway.mime.tree import Buffer, Part, Span

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WHITE = b" \t\r\n\f\v"
_FOREIGN = bytes(octet for octet in range(256) if octet not in _ALPHABET + b"=")
_PADDINGS = 1000
_SOFT_BREAK = re.compile(rb"=[ \t]*+(?:\r?\n|\r)")
"""Also with white space before the line's end (RFC 2045 section 6.7 rule 3: it is not there), and ended by a bare CR,
where the C decoder would drop all up to the next LF."""
_STRAY = re.compile(rb"=(?==)")
"""Stands for itself. The C decoder takes both for one and loses a soft line end, or not: as a piece ends there."""
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} ")
_LONGEST_LINE = 100_000
_UU_NAMES = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})


class Decoding(Iterator[bytes]):
    """A body being decoded. Iterate it; afterwards its counters say what was wrong."""

    __slots__ = ("_stream", "junk", "misplaced_padding", "spare", "truncated")

    def __init__(self, buffer: Buffer, span: Span, encoding: str, chunk: int) -> None:
        self.junk = 0
        """Octets that have no place in the encoding (white space is no junk)."""
        self.misplaced_padding = 0
        """base64: places where data went on after padding; some readers stop there."""
        self.truncated = False
        """base64: the last group lacks characters or padding. uuencode: lines lack more than spaces could be."""
        self.spare = 0
        """uuencode: octets that may still be made of spaces which are not there, so that little never becomes much."""
        if chunk < 1:
            raise ValueError("chunk is at least one octet")
        if encoding == "base64":
            self._stream = _base64(self, buffer, span, max(chunk, 4))
        elif encoding == "quoted-printable":
            self._stream = _quoted_printable(buffer, span, max(chunk, 4))
        elif encoding in _UU_NAMES:
            self._stream = _uuencode(self, buffer, span, max(chunk, 4096))
        else:
            self._stream = _raw(buffer, span, chunk)

    def __iter__(self) -> "Decoding":
        return self

    def __next__(self) -> bytes:
        return next(self._stream)


def decode(buffer: Buffer, part: Part, chunk: int = 65536) -> Decoding:
    """The decoded octets of a part's body, in pieces of about ``chunk`` octets (never empty). ValueError: chunk < 1."""
    return Decoding(buffer, part.body, part.encoding, chunk)


def decoded_size(buffer: Buffer, part: Part) -> int:
    """The decoded size in octets, estimated without decoding (exact for 7bit, 8bit, binary)."""
    if part.encoding == "base64":
        line = buffer.find(b"\n", part.body.start, min(part.body.end, part.body.start + 1000)) + 1 - part.body.start
        ends = 2 if part.body.size > 1 and buffer[part.body.start + line - 2 : part.body.start + line] == b"\r\n" else 1
        size = part.body.size if line <= ends else part.body.size * (line - ends) // line
        return size * 3 // 4
    if part.encoding in _UU_NAMES:
        return part.body.size * 45 // 62
    return part.body.size


def text(buffer: Buffer, part: Part, cap: int) -> tuple[str, bool]:
    """A part's body as text by its charset, at most ``cap`` decoded octets of it, and whether that cut something.

    Never fails: see :func:`gateway.mime.charsets.to_text`. The media type is not looked at.
    """
    if part.encoding in {"7bit", "8bit", "binary"}:
        data = bytes(buffer[part.body.start : min(part.body.end, part.body.start + cap + 1)])
    else:
        pieces: list[bytes] = []
        size = 0
        for piece in decode(buffer, part):
            pieces.append(piece)
            size += len(piece)
            if size > cap:
                break
        data = b"".join(pieces)
    cut = len(data) > cap
    return to_text(data[:cap] if cut else data, part.charset, whole=not cut), cut


def _raw(buffer: Buffer, span: Span, chunk: int) -> Generator[bytes]:
    for at in range(span.start, span.end, chunk):
        yield bytes(buffer[at : min(at + chunk, span.end)])


def _base64(state: Decoding, buffer: Buffer, span: Span, chunk: int) -> Generator[bytes]:
    """Whole lines go straight to the C decoder while its output has the length that clean lines must give."""
    carry = b""
    at = span.start
    while at < span.end:
        data = carry + buffer[at : min(at + chunk, span.end)]
        cut = data.rfind(b"\n") + 1
        out = _clean_lines(data[:cut]) if cut else None
        if out is None:
            break
        carry = data[cut:]
        at += chunk
        if out:
            yield out
    yield from _base64_groups(state, _base64_rest(carry, buffer, Span(min(at, span.end), span.end), chunk))


def _clean_lines(data: bytes) -> bytes | None:
    """Decoded, or None when the lines hold anything else than whole groups and line endings."""
    try:
        out = binascii.a2b_base64(data)
    except binascii.Error:
        return None
    clean = len(out) * 4 == (len(data) - data.count(b"\n") - data.count(b"\r")) * 3
    return out if clean else None


def _base64_rest(carry: bytes, buffer: Buffer, span: Span, chunk: int) -> Generator[bytes]:
    if carry:
        yield carry
    yield from _raw(buffer, span, chunk)


def _base64_groups(state: Decoding, pieces: Iterator[bytes]) -> Generator[bytes]:
    """Decode whatever stands there: drop foreign octets, start anew after padding."""
    rest = b""
    padded = False
    for data in pieces:
        clean = data.translate(None, _WHITE)
        pure = clean.translate(None, _FOREIGN)
        state.junk += len(clean) - len(pure)
        ended, padding, rest = (rest + pure).rpartition(b"=")
        if padding:
            segments = [segment for segment in ended.split(b"=") if segment]
            state.misplaced_padding += max(len(segments) - 1, 0) + (padded and bool(segments))
            padded = padded or bool(segments)
            if len(segments) > _PADDINGS:  # an attack on the loop: read as if the padding were junk
                segments = [b"".join(segments)]
            if out := b"".join([_padded(state, segment) for segment in segments]):
                yield out
        whole = len(rest) - len(rest) % 4
        if whole:
            state.misplaced_padding += padded
            padded = False
            yield binascii.a2b_base64(rest[:whole])
            rest = rest[whole:]
    if rest:
        state.misplaced_padding += padded
        state.truncated = True
        if out := _padded(state, rest):
            yield out


def _padded(state: Decoding, segment: bytes) -> bytes:
    if len(segment) % 4 == 1:  # six bits are no octet
        state.truncated = True
        segment = segment[:-1]
    return binascii.a2b_base64(segment + b"===")


def _quoted_printable(buffer: Buffer, span: Span, chunk: int) -> Generator[bytes]:
    rest = b""
    for at in range(span.start, span.end, chunk):
        data = rest + buffer[at : min(at + chunk, span.end)]
        if b"==" in data:
            data = _STRAY.sub(b"=3D", data)
        if at + chunk < span.end:
            cut = _safe_cut(data)
            data, rest = data[:cut], data[cut:]
        if b"= " in data or b"=\t" in data or data.count(b"=\r") != data.count(b"=\r\n"):
            data = _SOFT_BREAK.sub(b"=\n", data)
        if out := binascii.a2b_qp(data):
            yield out


def _safe_cut(data: bytes) -> int:
    """Where data can be cut: after its last LF, else before an escape that may not be whole."""
    cut = data.rfind(b"\n") + 1
    if cut:
        return cut
    last = data.rfind(b"=", max(len(data) - 1000, 0))
    if last < 0:
        return len(data)
    tail = data[last + 1 :]
    open_break = not tail.strip(b" \t\r")
    return last if last and (open_break or len(tail) < 2) else len(data)


def _uuencode(state: Decoding, buffer: Buffer, span: Span, chunk: int) -> Generator[bytes]:
    """Lines between ``begin`` and ``end``; lines outside belong to the reader of the raw text and are left out."""
    rest, inside = b"", False
    state.spare = span.size // 4
    for at in range(span.start, span.end, chunk):
        data = rest + buffer[at : min(at + chunk, span.end)]
        cut = len(data) if at + chunk >= span.end else data.rfind(b"\n") + 1
        data, rest = data[:cut], data[cut:]
        if len(rest) > _LONGEST_LINE:
            state.junk += len(rest)
            rest = b""
        out: list[bytes] = []
        for line in data.split(b"\n"):
            inside = _uu_line(state, line.rstrip(b"\r"), inside, out)
        if piece := b"".join(out):
            yield piece


def _uu_line(state: Decoding, line: bytes, inside: bool, out: list[bytes]) -> bool:
    if not inside:
        return _UU_BEGIN.match(line) is not None
    if line == b"end":
        return False
    if not line:
        return True
    length = (((line[0] - 32) & 63) * 4 + 5) // 3
    try:
        piece = binascii.a2b_uu(line[: 1 + length])  # encoders pad lines differently; surplus is dropped
    except binascii.Error:
        state.junk += len(line)
        return True
    eaten = max(len(piece) - (len(line) - 1) * 3 // 4, 0)
    if eaten > state.spare:  # too much for a transport that strips spaces: lines of a length and nothing more
        state.truncated = True
        piece = piece[: len(piece) - eaten]
    else:
        state.spare -= eaten
    out.append(piece)
    return True
