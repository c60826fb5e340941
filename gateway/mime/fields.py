"""Header blocks: where they end, which fields they hold, and the fields' values on demand.

A block is copied once (it is bounded by the limits), its fields stay offsets. Where a line is no field the header ends
there, as Postfix and Python read it, with a defect for those who read on. Refuses nothing.
"""

import re
from typing import NamedTuple

from gateway.mime.rounds import behind
from gateway.mime.tree import Buffer, DefectCode, Field, Limits, Part, Span
from gateway.mime.words import decode_words, header_text

_FIELD = re.compile(rb"([!-9;-~]*+)([ \t]*+:)[^\n]*+(?:\n[ \t][^\n]*+){0,1000}\n?+")
_MORE_LINES = re.compile(rb"(?:[ \t][^\n]*+\n?+){1,1000}")
"""Of a field that is folded more than a thousand times."""
_WHITESPACE_LINE = re.compile(rb"\n[ \t]++\r?(?:\n|\Z)")
_SPACE = b" \t"
_ONCE = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references"}
)
"""RFC 5322 section 3.6: at most one of each."""
_CONTENT = {
    "content-type": DefectCode.DUPLICATE_CONTENT_TYPE,
    "content-transfer-encoding": DefectCode.DUPLICATE_CONTENT_TRANSFER_ENCODING,
    "content-disposition": DefectCode.DUPLICATE_CONTENT_DISPOSITION,
}
_WATCHED = _ONCE | frozenset(_CONTENT)
_NAMES: dict[bytes, str] = {
    spelling.encode(): name.lower()
    for name in (
        *("Received", "Return-Path", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID"),
        *("In-Reply-To", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "X-Mailer"),
        *("Content-Disposition", "Content-ID", "Content-Description", "Content-Language", "User-Agent", "Importance"),
        *("DKIM-Signature", "Authentication-Results", "Received-SPF", "List-Id", "List-Unsubscribe", "Precedence"),
        *("Thread-Topic", "Thread-Index", "Auto-Submitted", "X-Priority", "Delivered-To", "ARC-Seal"),
    )
    for spelling in (name, name.lower(), name.title())
}
"""Usual spellings, so that usual names cost no decoding."""


class HeaderBlock(NamedTuple):
    """A header block as read."""

    header: Span
    body_start: int
    fields: tuple[Field, ...]
    content: dict[str, bytes]
    """Raw values of the first Content-Type, -Transfer-Encoding and -Disposition."""
    notes: list[tuple[DefectCode, int, str]]
    """Defects: code, offset, detail."""


def find_header_end(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Where a header block that begins at ``start`` ends, and where its body begins, by the first empty line."""
    first = buffer[start : min(start + 2, end)]
    if first == b"\r\n":
        return start, start + 2
    if first[:1] == b"\n":
        return start, start + 1
    crlf = buffer.find(b"\n\r\n", start, end)
    lf = buffer.find(b"\n\n", start, end if crlf < 0 else crlf + 1)
    if lf >= 0:
        return lf + 1, lf + 2
    if crlf >= 0:
        return crlf + 1, crlf + 3
    return end, end


def read_header(buffer: Buffer, span: Span, message: bool, max_bytes: int, max_fields: int) -> HeaderBlock:
    """Read the header block at the start of ``span``.

    ``message``: it is a message's header, not a body part's (mbox line and duplicates are looked for). What lies beyond
    the limits, or after a line that is no field, belongs to the body.
    """
    start = span.start
    header_end, body_start = find_header_end(buffer, start, span.end)
    notes: list[tuple[DefectCode, int, str]] = []
    block = bytes(buffer[start : min(header_end, start + max_bytes)])
    cut = len(block) < header_end - start
    if cut:
        block = block[: block.rfind(b"\n") + 1]
    skip = 0
    if message and block.startswith(b"From "):
        notes.append((DefectCode.MBOX_FROM, start, ""))
        skip = block.find(b"\n") + 1 or len(block)
    fields, content, stop = _read_fields(block, start, skip, max_fields, message, notes)
    if stop < len(block):
        many = len(fields) >= max_fields
        notes.append((DefectCode.TOO_MANY_FIELDS if many else DefectCode.MISSING_SEPARATOR, start + stop, ""))
    elif cut:
        notes.append((DefectCode.HEADER_TOO_LARGE, start + stop, ""))
    if stop < len(block) or cut:
        header_end = body_start = start + stop
        block = block[:stop]
    _look_at_octets(block, start, notes)
    return HeaderBlock(Span(start + skip, max(header_end, start + skip)), body_start, fields, content, notes)


def _read_fields(
    block: bytes, base: int, position: int, max_fields: int, message: bool, notes: list[tuple[DefectCode, int, str]]
) -> tuple[tuple[Field, ...], dict[str, bytes], int]:
    """The fields of a block, the raw values of the Content- ones, and where reading stopped."""
    fields: list[Field] = []
    content: dict[str, bytes] = {}
    seen: set[str] = set()
    malformed = False
    match_at, names, watched, new, size = _FIELD.match, _NAMES, _WATCHED, tuple.__new__, len(block)
    while position < size and (match := match_at(block, position)) and len(fields) < max_fields:
        raw = match[1]
        name = names.get(raw) or raw.decode("ascii").lower()
        colon, end = match.end(2), match.end()
        if end < size and block[end] in _SPACE:
            end = behind(_MORE_LINES, block, end)
        stop = end - 1 if block[end - 1] == 10 else end
        if stop > colon and block[stop - 1] == 13:
            stop -= 1
        if name in watched:
            again = name in seen and (message or name in _CONTENT)
            if name in _CONTENT:
                value = block[colon:stop]
                again = again and content[name].split() != value.split()  # said twice alike, it has one reading
                content.setdefault(name, value)
            if again:
                notes.append((_CONTENT.get(name, DefectCode.DUPLICATE_FIELD), base + position, name))
            seen.add(name)
        if (not raw or colon - match.end(1) > 1) and not malformed:
            malformed = True
            notes.append((DefectCode.MALFORMED_FIELD, base + position, name[:40]))
        fields.append(new(Field, (name, base + position, base + colon, base + stop, base + end)))
        position = end
    return tuple(fields), content, position


def _look_at_octets(block: bytes, base: int, notes: list[tuple[DefectCode, int, str]]) -> None:
    if not block.isascii():
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            notes.append((DefectCode.EIGHT_BIT_IN_HEADER, base + error.start, ""))
    if b"\n " in block or b"\n\t" in block:
        blank = _WHITESPACE_LINE.search(block)
        if blank:
            notes.append((DefectCode.WHITESPACE_LINE, base + blank.start() + 1, ""))


def raw_value(buffer: Buffer, field: Field) -> str:
    """A field's value on one line, encoded words left as they are (what ``addresses`` wants)."""
    return header_text(bytes(buffer[field.value_start : field.value_end]))


def field_value(buffer: Buffer, field: Field) -> str:
    """A field's value on one line, decoded (RFC 5322 section 2.2.3, RFC 2047). Never fails."""
    return decode_words(raw_value(buffer, field))


def part_field(buffer: Buffer, part: Part, name: str) -> str | None:
    """The decoded value of a part's first field of that name (any case), None when there is none."""
    wanted = name.lower()
    for field in part.fields:
        if field.name == wanted:
            return field_value(buffer, field)
    return None


def fields_named(part: Part, name: str) -> tuple[Field, ...]:
    """All fields of a part with that name (any case), in order."""
    wanted = name.lower()
    return tuple(field for field in part.fields if field.name == wanted)


def header_bounds(buffer: Buffer) -> Span:
    """The header block of the message itself, as ``parse`` sees it: from its first field to the end of its last."""
    limits = Limits()
    return read_header(buffer, Span(0, len(buffer)), True, limits.max_header_bytes, limits.max_fields).header


def line_ending(buffer: Buffer) -> bytes:
    """The line ending of the first line: CRLF, or LF; CRLF when there is none."""
    at = buffer.find(b"\n")
    return b"\n" if at == 0 or (at > 0 and buffer[at - 1 : at] != b"\r") else b"\r\n"
