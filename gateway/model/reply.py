"""An SMTP reply (RFC 5321 section 4.2) with its enhanced status code (RFC 3463)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client reads. ``lines`` are free of CR, LF and control characters; ``encode`` makes the wire form."""

    code: int
    enhanced: str
    """``X.Y.Z`` or ``""`` (greeting, EHLO, 354: RFC 2034 section 4)."""
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, enhanced: str, text: str) -> "Reply":
        """Build from one text; line feeds separate lines, other control characters become ``?``."""
        rows = tuple(_printable(row) for row in text.split("\n")) or ("",)
        return cls(code, enhanced, rows)

    @property
    def positive(self) -> bool:
        """True for 2yz."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """True for 4yz."""
        return 400 <= self.code < 500

    @property
    def text(self) -> str:
        """All lines in one, for logs and notices."""
        return " ".join(self.lines)

    def encode(self) -> bytes:
        """Wire form, each line with code and enhanced code, CRLF ended."""
        head = f"{self.enhanced} " if self.enhanced else ""
        if len(self.lines) == 1:
            return f"{self.code} {head}{self.lines[0]}\r\n".encode("utf-8", "surrogateescape")
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{'-' if n < last else ' '}{head}{row}\r\n" for n, row in enumerate(self.lines)
        ).encode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced + ' ' if self.enhanced else ''}{self.text}"


def _printable(row: str) -> str:
    if row.isprintable():
        return row
    return "".join(c if c >= " " and c != "\x7f" else "?" for c in row)
