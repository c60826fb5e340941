"""What a server's reply to EHLO says that it can do (RFC 5321 section 4.1.1.1).

Refuses nothing: unknown words are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.model.reply import Reply

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The keywords of one EHLO reply. The default value is a server that knows HELO alone."""

    name: str = ""
    """What the server calls itself, in small letters."""
    keywords: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """Keyword in upper case -> its parameters as written, ``""`` when it has none."""
    size: int | None = None
    """Largest message in octets (RFC 1870); None when not offered or without a fixed limit."""
    pipelining: bool = False
    smtputf8: bool = False
    eightbitmime: bool = False
    dsn: bool = False
    chunking: bool = False
    starttls: bool = False
    xforward: frozenset[str] = frozenset()
    """Attributes that XFORWARD takes, upper case."""
    secure: bool = False
    """True when this EHLO was said inside TLS."""

    def offers(self, keyword: str) -> bool:
        """True when the server offers ``keyword`` (upper case)."""
        return keyword in self.keywords

    @classmethod
    def of(cls, reply: Reply, *, secure: bool = False) -> "Capabilities":
        """From a positive reply to EHLO; its first line is the server's name."""
        keywords = {}
        for line in reply.lines[1:]:
            word, _, parameters = line.strip().replace("=", " ", 1).partition(" ")
            if word:
                keywords[word.upper()] = parameters.strip()
        size = keywords.get("SIZE", "")
        return cls(
            name=reply.lines[0].strip().partition(" ")[0].lower(),
            keywords=MappingProxyType(keywords),
            size=(int(size) or None) if size.isascii() and size.isdigit() and len(size) <= 20 else None,
            pipelining="PIPELINING" in keywords,
            smtputf8="SMTPUTF8" in keywords,
            eightbitmime="8BITMIME" in keywords,
            dsn="DSN" in keywords,
            chunking="CHUNKING" in keywords,
            starttls="STARTTLS" in keywords,
            xforward=frozenset(keywords.get("XFORWARD", "").upper().split()),
            secure=secure,
        )
