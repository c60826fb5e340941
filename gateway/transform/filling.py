"""Filling one body: legends and banners on top, signature blocks below the own text, in its charset and encoding.

Yields edits. Refuses (:class:`NotPlaceable`) where a place cannot be found with certainty.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.mime import Buffer, Edit, Part, to_text
from gateway.mime.legends import legend_present
from gateway.mime.quoting import has_wording, html_text, quoting, signature_block, split_quoted, split_quoted_html
from gateway.model.verdict import Transform
from gateway.transform.declaring import declare
from gateway.transform.markup import box, foot_of_own, signature, top_of_body
from gateway.transform.placing import Insert, NotPlaceable, encode_quoted_printable, place, switch_to_quoted_printable
from gateway.transform.reading import TextBody, transliterate

_DELIMITER = re.compile(r"^-- ?\r?$", re.MULTILINE)
_LONGEST = 900
_MOST_ESCAPES = 5000


@dataclass(slots=True)
class Filling:
    """One body and what is to be put into it."""

    text: TextBody
    tops: list[Transform] = field(default_factory=list)
    foots: list[Transform] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fill(buffer: Buffer, body: Filling, newline: bytes) -> list[Edit]:
    """The edits for one body; ``newline`` is the message's. Raises :class:`NotPlaceable`."""
    return _fill_html(buffer, body, newline) if body.text.html else _fill_plain(buffer, body, newline)


def separation(buffer: Buffer, part: Part, newline: bytes) -> list[Edit]:
    """The empty line between header and body where the part has none, lest text be read as header; else nothing."""
    start = part.body.start
    if start > part.header.end:
        return []
    whole = not start or buffer[start - 1 : start] == b"\n"
    return [Edit(start, start, newline if whole else newline * 2)]


def _fill_html(buffer: Buffer, body: Filling, message_newline: bytes) -> list[Edit]:
    text, newline = body.text, body.text.newline(message_newline)
    source = text.source()
    inserts: list[Insert] = []
    if body.tops:
        blocks = "".join(box(t.kind.value, lines_of(t)) for t in reversed(body.tops))
        inserts.append(
            _insert(text, text.octets(source, top_of_body(source)), blocks.replace("\n", newline), message_newline)
        )
    if body.foots:
        blocks = "".join(signature(lines_of(t)) for t in body.foots).replace("\n", newline)
        inserts.append(_insert(text, text.octets(source, foot_of_own(source)), blocks, message_newline))
    try:
        return place(buffer, text.part, sorted(inserts, key=lambda i: i.offset), message_newline)
    except NotPlaceable:
        if body.foots:
            raise
        return place(buffer, text.part, [insert._replace(offset=text.bom) for insert in inserts], message_newline)


def _fill_plain(buffer: Buffer, body: Filling, message_newline: bytes) -> list[Edit]:
    text, newline = body.text, body.text.newline(message_newline)
    blocks: list[tuple[int, str]] = []
    if body.tops:
        rows = [newline.join([*_wrapped(text, lines_of(t)), ""]) for t in reversed(body.tops)]
        blocks.append((text.bom, newline.join(rows) + (newline if text.data[text.bom :] else "")))
    if body.foots:
        source = text.source()
        for n, transform in enumerate(body.foots):
            at, block = _foot(source, _wrapped(text, lines_of(transform)), newline, first=n == 0)
            blocks.append((text.octets(source, at), block))
    return _in_charset(buffer, body, blocks, message_newline)


def _in_charset(buffer: Buffer, body: Filling, blocks: list[tuple[int, str]], newline: bytes) -> list[Edit]:
    """The blocks in the part's charset and encoding, and what the part must declare anew for that."""
    text, part = body.text, body.text.part
    ascii_only = all(block.isascii() for _, block in blocks)
    charset = "utf-8" if not ascii_only and text.undeclared and _is_utf8(text) else None
    text.codec = charset or text.codec
    inserts = [_insert(text, at, block, newline) for at, block in blocks]
    eight = not all(insert.data.isascii() for insert in inserts)
    try:
        if eight and part.encoding == "7bit" and text.data.isascii():
            return _as_quoted_printable(buffer, text, inserts, newline, charset)
        declared = declare(buffer, part, newline, charset) if charset else []
    except NotPlaceable:
        body.notes.append(f"part {part.path}: written in ASCII")
        inserts = [_insert(text, at, transliterate(block), newline) for at, block in blocks]
        return place(buffer, part, inserts, newline)
    if any(text.encode(block)[1] for _, block in blocks):
        body.notes.append(f"part {part.path}: its charset lacks some characters, written in ASCII")
    return [*declared, *place(buffer, part, inserts, newline)]


def _as_quoted_printable(
    buffer: Buffer, text: TextBody, inserts: Sequence[Insert], newline: bytes, charset: str | None
) -> list[Edit]:
    """7bit cannot hold the text, and 8bit might not pass the next hop: quoted-printable holds both."""
    if text.truncated or not text.superset:
        raise NotPlaceable("cannot become quoted-printable")
    start = text.part.body.start
    placed = [Edit(start + i.offset, start + i.offset, encode_quoted_printable(i.data, newline)) for i in inserts]
    escapes = switch_to_quoted_printable(buffer, text.part, _MOST_ESCAPES)
    return [*declare(buffer, text.part, newline, charset, "quoted-printable"), *placed, *escapes]


def _insert(text: TextBody, offset: int, block: str, newline: bytes) -> Insert:
    if not text.superset and text.part.encoding == "quoted-printable":
        raise NotPlaceable(f"{text.codec} in quoted-printable")
    pad = " " if text.html else text.newline(newline)
    return Insert(offset, text.encode(block)[0], pad.encode(text.codec))


def _foot(source: str, lines: list[str], newline: str, first: bool) -> tuple[int, str]:
    """Where the signature block goes in plain text, and the block with what sets it off."""
    found = quoting(source)
    at = found.end_of_own
    before = "" if not at or source[at - 1] == "\n" else newline
    if first and not _DELIMITER.search(found.own):
        before += (newline if at else "") + "-- " + newline
    rest = source[at : at + 2]
    after = newline if rest and rest[:1] != "\n" and rest != "\r\n" else ""
    return at, before + newline.join([*lines, ""]) + after


def has_signature(text: TextBody, transform: Transform) -> bool:
    """True when the own text's signature block says already what is wanted."""
    if text.html:
        source = to_text(text.data, text.part.charset)
        own = html_text(source[: split_quoted_html(source)])
    else:
        own = split_quoted(text.visible())[0]
    block = signature_block(own)
    if transform.wordings:
        return has_wording(block, transform.wordings)
    return legend_present(block, transform.lines)


def lines_of(transform: Transform) -> list[str]:
    """The lines without white space at their ends, which format=flowed would read as «goes on» (RFC 3676)."""
    return [line.rstrip() for text in transform.lines for line in (text.splitlines() or [""])]


def _wrapped(text: TextBody, lines: list[str]) -> list[str]:
    """Lines that SMTP can carry, and that format=flowed readers take as they are."""
    rows: list[str] = []
    for line in lines:
        short = len(line) * 4 <= _LONGEST or len(line.encode("utf-8", "replace")) <= _LONGEST
        rows += [line] if short else textwrap.wrap(line, 200)
    if (text.part.parameter("format") or "").lower() == "flowed":
        return [f" {row}" if row.startswith((" ", ">", "From ")) else row for row in rows]
    return rows


def _is_utf8(text: TextBody) -> bool:
    if text.truncated:
        return False
    try:
        text.data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
