"""The messages that are sent: clean mail between people, the same octets in every run.

Prose with numbers and mixed case, not one letter repeated: a scanner that skips long runs, or a virus scanner that
normalises text, would otherwise look faster than it is. Refuses sizes too small for a header and a signature block.
"""

import base64
import random
import textwrap
from dataclasses import dataclass
from pathlib import Path

SENDER = "clerk@city.example"
RECIPIENT = "partner@elsewhere.example"
"""Outbound: the direction in which the default rules ask the most."""

_PROSE = """
the council meeting budget report street library permit building contract schedule inspection water park road
department review estimate proposal crossing bridge signal drainage resident neighbour calendar invoice survey
of and for with from about before after during between will should could please send attached revised final draft
Monday Tuesday Thursday March October North Main Oak Avenue City Hall Public Works Parks
"""
_WORDS = tuple(_PROSE.split())
_BOUNDARY = "=_civicgate-bench-7f3a"


@dataclass(frozen=True, slots=True)
class Size:
    """One column of the measurements. ``octets`` is the size on the wire, CRLF line ends included."""

    name: str
    octets: int
    sessions: int
    """Parallel SMTP sessions."""
    first: int
    """Messages of the first, short run, from which the number for the measured ones is reckoned."""


SIZES = (
    Size("2 KB", 2 * 1024, 20, 200),
    Size("100 KB", 100 * 1024, 20, 60),
    Size("10 MB", 10 * 1024 * 1024, 4, 4),
    Size("45 MB", 45 * 1024 * 1024, 4, 4),
)


def content(size: Size) -> bytes:
    """The whole message with LF line ends (smtp-source makes them CRLF); ``octets`` of it with CRLF, give or take 80.

    Raises ValueError below 1,000 octets.
    """
    if size.octets < 1000:
        raise ValueError("too small for a message")
    rng = random.Random(size.octets)
    if size.octets > 1_000_000:
        return _with_attachments(size.octets, rng)
    return _alternative(size.octets, rng) if size.octets > 20_000 else _plain(size.octets, rng)


def write(folder: Path, size: Size) -> Path:
    """Put it into a file for ``smtp-source -F``."""
    path = folder / f"{size.octets}.eml"
    path.write_bytes(content(size))
    return path


def wire_size(message: bytes) -> int:
    """Octets on the wire of a message with LF line ends (dot-stuffing left out)."""
    return len(message) + message.count(b"\n")


def _header(rng: random.Random, kind: str) -> str:
    return (
        f"From: Chris Clerk <{SENDER}>\nTo: A Partner <{RECIPIENT}>\n"
        f"Subject: {_sentence(rng)[:60]}\nDate: Thu, 19 Nov 2026 09:12:44 +0100\n"
        f"Message-ID: <{rng.getrandbits(64):x}@city.example>\nMIME-Version: 1.0\n{kind}\n"
    )


def _sentence(rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randrange(6, 16))]
    if rng.random() < 0.4:
        words.insert(rng.randrange(len(words)), str(rng.randrange(10, 4000)))
    if rng.random() < 0.1:
        words.append(f"({rng.randrange(200, 999)}-{rng.randrange(1000, 9999)})")
    text = " ".join(words)
    return text[0].upper() + text[1:] + rng.choice((".", ".", ".", "?", ";"))


def prose(octets: int, rng: random.Random) -> str:
    """Paragraphs of at least so many octets with CRLF, then cut at a line's end."""
    lines: list[str] = []
    have = 0
    while have < octets:
        paragraph = " ".join(_sentence(rng) for _ in range(rng.randrange(2, 6)))
        for line in (*textwrap.wrap(paragraph, 72), ""):
            lines.append(line)
            have += len(line) + 2
    while lines and have > octets:
        have -= len(lines.pop()) + 2
    return "\n".join(lines) + "\n"


_SIGNATURE = "\n-- \nChris Clerk\nCity of Example, City Administration\n"
_TEXT = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"


def _plain(octets: int, rng: random.Random) -> bytes:
    header = _header(rng, _TEXT.rstrip("\n"))
    room = octets - wire_size((header + _SIGNATURE).encode())
    return (header + "\n" + prose(room - 2, rng) + _SIGNATURE).encode()


def _html(text: str) -> str:
    paragraphs = "\n".join(f'<p style="margin:0 0 1em">{piece}</p>' for piece in text.split("\n\n"))
    return f'<!DOCTYPE html>\n<html><body style="font-family:sans-serif">\n{paragraphs}\n</body></html>\n'


def _alternative(octets: int, rng: random.Random) -> bytes:
    header = _header(rng, f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"')
    text = prose(int(octets * 0.468), rng) + _SIGNATURE
    return _multipart(header, [_TEXT + "\n" + text, _TEXT.replace("plain", "html") + "\n" + _html(text)])


def _with_attachments(octets: int, rng: random.Random) -> bytes:
    """A text and two photographs; what is in them is noise behind a JPEG's first octets."""
    header = _header(rng, f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"')
    parts = [_TEXT + "\n" + prose(2000, rng) + _SIGNATURE]
    room = (octets - 3500) // 2 * 57 // 78
    for number in (1, 2):
        photo = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + rng.randbytes(room)
        parts.append(
            f"Content-Type: image/jpeg; name=crossing-{number}.jpg\nContent-Transfer-Encoding: base64\n"
            f"Content-Disposition: attachment; filename=crossing-{number}.jpg\n\n"
            + base64.encodebytes(photo).decode("ascii")
        )
    return _multipart(header, parts)


def _multipart(header: str, parts: list[str]) -> bytes:
    return (header + "".join(f"\n--{_BOUNDARY}\n{part}" for part in parts) + f"\n--{_BOUNDARY}--\n").encode()
