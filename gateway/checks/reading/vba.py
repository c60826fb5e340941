"""Macros of Office: the source of VBA modules, and what of it runs by itself.

MS-OVBA unpacked by our own hands: oletools would bring a library under the GPL along. Modules are found by what they
hold, not by what the project's directory says of them, so that a directory made to deceive hides nothing. Refuses to
run, to judge, and to read compiled code (p-code), which may differ from the source.
"""

import re
from collections.abc import Iterator

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Text
from gateway.mime.charsets import to_text

_SIGNATURE, _CHUNK = 0x01, 4096
_CONTAINER = re.compile(rb"\x01[\s\S][\xb0-\xbf]\x00[Aa]ttribut", re.DOTALL)
"""A compressed container (section 2.4.1.1.1) whose first chunk begins with «Attribut», as every module does."""
_ANY_CONTAINER = re.compile(rb"\x01[\s\S][\xb0-\xbf\x30-\x3f]")
_MOST_TRIED = 10
_PROBED = 65_536
"""Octets that are unpacked to see whether something is a module."""
_LONGEST = 16 * 1024 * 1024
_CODE = re.compile(rb"\b(?:sub|function|attribute vb_)\b", re.IGNORECASE)
_RUNS_ITSELF = re.compile(
    r"^[ \t]*(?:(?:public|private|friend)[ \t]+)?(?:static[ \t]+)?sub[ \t]+"
    r"(auto(?:exec|_?open|_?close|exit|new|_?activate|_?deactivate)"
    r"|(?:document|workbook)_?(?:open|close|new|activate|deactivate|beforeclose|beforesave|beforeprint)"
    r"|documentopen|documentbeforeclose|documentchange|newdocument|workbook_sheet(?:activate|calculate|change)"
    r"|worksheet_(?:activate|calculate|change)|\w+_(?:layout|painted|painting|gotfocus|lostfocus|mouse(?:move|hover)"
    r"|beforenavigate\d?|documentcomplete|downloadcomplete|navigatecomplete\d?|onconnecting|resize|initialize))"
    r"[ \t]*\(",
    re.IGNORECASE | re.MULTILINE,
)
"""Procedures that Word, Excel or a control calls without being told (names as they are documented for each)."""


def modules(stream: bytes) -> Iterator[bytes]:
    """The source of each module that stands in a stream of a project's VBA folder."""
    found = False
    for match in _CONTAINER.finditer(stream):
        found = True
        yield decompressed(stream, match.start())
    if found:
        return
    for number, match in enumerate(_ANY_CONTAINER.finditer(stream)):
        if number >= _MOST_TRIED:
            return
        try:
            source = decompressed(stream, match.start(), _PROBED)
        except MalformedError:
            continue
        if len(source) > 16 and _CODE.search(source):
            yield decompressed(stream, match.start())
            return


def macros_in(name: str, stream: bytes, budget: Budget) -> Iterator[Item]:
    """Text and facts of one stream of a VBA folder. ``name``: the stream's, small letters."""
    if name in ("dir", "_vba_project") or name.startswith("__srp_"):
        return
    for source in modules(stream):
        budget.unpack(len(source))
        budget.check_time()
        text = to_text(source)
        yield Text(f"macros, module {name[:40]}", text)
        itself = dict.fromkeys(match[1].lower() for match in _RUNS_ITSELF.finditer(text))
        if itself:
            yield Fact(FactCode.OFFICE_AUTOEXEC, ", ".join(itself)[:100])


def decompressed(data: bytes, at: int = 0, most: int = _LONGEST) -> bytes:
    """A compressed container (MS-OVBA section 2.4.1.3.1), up to where it ends or is damaged, or about ``most`` octets.

    Raises :class:`MalformedError` when no container begins there.
    """
    if at >= len(data) or data[at] != _SIGNATURE:
        raise MalformedError("VBA container")
    out = bytearray()
    at += 1
    while at + 2 <= len(data) and len(out) < most:
        header = int.from_bytes(data[at : at + 2], "little")
        if header >> 12 & 7 != 3:
            break
        end = min(at + (header & 0xFFF) + 3, len(data))
        if header & 0x8000:
            _chunk(data, at + 2, end, out)
        else:
            out += data[at + 2 : min(at + 2 + _CHUNK, end)]
        at = end
    if not out:
        raise MalformedError("VBA container")
    return bytes(out)


def _chunk(data: bytes, at: int, end: int, out: bytearray) -> None:
    """One chunk's tokens; stops at a token that points before the chunk."""
    start = len(out)
    while at < end:
        flags = data[at]
        at += 1
        for bit in range(8):
            if at >= end or len(out) - start > 2 * _CHUNK:
                return
            if not flags >> bit & 1:
                out.append(data[at])
                at += 1
                continue
            token = int.from_bytes(data[at : at + 2], "little")
            at += 2
            bits = max(4, (len(out) - start - 1).bit_length()) if len(out) > start else 4
            length, back = (token & 0xFFFF >> bits) + 3, (token >> 16 - bits) + 1
            if back > len(out) - start:
                return
            piece = out[-back:]
            out += (piece * (length // back + 1))[:length]
