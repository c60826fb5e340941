"""The texts of a message, each under every reading that some mail program gives it.

A view on one parsed message: decoded text with caps, what reads as text although it is called something else, and the
main body. Refuses nothing; what is too long is cut and said to be.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.checks import coded
from gateway.checks.forms import other_forms, uuencoded
from gateway.checks.plain import plain, plain_octets
from gateway.mime.anyof import Marks
from gateway.mime.charsets import to_text
from gateway.mime.decoding import Decoding, decode, text
from gateway.mime.fields import field_value
from gateway.mime.hypertext import html_to_text, visible_text
from gateway.mime.parser import parse
from gateway.mime.tree import Buffer, DefectCode, Message, Part, Span

_ASCII_CHARSET = re.compile(r"(?:us-)?ascii|utf-?8|latin-?1|iso-8859-\d{1,2}|windows-125\d|cp125\d|\Z", re.IGNORECASE)
_IDENTITY = frozenset({"7bit", "8bit", "binary"})
_MARKUP = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml", "image/svg+xml"})
_TITLES = frozenset(
    {
        *("subject", "comments", "keywords", "thread-topic", "content-description"),
        *("from", "sender", "reply-to", "to", "cc"),
    }
)
"""Fields that readers show: topics and display names."""
_MESSAGE_NAMES = (".eml", ".mht", ".mhtml")
_REPORTS = frozenset({"message/delivery-status", "message/disposition-notification", "message/external-body"})
_NESTING = 3
"""Messages within files within messages that are read as such."""
_GUESSED_BOUNDARY = re.compile(rb"^--([^\r\n]{1,70}?)[ \t]*\r?$", re.MULTILINE)
_SNIFFED = 4096
_TEXT_OCTETS = bytes({7, 8, 9, 10, 11, 12, 13, 27} | set(range(0x20, 0x7F)))
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
PGP_MESSAGE = b"-----BEGIN PGP MESSAGE"
_marks = Marks((*coded.MARKS, PGP_MESSAGE))
_AMBIGUOUS = frozenset({DefectCode.DUPLICATE_CONTENT_TRANSFER_ENCODING, DefectCode.BAD_ENCODING})


class Text(NamedTuple):
    """One text to look at."""

    data: bytes
    """Plain UTF-8 (:mod:`gateway.checks.plain`)."""
    part: str
    cut: bool
    kind: str = ""
    """``subject`` for what stands in fields, ``file-name``, else ``""``."""


def is_attachment(part: Part) -> bool:
    """True for what a mail program shows as an attachment: not a container, not the body's own text."""
    if part.is_multipart:
        return False
    if part.disposition == "attachment" or part.filenames:
        return True
    return part.media_type not in ("text/plain", "text/html")


def main_bodies(root: Part) -> list[Part]:
    """The text parts that are the message's own body: all alternatives, else the first part, never an attachment."""
    if root.media_type == "multipart/alternative":
        return [body for child in root.children for body in main_bodies(child)]
    if root.is_multipart:
        for child in root.children:
            found = main_bodies(child)
            if found:
                return found
            if not is_attachment(child):
                break
        return []
    return [root] if root.media_type in ("text/plain", "text/html") and not is_attachment(root) else []


def reads_as_text(head: bytes) -> bool:
    """True when the first octets of a part are text whatever it is called: a BOM, or nearly no control characters."""
    if head.startswith(_BOMS):
        return True
    if not head or b"\0" in head:
        return len(head) > 3 and any(_is_wide(head[at::2], head[1 - at :: 2]) for at in (0, 1))
    odd = len(head.translate(None, _TEXT_OCTETS))
    if odd * 20 <= len(head):
        return True
    try:
        decoded = to_text(head, "utf-8", whole=False)
    except ValueError:
        return False
    return "\ufffd" not in decoded and len(head.translate(None, _TEXT_OCTETS + bytes(range(0x80, 0x100)))) * 20 <= len(
        head
    )


def _is_wide(zeros: bytes, others: bytes) -> bool:
    """True for UTF-16 without a byte order mark: text in every other octet, zeros between."""
    return 10 * zeros.count(0) >= 9 * len(zeros) and b"\0" not in others and reads_as_text(others)


def _is_message(part: Part) -> bool:
    """True for a leaf that some program opens as a message: an encoded one, a file of mail, a report's header."""
    if part.media_type.startswith("message/"):
        return part.media_type not in _REPORTS
    return part.media_type == "text/rfc822-headers" or any(n.lower().endswith(_MESSAGE_NAMES) for n in part.filenames)


class Reading:
    """The texts of one parsed message. ``cap``: decoded octets a text at most."""

    def __init__(self, buffer: Buffer, message: Message, cap: int, depth: int = 0) -> None:
        self.buffer = buffer
        self.depth = depth
        self.message = message
        self.cap = cap
        self.parts = tuple(message.walk())
        self._texts: dict[str, tuple[str, bool]] = {}
        self._shown: dict[str, str] = {}
        self._ambiguous = {d.part for d in message.defects if d.code in _AMBIGUOUS}
        self._unsafe = {d.part for d in message.defects if d.code is DefectCode.UNSAFE_CHARSET}
        self._untyped = {d.part for d in message.defects if d.code is DefectCode.MALFORMED_CONTENT_TYPE}
        self._marks: frozenset[bytes] | None = None

    def holds(self, mark: bytes) -> bool:
        """False when a mark (:data:`PGP_MESSAGE`, :data:`coded.MARKS`) stands nowhere in the message as it came."""
        if self._marks is None:
            self._marks = _marks(self.buffer)
        return mark in self._marks

    def may_hold_coded(self, part: Part) -> bool:
        """False for a part that holds no coded file, as it came."""
        return any(map(self.holds, coded.MARKS)) and coded.may_hold(self.buffer, part.body.start, part.body.end)

    def text_of(self, part: Part) -> tuple[str, bool]:
        """A main body's text as declared, decoded once, and whether it was cut."""
        known = self._texts.get(part.path)
        if known is None:
            known = self._texts[part.path] = text(self.buffer, part, self.cap)
        return known

    def shown(self, part: Part) -> str:
        """A main body's text as a reader sees it: HTML without its markup."""
        if part.media_type not in _MARKUP:
            return self.text_of(part)[0]
        known = self._shown.get(part.path)
        if known is None:
            known = self._shown[part.path] = html_to_text(self.text_of(part)[0])
        return known

    def seen(self, part: Part) -> str:
        """The same without what its style hides: what has to be said must be seen."""
        visible = visible_text(self.text_of(part)[0]) if part.media_type in _MARKUP else None
        return self.shown(part) if visible is None else visible

    def titles(self) -> Iterator[Text]:
        """Topics and display names (also of nested messages) and file names."""
        for part in self.parts:
            rows = [field_value(self.buffer, field) for field in part.fields if field.name in _TITLES]
            if rows:
                yield Text(plain("\n\n".join(rows)), part.path, False, "subject")
            if part.filenames:
                yield Text(plain("\n\n".join(part.filenames)), part.path, False, "file-name")

    def inner(self) -> Iterator[tuple[str, "Reading"]]:
        """Messages that a reader opens from decoded octets, and the paths of the parts that hold them."""
        for part in self.parts:
            if self.depth < _NESTING and not part.children and not part.is_text and _is_message(part):
                data = b"".join(self._capped(part))
                yield part.path, Reading(data, parse(data), self.cap, self.depth + 1)

    def texts(self) -> Iterator[Text]:
        """Every text below the header, under every reading."""
        for part in self.parts:
            if part.is_multipart:
                yield from self._around(part)
            elif not part.children:
                yield from self._leaf(part)
                if self.depth < _NESTING and _is_message(part):
                    yield from self._inside(b"".join(self._capped(part)), part.path)

    def _inside(self, data: bytes, path: str) -> Iterator[Text]:
        """What a reader sees who opens decoded octets as a message."""
        inner = Reading(data, parse(data), self.cap, self.depth + 1)
        for piece in (*inner.titles(), *inner.texts()):
            yield Text(piece.data, path, piece.cut)

    def head(self, part: Part, size: int) -> bytes:
        """The first decoded octets of a part."""
        if part.encoding in _IDENTITY:
            return bytes(self.buffer[part.body.start : min(part.body.end, part.body.start + size)])
        return next(iter(decode(self.buffer, part, chunk=size * 3 // 2)), b"")[:size]

    def _around(self, part: Part) -> Iterator[Text]:
        """What stands outside the parts of a multipart; all of it when it could not be split."""
        spans = (part.preamble, part.epilogue) if part.children else (part.body,)
        for span in spans:
            if span.size > 2:
                yield from self._raw(part, span)
        if not part.children and self.depth < _NESTING and part.body.size > 2:  # some readers guess the boundary
            body = bytes(self.buffer[part.body.start : min(part.body.end, part.body.start + self.cap)])
            if guessed := _GUESSED_BOUNDARY.search(body):
                boundary = guessed[1].replace(b"\\", b"\\\\").replace(b'"', b'\\"')
                head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
                yield from self._inside(head + body, part.path)

    def _leaf(self, part: Part) -> Iterator[Text]:
        if (
            not part.is_text
            and not part.media_type.startswith("message/")
            and not reads_as_text(self.head(part, _SNIFFED))
        ):
            return
        markup = part.media_type in _MARKUP
        if (
            part.encoding in _IDENTITY
            and not markup
            and _ASCII_CHARSET.match(part.charset)
            and part.path not in self._texts
        ):
            stop = min(part.body.end, part.body.start + self.cap)
            raw = bytes(self.buffer[part.body.start : stop])
            data = plain_octets(raw)
            if data is not None:
                yield Text(data, part.path, stop < part.body.end)
                if ((data is not raw or self.holds(b"begin ")) and b"begin " in data) or self._has_forms(part):
                    yield from self._other_forms(part, data.decode("ascii"))
                return
        content, cut = self._texts.get(part.path) or text(self.buffer, part, self.cap)
        source = content
        if markup:
            content = self._shown[part.path] = self._shown.get(part.path) or html_to_text(content)
        yield Text(plain(content), part.path, cut)
        if markup:
            visible = visible_text(source)
            if visible is not None and visible != content:
                yield Text(plain(visible), part.path, False)
        elif "begin " in content or self._has_forms(part):
            yield from self._other_forms(part, content)
        if part.path in self._ambiguous or part.path in self._unsafe or self._is_dirty(part):
            yield from self._other_readings(part)

    def _has_forms(self, part: Part) -> bool:
        """False for an ordinary body of plain text, which every reader shows as it stands."""
        return part.media_type != "text/plain" or bool(part.filenames) or part.path in self._untyped

    def _other_forms(self, part: Part, content: str) -> Iterator[Text]:
        if self._has_forms(part):
            for form in other_forms(content):
                yield Text(plain(form), part.path, False)
        if enclosed := uuencoded(content.encode("utf-8", "replace"), self.cap):
            yield Text(plain(enclosed), part.path, False)

    def _is_dirty(self, part: Part) -> bool:
        """True when base64 holds what is not base64, so that some reader may show it as it stands."""
        if part.encoding != "base64":
            return False
        decoding = decode(self.buffer, part)
        size = 0
        for piece in decoding:
            size += len(piece)
            if size > self.cap:
                break
        return decoding.junk > 0 or decoding.misplaced_padding > 0

    def _other_readings(self, part: Part) -> Iterator[Text]:
        yield from self._raw(part, part.body)
        for encoding in ("base64", "quoted-printable"):
            if encoding != part.encoding and part.path in self._ambiguous:
                stop = Span(part.body.start, min(part.body.end, part.body.start + self.cap))
                data = b"".join(Decoding(self.buffer, stop, encoding, 65536))
                yield Text(plain(to_text(data)), part.path, False)
        if part.path in self._unsafe:
            data = b"".join(self._capped(part))
            yield Text(plain(data.decode("utf-7", "replace")), part.path, False)

    def _capped(self, part: Part) -> Iterator[bytes]:
        left = self.cap
        for piece in decode(self.buffer, part):
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return

    def _raw(self, part: Part, span: Span) -> Iterator[Text]:
        stop = min(span.end, span.start + self.cap)
        yield Text(plain(to_text(bytes(self.buffer[span.start : stop]))), part.path, stop < span.end)
