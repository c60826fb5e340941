"""Macros are read as text, what runs by itself is said, and so is what asks other programs."""

import struct
import time

import pytest

from gateway.checks.reading.values import MalformedError
from gateway.checks.reading.vba import decompressed, modules

from .conftest import ReadFile
from .making import compound, doc, docx, with_files, xls, xlsx

SSN = "536-90-4399"
LINKED = "xl/externalLinks/externalLink1.xml"
MODULE = b'Attribute VB_Name = "ThisDocument"\r\n'


def packed(source: bytes) -> bytes:
    """A compressed container: literal tokens, and a copy token wherever the last three octets repeat eight before."""
    out = bytearray(b"\x01")
    for start in range(0, len(source), 4096):
        piece = source[start : start + 4096]
        body, at = bytearray(), 0
        while at < len(piece):
            flags, tokens = 0, bytearray()
            for bit in range(8):
                if at >= len(piece):
                    break
                if at >= 8 and piece[at : at + 3] == piece[at - 8 : at - 5] and len(piece[at : at + 3]) == 3:
                    bits = max(4, (at - 1).bit_length())
                    tokens += struct.pack("<H", 7 << 16 - bits)
                    flags |= 1 << bit
                    at += 3
                else:
                    tokens.append(piece[at])
                    at += 1
            body += bytes((flags,)) + tokens
        out += struct.pack("<H", 0xB000 | len(body) - 1) + body
    return bytes(out)


def project(source: bytes, folder: str = "") -> dict[str, bytes]:
    """Streams of a VBA project with one module, its source behind compiled code."""
    return {f"{folder}VBA/dir": packed(b"dir"), f"{folder}VBA/ThisDocument": b"\x01\x16\x03\0" * 80 + packed(source)}


def test_a_container_is_unpacked() -> None:
    """Literals, copies and several chunks; what the compressor of the test puts in comes out."""
    source = MODULE + b"Sub Work()\r\n" + b"Dim a%\r\n" * 2000 + b"End Sub\r\n"
    assert len(packed(source)) < len(source)
    assert decompressed(packed(source)) == source


def test_the_specifications_example_is_unpacked() -> None:
    """MS-OVBA section 3.2.3: one letter and one copy of 72."""
    assert decompressed(bytes.fromhex("0103b002614500")) == b"a" * 73


@pytest.mark.parametrize(
    "data", [b"", b"\x02abc", b"\x01", b"\x01\x00\x00"], ids=["empty", "other", "short", "nothing"]
)
def test_what_is_no_container_is_refused(data: bytes) -> None:
    """Nothing is made up of octets that begin differently."""
    with pytest.raises(MalformedError):
        decompressed(data)


def test_a_copy_from_before_the_chunk_ends_it() -> None:
    """A token that points before the beginning gives what stood there until then."""
    assert decompressed(b"\x01\x05\xb0\x02a\xff\xff\0\0") == b"a"


def test_a_module_without_its_attribute_is_found() -> None:
    """Office writes it first; who leaves it out hides nothing."""
    assert list(modules(b"\0\0" + packed(b'Sub AutoOpen()\r\nShell "calc"\r\nEnd Sub\r\n')))


@pytest.mark.parametrize("kind", ["doc", "docm", "xlsm"])
def test_macros_are_text(read: ReadFile, kind: str) -> None:
    """Information in the source of a macro is found, in old and new files, and so is what runs by itself."""
    source = MODULE + f'Private Sub Document_Open()\r\nx = "SSN {SSN}"\r\nEnd Sub\r\n'.encode()
    if kind == "doc":
        data = compound({**project(source, "Macros/"), "WordDocument": b"\0" * 600})
    elif kind == "docm":
        data = with_files(docx("Hello"), {"word/vbaProject.bin": compound(project(source))})
    else:
        data = with_files(xlsx([["Hello"]]), {"xl/vbaProject.bin": compound(project(source))})
    found = read(data)
    assert SSN in found.text
    assert {"office-macros", "office-autoexec"} <= found.codes


def test_macros_that_wait_for_a_button(read: ReadFile) -> None:
    """A macro that nobody calls by itself is none that runs by itself."""
    source = MODULE + b"Sub Reformat()\r\n' as AutoOpen() does\r\nEnd Sub\r\n"
    found = read(with_files(docx("x"), {"word/vbaProject.bin": compound(project(source))}))
    assert found.codes == {"office-macros"}


def test_macro_sheets(read: ReadFile) -> None:
    """Excel 4.0 macros, old and new; the name that makes them run by themselves."""
    assert read(xls([["x"]], macro_sheet=True)).codes == {"office-macros", "office-xlm"}
    sheet = b'<xm:macrosheet xmlns:xm="http://x"><sheetData/></xm:macrosheet>'
    book = b'<workbook><definedNames><definedName name="_xlnm.Auto_Open">1</definedName></definedNames></workbook>'
    new = with_files(xlsx([["x"]]), {"xl/macrosheets/sheet1.xml": sheet})
    assert read(new).codes == {"office-macros", "office-xlm"}
    assert "office-autoexec" in read(with_files(docx("x"), {"xl/workbook.xml": book})).codes


def field(*pieces: str) -> bytes:
    """A Word field whose instruction is cut in pieces."""
    runs = "".join(f'<w:r><w:instrText xml:space="preserve">{piece}</w:instrText></w:r>' for piece in pieces)
    return f"<w:document><w:body><w:p>{runs}<w:t>Hello</w:t></w:p></w:body></w:document>".encode()


@pytest.mark.parametrize(
    ("data", "dde"),
    [
        (with_files(docx("x"), {"word/document2.xml": field("DDEAUTO c:\\\\windows\\\\cmd.exe")}), True),
        (with_files(docx("x"), {"word/document2.xml": field("D", "DEA", "UTO cmd")}), True),
        (with_files(docx("x"), {"word/footer9.xml": b'<w:ftr><w:fldSimple w:instr=" DDE cmd /c x"/></w:ftr>'}), True),
        (with_files(docx("x"), {"word/document2.xml": field("PAGE", "TOC \\o")}), False),
        (with_files(docx("we added DDE data"), {}), False),
        (with_files(xlsx([["x"]]), {LINKED: b'<externalLink><ddeLink ddeService="cmd"/></externalLink>'}), True),
        (with_files(xlsx([["x"]]), {LINKED: b"<externalLink><externalBook/></externalLink>"}), False),
        (b"{\\rtf1{\\field{\\*\\fldinst {DDEAUTO cmd.exe}}{\\fldrslt x}}}", True),
        (b"{\\rtf1{\\field{\\*\\fldinst {HYPERLINK}}{\\fldrslt DDE}}}", False),
    ],
    ids=["auto", "cut", "simple", "page", "words", "workbook", "book", "rtf", "rtf-link"],
)  # fmt: skip
def test_dde(read: ReadFile, data: bytes, dde: bool) -> None:
    """Fields and links that ask another program are told, however they are cut; words are not."""
    assert ("office-dde" in read(data).codes) is dde


def test_dde_in_old_word(read: ReadFile) -> None:
    """A field of an old document."""
    assert "office-dde" in read(doc("\x13 DDEAUTO c:\\\\cmd.exe x\x14y\x15" + "x" * 40)).codes
    assert "office-dde" not in read(doc("\x13 PAGE \x14y\x15" + "x" * 40)).codes


def test_a_template_from_elsewhere_in_rtf(read: ReadFile) -> None:
    """Word loads it when the file is opened."""
    assert "remote-template" in read(b"{\\rtf1{\\*\\template http://evil.test/t.dotm}x}").codes
    assert "remote-template" not in read(b"{\\rtf1{\\*\\template C:\\\\letter.dot}x}").codes


def test_time_is_linear(read: ReadFile) -> None:
    """What is repeated a hundred thousand times costs no more than its octets."""
    many = b"<Relationships>" + b"<" * 250_000
    started = time.process_time()
    read(b"{\\rtf1" + b"\\fldinst" * 100_000 + b"}")
    read(with_files(docx("x"), {"word/_rels/a.xml.rels": many, "word/b.xml": b"<instrText>" * 100_000}))
    read(with_files(docx("x"), {"word/vbaProject.bin": compound(project(b"\x01\x00\xb0" * 30_000))}))
    assert time.process_time() - started < 8
