"""Reads SMTP replies (RFC 5321 section 4.2) from bytes as they come, without I/O.

Refuses whatever is not a reply: a code that is not 200…599, a line not ended by CRLF, a bare CR or a NUL, another code
in a continuation line, lines and replies without end. What is refused can never be mistaken for an answer: the parser
stays broken from then on.
"""

from gateway.errors import NextHopError
from gateway.model.reply import Reply

MAX_LINE = 4096
"""Octets of a line with its CRLF. RFC 5321 section 4.5.3.1.5 says 512; real servers put whole sentences and URLs."""
MAX_LINES = 256
"""Lines of one reply; the longest honest one is that to EHLO."""

# RFC 5321 section 4.2 allows 2…5 and 0…5 in the first two digits; «571» and its like are seen in the wild.
_CODES = {b"%d" % code: code for code in range(200, 600)}
_CONTROLS = dict.fromkeys((*range(32), 127), "?") | {9: " "}


class ReplyError(NextHopError):
    """The octets are not an SMTP reply. ``before`` holds the replies that were complete before the fault."""

    def __init__(self, detail: str, before: tuple[Reply, ...] = ()) -> None:
        super().__init__(detail)
        self.before = before


class ReplyParser:
    """One direction of one connection.

    ``feed`` returns the replies that the octets complete, as ``Reply(code, "", lines)`` with the enhanced status code,
    if any, left inside the lines. The same octets give the same replies however they are split.
    """

    __slots__ = ("_code", "_fault", "_lines", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []
        self._code = 0
        self._fault = ""

    @property
    def pending(self) -> bool:
        """True when part of a reply has been read and its end has not."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies completed by ``data``. Raises :class:`ReplyError` at the first fault, and ever after."""
        if not self._rest and not self._lines and not self._fault and data.find(b"\n") == len(data) - 1 < MAX_LINE:
            code = _CODES.get(data[:3])
            if code is not None and data[3:4] == b" " and data.find(b"\r") == len(data) - 2:
                text = data[4:-2].decode("utf-8", "surrogateescape")
                if text.isprintable():
                    return [Reply(code, "", (text,))]
        return self._slow(data)

    def _slow(self, data: bytes) -> list[Reply]:
        replies: list[Reply] = []
        if self._rest:
            data = self._rest + data
        start = 0
        try:
            if self._fault:
                raise ReplyError(self._fault)
            while (end := data.find(b"\n", start)) >= 0:
                self._line(data[start : end + 1], replies)
                start = end + 1
            self._rest = data[start:]
            if len(self._rest) >= MAX_LINE:
                raise ReplyError(f"reply line longer than {MAX_LINE} octets")
        except ReplyError as error:
            self._fault, self._rest = error.detail, b""
            raise ReplyError(error.detail, tuple(replies)) from None
        return replies

    def _line(self, line: bytes, replies: list[Reply]) -> None:
        code = _CODES.get(line[:3])
        mark = line[3:4]
        if len(line) > MAX_LINE:
            raise ReplyError(f"reply line longer than {MAX_LINE} octets")
        if code is None or mark not in (b" ", b"-", b"\r"):
            raise ReplyError(f"not an SMTP reply: {line[:40]!r}")
        if line.find(b"\r") != len(line) - 2:
            raise ReplyError(f"reply line not ended by CRLF: {line[:40]!r}")
        if self._lines and code != self._code:
            raise ReplyError(f"reply changes its code from {self._code} to {code}")
        if b"\0" in line:
            raise ReplyError("NUL in a reply")
        self._code = code
        self._lines.append(_text(line[4:-2]))
        if mark != b"-":
            replies.append(Reply(code, "", tuple(self._lines)))
            self._lines = []
        elif len(self._lines) >= MAX_LINES:
            raise ReplyError(f"reply longer than {MAX_LINES} lines")


def _text(raw: bytes) -> str:
    """The line's text; octets that are not UTF-8 survive as surrogates, control characters become ``?``."""
    text = raw.decode("utf-8", "surrogateescape")
    return text if text.isprintable() else text.translate(_CONTROLS)
