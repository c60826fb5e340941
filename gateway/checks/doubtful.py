"""Which parts of a message a scan of its raw octets cannot be trusted with, and what they are under every reading.

A virus scanner that is given a message takes it apart in its own way. Where the message is clean and plain, that way is
ours and every reader's; wherever it is not, the octets are handed out here. What is trusted is listed, the rest is not:
measured with clamd (docs/virus.md). Refuses to judge: doubt costs a second scan and nothing else.
"""

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.checks.coded import binhexed, yencoded
from gateway.checks.hidden import RUN_AHEAD, SHORT_RUN, readings_of_base64, runs, smuggled
from gateway.checks.parts import reads_as_text
from gateway.checks.reading.kinds import Kind, kind_of
from gateway.mime.charsets import codec_of, is_unsafe
from gateway.mime.decoding import Decoding, decode
from gateway.mime.parser import parse
from gateway.mime.tree import Buffer, Defect, DefectCode, Limits, Message, Part, Span


class Suspect(NamedTuple):
    """One file that has to be scanned apart."""

    pieces: Iterator[bytes]
    is_file: bool = True
    """False: another reading of all of it, in which the same files stand again."""


_DOUBT = Suspect(iter(()))
"""Said first where finding out takes long: who asks only whether there is anything need not wait."""
_HARMLESS = frozenset(
    {
        *(DefectCode.EIGHT_BIT_IN_HEADER, DefectCode.DUPLICATE_FIELD, DefectCode.DUPLICATE_CONTENT_DISPOSITION),
        *(DefectCode.UNKNOWN_CHARSET, DefectCode.UNSAFE_CHARSET, DefectCode.UNTERMINATED_MULTIPART),
        *(DefectCode.EPILOGUE_TEXT, DefectCode.ENCODED_MESSAGE, DefectCode.MESSAGE_PARTIAL, DefectCode.MBOX_FROM),
        *(DefectCode.EXTERNAL_BODY, DefectCode.BARE_NEWLINE, DefectCode.BOUNDARY_AMBIGUOUS),
    }
)
"""Defects that do not mislead clamd, or that are looked at where they stand."""
_UNCLEAR = frozenset({DefectCode.DUPLICATE_CONTENT_TRANSFER_ENCODING, DefectCode.BAD_ENCODING})
_FIRST_FIELDS = frozenset(
    {
        *("received", "return-path", "delivered-to", "envelope-to", "from", "to", "cc", "date", "subject", "sender"),
        *("message-id", "mime-version", "reply-to", "dkim-signature", "domainkey-signature", "authentication-results"),
        *("received-spf", "in-reply-to", "references", "user-agent", "importance", "precedence", "thread-topic"),
        *("thread-index", "auto-submitted", "errors-to", "content-language", "accept-language", "list-id"),
    }
)
_FIRST_PREFIXES = ("x-", "arc-", "list-", "resent-")
_FIRST_LINE = re.compile(rb"([A-Za-z][A-Za-z0-9-]*+): ")
_USUAL_FIELD = re.compile(rb"(?:\A|\n)(?:Received|From|Date|Subject|To|Message-I[dD]|Return-Path): ")
_TRUSTED_MULTIPARTS = frozenset(
    {"multipart/mixed", "multipart/alternative", "multipart/related", "multipart/report", "multipart/signed"}
)
_EXACT = frozenset({b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"})
_IDENTITY = frozenset({"7bit", "8bit", "binary"})
_MARKUP = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml", "image/svg+xml"})
_BASE64 = bytes(set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_CODED_LINES = re.compile(rb"\s*+[A-Za-z0-9+/]{20,}+={0,2}\s*+(?:\n|\Z)")
_ESCAPE = re.compile(rb"=[0-9A-Fa-f]{2}")
_PART_LIKE = re.compile(rb"\ncontent-[a-z-]{2,20}[ \t]*+:", re.IGNORECASE)
_DELIMITER = re.compile(rb"\n--([^\r\n]{1,200}+)\r?\n")
_CODED_MARKS = (b"=ybegin ", b"with BinHex")
_CHUNK = 65_536
_SAMPLE = 4096
_WHOLE = 32 * 1024 * 1024
"""Octets of a region that is read anew in one piece; a larger one is not, and the caller is told."""
_AGAIN = 3
"""Readings of readings."""
_LIMITS = Limits(max_depth=20, max_parts=1000)


class TooLargeError(Exception):
    """What is doubtful is too large to be read anew."""


def suspects(buffer: Buffer, message: Message, again: int = _AGAIN) -> Iterator[Suspect]:
    """The files of a message that a scan of it may have missed; none for ordinary mail.

    Containers are given as they are, not what is in them. Raises :class:`TooLargeError`.
    """
    if (
        not _looks_like_mail(buffer, message.root)
        or any(_misleads(defect) for defect in message.defects)
        or not all(_boundary_is_plain(buffer, part) for part in message.walk() if part.boundary)
    ):
        yield _DOUBT
        yield from _everything(buffer, message, again)
        return
    yield from _parts(buffer, message.root, False, again)


def in_text(data: Buffer, markup: bool, charset: str = "") -> Iterator[Suspect]:
    """Files that stand in a text: in base64, yEnc, BinHex, scripts; the text itself when its charset is a disguise."""
    plain = _transcoded(data, charset)
    if plain is not None:
        yield Suspect(iter((plain,)))
        data = plain
    if data[:60].isalnum() or RUN_AHEAD.search(data):
        found = False
        for pieces in runs(b"\n" + data, Span(1, len(data) + 1)):
            found = True
            yield Suspect(pieces)
        if found:
            yield from _as_parts(bytes(data[: _WHOLE + 1]), 1)
    yield from _coded(data)
    if markup:
        for piece in smuggled(bytes(data)):
            yield Suspect(iter((piece,)))


def _coded(data: Buffer) -> Iterator[Suspect]:
    """Files in yEnc and BinHex; clamd sees uuencode where it stands for itself."""
    if data.find(b"=ybegin ") >= 0:
        yield from (Suspect(file.pieces) for file in yencoded(data))
    if data.find(b"with BinHex") >= 0:
        yield from (Suspect(file.pieces) for file in binhexed(data))


# --- ordinary messages ----------------------------------------------------------------------------------------------


def _looks_like_mail(buffer: Buffer, root: Part) -> bool:
    """True when the first octets can be taken for nothing but mail, and some usual field is spelt as usual."""
    first = _FIRST_LINE.match(buffer, 0, 80)
    if first is None:
        return False
    name = first[1].lower().decode("ascii")
    if name not in _FIRST_FIELDS and not name.startswith(_FIRST_PREFIXES):
        return False
    return _USUAL_FIELD.search(buffer, 0, root.header.end) is not None


def _misleads(defect: Defect) -> bool:
    """True for a defect with which clamd may take the message apart in another way. Odd file names are none."""
    if defect.code in (DefectCode.MALFORMED_PARAMETER, DefectCode.DUPLICATE_PARAMETER):
        return defect.detail not in ("name", "filename")
    return defect.code not in _HARMLESS


def _boundary_is_plain(buffer: Buffer, part: Part) -> bool:
    """True when the boundary is written once and as it is used."""
    for field in part.fields:
        if field.name == "content-type":
            raw = bytes(buffer[field.value_start : field.value_end])
            small = raw.lower()
            at = small.find(b"boundary=")
            return small.count(b"boundary") - part.boundary.lower().count("boundary") == 1 and raw[at + 9 :].startswith(
                (part.boundary.encode("utf-8", "replace"), b'"' + part.boundary.encode("utf-8", "replace") + b'"')
            )
    return False


def _parts(buffer: Buffer, part: Part, doubted: bool, again: int) -> Iterator[Suspect]:
    """``doubted``: clamd does not look at coded parts here."""
    if not part.children:
        yield from _leaf(buffer, part, doubted)
        return
    if part.is_multipart:
        for span in (part.preamble, part.epilogue):
            if span.size > 30:
                yield from _region(buffer, span, again)
        doubted = doubted or part.media_type not in _TRUSTED_MULTIPARTS
    else:
        doubted = False  # a message is a file of its own
    for number, child in enumerate(part.children):
        yield from _parts(buffer, child, doubted or (number > 0 and part.media_type == "multipart/signed"), again)


def _leaf(buffer: Buffer, part: Part, doubted: bool) -> Iterator[Suspect]:
    if not part.body.size:
        return
    exact = part.encoding == "7bit" or _encoding_is_exact(buffer, part)
    if part.encoding in _IDENTITY:
        if not exact or doubted or not part.is_text or part.filenames:
            yield from _called_plain(buffer, part)
    elif part.encoding == "base64":
        if not exact or (doubted and not _is_signature(buffer, part)) or not _is_clean_base64(buffer, part.body):
            yield from map(Suspect, readings_of_base64(buffer, part.body))
            yield from _escaped(buffer, part.body)
    elif not exact or doubted or part.encoding != "quoted-printable" or _is_doubtful_quoting(buffer, part):
        yield Suspect(decode(buffer, part))
        yield from _uncoded(buffer, part.body)
    if part.is_text or part.media_type in _MARKUP:
        yield from _text(buffer, part)
    elif (part.filenames or part.media_type == "application/mac-binhex40") and reads_as_text(_head(buffer, part)):
        yield from in_text(b"".join(decode(buffer, part)), part.filename.lower().endswith((".html", ".htm", ".svg")))


def _text(buffer: Buffer, part: Part) -> Iterator[Suspect]:
    markup = part.media_type in _MARKUP or part.filename.lower().endswith((".html", ".htm", ".svg"))
    if part.encoding in _IDENTITY and not markup and not _is_odd_charset(part.charset) and not _is_wide(buffer, part):
        start = max(part.body.start - 1, 0)
        end = part.body.end
        if not RUN_AHEAD.search(buffer, start, end) and all(buffer.find(m, start, end) < 0 for m in _CODED_MARKS):
            return
    yield from in_text(_octets(buffer, part), markup, part.charset)


def _octets(buffer: Buffer, part: Part) -> bytes:
    """The decoded body of a text; short ones, which are most, without the machinery for streams."""
    if part.encoding == "quoted-printable" and part.body.size < _CHUNK and not _is_doubtful_quoting(buffer, part):
        return binascii.a2b_qp(bytes(buffer[part.body.start : part.body.end]))
    return b"".join(decode(buffer, part))


def _is_wide(buffer: Buffer, part: Part) -> bool:
    return buffer.find(b"\0", part.body.start, min(part.body.end, part.body.start + _SAMPLE)) >= 0


def _head(buffer: Buffer, part: Part) -> bytes:
    return next(iter(decode(buffer, part, _SAMPLE)), b"")[:_SAMPLE]


def _is_signature(buffer: Buffer, part: Part) -> bool:
    """True for CMS, which the readers of attachments open."""
    return kind_of(_head(buffer, part)) is Kind.CMS


def _encoding_is_exact(buffer: Buffer, part: Part) -> bool:
    """True when the transfer encoding is written as RFC 2045 has it, on one line."""
    for field in part.fields:
        if field.name == "content-transfer-encoding":
            name_end = buffer[field.start + 25 : field.start + 27]
            raw = bytes(buffer[field.value_start : field.value_end])
            return name_end == b": " and raw.strip(b" ").lower() in _EXACT
    return part.encoding in _IDENTITY


def _is_clean_base64(buffer: Buffer, span: Span) -> bool:
    """True for whole groups, padding at the end alone, and line endings: what every decoder reads alike."""
    end = span.end
    tail = bytes(buffer[max(span.start, end - 200) : end])
    end -= len(tail) - len(tail.rstrip(b"\r\n"))
    for _ in range(2):
        if end > span.start and buffer[end - 1] == 61:
            end -= 1
    size = 0
    for at in range(span.start, end, _CHUNK):
        piece = bytes(buffer[at : min(at + _CHUNK, end)])
        rest = piece.translate(None, _BASE64)
        if rest.translate(None, b"\r\n"):
            return False
        size += len(piece) - len(rest)
    padding = buffer.find(b"=", end, span.end) >= 0
    return size % 4 == 0 if not padding else size % 4 in (2, 3)


def _is_doubtful_quoting(buffer: Buffer, part: Part) -> bool:
    """White space behind a soft break, which clamd keeps; or a file, which clamd gives another last line.

    A break ended by CR alone is a defect of the whole message.
    """
    if part.disposition == "attachment" or part.filenames or not part.is_text:
        return True
    start, end = part.body
    return buffer.find(b"= ", start, end) >= 0 or buffer.find(b"=\t", start, end) >= 0


def _called_plain(buffer: Buffer, part: Part) -> Iterator[Suspect]:
    """A file that is called plain and looks coded."""
    head = bytes(buffer[part.body.start : min(part.body.end, part.body.start + _SAMPLE)])
    if _CODED_LINES.match(head):
        yield from map(Suspect, readings_of_base64(buffer, part.body))
    yield from _escaped(buffer, part.body)


def _escaped(buffer: Buffer, span: Span) -> Iterator[Suspect]:
    """The quoted-printable reading, when there is much of it at the beginning."""
    head = bytes(buffer[span.start : min(span.end, span.start + _SAMPLE)])
    if 3 * len(_ESCAPE.findall(head)) * 4 > len(head):
        yield Suspect(Decoding(buffer, span, "quoted-printable", _CHUNK))


def _transcoded(data: Buffer, charset: str) -> bytes | None:
    """A text as UTF-8 when it stands in a charset in which letters are not the octets of ASCII."""
    head = bytes(data[:_SAMPLE])
    codec = codec_of(charset) or ""
    if is_unsafe(charset):
        codec = "utf-7" if "7" in charset else "latin-1"
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")):
        codec = "utf-16"
    elif b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        codec = codec if _is_odd_charset(charset) else "utf-16-be" if even > odd else "utf-16-le"
    elif not _is_odd_charset(charset):
        return None
    return bytes(data[: _WHOLE + 1]).decode(codec or "utf-8", "replace").encode("utf-8", "replace")


def _is_odd_charset(charset: str) -> bool:
    if not charset:
        return False
    if is_unsafe(charset):
        return True
    codec = codec_of(charset)
    if not codec:
        return False
    try:
        return "AZaz09+/=".encode(codec) != b"AZaz09+/="
    except (UnicodeError, LookupError, ValueError):
        return True


# --- odd ones -------------------------------------------------------------------------------------------------------


def _everything(buffer: Buffer, message: Message, again: int) -> Iterator[Suspect]:
    """All leaves decoded, whatever their kind, and all that other readings of the whole could see."""
    unclear = {defect.part for defect in message.defects if defect.code in _UNCLEAR}
    for part in message.walk():
        if part.children or not part.body.size:
            continue
        if part.encoding == "base64" or part.path in unclear:
            yield from map(Suspect, readings_of_base64(buffer, part.body))
        if part.encoding != "base64":
            yield Suspect(decode(buffer, part), part.encoding not in _IDENTITY)
        yield from _text(buffer, part)
    if any(defect.code in (DefectCode.BARE_CR, DefectCode.NUL) for defect in message.defects) and again > 0:
        if len(buffer) > _WHOLE:
            raise TooLargeError
        clean = re.sub(rb"\r\n|\r+\n?", b"\n", bytes(buffer[:]).replace(b"\0", b""))
        yield from suspects(clean, parse(clean, _LIMITS), again - 1)
        yield Suspect(iter((clean,)), False)
    yield from _uncoded(buffer, Span(0, len(buffer)))
    yield from _reparsed(buffer, Span(0, len(buffer)), again)


def _region(buffer: Buffer, span: Span, again: int) -> Iterator[Suspect]:
    """Before the first or behind the last part of a multipart: mostly a list's footer."""
    start = max(span.start - 1, 0)
    if RUN_AHEAD.search(buffer, start, span.end) or _PART_LIKE.search(buffer, start, span.end):
        yield _DOUBT
        yield from _uncoded(buffer, span)
        yield from _reparsed(buffer, span, again)


def _uncoded(buffer: Buffer, span: Span) -> Iterator[Suspect]:
    """What any decoder makes of a range, whatever its structure says."""
    yield from map(Suspect, runs(buffer, span, SHORT_RUN))
    if buffer.find(b"=", span.start, span.end) >= 0:
        yield Suspect(Decoding(buffer, span, "quoted-printable", _CHUNK), False)
    if buffer.find(b"begin ", span.start, span.end) >= 0:
        yield Suspect(Decoding(buffer, span, "x-uuencode", _CHUNK))
    if any(buffer.find(mark, span.start, span.end) >= 0 for mark in _CODED_MARKS):
        yield from _coded(bytes(buffer[span.start : span.end]))


def _reparsed(buffer: Buffer, span: Span, again: int) -> Iterator[Suspect]:
    """A range, and what its lines of base64 decode to, read as parts."""
    if span.size > _WHOLE:
        raise TooLargeError
    if again <= 0:
        return
    yield from _as_parts(bytes(buffer[span.start : span.end]), again)
    for pieces in runs(buffer, span, SHORT_RUN):
        data = b"".join(pieces)
        if _PART_LIKE.search(b"\n" + data[:_CHUNK]):
            yield from _as_parts(data, again)


def _as_parts(data: bytes, again: int) -> Iterator[Suspect]:
    """Octets that look like parts, with each delimiter that they could have; and as one part without any."""
    if len(data) > _WHOLE:
        raise TooLargeError
    if again <= 0 or not _PART_LIKE.search(b"\n" + data):
        return
    guesses = dict.fromkeys(match[1].rstrip(b" \t").removesuffix(b"--") for match in _DELIMITER.finditer(b"\n" + data))
    for guess in list(guesses)[:8]:
        quoted = guess.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        whole = b'From: a\r\nContent-Type: multipart/mixed; boundary="' + quoted + b'"\r\n\r\n\r\n' + data
        tree = parse(whole, _LIMITS)
        for part in tree.walk():
            if not part.children and part.encoding not in _IDENTITY:
                yield Suspect(decode(whole, part))
    first = _PART_LIKE.search(b"\n" + data)
    if first is not None:
        rest = data[first.start() :]
        tree = parse(rest, _LIMITS)
        for part in tree.walk():
            if not part.children:
                yield Suspect(decode(rest, part), part.encoding not in _IDENTITY)
