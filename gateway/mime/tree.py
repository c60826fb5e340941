"""The values that parsing yields: spans, fields, parts, defects, limits.

Everything is an offset into the buffer that was parsed; nothing here holds a body. Values are picklable, so a tree
read in an inspection process can travel. Refuses limits that recursion could not honour.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

Buffer = bytes | mmap.mmap
"""A whole message: immutable octets that can be searched without a copy."""


class Span(NamedTuple):
    """A half-open range of octets, ``start <= end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Octets."""
        return self.end - self.start


_NOWHERE = Span(0, 0)


class Field(NamedTuple):
    """One header field, by offsets. A tuple, not a dataclass: thousands are made for one message."""

    name: str
    """Lower case, ASCII. The spelling in the message stands at ``span.start``."""
    start: int
    value_start: int
    value_end: int
    end: int

    @property
    def span(self) -> Span:
        """The whole field with its line ending, from the name's first octet on."""
        return Span(self.start, self.end)

    @property
    def value(self) -> Span:
        """After the colon, folds included, without the final line ending."""
        return Span(self.value_start, self.value_end)


class DefectCode(StrEnum):
    """What can be wrong with a message. Codes are stable: rules name them."""

    MALFORMED_FIELD = "malformed-field"
    """White space before the colon, or no name before it."""
    MISSING_SEPARATOR = "missing-separator"
    """The header ends at a line that is no field, without an empty line: others may read on."""
    WHITESPACE_LINE = "whitespace-line"
    """A header line of white space only: a fold to some, the end of the header to others."""
    MBOX_FROM = "mbox-from"
    """A ``From `` line of an mbox file stands before the header."""
    HEADER_TOO_LARGE = "header-too-large"
    """All header blocks together reach the limit; the rest of the block is read as body."""
    TOO_MANY_FIELDS = "too-many-fields"
    """All header blocks together hold more fields than the limit; the rest of the block is read as body."""
    EIGHT_BIT_IN_HEADER = "8bit-in-header"
    """Octets over 127 in a header that are not UTF-8 (RFC 6532)."""
    NUL = "nul"
    """An octet 0 somewhere in the message."""
    BARE_NEWLINE = "bare-newline"
    """LF alone in a message that otherwise uses CRLF."""
    BARE_CR = "bare-cr"
    """CR without LF: the end of a line to some readers."""
    DUPLICATE_FIELD = "duplicate-field"
    """A field that RFC 5322 section 3.6 allows once stands twice (From, Subject, To …)."""
    DUPLICATE_CONTENT_TYPE = "duplicate-content-type"
    """The first is read; some readers take the last."""
    DUPLICATE_CONTENT_TRANSFER_ENCODING = "duplicate-content-transfer-encoding"
    """The first is read; some readers take the last."""
    DUPLICATE_CONTENT_DISPOSITION = "duplicate-content-disposition"
    """The first is read; some readers take the last."""
    DUPLICATE_PARAMETER = "duplicate-parameter"
    """One parameter with two different values."""
    MALFORMED_CONTENT_TYPE = "malformed-content-type"
    """No ``type/subtype``; read as text/plain (RFC 2045 section 5.2)."""
    MALFORMED_PARAMETER = "malformed-parameter"
    """Unclosed quotes, spaces without quotes, gaps in continuations, text that is no parameter."""
    MALFORMED_BOUNDARY = "malformed-boundary"
    """Outside RFC 2046 section 5.1.1: over 70 characters, foreign characters, white space at the end; or RFC 2231."""
    MISSING_BOUNDARY = "missing-boundary"
    """A multipart without one: there are no parts."""
    NO_DELIMITER = "no-delimiter"
    """The boundary never occurs: there are no parts."""
    UNTERMINATED_MULTIPART = "unterminated-multipart"
    """No closing delimiter; the last part goes on to the end."""
    BOUNDARY_REPEATED = "boundary-repeated"
    """A multipart uses the boundary of one that it stands in."""
    BOUNDARY_AMBIGUOUS = "boundary-ambiguous"
    """A line begins with a delimiter and goes on (RFC 2046 lets a reader take it for one)."""
    PARTS_AFTER_CLOSE = "parts-after-close"
    """Delimiters after the closing one: hidden to some readers, parts to others."""
    EPILOGUE_TEXT = "epilogue-text"
    """Something else than white space after the closing delimiter."""
    ENCODED_MULTIPART = "encoded-multipart"
    """base64 on a multipart, or quoted-printable that could change a delimiter (RFC 2045 section 6.4 forbids both).

    Read as if it were not."""
    ENCODED_MESSAGE = "encoded-message"
    """base64 or quoted-printable on a nested message: not parsed in place."""
    MESSAGE_PARTIAL = "message-partial"
    """A fragment (RFC 2046 section 5.2.2): the whole is never seen by one inspection."""
    EXTERNAL_BODY = "external-body"
    """The content lies elsewhere (RFC 2046 section 5.2.3) and is fetched by whoever opens the message."""
    BAD_ENCODING = "bad-encoding"
    """A transfer encoding that nobody defines; the body is read as it stands."""
    UNKNOWN_CHARSET = "unknown-charset"
    """Read as UTF-8 when valid, else as Latin-1."""
    UNSAFE_CHARSET = "unsafe-charset"
    """utf-7 and its like, which hide text from readers that do not follow them."""
    TOO_DEEP = "too-deep"
    """More levels than the limit; the innermost part is not taken apart."""
    TOO_MANY_PARTS = "too-many-parts"
    """More parts than the limit; the last one holds the rest."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong, and where."""

    code: DefectCode
    part: str = ""
    """Path of the part, ``""`` for the message as a whole or its root multipart."""
    offset: int = -1
    """Octet offset in the buffer, -1 when it has none."""
    detail: str = ""
    """A field or parameter name; never content."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one parse may cost. Reaching a limit is a defect; octets beyond it belong to a body."""

    max_depth: int = 20
    """Levels of multipart and nested message; the root is 1. At most 200."""
    max_parts: int = 1000
    """Parts in all, containers included; what is left then is one more part a level, not taken apart."""
    max_header_bytes: int = 1_048_576
    """Octets of all header blocks together."""
    max_fields: int = 100_000
    """Header fields of all header blocks together."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= 200 or self.max_parts < 1 or self.max_header_bytes < 0 or self.max_fields < 0:
            raise ValueError("limits: max_depth is 1 to 200, max_parts at least 1, the others not negative")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message. Offsets are absolute in the parsed buffer."""

    path: str
    """As in IMAP: the root leaf is ``1``, children ``1``, ``2``, ``1.2``; the root multipart is ``""``; the multipart
    root of a message nested at ``2`` is ``2.TEXT`` with children ``2.1`` …, its leaf root is ``2.1``."""
    header: Span
    """All fields with their line endings, without the empty line."""
    body: Span
    """Without the line ending that belongs to the next delimiter (RFC 2046 section 5.1.1)."""
    fields: tuple[Field, ...]
    media_type: str
    """``type/subtype``, lower case; the default of RFC 2045 section 5.2 when absent or malformed."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Of Content-Type: lower-case name and decoded value (RFC 2231, 2047)."""
    charset: str = ""
    """Lower case, ``""`` when not declared."""
    encoding: str = "7bit"
    """Content-Transfer-Encoding, lower case."""
    disposition: str = ""
    """``inline``, ``attachment`` …, lower case; ``""`` when absent."""
    filename: str = ""
    """The first of ``filenames``, ``""`` when there is none."""
    filenames: tuple[str, ...] = ()
    """Every distinct name that some reader would show: filename*, filename, name*, name, and both readings of a
    name that is not quoted but holds spaces."""
    boundary: str = ""
    children: tuple["Part", ...] = field(default=(), repr=False)
    sealed: bool = False
    """Is or stands inside multipart/signed, multipart/encrypted, S/MIME or PGP: never to be altered."""
    preamble: Span = _NOWHERE
    """Of a multipart: before its first delimiter."""
    epilogue: Span = _NOWHERE
    """Of a multipart: after its closing delimiter."""

    @property
    def is_multipart(self) -> bool:
        """True for multipart/*, split or not."""
        return self.media_type.startswith("multipart/")

    @property
    def is_text(self) -> bool:
        """True for text/*."""
        return self.media_type.startswith("text/")

    def parameter(self, name: str) -> str | None:
        """The first value of a Content-Type parameter; ``name`` in lower case."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None

    def walk(self) -> Iterator["Part"]:
        """This part and all below it, in the order of the message."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message."""

    root: Part
    defects: tuple[Defect, ...] = ()
    newline: bytes = b"\r\n"
    """The line ending that the message uses: that of its first line."""

    def walk(self) -> Iterator[Part]:
        """All parts in the order of the message, containers before what they hold."""
        return self.root.walk()

    def part(self, path: str) -> Part | None:
        """The part at a path, None when there is none."""
        return next((part for part in self.walk() if part.path == path), None)
