"""What in a document asks other programs or hosts for content: DDE, templates from elsewhere, links.

Looks at the source of parts while others read their text. Refuses to follow anything.
"""

import re
from collections.abc import Iterator

from gateway.checks.reading.values import Fact, FactCode, Item, Link

_INSTRUCTION = re.compile(
    rb"<(?:\w{1,20}:)?instrText(?:\s[^>]{0,200})?>([^<]*)(?=<)|[\s:]instr\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')"
)
_DDE = re.compile(rb"DDEAUTO|(?<![A-Za-z])DDE\s*(?:[\w\"\\&]|\Z)", re.IGNORECASE)
_DDE_IN_WORD = re.compile(rb"\x13[ \t]*DDE|\x13\0(?:[ \t]\0)*D\0D\0E\0", re.IGNORECASE)
_FIELD_IN_RTF = re.compile(rb"\\fldinst")
_CONTROL_IN_RTF = re.compile(rb"\\\*|\\[a-zA-Z]{1,32}-?\d{0,10} ?|[{}\r\n]")
_FIELDS_IN_RTF = 5000
_TEMPLATE_IN_RTF = re.compile(rb"\\\*\\template\s+(?:https?:|\\\\\\\\|\\u)", re.IGNORECASE)
_DDE_LINK = re.compile(rb"<(?:\w{1,20}:)?ddeLink\s", re.IGNORECASE)
_HYPERLINK = re.compile(rb"<[^<>]*/hyperlink[\"'][^<>]*>", re.IGNORECASE)
_TARGET = re.compile(rb"""\sTarget\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_KEPT = 65_536
_MOST = 500


class FieldWatch:
    """Passes the pieces of an XML part on and remembers the instructions of its fields."""

    def __init__(self) -> None:
        self._said: list[bytes] = []
        self._size = 0
        self._linked = False

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, unchanged."""
        rest = b""
        for piece in pieces:
            yield piece
            rest = self._look(rest + piece)[-_KEPT:]

    def _look(self, data: bytes) -> bytes:
        """What must be seen again together with the next piece."""
        if b"nstr" in data:
            for match in _INSTRUCTION.finditer(data):
                if self._size < _KEPT:
                    self._said.append(match[1] or match[2] or match[3] or b"")
                    self._size += len(self._said[-1])
        self._linked = self._linked or (b"ddeLink" in data and _DDE_LINK.search(data) is not None)
        return data[data.rfind(b"<") :] if b"<" in data else b""

    @property
    def asks(self) -> bool:
        """True when a field, however it is cut in pieces, asks by DDE."""
        return self._linked or _DDE.search(b"".join(self._said)) is not None or any(map(_DDE.search, self._said))


def links_in(relations: bytes) -> Iterator[Item]:
    """Hyperlinks of an Office part (ECMA-376 part 2, relationships)."""
    for number, match in enumerate(_HYPERLINK.finditer(relations)):
        target = _TARGET.search(match[0])
        if number >= _MOST:
            return
        if target:
            yield Link((target[1] or target[2] or b"").decode("utf-8", "replace").replace("&amp;", "&"))


def asked_by_word(main: bytes) -> Iterator[Item]:
    """A field with DDE in the stream of an old Word document."""
    if _DDE_IN_WORD.search(main):
        yield Fact(FactCode.OFFICE_DDE, "a field in a Word document")


def asked_by_rtf(data: bytes) -> Iterator[Item]:
    """A field with DDE, and a template from elsewhere, in RTF."""
    for number, match in enumerate(_FIELD_IN_RTF.finditer(data)):
        said = _CONTROL_IN_RTF.sub(b"", data[match.end() : match.end() + 300]).lstrip()
        if said[:3].upper() == b"DDE":
            yield Fact(FactCode.OFFICE_DDE, "a field in RTF")
        if number >= _FIELDS_IN_RTF or said[:3].upper() == b"DDE":
            break
    if _TEMPLATE_IN_RTF.search(data):
        yield Fact(FactCode.REMOTE_TEMPLATE, "RTF with a template from elsewhere")
