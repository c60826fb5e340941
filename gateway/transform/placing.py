"""Putting octets into an encoded body without touching the rest: 7bit, 8bit, binary, quoted-printable, base64.

Positions are octets of the *decoded* body. Refuses positions that it cannot find again in the encoded body with
certainty (malformed encodings), and encodings that it does not know: the caller then goes another way.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from gateway.mime import Buffer, Edit, Part

IDENTITY = frozenset({"7bit", "8bit", "binary"})
KNOWN = IDENTITY | {"quoted-printable", "base64"}

_TOKEN = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*\r?\n)")
_SAFE = frozenset(range(33, 127)) - {ord("=")}
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_ALPHABET = bytes(octet for octet in range(256) if octet not in _ALPHABET)
_LETTER = re.compile(rb"[A-Za-z0-9+/]")
_STEP = 64 * 1024
_QP_LINE = 75


class Insert(NamedTuple):
    """Octets to put at a position of the decoded body."""

    offset: int
    data: bytes
    pad: bytes
    """May be repeated at the end of ``data`` without changing what a reader sees. Its length is no multiple of 3."""


class NotPlaceable(Exception):
    """The position cannot be found in the encoded body."""


def place(buffer: Buffer, part: Part, inserts: Sequence[Insert], newline: bytes) -> list[Edit]:
    """The edits that put ``inserts`` (ordered by offset) into a part's body. Raises :class:`NotPlaceable`."""
    if part.encoding in IDENTITY:
        at = part.body.start
        return [Edit(at + insert.offset, at + insert.offset, insert.data) for insert in inserts]
    if part.encoding == "quoted-printable":
        return [_quoted_printable(buffer, part, insert, newline) for insert in inserts]
    if part.encoding == "base64":
        return _base64(buffer, part, inserts, newline)
    raise NotPlaceable(f"transfer encoding {part.encoding[:40]!r}")


def encode_quoted_printable(data: bytes, newline: bytes) -> bytes:
    """RFC 2045 section 6.7, lines of at most 76, white space at line ends encoded. ``newline``: of the message.

    Both CRLF and LF in ``data`` become hard line breaks. Leading «From » and «.» are encoded too (RFC 2049 section 3).
    """
    lines: list[bytes] = []
    for row in data.replace(b"\r\n", b"\n").split(b"\n"):
        line = b""
        for n, octet in enumerate(row):
            last = n == len(row) - 1
            plain = octet in _SAFE or (octet in b" \t" and not last)
            if n == 0 and (octet == 0x2E or row.startswith(b"From ")):
                plain = False
            token = bytes((octet,)) if plain else b"=%02X" % octet
            if len(line) + len(token) > _QP_LINE:
                lines.append(line + b"=")
                line = b""
            line += token
        lines.append(line)
    return newline.join(lines)


def switch_to_quoted_printable(buffer: Buffer, part: Part, most: int) -> list[Edit]:
    """The edits that make a 7bit body quoted-printable: ``=`` and white space at line ends become escapes.

    Raises :class:`NotPlaceable` when there would be more than ``most``.
    """
    body = bytes(buffer[part.body.start : part.body.end])
    edits: list[Edit] = []
    for match in re.finditer(rb"=|[ \t](?=\r?\n|\Z)", body):
        at = part.body.start + match.start()
        edits.append(Edit(at, at + 1, b"=%02X" % match[0][0]))
        if len(edits) > most:
            raise NotPlaceable(f"more than {most} octets would have to change")
    return edits


def _quoted_printable(buffer: Buffer, part: Part, insert: Insert, newline: bytes) -> Edit:
    start = part.body.start
    at = start + _find_quoted(buffer, part, insert.offset)
    encoded = encode_quoted_printable(insert.data, newline)
    if not encoded.endswith(newline) and at < part.body.end:
        encoded += b"=" + newline
    if at > start and buffer[at - 1 : at] != b"\n":
        encoded = b"=" + newline + encoded
    return Edit(at, at, encoded)


def _find_quoted(buffer: Buffer, part: Part, offset: int) -> int:
    """The encoded position of a decoded one, relative to the body's start; checked by decoding what stands before."""
    if not offset:
        return 0
    body = bytes(buffer[part.body.start : part.body.end])
    position = decoded = 0
    for match in _TOKEN.finditer(body):
        run = match.start() - position
        if decoded + run >= offset:
            break
        decoded += run + (1 if match[1] else 0)
        position = match.end()
    position += offset - decoded
    if position > len(body) or len(binascii.a2b_qp(body[:position])) != offset:
        raise NotPlaceable("malformed quoted-printable")
    return position


def _base64(buffer: Buffer, part: Part, inserts: Sequence[Insert], newline: bytes) -> list[Edit]:
    """Own lines of whole groups where a position lies between two groups, else the one group around it anew."""
    grouped: dict[int, list[Insert]] = {}
    for insert in inserts:
        grouped.setdefault(insert.offset // 3, []).append(insert)
    edits = []
    for group, members in grouped.items():
        start, end, octets = _find_group(buffer, part, group)
        if all(insert.offset % 3 == 0 for insert in members):
            end, octets = start, b""
        data = _spliced(members, group * 3, octets)
        edits.append(Edit(start, end, _lines(buffer, part, start, end, data, newline)))
    return edits


def _spliced(members: Sequence[Insert], base: int, octets: bytes) -> bytes:
    """The group's octets with the insertions in them, padded to whole groups unless they end the body."""
    out, taken = b"", 0
    for insert in members:
        cut = insert.offset - base
        out += octets[taken:cut] + insert.data
        taken = cut
    rest = octets[taken:]
    if len(octets) in (0, 3):
        while (len(out) + len(rest)) % 3:
            out += members[-1].pad
    return out + rest


def _lines(buffer: Buffer, part: Part, start: int, end: int, data: bytes, newline: bytes) -> bytes:
    encoded = base64.b64encode(data)
    rows = [encoded[at : at + 76] for at in range(0, len(encoded), 76)]
    before = b"" if start == part.body.start or buffer[start - 1 : start] == b"\n" else newline
    after = b"" if end == part.body.end or buffer[end : end + 1] in (b"\r", b"\n") else newline
    if end == start and not before:  # nothing is replaced, and the body goes on at a line's start
        after = newline
    return before + newline.join(rows) + after


def _find_group(buffer: Buffer, part: Part, group: int) -> tuple[int, int, bytes]:
    """Where a group of four letters stands, and its octets. Begins where the group before it ends."""
    at = part.body.start if not group else _after_letters(buffer, part, group * 4)
    first = _LETTER.search(buffer, at, part.body.end)
    if first is None:
        return at, at, b""
    end, letters = first.start(), b""
    while end < part.body.end and len(letters) < 4:
        octet = bytes(buffer[end : end + 1])
        letters += octet if octet in _ALPHABET + b"=" else b""
        end += 1
    if len(letters.rstrip(b"=")) < 2:
        raise NotPlaceable("the last group of base64 is not whole")
    return at, end, binascii.a2b_base64(letters + b"===")


def _after_letters(buffer: Buffer, part: Part, wanted: int) -> int:
    """The position after that many letters. Raises :class:`NotPlaceable`: too few, or padding among them."""
    seen = 0
    for at in range(part.body.start, part.body.end, _STEP):
        piece = bytes(buffer[at : min(at + _STEP, part.body.end)])
        letters = len(piece.translate(None, _NOT_ALPHABET))
        if seen + letters >= wanted:
            last = next(islice(_LETTER.finditer(piece), wanted - seen - 1, None)).end()
            if b"=" in piece[:last]:
                break
            return at + last
        if b"=" in piece:
            break
        seen += letters
    raise NotPlaceable("base64 is malformed or shorter than its text")
