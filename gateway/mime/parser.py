"""From octets to a tree of parts, in one pass over header blocks and delimiters (RFC 2045, 2046, 5322, 6532).

Bodies are never copied and never read line by line: delimiters are found by searching. Whatever the input, the answer
is a tree and a list of defects; nothing raises. Where readers differ, the reading taken is that of most servers, and a
defect says that there is another. Every octet of the message lies in a field, in a body, or between parts.
"""

import re

from gateway.mime.charsets import codec_of, is_unsafe
from gateway.mime.fields import HeaderBlock, line_ending, read_header
from gateway.mime.lineends import line_ends
from gateway.mime.structured import Structured, media_type, strip_comments, structured
from gateway.mime.tree import Buffer, Defect, DefectCode, Limits, Message, Part, Span
from gateway.mime.words import decode_words

_TAIL = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? \-]{0,69}[0-9A-Za-z'()+_,./:=?\-]\Z")
_CODED = frozenset({"base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue"})
_PLAIN = frozenset({"7bit", "8bit", "binary"})
_AS_IT_STANDS = frozenset(
    {
        *("", "7-bit", "8-bit", "7bits", "8bits", "7", "8", "none", "plain", "text", "text/plain", "text/html"),
        *("ascii", "us-ascii", "utf-8", "utf8", "iso-8859-1", "windows-1252"),
    }
)
"""What sloppy programs write for no encoding at all: every reader shows such a body as it stands."""
_OTHER_DELIMITER = re.compile(rb"=2[dD]|-=[ \t]*+\r?\n")
"""What quoted-printable could turn into a delimiter that does not stand there."""
_NESTED = frozenset({"message/rfc822", "message/global"})
_SEALED = frozenset(
    {
        *("multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"),
        *("application/pgp", "application/pgp-encrypted", "application/pgp-signature"),
        *("application/pkcs7-signature", "application/x-pkcs7-signature"),
    }
)
_INLINE_PGP = (b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP SIGNED MESSAGE-----")
_MANY = 200
"""Lines like delimiters, each looked at on its own; mail has none or a few."""
_NO_VALUE = Structured("")
_DEFAULT_LIMITS = Limits()


def parse(buffer: Buffer, limits: Limits = _DEFAULT_LIMITS, *, disciplined: bool = False) -> Message:
    """Parse a whole message. Never raises for what the buffer holds.

    ``disciplined``: it is known that all its lines end in CRLF and that no NUL is in it, as SMTP wants it.
    """
    parser = _Parser(buffer, limits)
    root = parser.part(Span(0, len(buffer)), "", True, "text/plain", ())
    if not disciplined:
        parser.look_at_line_ends()
    return Message(root, tuple(parser.defects), line_ending(buffer))


class _Delimiters:
    """What a search for one boundary found."""

    __slots__ = ("closed", "epilogue", "limited", "odd", "preamble_end", "repeated", "spans")

    def __init__(self, span: Span) -> None:
        self.spans: list[Span] = []
        self.preamble_end = span.end
        self.epilogue = Span(span.end, span.end)
        self.closed = False
        self.limited = False
        """The limit on parts was reached: the last span holds all that is left."""
        self.odd: list[int] = []
        self.repeated = -1


class _Parser:
    """State of one parse: the limits that are left and the defects found."""

    __slots__ = ("buffer", "defects", "fields_left", "header_left", "limits", "parts_left")

    def __init__(self, buffer: Buffer, limits: Limits) -> None:
        self.buffer = buffer
        self.limits = limits
        self.parts_left = limits.max_parts
        self.header_left = limits.max_header_bytes
        self.fields_left = limits.max_fields
        self.defects: list[Defect] = []

    def defect(self, code: DefectCode, path: str, offset: int = -1, detail: str = "") -> None:
        self.defects.append(Defect(code, path, offset, detail))

    def part(
        self, span: Span, prefix: str, message: bool, default: str, outer: tuple[str, ...], sealed: bool = False
    ) -> Part:
        """One part and all below it.

        ``prefix``: the path, or for a message's root that of the part holding it; ``outer``: the boundary of each
        multipart around this part (``""`` for a nested message), so that its length is the depth.
        """
        self.parts_left -= 1
        block = read_header(self.buffer, span, message, self.header_left, self.fields_left)
        self.header_left -= block.header.size
        self.fields_left -= len(block.fields)
        body = Span(block.body_start, span.end)
        content = block.content
        kind = structured(content["content-type"]) if "content-type" in content else _NO_VALUE
        placed = structured(content["content-disposition"]) if "content-disposition" in content else _NO_VALUE
        media, malformed = _media_of(kind, default)
        multipart = media.startswith("multipart/")
        path = _path_of(prefix, message, multipart)
        if block.notes or kind.defects or placed.defects or malformed:
            self._note(block, kind, placed, malformed, path)
        encoding = self._encoding(content, path) if "content-transfer-encoding" in content else "7bit"
        charset = (kind.get("charset") or "").strip().lower()
        if charset and media.startswith("text/"):
            self._look_at_charset(charset, path)
        sealed = sealed or media in _SEALED or (media == "text/plain" and self._is_inline_pgp(body))
        boundary, found = "", None
        children: tuple[Part, ...] = ()
        if multipart:
            boundary = (kind.get("boundary") or "").rstrip()
            found = self._split(kind, boundary, body, path, outer, encoding)
            if found:
                children = self._children(found, prefix, media, (*outer, boundary), sealed)
                self._look_at_odd_lines(found, children, path)
        elif media.startswith("message/"):
            children = self._nested(media, body, path, encoding, outer, sealed)
        names = _names(kind, placed) if placed.parameters or kind.get("name") else ()
        return Part(
            path, block.header, body, block.fields, media, kind.parameters, charset, encoding, placed.head,
            names[0] if names else "", names, boundary, children, sealed,
            Span(body.start, found.preamble_end) if found else Span(body.start, body.start),
            found.epilogue if found else Span(body.end, body.end),
        )  # fmt: skip

    def _note(self, block: HeaderBlock, kind: Structured, placed: Structured, malformed: bool, path: str) -> None:
        for code, offset, detail in block.notes:
            self.defect(code, path, offset, detail)
        for code, detail in (*kind.defects, *placed.defects):
            self.defect(code, path, block.header.start, detail)
        if malformed:
            self.defect(DefectCode.MALFORMED_CONTENT_TYPE, path, block.header.start)

    def _encoding(self, content: dict[str, bytes], path: str) -> str:
        raw = content["content-transfer-encoding"]
        encoding = raw.strip().lower().decode("latin-1")
        if encoding in _PLAIN or encoding in _CODED:
            return encoding
        encoding = strip_comments(encoding).partition(";")[0].strip().strip('"')
        if encoding in _AS_IT_STANDS:
            return "8bit"
        if encoding not in _PLAIN and encoding not in _CODED:
            self.defect(DefectCode.BAD_ENCODING, path, -1)
        return encoding

    def _look_at_charset(self, charset: str, path: str) -> None:
        if codec_of(charset) is None:
            self.defect(DefectCode.UNKNOWN_CHARSET, path)
        elif is_unsafe(charset):
            self.defect(DefectCode.UNSAFE_CHARSET, path)

    def _is_inline_pgp(self, body: Span) -> bool:
        """True when a line of the body opens a PGP block (RFC 9580 section 6.2)."""
        for needle in _INLINE_PGP:
            at = self.buffer.find(needle, body.start, body.end)
            while at > body.start and self.buffer[at - 1] != 10:
                at = self.buffer.find(b"\n" + needle, at, body.end)
                at = at + 1 if at >= 0 else -1
            if at >= 0:
                return True
        return False

    def _nested(
        self, media: str, body: Span, path: str, encoding: str, outer: tuple[str, ...], sealed: bool
    ) -> tuple[Part, ...]:
        """The message inside message/rfc822 and message/global (RFC 6532 section 3.7)."""
        if media == "message/partial":
            self.defect(DefectCode.MESSAGE_PARTIAL, path, body.start)
        elif media == "message/external-body":
            self.defect(DefectCode.EXTERNAL_BODY, path, body.start)
        if media not in _NESTED:
            return ()
        if encoding in _CODED:
            self.defect(DefectCode.ENCODED_MESSAGE, path, body.start)
            return ()
        if not self._room(path, body.start, outer):
            return ()
        return (self.part(body, path, True, "text/plain", (*outer, ""), sealed),)

    def _room(self, path: str, offset: int, outer: tuple[str, ...]) -> bool:
        if len(outer) + 2 > self.limits.max_depth:
            self.defect(DefectCode.TOO_DEEP, path, offset)
            return False
        if self.parts_left <= 0:
            self.defect(DefectCode.TOO_MANY_PARTS, path, offset)
            return False
        return True

    def _split(
        self, kind: Structured, boundary: str, body: Span, path: str, outer: tuple[str, ...], encoding: str
    ) -> _Delimiters | None:
        """Find the parts of a multipart; None when it cannot be split."""
        if not boundary:
            self.defect(DefectCode.MISSING_BOUNDARY, path, body.start)
            return None
        if boundary != kind.get("boundary") or not _BOUNDARY.match(boundary):
            self.defect(DefectCode.MALFORMED_BOUNDARY, path, body.start)
        if boundary in outer:
            self.defect(DefectCode.BOUNDARY_REPEATED, path, body.start)
        harmless = encoding == "quoted-printable" and not _OTHER_DELIMITER.search(self.buffer, body.start, body.end)
        if encoding in _CODED and not harmless:  # quoted-printable that changes no delimiter is only sloppy
            self.defect(DefectCode.ENCODED_MULTIPART, path, body.start)
        if not self._room(path, body.start, outer):
            return None
        found = self._search(boundary, body, path)
        if not found.spans:
            self.defect(DefectCode.NO_DELIMITER, path, body.start)
            return None
        if not found.closed and not found.limited:
            self.defect(DefectCode.UNTERMINATED_MULTIPART, path, body.end)
        if found.repeated >= 0:
            self.defect(DefectCode.PARTS_AFTER_CLOSE, path, found.repeated)
        elif found.epilogue.size and _NOT_BLANK.search(self.buffer, found.epilogue.start, found.epilogue.end):
            self.defect(DefectCode.EPILOGUE_TEXT, path, found.epilogue.start)
        return found

    def _search(self, boundary: str, body: Span, path: str) -> _Delimiters:
        """Find all delimiter lines of a boundary in a body (RFC 2046 section 5.1.1)."""
        needle = b"\n--" + boundary.encode("utf-8", "surrogateescape")
        found = _Delimiters(body)
        buffer, end = self.buffer, body.end
        opened = -1
        at = _find_first(buffer, needle, body)
        while at is not None:
            line = at + len(needle)
            match = _TAIL.match(buffer, line, end)
            if match is None:
                at = self._after_odd(found, needle, at, end)
                continue
            stop = at - 1 if at > body.start and buffer[at - 1] == 13 else at
            if opened < 0:
                found.preamble_end = max(stop, body.start)
            else:
                found.spans.append(Span(opened, max(stop, opened)))
            if not match[1] and len(found.spans) >= self.parts_left:
                self.defect(DefectCode.TOO_MANY_PARTS, path, at)
                found.limited = True
                opened = found.spans.pop().start
                break
            opened = match.end()
            if match[1]:
                found.closed = True
                break
            at = _or_none(buffer.find(needle, max(opened - 1, line), end))
        if found.closed:
            found.epilogue = Span(opened, end)
            found.repeated = buffer.find(needle, opened - 1, end)
        elif opened >= 0:
            found.spans.append(Span(opened, end))
        return found

    def _after_odd(self, found: _Delimiters, needle: bytes, at: int, end: int) -> int | None:
        """The next place to look after a line that only begins like a delimiter."""
        found.odd.append(at)
        line = at + len(needle)
        if len(found.odd) < _MANY:
            return _or_none(self.buffer.find(needle, line, end))
        # So many of them are an attack on the loop: one compiled search passes them all.
        match = re.compile(re.escape(needle) + rb"(?:--)?[ \t]*+(?:\r?\n|\Z)").search(self.buffer, line, end)
        return match.start() if match else None

    def _children(
        self, found: _Delimiters, prefix: str, media: str, outer: tuple[str, ...], sealed: bool
    ) -> tuple[Part, ...]:
        default = "message/rfc822" if media == "multipart/digest" else "text/plain"
        head = f"{prefix}." if prefix else ""
        children: list[Part] = []
        for number, span in enumerate(found.spans, 1):
            if self.parts_left <= 0 and children:
                self.defect(DefectCode.TOO_MANY_PARTS, f"{head}{number}", span.start)
                children.append(_remainder(f"{head}{number}", Span(span.start, found.spans[-1].end), sealed))
                break
            children.append(self.part(span, f"{head}{number}", False, default, outer, sealed))
        return tuple(children)

    def _look_at_odd_lines(self, found: _Delimiters, children: tuple[Part, ...], path: str) -> None:
        """Report lines that begin like a delimiter, unless they are delimiters of a part inside."""
        if not found.odd:
            return
        if len(found.odd) >= _MANY:
            self.defect(DefectCode.BOUNDARY_AMBIGUOUS, path, found.odd[0] + 1)
            return
        inner = {part.boundary.encode("utf-8") for child in children for part in child.walk() if part.boundary}
        for at in found.odd:
            if not any(self._is_delimiter(at, boundary) for boundary in inner):
                self.defect(DefectCode.BOUNDARY_AMBIGUOUS, path, at + 1)
                return

    def _is_delimiter(self, at: int, boundary: bytes) -> bool:
        tail = at + 3 + len(boundary)
        return self.buffer[at + 3 : tail] == boundary and _TAIL.match(self.buffer, tail) is not None

    def look_at_line_ends(self) -> None:
        """Report NUL, CR without LF, and LF without CR in a message that otherwise uses CRLF."""
        found = line_ends(self.buffer)
        if found.nul:
            self.defect(DefectCode.NUL, "", self.buffer.find(b"\0"))
        if found.bare_cr:
            self.defect(DefectCode.BARE_CR, "")
        if found.pair and found.bare_lf:
            self.defect(DefectCode.BARE_NEWLINE, "")


def _remainder(path: str, span: Span, sealed: bool) -> Part:
    """What the limit on parts leaves unread, as one text, so that who reads texts sees it."""
    begin, end = Span(span.start, span.start), Span(span.end, span.end)
    return Part(path, begin, span, (), "text/plain", encoding="binary", sealed=sealed, preamble=begin, epilogue=end)


def _or_none(at: int) -> int | None:
    return at if at >= 0 else None


def _find_first(buffer: Buffer, needle: bytes, body: Span) -> int | None:
    """The LF before the first candidate. A body that opens with a delimiter has the LF of the empty line before it."""
    return _or_none(buffer.find(needle, max(body.start - 1, 0), body.end))


def _media_of(kind: Structured, default: str) -> tuple[str, bool]:
    if not kind.head and kind is _NO_VALUE:
        return default, False
    media = media_type(kind.head)
    return (media, False) if media else ("text/plain", True)


def _path_of(prefix: str, message: bool, multipart: bool) -> str:
    if not message:
        return prefix
    if multipart:
        return f"{prefix}.TEXT" if prefix else ""
    return f"{prefix}.1" if prefix else "1"


def _names(kind: Structured, placed: Structured) -> tuple[str, ...]:
    """All distinct file names, the preferred first (RFC 2183 section 2.3, then the older ``name``)."""
    names = [value for key, value in placed.parameters if key == "filename"]
    names += [value for key, value in kind.parameters if key == "name"]
    names += [value for key, value in placed.loose if key == "filename"]
    names += [value for key, value in kind.loose if key == "name"]
    return tuple(dict.fromkeys(decode_words(name) for name in names if name))
