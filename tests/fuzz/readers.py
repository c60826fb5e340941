"""Any octets as an attachment, read in this process: archives, documents, and what is in them."""

import io
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache

from gateway.checks.reading.budget import Budget, Limits
from gateway.checks.reading.values import Fact, FactCode, File, Found, Link, Text
from gateway.checks.reading.walk import Walk
from tests.fuzz.bounds import one_in

LONGEST = 8192
LIMITS = Limits(depth=4, members=50, expansion=50, unpacked=4_000_000, text=1_000_000, seconds=5)
TOKENS = (
    *(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x07\x08", b"\xff\xff\xff\xff", b"\x08\x00"),
    *(
        b"%PDF-1.7\n",
        b"endobj\n",
        b"stream\n",
        b"endstream\n",
        b"xref\n",
        b"trailer\n",
        b"startxref\n",
        b"/Kids [1 0 R]",
    ),
    *(b"/Type /Page", b"/JS (x)", b"/OpenAction", b"/Length 1000000000", b"1 0 obj\n", b"/Encrypt", b"/ObjStm"),
    *(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"{\\rtf1",
        b"\\objdata ",
        b"\\bin100 ",
        b"\x78\x9f\x3e\x22",
        b"BZh9",
        b"ustar",
    ),
    *(b"\x1f\x8b\x08\x00", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x00", b"word/document.xml"),
    *(b"[Content_Types].xml", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"<w:t>", b"</w:t>", b"xl/worksheets/sheet1.xml"),
    *(b"BEGIN:VCALENDAR", b"ATTACH;ENCODING=BASE64:", b"-----BEGIN PGP MESSAGE-----", b"age-encryption.org/v1"),
)


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken. Time is bounded by the budget, and watched."""
    found = list(_read(data))
    texts = files = 0
    for one in found:
        assert one.path.isprintable(), "a path that cannot be shown"
        assert len(one.path) <= (LIMITS.depth + 2) * 90 + 200
        if isinstance(one.item, Text):
            texts += len(one.item.text)
        elif isinstance(one.item, File):
            files += 1
            assert one.item.size >= 0
        else:
            if isinstance(one.item, Link):
                continue
            assert isinstance(one.item, Fact)
            assert one.item.code in FactCode
            assert len(one.item.detail) < 400
            assert one.item.code is not FactCode.CONTENT_UNREADABLE, "reading is too slow"
    assert texts <= LIMITS.text
    assert files <= LIMITS.members
    if one_in(data, 16):
        assert _shown(_read(data)) == _shown(iter(found)), "reading again gives something else"


def _read(data: bytes) -> Iterator[Found]:
    budget = Budget(LIMITS, time.thread_time)  # the machine may be busy with others
    return Walk(budget).attachment([data], len(data), "", "application/octet-stream")


def _shown(found: Iterator[Found]) -> list[tuple[str, object]]:
    return [(one.path, one.item) for one in found]


@cache
def _zip(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def seeds() -> Iterator[bytes]:
    """Small files to begin with when there is no corpus."""
    document = b'<w:document xmlns:w="w"><w:body><w:p><w:r><w:t>SSN</w:t></w:r></w:p></w:body></w:document>'
    yield _zip("word/document.xml", document)
    yield _zip("a.zip", _zip("b.txt", b"text " * 20))
    yield _zip("content.xml", b"<office:text xmlns:office='o' xmlns:text='t'><text:p>x</text:p></office:text>")
    yield zlib.compress(b"x", wbits=31)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    yield out.getvalue()
    yield (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(x)>>>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R"
        b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n"
        b"4 0 obj<</Length 33>>stream\nBT /F 9 Tf (SSN 536-90-4399) Tj ET\nendstream endobj\n"
        b"trailer<</Root 1 0 R>>\n%%EOF"
    )
    yield rb"{\rtf1\ansi text {\object\objemb{\*\objdata 0105000002000000}} \u8209 ?\'41\par}"
    yield b"BEGIN:VCALENDAR\r\nATTACH;ENCODING=BASE64;VALUE=BINARY:UEsDBA==\r\nEND:VCALENDAR\r\n"
    yield b"<html><a href='https://city.example/'>x</a><pre>\nbegin 644 a.txt\n%:&5L;&\\\n`\nend\n</pre></html>"
    yield b"\0\5\x16\0\0\2\0\0" + bytes(16) + b"\0\1\0\0\0\1\0\0\0\x26\0\0\0\5hello"
    yield b"Subject: x\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    yield b"\x78\x9f\x3e\x22\x00\x00\x01\x06\x90\x08\x00\x04\x00\x00\x00\x00\x00\x01\x00\x01\x00"
    yield b"-----BEGIN PGP MESSAGE-----\r\n\r\nwV4DAAAAAAAAAAASAQdA\r\n-----END PGP MESSAGE-----\r\n"
    yield b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + b"\x3e\0\x03\0\xfe\xff\x09\0\x06\0" + bytes(1500)
