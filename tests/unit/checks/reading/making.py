"""Files for the tests of reading: made by real libraries where there is a small one, else octet by octet."""

import base64
import binascii
import ctypes
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from itertools import groupby, pairwise
from pathlib import Path

import docx as word
import openpyxl
from openpyxl.comments import Comment
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen import canvas

SSN = "536-90-4399"
"""A number that passes all checks and belongs to nobody."""


def docx(text: str, comment: str = "", header: str = "", title: str = "") -> bytes:
    """A Word document by python-docx: a paragraph, a table, a header, properties; a comment part added by hand."""
    document = word.Document()
    document.add_paragraph("Dear reader,")
    paragraph = document.add_paragraph()
    half = len(text) // 2
    paragraph.add_run(text[:half]).bold = True  # Word splits lines into runs as it likes
    paragraph.add_run(text[half:])
    document.add_table(1, 2).rows[0].cells[1].text = "a cell"
    if header:
        document.sections[0].header.paragraphs[0].text = header
    document.core_properties.title = title
    out = io.BytesIO()
    document.save(out)
    if not comment:
        return out.getvalue()
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    part = f'<w:comments xmlns:w="{w}"><w:comment><w:p><w:r><w:t>{comment}</w:t></w:r></w:p></w:comment></w:comments>'
    return with_files(out.getvalue(), {"word/comments.xml": part.encode()})


def xlsx(
    rows: Iterable[Iterable[object]], hidden: Iterable[Iterable[object]] = (), mask: str = "", note: str = ""
) -> bytes:
    """A workbook by openpyxl: a sheet, a hidden one, a number format for all cells, a comment on the first."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Staff"
    for row in rows:
        sheet.append(list(row))
    if mask:
        for row_ in sheet.iter_rows():
            for cell in row_:
                cell.number_format = mask
    if note:
        sheet["A1"].comment = Comment(note, "clerk")
    secret = book.create_sheet("Secret")
    secret.sheet_state = "hidden"
    for row in hidden:
        secret.append(list(row))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def pptx(text: str, notes: str = "") -> bytes:
    """A presentation by hand: one slide and its notes."""
    a = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    body = f"<p:sld xmlns:p='p' {a}><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>"
    note = f"<p:notes xmlns:p='p' {a}><a:p><a:r><a:t>{notes}</a:t></a:r></a:p></p:notes>"
    return zipped(
        {
            "[Content_Types].xml": b"<Types/>",
            "ppt/slides/slide1.xml": body.encode(),
            "ppt/notesSlides/notesSlide1.xml": note.encode(),
        }
    )


def odt(text: str) -> bytes:
    """An OpenDocument text by hand."""
    content = (
        '<office:document-content xmlns:office="o" xmlns:text="t"><office:body><text:p>'
        f"{text}</text:p><text:p>a<text:s/>b<text:tab/>c</text:p></office:body></office:document-content>"
    )
    return zipped({"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": content.encode()})


def pdf(
    lines: Iterable[str], password: str = "", field: str = "", note: str = "", script: str = "", link: str = ""
) -> bytes:
    """A PDF by reportlab: a page of lines; a form field, an annotation, a password, JavaScript, a link on request."""
    out = io.BytesIO()
    page = canvas.Canvas(out, encrypt=StandardEncryption(password, canPrint=0) if password else None)
    for n, line in enumerate(lines):
        page.drawString(72, 750 - 14 * (n % 50), line)
        if n % 50 == 49:
            page.showPage()
    if field:
        page.acroForm.textfield(name="number", tooltip="Social Security number", value=field, x=72, y=300)
    if note:
        page.textAnnotation(note, Rect=(72, 72, 144, 144))
    if link:
        page.linkURL(link, (72, 72, 144, 144))
    page.showPage()
    page.save()
    raw = out.getvalue()
    if script:
        raw = raw.replace(
            b"/Type /Catalog", b"/OpenAction << /S /JavaScript /JS (" + script.encode() + b") >> /Type /Catalog"
        )
    return raw


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def with_files(archive: bytes, files: Mapping[str, bytes]) -> bytes:
    """A ZIP file with more in it."""
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return out.getvalue()


def by_libarchive(files: Mapping[str, bytes], form: str, folder: Path, filter_: str = "none") -> bytes:
    """An archive as libarchive writes it: ``7zip``, ``iso9660``, ``cpio``, ``xar``, ``ar_svr4``, ``raw`` and others."""
    library = ctypes.CDLL("libarchive.so.13")
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name in ("archive_write_new", "archive_entry_new"):
        getattr(library, name).restype = pointer
    library.archive_write_data.argtypes = (pointer, text, ctypes.c_size_t)
    library.archive_entry_set_size.argtypes = (pointer, ctypes.c_int64)
    archive = pointer(library.archive_write_new())
    assert getattr(library, f"archive_write_set_format_{form}")(archive) == 0
    assert getattr(library, f"archive_write_add_filter_{filter_}")(archive) == 0
    path = folder / f"made.{form}"
    assert library.archive_write_open_filename(archive, str(path).encode()) == 0
    for name, content in files.items():
        entry = pointer(library.archive_entry_new())
        library.archive_entry_set_pathname(entry, text(name.encode()))
        library.archive_entry_set_size(entry, len(content))
        library.archive_entry_set_filetype(entry, ctypes.c_uint(0o100000))
        library.archive_entry_set_perm(entry, 0o644)
        assert library.archive_write_header(archive, entry) == 0
        assert library.archive_write_data(archive, content, len(content)) == len(content)
        library.archive_entry_free(entry)
    assert library.archive_write_close(archive) == 0
    library.archive_write_free(archive)
    return path.read_bytes()


def rar4(name: str, content: bytes, encrypted: bool = False) -> bytes:
    """A RAR 4 archive of one stored file, by hand (technote.txt): marker, archive header, file header, end."""

    def block(kind: int, flags: int, fields: bytes) -> bytes:
        body = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    fields = struct.pack(
        "<LLBLLBBHL", len(content), len(content), 3, zlib.crc32(content), 0x5A6B7C8D, 29, 0x30, len(name), 0o100644
    )
    head = block(0x74, 0x8000 | (4 if encrypted else 0), fields + name.encode())
    return b"Rar!\x1a\x07\0" + block(0x73, 0, b"\0" * 6) + head + content + block(0x7B, 0x4000, b"")


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file (MS-CFB version 3) with these streams; ``/`` parts folders. All streams in full sectors."""
    folders = sorted({"/".join(name.split("/")[:n]) for name in streams for n in range(1, name.count("/") + 1)})
    names = ["", *folders, *streams]
    children: dict[str, list[int]] = {name: [] for name in ("", *folders)}
    for number, name in enumerate(names[1:], 1):
        children[name.rpartition("/")[0]].append(number)
    sectors: list[bytes] = []
    fat: list[int] = []

    def place(content: bytes) -> int:
        count = max(1, -(-len(content) // 512))
        first = len(sectors)
        for n in range(count):
            sectors.append(content[512 * n : 512 * n + 512].ljust(512, b"\0"))
            fat.append(first + n + 1 if n + 1 < count else 0xFFFFFFFE)
        return first

    padded = {name: content.ljust(4096, b"\0") for name, content in streams.items()}
    starts = {name: place(content) for name, content in padded.items()}
    right = {a: b for same in children.values() for a, b in pairwise(same)}
    rows = []
    for number, name in enumerate(names):
        kind = 5 if not number else 2 if name in streams else 1
        title = ("Root Entry" if not number else name.rpartition("/")[2]).encode("utf-16-le")
        child = children[name][0] if kind != 2 and children[name] else 0xFFFFFFFF
        size, start = (len(padded[name]), starts[name]) if kind == 2 else (0, 0xFFFFFFFE if not number else 0)
        rows.append(
            title.ljust(64, b"\0")
            + struct.pack("<HBBLLL", len(title) + 2, kind, 1, 0xFFFFFFFF, right.get(number, 0xFFFFFFFF), child)
            + bytes(16 + 4 + 16)
            + struct.pack("<LQ", start, size)
        )
    rows += [bytes(68) + b"\xff" * 12 + bytes(48)] * (-len(rows) % 4)
    directory = place(b"".join(rows))
    count = 1
    while count * 128 < len(fat) + count:
        count += 1
    first_fat = len(fat)
    fat += [0xFFFFFFFD] * count
    table = b"".join(struct.pack("<L", value) for value in fat).ljust(512 * count, b"\xff")
    difat = struct.pack("<109L", *(first_fat + n if n < count else 0xFFFFFFFF for n in range(109)))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<LLLLLLLLL", 0, count, directory, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0) + difat
    return header + b"".join(sectors) + table


def doc(text: str, encrypted: bool = False, macros: bool = False) -> bytes:
    """A Word 97 document by hand: the piece table puts an 8-bit piece before a 16-bit one."""
    first, second = text[: len(text) // 2], text[len(text) // 2 :]
    main = bytearray(2048)
    main[0:2] = b"\xec\xa5"
    struct.pack_into("<H", main, 0x0A, 0x0200 | (0x0100 if encrypted else 0))
    main[512 : 512 + len(first)] = first.encode("cp1252")
    wide = second.encode("utf-16-le")
    main[1024 : 1024 + len(wide)] = wide
    places = struct.pack("<LLL", 0, len(first), len(text))
    pieces = struct.pack("<HLH", 0, 512 * 2 | 0x40000000, 0) + struct.pack("<HLH", 0, 1024, 0)
    clx = b"\x02" + struct.pack("<L", len(places + pieces)) + places + pieces
    struct.pack_into("<LL", main, 0x01A2, 0, len(clx))
    streams = {"WordDocument": bytes(main), "1Table": clx}
    if macros:
        streams["Macros/VBA/dir"] = b"x"
    return compound(streams)


def ppt(text: str, objects: Iterable[bytes] = (), encrypted: bool = False) -> bytes:
    """A PowerPoint 97 presentation by hand: a text atom in a container; objects behind it, every other one packed."""
    raw = text.encode("utf-16-le")
    atom = struct.pack("<HHL", 0, 0x0FA0, len(raw)) + raw
    stream = struct.pack("<HHL", 0x0F, 0x03E8, len(atom)) + atom
    for number, content in enumerate(objects):
        packed = struct.pack("<L", len(content)) + zlib.compress(content) if number % 2 == 0 else content
        stream += struct.pack("<HHL", 0x10 if number % 2 == 0 else 0, 0x1011, len(packed)) + packed
    user = bytes(12) + (b"\xdf\xc4\xd1\xf3" if encrypted else b"\x5f\xc0\x91\xe3") + bytes(16)
    return compound({"PowerPoint Document": stream, "Current User": user})


def xls(rows: Iterable[Iterable[object]], encrypted: bool = False, macro_sheet: bool = False) -> bytes:
    """An Excel 97 workbook by hand (MS-XLS): BOF, sheet's place, strings, cells."""

    def record(kind: int, data: bytes = b"") -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    cells = b""
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if isinstance(value, str):
                cells += record(0x0204, struct.pack("<HHHHB", y, x, 15, len(value), 0) + value.encode("latin-1"))
            else:
                cells += record(0x0203, struct.pack("<HHHd", y, x, 15, float(str(value))))
    sheet = record(0x0809, struct.pack("<HHHHLL", 0x0600, 0x0010, 0, 0, 0, 0)) + cells + record(0x0A)
    start = record(0x0809, struct.pack("<HHHHLL", 0x0600, 0x0005, 0, 0, 0, 0)) + (
        record(0x2F, bytes(6)) if encrypted else b""
    )
    kind = 1 if macro_sheet else 0
    name = struct.pack("<BB", 5, 0) + b"Staff"
    size = len(start) + len(record(0x85, bytes(6) + name)) + 4
    bound = record(0x85, struct.pack("<LBB", size, 0, kind) + name)
    return compound({"Workbook": start + bound + record(0x0A) + sheet})


def tnef(body: str, files: Mapping[str, bytes]) -> bytes:
    """winmail.dat by hand."""

    def attribute(level: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<BLL", level, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    out = struct.pack("<LH", 0x223E9F78, 1) + attribute(1, 0x0002800C, body.encode() + b"\0")
    for name, content in files.items():
        out += attribute(2, 0x00069002, bytes(14)) + attribute(2, 0x00018010, name.encode() + b"\0")
        out += attribute(2, 0x0006800F, content)
    return out


def outlook(subject: str, body: str, files: Mapping[str, bytes]) -> bytes:
    """An Outlook message by hand."""
    streams = {
        "__properties_version1.0": bytes(32),
        "__substg1.0_0037001F": subject.encode("utf-16-le"),
        "__substg1.0_1000001F": body.encode("utf-16-le"),
    }
    for number, (name, content) in enumerate(files.items()):
        folder = f"__attach_version1.0_#{number:08X}"
        streams[f"{folder}/__substg1.0_3707001F"] = name.encode("utf-16-le")
        streams[f"{folder}/__substg1.0_37010102"] = content
    return compound(streams)


_HQX = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_B64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def binhex(content: bytes, name: bytes = b"a.dat", resource: bytes = b"") -> bytes:
    """A text with the file in BinHex 4.0 (RFC 1741), runs packed."""
    head = bytes((len(name),)) + name + b"\0TEXTttxt" + bytes(2) + struct.pack(">LL", len(content), len(resource))
    raw = b"".join(part + struct.pack(">H", binascii.crc_hqx(part, 0)) for part in (head, content, resource))
    out = bytearray()
    for octet, group in groupby(raw):
        count = len(list(group))
        one = b"\x90\0" if octet == 0x90 else bytes((octet,))
        while count > 0:
            run = min(count, 255)
            out += one + bytes((0x90, run)) if run > 3 else one * run
            count -= run
    coded = b":" + base64.b64encode(out).rstrip(b"=").translate(bytes.maketrans(_B64, _HQX)) + b":"
    lines = b"\r\n".join(coded[at : at + 64] for at in range(0, len(coded), 64))
    return b"(This file must be converted with BinHex 4.0)\r\n\r\n" + lines + b"\r\n"


def applesingle(content: bytes, resource: bytes = b"", name: bytes = b"a.dat") -> bytes:
    """AppleSingle (RFC 1740); AppleDouble's header file where there is no content."""
    entries = [(3, name), (1, content), (2, resource)] if content else [(3, name), (2, resource)]
    at = 26 + 12 * len(entries)
    head = struct.pack(">LL16xH", 0x00051600 if content else 0x00051607, 0x00020000, len(entries))
    for number, value in entries:
        head += struct.pack(">LLL", number, at, len(value))
        at += len(value)
    return head + b"".join(value for _, value in entries)


def macbinary(content: bytes, version: int = 2, resource: bytes = b"", name: bytes = b"a.dat") -> bytes:
    """MacBinary I to III."""
    head = bytearray(128)
    head[1 : 2 + len(name)] = bytes((len(name),)) + name
    head[65:73] = b"TEXTttxt"
    struct.pack_into(">LL", head, 83, len(content), len(resource))
    if version >= 2:
        head[122:124] = b"\x81\x81"
        if version == 3:
            head[102:106] = b"mBIN"
        struct.pack_into(">H", head, 124, binascii.crc_hqx(bytes(head[:124]), 0))
    return bytes(head) + b"".join(part + bytes(-len(part) % 128) for part in (content, resource))
