"""Files that stand in a text under an encoding of their own: uuencode, yEnc, BinHex.

Mail programs show them as attachments, though no header tells of them. Gives names and octets. Refuses to unpack in one
piece: what comes out may be a hundred times as long (BinHex packs runs), so it comes in pieces that can be counted.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gateway.mime.charsets import to_text
from gateway.mime.decoding import Decoding
from gateway.mime.tree import Buffer, Span

_CHUNK = 65_536
_UU = re.compile(rb"(?:\A|\n)begin [0-7]{3,4} ([^\r\n]{1,255})")
_YENC = re.compile(rb"(?:\A|\n)=ybegin ([^\n]*+)\n(?:=ypart [^\n]*+\n)?")
_YENC_NAME = re.compile(rb" name=([^\r\n]{1,255})")
_HQX = re.compile(rb"\(This file must be converted with BinHex[^\r\n]{0,40}\)?[\s>]*:")
_MOST = 100
"""Files of one kind in one text; more are octets of the last."""
_BACK_42 = bytes((octet - 42) % 256 for octet in range(256))
_BACK_106 = bytes((octet - 106) % 256 for octet in range(256))
_HQX_ALPHABET = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_B64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64 = bytes.maketrans(_HQX_ALPHABET, _B64_ALPHABET)
_NO_HQX = bytes(set(range(256)) - set(_HQX_ALPHABET))
_RUN = b"\x90"
_LONGEST_HEAD = 1 + 63 + 1 + 18 + 2


class Coded(NamedTuple):
    """One file."""

    name: str
    pieces: Iterator[bytes]


MARKS = (b"begin ", b"with BinHex")
"""What holds any of them holds one of these («=ybegin » ends in the first)."""


def may_hold(buffer: Buffer, start: int = 0, end: int | None = None) -> bool:
    """A quick look: False for what holds none of them."""
    stop = len(buffer) if end is None else end
    # Rare letters first: what ends in common ones takes several times as long to look for, in every body of every mail.
    if buffer.find(b"nHex", start, stop) >= 0 and buffer.find(b"with BinHex", start, stop) >= 0:
        return True
    return buffer.find(b"beg", start, stop) >= 0 and (
        buffer.find(b"ybegin ", start, stop) >= 0
        or (buffer.find(b"begin ", start, stop) >= 0 and _UU.search(buffer, start, stop) is not None)
    )


def coded_files(buffer: Buffer) -> Iterator[Coded]:
    """All of them. Each file's pieces are read before the next file is asked for."""
    yield from uuencoded(buffer)
    yield from yencoded(buffer)
    yield from binhexed(buffer)


def uuencoded(buffer: Buffer) -> Iterator[Coded]:
    """Files between ``begin`` and ``end`` (POSIX uuencode)."""
    for match, end in _ranges(_UU, buffer):
        span = Span(match.start() + (buffer[match.start()] == 10), end)
        yield Coded(_name(match[1]), iter(Decoding(buffer, span, "x-uuencode", _CHUNK)))


def yencoded(buffer: Buffer) -> Iterator[Coded]:
    """Files in yEnc (draft 1.3)."""
    for match, following in _ranges(_YENC, buffer):
        name = _YENC_NAME.search(b" " + match[1])
        end = buffer.find(b"\n=yend", match.end() - 1, following)
        yield Coded(_name(name[1]) if name else "", _unyenc(buffer, match.end(), end if end >= 0 else following))


def binhexed(buffer: Buffer) -> Iterator[Coded]:
    """The data forks and resource forks of files in BinHex 4.0 (RFC 1741). Checksums are not looked at."""
    for match, following in _ranges(_HQX, buffer):
        end = buffer.find(b":", match.end(), following)
        yield from _forks(_Pieces(_expanded(_unhqx(buffer, match.end(), end if end >= 0 else following))))


def _ranges(pattern: re.Pattern[bytes], buffer: Buffer) -> Iterator[tuple[re.Match[bytes], int]]:
    """Each beginning, and where the next one begins."""
    last: re.Match[bytes] | None = None
    for number, match in enumerate(pattern.finditer(buffer)):
        if number >= _MOST:
            break
        if last is not None:
            yield last, match.start()
        last = match
    if last is not None:
        yield last, len(buffer)


def _name(raw: bytes) -> str:
    return to_text(raw).strip().strip('"')


def _unyenc(buffer: Buffer, start: int, end: int) -> Iterator[bytes]:
    """An octet is itself plus 42; behind ``=``, plus 64 more."""
    escaped = False
    for at in range(start, end, _CHUNK):
        raw = bytes(buffer[at : min(at + _CHUNK, end)]).translate(None, b"\r\n")
        first, *rest = raw.split(b"=")
        out = (
            [first[:1].translate(_BACK_106), first[1:].translate(_BACK_42)] if escaped else [first.translate(_BACK_42)]
        )
        escaped = (escaped and not first and not rest) or bool(rest and not rest[-1])
        for piece in rest:
            out += (piece[:1].translate(_BACK_106), piece[1:].translate(_BACK_42))
        yield b"".join(out)


def _unhqx(buffer: Buffer, start: int, end: int) -> Iterator[bytes]:
    """Six bits a character, most significant first, as in base64 with another alphabet."""
    rest = b""
    for at in range(start, end, _CHUNK):
        rest += bytes(buffer[at : min(at + _CHUNK, end)]).translate(_TO_BASE64, _NO_HQX)
        cut = len(rest) - len(rest) % 4
        yield binascii.a2b_base64(rest[:cut])
        rest = rest[cut:]
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"==")


def _expanded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """``X 90 n`` is n times X; ``90 00`` is 90 itself."""
    last, waiting = b"", False
    for piece in pieces:
        first, *rest = piece.split(_RUN)
        out = [_repeated(first, last)] if waiting and first else [first]
        waiting = waiting and not first
        for part in rest:
            last = (out[-1] or last)[-1:] if not waiting else last
            waiting = not part
            if part:
                out.append(_repeated(part, last))
        made = b"".join(out)
        last = made[-1:] or last
        yield made


def _repeated(part: bytes, last: bytes) -> bytes:
    """What stands behind a 90: its first octet says how often."""
    count = part[0]
    return (last * (count - 1) if count else _RUN) + part[1:]


class _Pieces:
    """Octets taken from pieces as they are needed."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def take(self, size: int) -> bytes:
        """So many, or as many as there are."""
        while len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def stream(self, size: int) -> Iterator[bytes]:
        """The same in pieces."""
        while size > 0:
            piece = self._rest or next(self._pieces, None)
            if piece is None:
                return
            out, self._rest = piece[:size], piece[size:]
            size -= len(out)
            if out:
                yield out


def _forks(source: _Pieces) -> Iterator[Coded]:
    """Header, data fork, resource fork, each with a checksum of two octets behind it."""
    length = source.take(1)
    if not length or not 0 < length[0] <= 63:
        return
    name = _name(source.take(length[0]))
    fields = source.take(1 + 18 + 2)
    if len(fields) < 21:
        return
    data, resource = int.from_bytes(fields[11:15], "big"), int.from_bytes(fields[15:19], "big")
    yield Coded(name, source.stream(data))
    source.take(2)
    if resource:
        yield Coded(f"{name}, resource fork", source.stream(resource))
