"""Files by other programs than ours: what people really send is read, what cannot be read is said."""

import gzip
import struct
import zlib
from pathlib import Path

import pytest

from gateway.checks.reading.rar import MARK, sealed_members
from tests.unit.checks.reading.conftest import ReadFile
from tests.unit.checks.reading.making import SSN

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> bytes:
    """Its octets; large ones lie packed."""
    path = SAMPLES / name
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(name + ".gz").read_bytes())


@pytest.mark.parametrize(
    ("name", "needle", "place"),
    [
        ("lzma2.7z", SSN, "staff.txt"),
        ("ppmd.7z", SSN, "staff.txt"),
        ("bcj.7z", SSN, "staff.txt"),
        ("deflate64.zip", SSN, "staff.txt"),
        ("lzma.zip", SSN, "staff.txt"),
        ("word.doc", "Test OLE file, saved as Word 97-2003 Document.", ""),
        ("xlwt.xls", f"Ada Müller\t{SSN}", "sheet Staff"),
        ("xlwt.xls", "hidden 4111 1111 1111 1111", "sheet Secret (hidden)"),
        ("xlsxwriter.xlsx", f"SSN\t{SSN}", "sheet Staff"),
        ("xlsxwriter.xlsx", "SSN 536-90-4400", "sheet Staff"),
        ("xlsxwriter.xlsx", "call 4111 1111 1111 1111", "comments"),
        ("xlsxwriter.xlsx", "hidden note", "sheet Secret (hidden)"),
        ("python-pptx.pptx", f"SSN {SSN}", "slide 1"),
        ("python-pptx.pptx", "notes 4111 1111 1111 1111", "notes 1"),
        ("python-pptx.pptx", "in a cell", "slide 1"),
        ("letter.doc", SSN, ""),
        ("letter.docx", "Gypsum comment", "comments"),
        ("letter.odt", "Pumice footnote", ""),
        ("letter.rtf", "Slate header", ""),
        ("letter.rtf", "Größe café", ""),
        ("letter.pdf", f"Her Social Security number is {SSN}", "page 1"),
        ("letter.pdf", "Quartz box", "page 1"),
        ("table.xls", f"Social Security number\t{SSN}", "sheet Payroll"),
        ("table.xls", "4111111111111111", "sheet Payroll"),
        ("table.xls", "Obsidian hidden", "sheet Slate (hidden)"),
        ("table.xls", "Gypsum comment", "other text"),
        ("table.xlsx", "Obsidian hidden", "sheet Slate (hidden)"),
        ("table.xlsx", "Gypsum comment", "comments"),
        ("table.ods", "Gypsum comment", ""),
        ("talk.ppt", f"Her Social Security number is {SSN}", ""),
        ("talk.ppt", "Pumice notes", ""),
        ("talk.pptx", "Feldspar bullet", "slide 1"),
        ("talk.pptx", "Pumice notes", "notes 1"),
        ("talk.odp", "Quartz second", ""),
        ("outer.msg", "Outer body", ""),
        ("outer.msg", "outer subject", "subject"),
        ("dde-test.xlsb", "DDE-Link:", "sheet Tabelle1"),
        ("sample_with_vba.ppt", "PPT VBA TEST", ""),
        ("sample_with_vba.ppt", 'MsgBox "The action button clicked!"', "object 1, macros, module module1"),
        ("embedded-simple-2007.ppt", "simple ascii contents", "object 1/simple-text-file.txt"),
        ("embedded-simple-2007.xlsb", "simple ascii contents", "oleObject1.bin/simple-text-file.txt"),
        ("excel4_sample_macro.xlsm", "This is a sample Excel 4 macro", "sheet Macro1"),
        ("odfdo.odt", "Zweite Zeile, Größe", ""),
        ("odfdo.ods", f"SSN\n\t{SSN}", ""),
        ("rar5-crc.rar", "000\n001\n", "stest1.txt"),
        ("rar5-blake.rar", "000\n001\n", "stest2.txt"),
        ("rar5-solid.rar", "000\n001\n", "stest2.txt"),
        ("rar5-subdirs.rar", "long fn", "sub/with space/long fn.txt"),
        ("rar3-subdirs.rar", "file", "sub/üȵĩöḋè/file.txt"),
    ],
)
def test_what_other_programs_write_is_read(read: ReadFile, name: str, needle: str, place: str) -> None:
    """The text is found, where it stands, and nothing is called damaged."""
    found = read(sample(name), name)
    assert place in found.places(needle)
    assert not found.codes & {"unreadable", "archive-encrypted", "content-encrypted"}


def test_macro_sheets_of_binary_workbooks_are_searched(read: ReadFile) -> None:
    """The library refuses a workbook with one: strings are read, and it is said that this is not all."""
    name = "excel4_sample_macro.xlsb"
    assert read(sample(name), name).places("This is a sample Excel 4 macro") == ["macro sheet"]


@pytest.mark.parametrize("kind", ["doc", "docx", "odt", "rtf"])
def test_a_letter_is_read_in_whole(read: ReadFile, kind: str) -> None:
    """Paragraphs, table, box, header, footer, footnote, comment, properties, in each format that LibreOffice writes."""
    text = read(sample(f"letter.{kind}"), f"letter.{kind}").text
    words = ("Slate header", "Marble footer", "Pumice footnote", "Gypsum comment", "Feldspar cell", "Quartz box")
    assert not [
        w for w in (SSN, "4111 1111 1111 1111", "Größe café naïve", *words, "Quarry title", "granite") if w not in text
    ]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("encrypted.doc", {"content-encrypted"}),
        ("encrypted.xls", {"content-encrypted"}),
        ("encrypted.ppt", {"content-encrypted"}),
        ("encrypted.xlsb", {"content-encrypted"}),
        ("sample_with_vba.ppt", {"office-macros"}),
        ("excel4_sample_macro.xls", {"office-macros", "office-xlm", "office-autoexec"}),
        ("excel4_sample_macro.xlsm", {"office-macros", "office-xlm", "office-autoexec"}),
        ("excel4_sample_macro.xlsb", {"office-macros", "office-xlm", "office-autoexec", "unreadable"}),
        ("excel4_sample_macro_excel5_format.xls", {"office-macros", "office-xlm", "office-autoexec"}),
        ("dde-test.xlsb", {"office-dde"}),
        ("embedded-simple-2007.ppt", {"embedded-object"}),
        ("letter.doc", set()),
        ("talk.ppt", set()),
        ("table.xls", set()),
    ],
)
def test_what_microsoft_office_writes_is_told(read: ReadFile, name: str, codes: set[str]) -> None:
    """Passwords, macros of both kinds, links to programs, embedded files, in old and binary formats; and no more."""
    assert read(sample(name), name).codes == codes


@pytest.mark.parametrize(
    "name", ["rar5-psw.rar", "rar5-hpsw.rar", "rar3-comment-hpsw.rar", "aes.7z", "aes-names.7z", "aes.zip"]
)
def test_archives_with_a_password_are_said_to_be(read: ReadFile, name: str) -> None:
    """Whether names can be read or not; no noise is taken for text."""
    found = read(sample(name), name)
    assert found.codes == {"archive-encrypted"}
    assert not found.texts
    assert all(not file.media_type for file in found.files)


@pytest.mark.parametrize("name", ["rar15-comment.rar", "rar2-unix-owner.rar", "rar3-solid.rar", "ppmd.zip"])
def test_what_cannot_be_read_is_said(read: ReadFile, name: str) -> None:
    """RAR before 3 and its solid archives, PPMd in ZIP: a finding, never silence."""
    assert "unreadable" in read(sample(name), name).codes


def rar5(name: str, content: bytes) -> bytes:
    """A RAR 5 archive of one stored file, by hand."""

    def block(*fields: int, tail: bytes = b"", data: bytes = b"") -> bytes:
        body = bytes(fields) + tail
        head = bytes([len(body)]) + body
        return struct.pack("<L", zlib.crc32(head)) + head + data

    size, raw = len(content), name.encode()
    tail = bytes([4, size, 0]) + struct.pack("<L", zlib.crc32(content)) + bytes([0, 1, len(raw)]) + raw
    return MARK + block(1, 0, 0) + block(2, 2, size, tail=tail, data=content) + block(5, 0, 0)


def test_a_stored_rar_5_file_is_read(read: ReadFile) -> None:
    """As the format's technical note describes it."""
    found = read(rar5("staff.txt", f"SSN {SSN}".encode()), "a.rar")
    assert (found.places(SSN), found.codes) == (["staff.txt"], set())


def test_a_cut_rar_5_archive_names_what_it_can() -> None:
    """Wherever the archive ends, the headers before it are read and nothing is raised."""
    data = sample("rar5-psw.rar")
    assert sealed_members(data) == {"stest1.txt", "stest2.txt"}
    seen = [sealed_members(data[:end]) for end in range(0, len(data), 7)]
    assert {"stest1.txt"} in seen
    assert all(names <= {"stest1.txt", "stest2.txt"} for names in seen)
    assert sealed_members(MARK + b"\xff" * 100) == frozenset()
