"""Text of Word 97 documents and PowerPoint 97 presentations, from their binary streams, and the latter's objects.

Word: the piece table, so that text comes in the order of the document, footnotes, comments, headers and text boxes
behind it. PowerPoint: text atoms in the order of the stream. Refuses what has no piece table.
"""

import struct
from collections.abc import Iterator

from gateway.checks.reading.streams import inflated
from gateway.checks.reading.values import MalformedError

_CLX = 0x01A2
_MOST_PIECES = 200_000
_TEXT = 500_000
_SIGNS = {
    **dict.fromkeys((0x0D, 0x0B, 0x0C, 0x0E), "\n"),
    7: "\t",
    **dict.fromkeys((0x13, 0x14, 0x15), " "),
    0x1E: "-",
    0x1F: "",
    **dict.fromkeys((1, 2, 3, 4, 5, 8), " "),
}
_TEXT_CHARACTERS, _TEXT_OCTETS, _STRING = 0x0FA0, 0x0FA8, 0x0FBA
_STORAGE = 0x1011


def word_text(main: bytes, table: bytes) -> Iterator[str]:
    """A document's text. ``main``: stream WordDocument (MS-DOC 2.4.1); ``table``: 0Table or 1Table."""
    start, size = struct.unpack_from("<LL", main, _CLX)
    clx = table[start : start + size]
    at = 0
    while at < len(clx) and clx[at] == 1:
        at += 3 + int.from_bytes(clx[at + 1 : at + 3], "little")
    if at >= len(clx) or clx[at] != 2:
        raise MalformedError("Word document without a piece table")
    count = (int.from_bytes(clx[at + 1 : at + 5], "little") - 4) // 12
    at += 5
    if not 0 < count <= _MOST_PIECES or at + 4 * (count + 1) + 8 * count > len(clx):
        raise MalformedError("piece table")
    places = struct.unpack_from(f"<{count + 1}L", clx, at)
    out: list[str] = []
    length = 0
    for n in range(count):
        place = int.from_bytes(clx[at + 4 * (count + 1) + 8 * n + 2 :][:4], "little")
        characters = min(max(0, places[n + 1] - places[n]), len(main))
        if place & 0x40000000:
            offset = (place & 0x3FFFFFFF) // 2
            text = main[offset : offset + characters].decode("cp1252", "replace")
        else:
            text = main[place : place + 2 * characters].decode("utf-16-le", "replace")
        out.append(text.translate(_SIGNS))
        length += len(text)
        if length > _TEXT:
            yield "".join(out)
            out.clear()
            length = 0
    yield "".join(out)


def slide_text(stream: bytes) -> Iterator[str]:
    """Texts of slides, notes and comments (MS-PPT 2.9.42, 2.9.43, 2.2.22)."""
    at = 0
    out: list[str] = []
    length = 0
    while at + 8 <= len(stream):
        version, kind, size = struct.unpack_from("<HHL", stream, at)
        at += 8
        if version & 15 == 15:  # a container: its records follow
            continue
        if kind in (_TEXT_CHARACTERS, _STRING):
            out.append(stream[at : at + size].decode("utf-16-le", "replace").translate(_SIGNS))
        elif kind == _TEXT_OCTETS:
            out.append(stream[at : at + size].decode("latin-1").translate(_SIGNS))
        else:
            at += size
            continue
        length += len(out[-1])
        at += size
        if length > _TEXT:
            yield "\n".join(out)
            out.clear()
            length = 0
    yield "\n".join(out)


def stored_objects(stream: bytes) -> Iterator[Iterator[bytes]]:
    """Embedded files, controls and the macros' project (MS-PPT 2.10.34): compound files, mostly packed."""
    at = 0
    while at + 8 <= len(stream):
        version, kind, size = struct.unpack_from("<HHL", stream, at)
        at += 8
        if version & 15 == 15:
            continue
        if kind == _STORAGE:
            yield inflated(stream[at + 4 : at + size]) if version >> 4 == 1 else iter((stream[at : at + size],))
        at += size
