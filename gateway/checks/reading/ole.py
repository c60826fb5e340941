"""Compound files (MS-CFB): old Word, Excel and PowerPoint, Outlook messages, and encrypted new documents.

Text and facts; nothing is executed or decrypted. Refuses what olefile cannot open.
"""

from collections.abc import Iterator
from typing import NamedTuple

import olefile

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.fields import asked_by_word
from gateway.checks.reading.octets import File, pieces_of
from gateway.checks.reading.oldword import slide_text, stored_objects, word_text
from gateway.checks.reading.package10 import native_files
from gateway.checks.reading.strings import runs_of
from gateway.checks.reading.tnef import body_of
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Member, Text
from gateway.checks.reading.vba import macros_in
from gateway.checks.reading.workbooks import read_workbook
from gateway.mime.charsets import to_text
from gateway.mime.tree import Buffer

_MACRO_NAMES = frozenset({"_vba_project", "_vba_project_cur", "vba", "macros"})
_BINARY_NAMES = frozenset(
    {"\x01compobj", "\x01ole", "\x03objinfo", "\x05summaryinformation", "\x05documentsummaryinformation"}
)
_CIRCULAR = ("double reference", "referenced more than once")
"""What olefile notes of a directory whose entries it cannot all list: streams may be there that others see."""
_BOUND_SHEET, _FILE_PASS, _BOF = 0x85, 0x2F, 0x809
_NAME, _SUP_BOOK = 0x18, 0x1AE
_AUTO_NAMES = (b"\x01", b"\x02", b"\x0a", b"\x0b")
"""Auto_Open, Auto_Close, Auto_Activate, Auto_Deactivate."""
_PROPERTY = "__substg1.0_"


class _Stream(NamedTuple):
    path: tuple[str, ...]
    """As stored, for olefile."""
    folder: str
    """All but the last, lower case, joined by ``/``."""
    name: str
    """Lower case."""


def read_ole(data: Buffer, budget: Budget) -> Iterator[Item]:
    """A compound file as what its streams say that it is."""
    file, paths = _opened(data)
    if not paths or any(mark in str(issue) for _, issue in file.parsing_issues for mark in _CIRCULAR):
        yield Fact(FactCode.UNREADABLE, "compound file with a damaged directory")
    yield from _Compound(file, _streams(paths), budget).items(data)


def _opened(data: Buffer) -> "tuple[olefile.OleFileIO, list[list[str]]]":
    """The file and the paths of its streams. Raises :class:`MalformedError`."""
    try:
        file = olefile.OleFileIO(File(data))
        return file, file.listdir()
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise MalformedError(f"compound file: {type(error).__name__}") from error


def _streams(paths: list[list[str]]) -> list[_Stream]:
    return [_Stream(tuple(p), "/".join(p[:-1]).lower(), p[-1].lower()) for p in paths]


def project_text(data: Buffer, budget: Budget) -> Iterator[Item]:
    """Macros of a project that is a compound file of its own (vbaProject.bin); nothing when it is none."""
    try:
        file, paths = _opened(data)
    except MalformedError:  # that there are macros is said already
        return
    yield from _Compound(file, _streams(paths), budget).macros()


class _Compound:
    """One open compound file."""

    def __init__(self, file: "olefile.OleFileIO", streams: list[_Stream], budget: Budget) -> None:
        self._file = file
        self._streams = streams
        self._budget = budget
        self._by_place = {(s.folder, s.name): s for s in streams}

    def items(self, data: Buffer) -> Iterator[Item]:
        names = {s.name for s in self._streams}
        if "encryptedpackage" in names:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "Office document with a password", "office")
            return
        if any(step.lower() in _MACRO_NAMES for s in self._streams for step in s.path):
            yield Fact(FactCode.OFFICE_MACROS, "the document holds macros")
        if any(s.name.startswith("__properties_version1.0") for s in self._streams):
            yield from self._outlook()
            return
        yield from self._summary()
        known = False
        for stream in self._streams:
            self._budget.member()
            if stream.name in ("worddocument", "powerpoint document", "workbook", "book"):
                known = True
                yield from self._document(stream, names, data)
            elif stream.name == "\x01ole10native":
                yield Fact(FactCode.EMBEDDED_OBJECT, "in an Office document")
                yield from native_files(self._read(stream))
            elif stream.name in ("package", "contents"):
                yield Fact(FactCode.EMBEDDED_OBJECT, "in an Office document")
                yield Member(stream.name, pieces_of(self._read(stream)), listed=False)
        yield from self.macros()
        if not known:
            yield from self._unknown()

    def macros(self) -> Iterator[Item]:
        """The source of each module that can be read."""
        for stream in self._streams:
            if stream.folder.endswith("vba"):
                try:
                    raw = self._read(stream)
                except MalformedError:
                    yield Fact(FactCode.UNREADABLE, "a module of macros")
                    continue
                yield from macros_in(stream.name, raw, self._budget)

    def _document(self, stream: _Stream, names: set[str], data: Buffer) -> Iterator[Item]:
        if stream.name == "worddocument":
            return self._word(stream)
        if stream.name == "powerpoint document":
            return self._slides(stream, names)
        return self._workbook(stream, data)

    def _read(self, stream: _Stream) -> bytes:
        try:
            raw: bytes = self._file.openstream(list(stream.path)).read()
        except MemoryError:
            raise
        except Exception as error:
            raise MalformedError(f"stream: {type(error).__name__}") from error
        self._budget.unpack(len(raw))
        return raw

    def _summary(self) -> Iterator[Item]:
        """Title, subject, author, keywords, comments."""
        try:
            found = self._file.get_metadata()
            fields = (found.title, found.subject, found.author, found.keywords, found.comments, found.manager)
            values = [value for value in (*fields, found.company, found.category) if isinstance(value, bytes)]
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - properties are extras; the document itself is read next
            return
        yield Text("properties", "\n".join(to_text(value) for value in values))

    def _word(self, stream: _Stream) -> Iterator[Item]:
        main = self._read(stream)
        if len(main) < 0x200 or main[:2] != b"\xec\xa5":
            for text in runs_of(main):
                yield Text("", text)
            yield Fact(FactCode.UNREADABLE, "Word before 97, or damaged")
            return
        flags = int.from_bytes(main[0x0A:0x0C], "little")
        if flags & 0x0100:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "Word document with a password", "office")
            return
        table = self._by_place.get((stream.folder, "1table" if flags & 0x0200 else "0table"))
        if table is None:
            raise MalformedError("Word document without its table")
        yield from asked_by_word(main)
        for text in word_text(main, self._read(table)):
            yield Text("", text)

    def _slides(self, stream: _Stream, names: set[str]) -> Iterator[Item]:
        user = self._by_place.get((stream.folder, "current user"))
        token = self._read(user)[12:16] if user else b""
        if token == b"\xdf\xc4\xd1\xf3" or "encryptedsummary" in names:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "PowerPoint document with a password", "office")
            return
        raw = self._read(stream)
        for text in slide_text(raw):
            yield Text("", text)
        for number, pieces in enumerate(stored_objects(raw), 1):
            yield Member(f"object {number}", self._budget.metered(pieces), listed=False, seen=False)

    def _workbook(self, stream: _Stream, data: Buffer) -> Iterator[Item]:
        raw = self._read(stream)
        told = _globals(raw)
        if told.encrypted:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "Excel workbook with a password", "office")
            return
        if told.macro_sheet:
            yield Fact(FactCode.OFFICE_MACROS, "the workbook holds a macro sheet")
            yield Fact(FactCode.OFFICE_XLM, "the workbook holds a macro sheet")
        if told.runs_itself and told.macro_sheet:
            yield Fact(FactCode.OFFICE_AUTOEXEC, "a macro sheet that runs when the workbook is opened or closed")
        if told.dde:
            yield Fact(FactCode.OFFICE_DDE, "a link in a workbook")
        if not stream.folder:
            try:
                yield from read_workbook(data, self._budget)
            except MalformedError as error:
                yield Fact(FactCode.UNREADABLE, str(error))
        for text in runs_of(raw):  # comments, text boxes, and what calamine passes over
            yield Text("other text", text)

    def _unknown(self) -> Iterator[Item]:
        """Visio, Publisher, Project and others: runs of characters; embedded files by their own marks."""
        for stream in self._streams:
            if stream.name not in _BINARY_NAMES:
                for text in runs_of(self._read(stream)):
                    yield Text("", text)

    def _outlook(self) -> Iterator[Item]:
        """An Outlook message (MS-OXMSG), nested ones with it: each property is a stream of its own."""
        for stream in self._streams:
            self._budget.member()
            if not stream.name.startswith(_PROPERTY) or len(stream.name) < len(_PROPERTY) + 8:
                continue
            try:
                tag, kind = (int(stream.name[n : n + 4], 16) for n in (len(_PROPERTY), len(_PROPERTY) + 4))
            except ValueError:
                continue
            if tag == 0x3701 and kind == 0x0102:
                yield Member(self._name(stream.folder), self._budget.metered(pieces_of(self._read(stream))))
            elif kind in (0x1E, 0x1F) or (kind == 0x0102 and tag in (0x1009, 0x1013)):
                yield from self._property(stream, tag, kind)

    def _property(self, stream: _Stream, tag: int, kind: int) -> Iterator[Item]:
        raw = self._read(stream)
        known = list(body_of(tag, raw, kind == 0x1F, self._budget))
        if known or kind == 0x0102:
            yield from known
            return
        yield Text("", raw.decode("utf-16-le", "replace") if kind == 0x1F else to_text(raw))

    def _name(self, folder: str) -> str:
        """An attachment's long or short file name."""
        for tag in ("3707", "3704", "3001"):
            for kind, codec in (("001f", "utf-16-le"), ("001e", "cp1252")):
                stream = self._by_place.get((folder, f"{_PROPERTY}{tag}{kind}"))
                if stream is not None:
                    return self._read(stream).decode(codec, "replace").rstrip("\0")
        return "attachment"


class _Globals(NamedTuple):
    """What the records before a workbook's sheets say of it."""

    encrypted: bool = False
    macro_sheet: bool = False
    runs_itself: bool = False
    dde: bool = False


def _globals(raw: bytes) -> _Globals:
    """A workbook's own records (MS-XLS 2.4.28, 2.4.117, 2.4.150, 2.4.271)."""
    at = 0
    macros = runs = dde = False
    wide = raw[4:6] == b"\x00\x06"  # from Excel 97 on an octet before a name says how wide its letters are
    for _ in range(10_000):
        if at + 4 > len(raw):
            break
        kind, size = int.from_bytes(raw[at : at + 2], "little"), int.from_bytes(raw[at + 2 : at + 4], "little")
        if kind == _FILE_PASS:
            return _Globals(True, macros)
        if kind == _BOUND_SHEET and raw[at + 4 + 5 : at + 4 + 6] == b"\x01":
            macros = True
        body = raw[at + 4 : at + 4 + min(size, 300)] if kind in (_NAME, _SUP_BOOK) else b""
        if kind == _NAME and body[:1] and body[0] & 0x20 and body[14 + wide : 15 + wide] in _AUTO_NAMES:
            runs = True
        if kind == _SUP_BOOK and b"\x03" in body[5:] and body[5:6] not in (b"\x01", b"\x02"):
            dde = True
        if kind == _BOF and at and macros:
            break
        at += 4 + size
    return _Globals(False, macros, runs, dde)
