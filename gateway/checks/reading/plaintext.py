"""Texts: plain ones in any charset, markup, calendars and cards, messages.

Charsets that extend ASCII need no detection: digits and English words are the same in all of them. Told apart are those
in which they are not: UTF-16, UTF-32, EBCDIC is left out. Refuses nothing.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from gateway.checks.coded import coded_files, may_hold
from gateway.checks.hidden import lenient_base64
from gateway.checks.links import links_of
from gateway.checks.reading.budget import Budget
from gateway.checks.reading.kinds import wide_charset
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.strings import runs_of
from gateway.checks.reading.values import Fact, FactCode, Item, Link, Member, Text
from gateway.checks.smuggling import active_content
from gateway.checks.tags import tags_of
from gateway.mime.charsets import to_text
from gateway.mime.hypertext import html_to_text
from gateway.mime.tree import Buffer

_PIECE = 1_000_000
_OVERLAP = 200
_FOLD = re.compile(rb"\r?\n[ \t]")
_BINARY = re.compile(
    rb"^(?:ATTACH|PHOTO|LOGO|SOUND|KEY)[^:\r\n]*(?:ENCODING=(?:BASE64|B)\b|VALUE=BINARY)[^:\r\n]*"
    rb":([A-Za-z0-9+/= ]{16,})",
    re.IGNORECASE | re.MULTILINE,
)
_ELEMENT = re.compile(rb"<(?:pkg:binaryData|w:binData|w:docOleData|o:OLEObject)(?:\s[^<>]{0,300})?>", re.IGNORECASE)
_FILENAME = re.compile(rb"(?:FILENAME|X-FILENAME|X-ORACLE-FILENAME)=\"?([^\";:\r\n]+)", re.IGNORECASE)


def read_text(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Plain text, CSV, program source."""
    charset = wide_charset(bytes(data[:4096]))
    for at in range(0, len(data), _PIECE):  # pieces overlap: what a cut would part is whole in the next
        budget.check_time()
        start = max(0, at - _OVERLAP) if at else 0
        piece = bytes(data[start : at + _PIECE])
        if charset or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            start -= start % 4
            codec = charset or ("utf-16-le" if data[:2] == b"\xff\xfe" else "utf-16-be")
            yield Text("", bytes(data[start : at + _PIECE]).decode(codec, "replace"))
        else:
            yield Text("", to_text(piece, whole=False) if len(data) > _PIECE else to_text(piece))
    yield from _coded(data, budget)


def read_coded(data: Buffer, budget: Budget) -> Iterator[Item]:
    """What is text around files in an encoding of their own, and these."""
    for text in runs_of(data):
        yield Text("", text)
    yield from _coded(data, budget)


def _coded(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Files in uuencode, yEnc, BinHex."""
    if may_hold(data):
        for number, file in enumerate(coded_files(data), 1):
            budget.member()
            yield Member(file.name or f"file {number}", budget.metered(file.pieces), seen=False)


def read_markup(data: Buffer, budget: Budget) -> Iterator[Item]:
    """HTML, XML, SVG as people see them."""
    limit = 20 * _PIECE
    for at in range(0, len(data), limit):
        budget.check_time()
        raw = bytes(data[at : at + limit])
        charset = wide_charset(raw)
        source = raw.decode(charset, "replace") if charset else to_text(raw)
        yield Text("", html_to_text(source))
        yield from _active(source.encode("utf-8", "replace"))
        yield from _in_elements(raw, budget)
    yield from _coded(data, budget)


def _in_elements(raw: bytes, budget: Budget) -> Iterator[Item]:
    """Files in the elements of flat Office XML: Word 2003's and packages in one file."""
    for number, match in enumerate(_ELEMENT.finditer(raw), 1):
        end = raw.find(b"<", match.end())
        budget.member()
        content = lenient_base64(raw[match.end() : end if end >= 0 else len(raw)])
        yield Member(f"data {number}", budget.metered(pieces_of(content)), listed=False, seen=False)


def _active(data: bytes) -> Iterator[Item]:
    """Scripts, forms and links of a document."""
    tags = tags_of(data)
    for fact in active_content(data, tags):
        yield Fact(FactCode(fact.code), fact.detail)
    for url, words in links_of(data, tags):
        yield Link(url, words)


def read_calendar(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Calendars (iCalendar) and cards (vCard; RFC 5545, 6350): folded lines joined, attached files as members."""
    raw = _FOLD.sub(b"", bytes(data))
    budget.check_time()
    for match in _BINARY.finditer(raw):
        try:
            content = base64.b64decode(match[1] + b"===")
        except binascii.Error:
            continue
        name = _FILENAME.search(match[0][: match[0].find(b":")])
        yield Member(name[1].decode("utf-8", "replace") if name else "attachment", pieces_of(content), seen=False)
    text = to_text(_BINARY.sub(b"", raw))
    yield Text("", text.replace("\\n", "\n").replace("\\N", "\n").replace("\\,", ",").replace("\\;", ";"))
