"""Files made to exhaust or to confuse: each ends soon, with the right finding, and what was read before it counts."""

import gzip
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest

from tests.unit.checks.reading.conftest import ReadFile
from tests.unit.checks.reading.making import SSN, compound, docx, pdf, with_files, zipped

ZEROS = bytes(1_000_000)


def bomb(megabytes: int) -> bytes:
    """A ZIP with one member of zeros."""
    return zipped({"zeros": ZEROS * megabytes})


def overlapping(count: int) -> bytes:
    """Many entries that share one member's octets."""
    whole = zipped({"a": ZEROS})
    at = whole.find(b"PK\x01\x02")
    entry = whole[at : whole.find(b"PK\x05\x06")]
    directory = entry * count
    return whole[:at] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), at, 0)


def nested(levels: int) -> bytes:
    """A ZIP in a ZIP in a ZIP."""
    data = zipped({"a.txt": b"deep"}, zipfile.ZIP_STORED)
    for _ in range(levels):
        data = zipped({"next.zip": data}, zipfile.ZIP_STORED)
    return data


BOMBS: dict[str, Callable[[], bytes]] = {
    "flat": lambda: bomb(60),
    "gzip": lambda: gzip.compress(ZEROS * 60),
    "gzip-twice": lambda: gzip.compress(gzip.compress(ZEROS * 60)),
    "many": lambda: zipped({f"{n}.zip": bomb(5) for n in range(20)}),
    "overlapping": lambda: overlapping(5000),
    "nested": lambda: nested(12),
    "members": lambda: zipped({f"{n}": b"" for n in range(10_500)}, zipfile.ZIP_STORED),
    "document": lambda: with_files(docx("x"), {"word/big.xml": b"<a>" + ZEROS * 60}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(read: ReadFile, name: str) -> None:
    """Ratio, octets, members, depth: each limit holds, in seconds."""
    data = BOMBS[name]()
    start = time.thread_time()
    assert read(data).codes == {"archive-limit"}
    assert time.thread_time() - start < 5


def test_limits_are_the_settings(read: ReadFile) -> None:
    """The same file passes or not as the limits say."""
    data = zipped({f"{n}.txt": b"words" for n in range(20)})
    assert not read(data, members=20).codes
    assert read(data, members=19).codes == {"archive-limit"}
    assert read(nested(3), depth=3).codes == {"archive-limit"}
    assert not read(nested(3), depth=4).codes
    assert read(zipped({"a": b"x" * 5000}), unpacked=4999).codes == {"archive-limit"}
    assert read(zipped({"a": b"x" * 5000}), text=4999).texts[0][1] == "x" * 4999


def test_what_came_before_the_limit_counts(read: ReadFile) -> None:
    """A bomb does not hide the member in front of it."""
    found = read(zipped({"a.txt": SSN.encode(), "b.zip": bomb(60)}))
    assert found.places(SSN) == ["a.txt"]
    assert found.codes == {"archive-limit"}


def test_declared_sizes_mean_nothing(read: ReadFile) -> None:
    """A gigabyte that is only declared costs nothing: what comes out is counted."""
    raw = bytearray(zipped({"a.txt": SSN.encode() * 10}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", raw, raw.find(mark) + offset, 1_000_000_000)
    assert SSN in read(bytes(raw)).text
    tnef = struct.pack("<LH", 0x223E9F78, 1) + struct.pack("<BLL", 1, 0x0002800C, 1_000_000_000) + SSN.encode()
    found = read(tnef)
    assert SSN in found.text
    assert found.codes == {"unreadable"}


def test_sectors_of_gigabytes_take_no_memory(read: ReadFile) -> None:
    """A compound file of 1 KB that declares sectors of 4 GB is damaged; nobody makes room for what is not there."""
    raw = bytearray(compound({"WordDocument": b"\xec\xa5" + bytes(600)}))
    struct.pack_into("<H", raw, 30, 32)
    tracemalloc.start()
    try:
        assert read(bytes(raw)).codes == {"unreadable"}
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_compound_file_with_a_circular_directory_is_damaged(read: ReadFile) -> None:
    """Streams that cannot be listed are not taken for none: others may see them."""
    raw = bytearray(compound({"WordDocument": b"\xec\xa5" + bytes(600)}))
    row = 512 * (struct.unpack_from("<L", raw, 0x30)[0] + 1)
    struct.pack_into("<LLL", raw, row + 68, 0, 0, 0)
    assert "unreadable" in read(bytes(raw)).codes


def test_billion_laughs(read: ReadFile) -> None:
    """Entities are not expanded; the document counts as damaged."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    kind = f'<!DOCTYPE l [<!ENTITY l0 "lol">{entities}]>'
    laughs = f'<?xml version="1.0"?>{kind}<w:document><w:t>&l9; {SSN}</w:t></w:document>'
    for encoding in ("utf-8", "utf-16"):
        body = laughs.replace("?>", f' encoding="{encoding}"?>', 1).encode(encoding)
        found = read(zipped({"[Content_Types].xml": b"<T/>", "word/document.xml": body}))
        assert found.codes == {"unreadable"}
        assert len(found.text) < 10_000


def test_the_clock(read: ReadFile) -> None:
    """Whatever takes too long ends between two pieces, and what is missing is said."""
    found = read(zipped({f"{n}.txt": b"words" for n in range(2000)}), seconds=0.001)
    assert found.codes == {"content-unreadable"}


def test_broken_xml_gives_what_it_has(read: ReadFile) -> None:
    """Text before and behind the damage is read."""
    body = f"<w:document><w:p><w:t>before {SSN}</w:p></w:wrong> <w:t>behind</w:t><w:p"
    found = read(zipped({"[Content_Types].xml": b"<T/>", "word/document.xml": body.encode()}))
    assert SSN in found.text
    assert "behind" in found.text
    assert found.codes == {"unreadable"}


@pytest.mark.parametrize(
    "data",
    [
        b"{" * 300_000 + b"x",
        b"{\\rtf1" + b"{\\b" * 300_000,
        b"{\\rtf1 \\u" + b"9" * 300_000,
        b"<html>" + b"<div" * 200_000,
        b"%PDF-1.7\n" + b"[" * 300_000,
        b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 1 0 R/Kids[1 0 R]>>endobj trailer<</Root 1 0 R>>",
        zipped({"[Content_Types].xml": b"<T/>", "x.xml": b"<a" * 300_000}),
        zipped({"[Content_Types].xml": b"<T/>", "x.xml": b"<a>" * 300_000}),
        compound({"Workbook": b"\x09\x08\x10\0" + b"\xff" * 5000}),
        compound({"WordDocument": b"\xec\xa5" + b"\xff" * 2000, "1Table": b"\xff" * 500}),
        compound({"PowerPoint Document": b"\x0f\0\xe8\x03\xff\xff\xff\x7f" * 100}),
        b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80" * 2000,
        b"\x78\x9f\x3e\x22" + b"\xff" * 5000,
        b"Content-Type: multipart/mixed; boundary=b\r\nFrom: a\r\nTo: b\r\n\r\n" + b"--b\r\n" * 50_000,
    ],
    # Names, not octets: a zip has the time of day in it, and every process that runs tests must call them the same.
    ids=[
        "braces",
        "RTF-groups",
        "RTF-number",
        "HTML",
        "PDF-array",
        "PDF-loop",
        "XML-unclosed",
        "XML-deep",
        "workbook",
        "old-Word",
        "PowerPoint",
        "PKCS7",
        "TNEF",
        "boundaries",
    ],
)
def test_malformed_files_end_soon(read: ReadFile, data: bytes) -> None:
    """Deep, circular and endless structures are read in linear time, or not at all."""
    start = time.thread_time()
    read(data)
    assert time.thread_time() - start < 4


def test_flipped_octets_never_raise(read: ReadFile) -> None:
    """Damage anywhere in a real file is a finding at most."""
    for source in (docx(SSN), pdf([SSN]), zlib.compress(b"x"), compound({"WordDocument": b"\xec\xa5" + bytes(3000)})):
        for at in range(0, len(source), max(1, len(source) // 25)):
            damaged = bytearray(source)
            damaged[at] ^= 0x5A
            read(bytes(damaged))
            read(bytes(source[:at]))
