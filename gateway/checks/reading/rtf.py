"""RTF (Microsoft's specification 1.9.1): a tokenizer of its own, linear in the input.

Text of every group is shown, hidden and ignorable ones too, but for groups that hold tables, pictures or binary data.
Embedded objects are members. Refuses nothing that Word would open: nesting is counted, not recursed into.
"""

import re
from collections.abc import Iterator

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.fields import asked_by_rtf
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.package10 import native_files
from gateway.checks.reading.values import Fact, FactCode, Item, Member, Text
from gateway.mime.tree import Buffer

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|([^\\{}\r\n]+)|[\r\n]+|\\"
)
_PIECE = 200_000
_SILENT = frozenset(
    {
        *(
            b"fonttbl",
            b"colortbl",
            b"stylesheet",
            b"pict",
            b"themedata",
            b"colorschememapping",
            b"datastore",
            b"blipuid",
        ),
        *(b"latentstyles", b"listtable", b"listoverridetable", b"rsidtbl", b"generator", b"xmlnstbl", b"fontemb"),
        *(b"fontfile", b"filetbl", b"passwordhash", b"objdata", b"objclass", b"panose", b"bkmkstart", b"bkmkend"),
    }
)
_BREAKS = {
    **dict.fromkeys((b"par", b"line", b"page", b"sect", b"row", b"nestrow", b"softline"), "\n"),
    **dict.fromkeys((b"cell", b"nestcell", b"tab"), "\t"),
    **dict.fromkeys((b"emspace", b"enspace", b"qmspace"), " "),
    b"emdash": "\u2014",
    b"endash": "\u2013",
    b"lquote": "'",
    b"rquote": "'",
    b"bullet": "\u2022",
}
_SYMBOLS = {b"~": " ", b"_": "-", b"-": "", b"{": "{", b"}": "}", b"\\": "\\", b"\r": "\n", b"\n": "\n", b"\t": "\t"}
_LOOKED_AT = 8 * 1024 * 1024
"""Octets in which fields and templates are looked for."""


def read_rtf(data: Buffer, budget: Budget) -> Iterator[Item]:
    """The text, and embedded objects as members."""
    reader = _Reader()
    at, end = 0, len(data)
    while at < end:
        match = _TOKEN.match(data, at)
        if match is None:
            at += 1
            continue
        at = match.end() + reader.token(match)
        if reader.size > _PIECE:
            yield Text("", reader.taken())
            budget.check_time()
        if reader.object_ended:
            yield from _object(reader.object_data(), budget)
    yield Text("", reader.taken())
    yield from asked_by_rtf(bytes(data[:_LOOKED_AT]))
    if reader.objects:
        yield from _object(reader.object_data(), budget)


class _Reader:
    """Where the tokenizer stands, and the text so far."""

    def __init__(self) -> None:
        self.size = 0
        self.objects = False
        """The silent group is an object's data."""
        self.object_ended = False
        self._out: list[str] = []
        self._octets = bytearray()
        """Octets of the code page that wait to be decoded together (double-byte sets)."""
        self._digits = bytearray()
        self._codec = "cp1252"
        self._depth = 0
        self._silent_from = 0
        """Depth of the group whose content is no text; 0: none."""
        self._unicode_skip = 1
        self._skips: list[int] = []
        self._skip_next = 0

    def token(self, match: re.Match[bytes]) -> int:
        """Take one token. Octets of binary data that follow it."""
        word, number, code, symbol, brace, plain = match.groups()
        if plain is not None:
            self._plain(plain)
        elif code is not None:
            self._plain(bytes((int(code, 16),)))
        elif brace is not None:
            self._flush()
            self._brace(brace)
        elif symbol is not None:
            if self._skip_next:
                self._skip_next -= 1
            elif not self._silent_from:
                self._add(_SYMBOLS.get(symbol, ""))
        elif word == b"bin":
            return max(0, int(number or 0))
        elif word is not None:
            self._add(self._word(word, number))
        return 0

    def taken(self) -> str:
        """The text so far, once."""
        self._flush()
        text = "".join(self._out)
        self._out.clear()
        self.size = 0
        return text

    def object_data(self) -> bytes:
        """Digits of the object that has ended, once."""
        digits = bytes(self._digits)
        self._digits.clear()
        self.object_ended = self.objects = False
        return digits

    def _add(self, text: str) -> None:
        if text:
            self._flush()
            self._out.append(text)
            self.size += len(text)

    def _flush(self) -> None:
        if self._octets:
            text = self._octets.decode(self._codec, "replace")
            self._octets.clear()
            self._out.append(text)
            self.size += len(text)

    def _plain(self, data: bytes) -> None:
        if self._skip_next:
            drop = min(self._skip_next, len(data))
            self._skip_next -= drop
            data = data[drop:]
        if not self._silent_from:
            self._octets += data
        elif self.objects:
            self._digits += data

    def _brace(self, brace: bytes) -> None:
        self._skip_next = 0
        if brace == b"{":
            self._depth += 1
            if len(self._skips) < 10_000:
                self._skips.append(self._unicode_skip)
            return
        self._depth = max(0, self._depth - 1)
        if self._skips:
            self._unicode_skip = self._skips.pop()
        if self._depth < self._silent_from:
            self._silent_from = 0
            self.object_ended = self.objects

    def _word(self, word: bytes, number: bytes | None) -> str:
        """What a control word adds to the text."""
        if word == b"u" and number:
            self._skip_next = self._unicode_skip
            value = int(number)
            silent = self._silent_from or not -32_768 <= value <= 0x10FFFF
            return "" if silent else chr(value & 0xFFFF if value < 0 else value)
        if word == b"uc":
            self._unicode_skip = min(max(int(number or 1), 0), 100)
        elif word == b"ansicpg":
            self._codec = _codec(f"cp{int(number or 1252)}")
        elif word in _SILENT:
            if not self._silent_from and self._depth:
                self._silent_from = self._depth
                self.objects = word == b"objdata"
        elif not self._silent_from:
            return _BREAKS.get(word, "")
        return ""


def _codec(name: str) -> str:
    try:
        return name if b"a".decode(name) == "a" else "cp1252"
    except (LookupError, ValueError):
        return "cp1252"


def _object(digits: bytes, budget: Budget) -> Iterator[Item]:
    """An OLE 1.0 object (MS-OLEDS 2.2.5): header, class name, then the data of the class."""
    clean = bytes(octet for octet in digits if chr(octet) in "0123456789abcdefABCDEF")
    raw = bytes.fromhex(clean[: len(clean) - len(clean) % 2].decode("ascii"))
    budget.unpack(len(raw))
    yield Fact(FactCode.EMBEDDED_OBJECT, "RTF")
    start = raw.find(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    if start >= 0:
        yield Member("object.ole", pieces_of(raw, start))
        return
    yield from native_files(raw)
