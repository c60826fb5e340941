"""ZIP files: Word, Excel, PowerPoint (ECMA-376), OpenDocument (ISO 26300), EPUB, and those that are archives.

A document's every XML part is read, whatever it is called: text can hide in any of them. Refuses to trust names: macros
and embedded files are found by content too.
"""

import re
from collections.abc import Iterator
from itertools import chain

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.fields import FieldWatch, links_in
from gateway.checks.reading.octets import hold
from gateway.checks.reading.ole import project_text
from gateway.checks.reading.sheets import Workbook
from gateway.checks.reading.strings import runs_of
from gateway.checks.reading.values import Fact, FactCode, Item, MalformedError, Member, Text
from gateway.checks.reading.workbooks import read_workbook
from gateway.checks.reading.xmltext import texts_of
from gateway.checks.reading.zipped import Archive, Entry, members
from gateway.mime.tree import Buffer

_NUMBER = re.compile(r"(\d+)\.xml\Z")
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)[\s/>]")
_MACROS = ("vbaproject.bin", "xlm/", "macrosheets/", "basic/", "scripts/")
_AUTO_NAME = re.compile(rb"[\"']_xlnm\.Auto_(?:Open|Close|Activate|Deactivate)", re.IGNORECASE)
_TAG_PIECE = rb"[^<>]{0,2000}"
_ELSEWHERE = rb"TargetMode\s*=\s*[\"']External"
_EXTERNAL = re.compile(
    rb"<%(x)s(?:attachedTemplate|oleObject|/frame|subDocument|externalLinkPath)%(x)s%(to)s|"
    rb"<%(x)s%(to)s[\"']%(x)s(?:attachedTemplate|oleObject|/frame|subDocument)" % {b"x": _TAG_PIECE, b"to": _ELSEWHERE},
    re.IGNORECASE,
)
_PICTURES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".emf",
    ".wmf",
    ".tif",
    ".tiff",
    ".bmp",
    ".wdp",
    ".ico",
    ".fntdata",
    ".odttf",
)
_PROPERTIES = (b"Properties", b"coreProperties", b"document-meta")
_SUP_BOOK = b"\xe8\2"
_AUTO_NAME_WIDE = re.compile(
    rb"A\0u\0t\0o\0_\0(?:o\0p\0e\0n\0|c\0l\0o\0s\0e\0|a\0c\0t\0i\0v\0|d\0e\0a\0c\0t\0)", re.IGNORECASE
)
_SHEET_FIRST = ("workbook.xml", "styles.xml", "sharedstrings.xml")


def read_zip(data: Buffer, budget: Budget) -> Iterator[Item]:
    """A ZIP file as what it is: a document, or an archive of files."""
    archive = Archive(data, budget)
    names = {entry.name.lower().replace("\\", "/").lstrip("/") for entry in archive.entries}
    if "[content_types].xml" in names or _is_open_document(archive):
        yield from _document(archive, budget)
        if "xl/workbook.bin" in names:
            yield from _binary_workbook(data, archive, budget)
    else:
        yield from members(archive, budget)


def _binary_workbook(data: Buffer, archive: Archive, budget: Budget) -> Iterator[Item]:
    """Cells by calamine; strings alone where it refuses the workbook, as it does those with macro sheets."""
    try:
        yield from read_workbook(data, budget)
    except MalformedError as error:
        yield Fact(FactCode.UNREADABLE, str(error))
        for entry in archive.entries:
            path = entry.name.lower()
            if path.startswith(("xl/worksheets/", "xl/sharedstrings")) and path.endswith(".bin"):
                yield from _binary(archive, entry, "sheets", budget)


def _is_open_document(archive: Archive) -> bool:
    first = next((entry for entry in archive.entries if entry.name == "mimetype"), None)
    if first is None or first.encrypted:
        return False
    try:
        kind = next(iter(archive.read(first)), b"")[:100]
    except MalformedError:
        return False
    return kind.startswith(b"application/vnd.oasis.opendocument")


def _document(archive: Archive, budget: Budget) -> Iterator[Item]:
    book = Workbook()
    macros = False
    for entry in sorted(archive.entries, key=_order):
        budget.member()
        path = entry.name.lower().replace("\\", "/")
        if entry.is_folder:
            continue
        if any(mark in path for mark in _MACROS):
            macros = macros or not path.endswith((".rels", "script-lb.xml", "dialog-lb.xml"))
            yield from _macros(archive, entry, path, budget)
            if path.endswith(".bin"):
                continue
        if entry.encrypted:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "a part of the document needs a password", "opendocument")
            continue
        if path.endswith(_PICTURES):
            if budget.pictures is not None:
                yield Member(entry.name, budget.metered(archive.read(entry)), listed=False)
            continue
        yield from _part(archive, entry, path, book, budget)
    if macros:
        yield Fact(FactCode.OFFICE_MACROS, "the document holds macros")
    for text in book.unused():
        yield Text("unused strings", text)


def _order(entry: Entry) -> tuple[int, str]:
    """What cells refer to comes first."""
    name = entry.name.lower().rpartition("/")[2]
    return (_SHEET_FIRST.index(name) if name in _SHEET_FIRST else len(_SHEET_FIRST), "")


def _part(archive: Archive, entry: Entry, path: str, book: Workbook, budget: Budget) -> Iterator[Item]:
    stream = budget.metered(archive.read(entry))
    try:
        first = next(stream, b"")
    except MalformedError as error:
        yield Fact(FactCode.UNREADABLE, f"a part of the document: {error}"[:100])
        return
    pieces: Iterator[bytes] = chain((first,), stream)
    if not _looks_like_xml(first):
        yield from _other(entry, path, pieces, budget)
        return
    yield from _signs(path, first)
    watch = FieldWatch()
    if "word/" in path or "externallink" in path:
        pieces = watch.passing(pieces)
    root = _root_of(first)
    place = _place_of(path, book)
    try:
        for text in _texts(root, path, pieces, book):
            if text:
                yield Text(place, text)
    except MalformedError as error:
        yield Fact(FactCode.UNREADABLE, f"a part of the document: {error}"[:100])
    if watch.asks:
        yield Fact(FactCode.OFFICE_DDE, "a field or link in the document")


def _signs(path: str, first: bytes) -> Iterator[Item]:
    """What the beginning of a part says of the document."""
    if path == "meta-inf/manifest.xml" and b"encryption-data" in first:
        yield Fact(FactCode.CONTENT_ENCRYPTED, "OpenDocument with a password", "opendocument")
    if path.endswith(".rels"):
        if _EXTERNAL.search(first):
            yield Fact(FactCode.REMOTE_TEMPLATE, "loads a template or an object from elsewhere")
        yield from links_in(first)
    if path.endswith("workbook.xml") and _AUTO_NAME.search(first):
        yield Fact(FactCode.OFFICE_AUTOEXEC, "a macro sheet that runs when the workbook is opened or closed")


def _macros(archive: Archive, entry: Entry, path: str, budget: Budget) -> Iterator[Item]:
    """The source of a document's macros, and whether they stand on a sheet."""
    if "macrosheets/" in path and not path.endswith(".rels"):
        yield Fact(FactCode.OFFICE_XLM, "the workbook holds a macro sheet")
        if path.endswith(".bin") and not entry.encrypted:
            yield from _binary(archive, entry, "macro sheet", budget)
    if not path.endswith("vbaproject.bin") or entry.encrypted:
        return
    try:
        data = hold(budget.metered(archive.read(entry)))
    except MalformedError:
        return
    yield from project_text(data, budget)


def _binary(archive: Archive, entry: Entry, place: str, budget: Budget) -> Iterator[Item]:
    """The runs of characters of a binary part."""
    try:
        for text in runs_of(hold(budget.metered(archive.read(entry)))):
            yield Text(place, text)
    except MalformedError as error:
        yield Fact(FactCode.UNREADABLE, f"a part of the document: {error}"[:100])


def _texts(root: bytes, path: str, pieces: Iterator[bytes], book: Workbook) -> Iterator[str]:
    if root == b"sst":
        return book.read_strings(pieces)
    if root in (b"worksheet", b"macrosheet", b"dialogsheet", b"xmacrosheet"):
        return book.read_sheet(pieces)
    if root == b"workbook":
        return book.read_names(pieces)
    if root == b"styleSheet":
        return book.read_styles(pieces)
    return texts_of(pieces, every=root in _PROPERTIES)


def _looks_like_xml(first: bytes) -> bool:
    start = first[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"<") or first[:2] in (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")


def _root_of(first: bytes) -> bytes:
    for match in _ROOT.finditer(first.replace(b"\0", b"") if b"\0" in first[:10] else first[:4000]):
        return match[1]
    return b""


def _other(entry: Entry, path: str, pieces: Iterator[bytes], budget: Budget) -> Iterator[Item]:
    """Parts that are no XML: embedded files, binary workbooks, things of no interest."""
    name = entry.name.replace("\\", "/").rpartition("/")[2]
    if path == "mimetype":
        return
    if path.startswith("xl/") and path.endswith(".bin") and "embed" not in path:
        yield from _of_binary_workbook(path, pieces)
        return
    data = hold(pieces)
    if data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" and ("embeddings/" in path or "oleobject" in path):
        yield Fact(FactCode.EMBEDDED_OBJECT, name[:80])
    yield Member(name, (bytes(data),) if len(data) < 1 << 20 else _in_pieces(data), listed="embeddings/" in path)


def _of_binary_workbook(path: str, pieces: Iterator[bytes]) -> Iterator[Item]:
    """What calamine does not tell of an .xlsb (MS-XLSB, BrtBeginSupBook, BrtName): links, names, comments."""
    if "externallink" in path:
        first = next(pieces, b"")
        if first[:2] == _SUP_BOOK and _after_size(first) == b"\1\0":
            yield Fact(FactCode.OFFICE_DDE, "a link in a workbook")
    elif path.endswith("workbook.bin"):
        if _AUTO_NAME_WIDE.search(hold(pieces)):
            yield Fact(FactCode.OFFICE_AUTOEXEC, "a macro sheet that runs when the workbook is opened or closed")
    elif "comments" in path:
        for text in runs_of(hold(pieces)):
            yield Text("comments", text)


def _after_size(record: bytes) -> bytes:
    """The first two octets of a record whose type takes two; its size takes one to four, each but the last over 127."""
    at = 2
    while at < 5 and record[at : at + 1] > b"\x7f":
        at += 1
    return record[at + 1 : at + 3]


def _in_pieces(data: Buffer) -> Iterator[bytes]:
    for at in range(0, len(data), 1 << 18):
        yield bytes(data[at : at + (1 << 18)])


def _place_of(path: str, book: Workbook) -> str:
    """Where a part stands in the document, in a person's words."""
    name = path.rpartition("/")[2]
    number = _NUMBER.search(name)
    n = int(number[1]) if number and len(number[1]) < 6 else 0
    if "worksheets/" in path or "macrosheets/" in path:
        title, state = book.names[n - 1] if 0 < n <= len(book.names) else ("", "")
        shown = "".join(c for c in title if c.isprintable())[:40] or str(n)
        return f"sheet {shown}" + (" (hidden)" if "idden" in state else "")
    for mark, place in (
        ("notesslides/", "notes"),
        ("slides/", "slide"),
        ("comments", "comments"),
        ("header", "header"),
    ):
        if mark in path:
            return f"{place} {n}" if place in ("slide", "notes") and n else place
    for mark, place in (
        ("footer", "footer"),
        ("footnotes", "footnotes"),
        ("endnotes", "endnotes"),
        ("docprops/", "properties"),
    ):
        if mark in path:
            return place
    return "properties" if name == "meta.xml" else ""
