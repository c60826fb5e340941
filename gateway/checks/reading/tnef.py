"""TNEF, Outlook's winmail.dat (MS-OXTNEF), and compressed RTF (MS-OXRTFCP).

Text of the message, and its attachments as members. Refuses lengths beyond the file: what came before them counts.
"""

import struct
from collections.abc import Iterator

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.rtf import read_rtf
from gateway.checks.reading.values import Fact, FactCode, Item, Member, Text
from gateway.mime.charsets import to_text
from gateway.mime.hypertext import html_to_text
from gateway.mime.tree import Buffer

_SUBJECT, _BODY, _PROPERTIES = 0x8004, 0x800C, 0x9003
_RENDERING, _DATA, _TITLE, _ATTACHMENT = 0x9002, 0x800F, 0x8010, 0x9005
_TEXTS = frozenset({0x0037, 0x0070, 0x0E1D, 0x1000, 0x0C1A, 0x0042, 0x0E04, 0x0E03, 0x001A})
_FIXED = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_RTF_START = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n"
    b"\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
"""What the window holds at first (MS-OXRTFCP 2.1.3.1)."""


def read_tnef(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Subject, bodies, and attachments."""
    at = 6
    name = ""
    content: tuple[int, int] | None = None
    while at + 9 <= len(data):
        attribute, _, size = struct.unpack_from("<HHL", data, at + 1)
        start, end = at + 9, at + 9 + size
        if end > len(data):
            yield Fact(FactCode.UNREADABLE, "TNEF ends early")
            end = len(data)
        if attribute == _RENDERING:
            yield from _file(data, name, content, budget)
            name, content = "", None
        elif attribute == _TITLE:
            name = name or _string(bytes(data[start:end]))
        elif attribute == _DATA:
            content = (start, end)
        elif attribute in (_SUBJECT, _BODY):
            yield Text("subject" if attribute == _SUBJECT else "", _string(bytes(data[start:end])))
        elif attribute == _PROPERTIES:
            yield from _message(bytes(data[start:end]), budget)
        elif attribute == _ATTACHMENT:
            properties = list(_properties(bytes(data[start:end])))
            name = next((_string(v, wide) for tag, v, wide in properties if tag == 0x3707), name)
            inner = next((v for tag, v, _ in properties if tag == 0x3701), b"")
            if len(inner) > 16 and content is None:  # an object: its interface's id stands first
                yield Member(name or "message", pieces_of(inner, 16 if inner[16:20] == b"\x78\x9f\x3e\x22" else 0))
        at = end + 2
    yield from _file(data, name, content, budget)


def _file(data: Buffer, name: str, content: tuple[int, int] | None, budget: Budget) -> Iterator[Item]:
    if content is not None:
        yield Member(name or "attachment", budget.metered(pieces_of(data, *content)))


def _message(raw: bytes, budget: Budget) -> Iterator[Item]:
    """The message's own properties: its bodies in three forms."""
    for tag, value, wide in _properties(raw):
        yield from body_of(tag, value, wide, budget)


def body_of(tag: int, value: bytes, wide: bool, budget: Budget) -> Iterator[Item]:
    """A property of a message (MS-OXPROPS) as text, when it is one that people read."""
    if tag in _TEXTS:
        yield Text("subject" if tag in (0x0037, 0x0070, 0x0E1D) else "", _string(value, wide))
    elif tag == 0x1013:
        yield Text("", html_to_text(_string(value, wide) if wide else to_text(value)))
    elif tag == 0x1009:
        rtf = uncompressed(value)
        budget.unpack(len(rtf))
        yield from read_rtf(rtf, budget)


def _properties(raw: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Tag, value and whether it is UTF-16, of a MAPI property list. Ends where the list does not make sense."""
    at = 4
    try:
        for _ in range(min(int.from_bytes(raw[:4], "little"), 10_000)):
            kind, tag = struct.unpack_from("<HH", raw, at)
            at += 4
            if tag >= 0x8000:
                at = _named(raw, at)
            single = kind & ~0x1000
            if single in _FIXED and not kind & 0x1000:
                at += _FIXED[single]
                continue
            count = 1
            if single not in _FIXED or kind & 0x1000:
                count = struct.unpack_from("<L", raw, at)[0]
                at += 4
            for _ in range(min(count, 10_000)):
                if single in _FIXED:
                    at += _FIXED[single]
                    continue
                size = struct.unpack_from("<L", raw, at)[0]
                yield tag, raw[at + 4 : at + 4 + size], single == 0x1F
                at += 4 + size + -size % 4
    except struct.error:
        return


def _named(raw: bytes, at: int) -> int:
    """Behind the name of a named property."""
    kind, size = struct.unpack_from("<LL", raw, at + 16)
    return int(at + 24 if kind == 0 else at + 24 + size + -size % 4)


def _string(value: bytes, wide: bool = False) -> str:
    return (value.decode("utf-16-le", "replace") if wide else to_text(value)).rstrip("\0")


def uncompressed(raw: bytes) -> bytes:
    """Compressed RTF. What is damaged ends it early."""
    if len(raw) < 16 or raw[8:12] == b"MELA":
        return raw[16:]
    wanted = int.from_bytes(raw[4:8], "little")
    window = bytearray(_RTF_START.ljust(4096, b"\0"))
    place = len(_RTF_START)
    out = bytearray()
    at = 16
    while at < len(raw) and len(out) < wanted:
        control = raw[at]
        at += 1
        for bit in range(8):
            if at >= len(raw):
                break
            if not control >> bit & 1:
                piece = raw[at : at + 1]
                at += 1
            else:
                word = int.from_bytes(raw[at : at + 2], "big")
                at += 2
                if word >> 4 == place:
                    return bytes(out)
                for n in range((word & 15) + 2):
                    octet = window[((word >> 4) + n) % 4096]
                    window[place] = octet
                    place = (place + 1) % 4096
                    out.append(octet)
                continue
            window[place] = piece[0]
            place = (place + 1) % 4096
            out += piece
    return bytes(out)
