"""Excel's new worksheets as rows of text: shared strings resolved, numbers as they are shown where that matters.

A Social Security number kept as a number shows its dashes and leading zeros through a number format only; formats made
of zeros and dashes are applied. Refuses to compute formulas: their stored results are text.
"""

import re
from collections.abc import Iterable, Iterator

from gateway.checks.reading.xmltext import fed, safe_parser

_PIECE = 200_000
_MASK = re.compile(r"[0\-\s/().]*0[0\-\s/().]*")


class Workbook:
    """What the sheets of one workbook share."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self.masks: list[str] = []
        """By style number: the mask of digits, ``""`` for any other format."""
        self.names: list[tuple[str, str]] = []
        """Names and states (``hidden``, ``veryHidden``) of the sheets, in the order of the workbook."""
        self.used = bytearray()

    def read_names(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """``workbook.xml``: names of sheets and of ranges."""
        collector = _Names(self)
        parser = safe_parser()
        parser.StartElementHandler = collector.start
        parser.CharacterDataHandler = collector.characters
        yield from fed(parser, pieces, collector)

    def read_styles(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """``styles.xml``: the number formats that are masks of digits."""
        collector = _Styles(self)
        parser = safe_parser()
        parser.StartElementHandler = collector.start
        parser.EndElementHandler = collector.end
        yield from fed(parser, pieces, collector)

    def read_strings(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """``sharedStrings.xml``. Yields nothing: cells refer to them; see :meth:`unused`."""
        collector = _Strings(self)
        parser = safe_parser()
        parser.StartElementHandler = collector.start
        parser.EndElementHandler = collector.end
        parser.CharacterDataHandler = collector.characters
        yield from fed(parser, pieces, collector)

    def read_sheet(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """A worksheet: a line a row, tabs between the cells."""
        self.used.extend(bytes(len(self.strings) - len(self.used)))
        collector = _Sheet(self)
        parser = safe_parser()
        parser.StartElementHandler = collector.start
        parser.EndElementHandler = collector.end
        parser.CharacterDataHandler = collector.characters
        yield from fed(parser, pieces, collector)

    def unused(self) -> Iterator[str]:
        """Shared strings that no cell shows."""
        self.used.extend(bytes(len(self.strings) - len(self.used)))
        left = [text for text, used in zip(self.strings, self.used, strict=True) if not used]
        for at in range(0, len(left), 5000):
            yield "\n".join(left[at : at + 5000])


def masked(value: str, mask: str) -> str:
    """A stored number in a format of digits: ``53690439`` in ``000-00-0000`` is ``053-69-0439``."""
    if not value.isdigit():
        return value
    places = mask.count("0")
    digits = iter(value.zfill(places)[-places:])
    surplus = value[:-places] if len(value) > places else ""
    return surplus + "".join(next(digits) if c == "0" else c for c in mask)


class _Gathering:
    """Character data and ready lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0
        self.data: list[str] = []

    def characters(self, data: str) -> None:
        self.data.append(data)

    def taken(self) -> str:
        value = "".join(self.data)
        self.data.clear()
        return value

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.size += len(text) + 1

    def text(self, whole: bool) -> str:
        if whole and self.data:
            self.line(self.taken())
        if not whole and self.size < _PIECE:
            return ""
        text = "\n".join(self.lines)
        self.lines.clear()
        self.size = 0
        return text


class _Names(_Gathering):
    def __init__(self, book: Workbook) -> None:
        super().__init__()
        self._book = book

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] == "sheet":
            title = attributes.get("name", "")
            self._book.names.append((title, attributes.get("state", "")))
            self.line(title)
        elif self.data:
            self.line(self.taken())


class _Styles(_Gathering):
    def __init__(self, book: Workbook) -> None:
        super().__init__()
        self._book = book
        self._formats: dict[str, str] = {}
        self._inside = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local == "numFmt":
            code = attributes.get("formatCode", "").partition(";")[0].replace("\\", "").replace('"', "")
            if _MASK.fullmatch(code) and code.count("0") > 4 and not code.isdigit():
                self._formats[attributes.get("numFmtId", "")] = code.replace(".", "-")
        elif local == "cellXfs":
            self._inside = True
        elif local == "xf" and self._inside and len(self._book.masks) < 65_536:
            self._book.masks.append(self._formats.get(attributes.get("numFmtId", ""), ""))

    def end(self, name: str) -> None:
        if name.rpartition(":")[2] == "cellXfs":
            self._inside = False


class _Strings(_Gathering):
    def __init__(self, book: Workbook) -> None:
        super().__init__()
        self._book = book

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] == "si":
            self.data.clear()

    def end(self, name: str) -> None:
        if name.rpartition(":")[2] == "si":
            self._book.strings.append(self.taken())

    def text(self, whole: bool) -> str:
        if whole and self.data:
            self._book.strings.append(self.taken())
        return ""


class _Sheet(_Gathering):
    def __init__(self, book: Workbook) -> None:
        super().__init__()
        self._book = book
        self._cells: list[str] = []
        self._type = self._style = ""
        self._kinds: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = self._kinds.get(name)
        if local is None:
            local = name.rpartition(":")[2]
            if len(self._kinds) < 500:
                self._kinds[name] = local
        if local == "c":
            self.data.clear()
            self._type, self._style = attributes.get("t", ""), attributes.get("s", "")
        elif local in ("v", "is") and self.data:
            self._cells.append(self.taken())  # the formula before its result

    def end(self, name: str) -> None:
        local = self._kinds.get(name) or name.rpartition(":")[2]
        if local == "c":
            value = self.taken()
            if value:
                self._cells.append(self._shown(value))
        elif local == "row":
            self.line("\t".join(self._cells))
            self._cells.clear()
        elif local in ("oddHeader", "oddFooter", "evenHeader", "evenFooter", "formula1", "formula2", "firstHeader"):
            self.line(self.taken())

    def _shown(self, value: str) -> str:
        if self._type == "s":
            number = int(value) if value.isdigit() and len(value) < 10 else -1
            if 0 <= number < len(self._book.strings):
                if number < len(self._book.used):
                    self._book.used[number] = 1
                return self._book.strings[number]
            return value
        if self._style and self._type in ("", "n"):
            style = int(self._style) if self._style.isdigit() and len(self._style) < 7 else -1
            mask = self._book.masks[style] if 0 <= style < len(self._book.masks) else ""
            return masked(value, mask) if mask else value
        return value

    def text(self, whole: bool) -> str:
        if whole and self._cells:
            self.line("\t".join(self._cells))
        return super().text(whole)
