"""Messages made to exhaust or confuse the inspection, through a real gateway: in time, rightly told, harming nobody.

Every structure code is a rule of its own that adds a field: what arrives behind the gateway says what was found.
Small messages are sent all the while, and timed.
"""

import base64
import bz2
import contextlib
import gzip
import lzma
import statistics
import struct
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.checks.reading.values import FactCode
from gateway.mime.tree import DefectCode
from tests import pace
from tests.e2e.letters import CLERK, MAYOR, letter, mark
from tests.e2e.running import ROOT, CityGateway, Nursery, Sink, running_city
from tests.unit.checks.reading.making import SSN, compound, docx, pdf, with_files, zipped

DEADLINE = 8.0
"""Seconds in which attachments must be read (``inspection.attachment_timeout``); a message may take a little longer."""
ANSWERED = DEADLINE + 4
WORST = 1.5
"""Seconds that a small message may take beside a hostile one, on a busy machine."""
GIGABYTE = 1_000_000_000
ZEROS = bytes(1_000_000)
_RULE = """\
id: {name}
title: {told}
source: man/circumvent
when:
  {when}
then:
  header: {{name: X-Found, value: {told}}}
on_failure: pass
cases:  # read, not run
  - it: fires
    message: {{from: clerk@city.example, to: mayor@city.example, text: one}}
    expect: {{matches: [{name}]}}
  - it: leaves others alone
    message: {{from: clerk@city.example, to: mayor@city.example, text: two}}
    expect: {{matches: []}}
"""
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


# --- the gateway ---------------------------------------------------------------------------------------------------


def _rules(folder: Path) -> Path:
    """One rule for each structure code, one for a type of content, one for each check that fails."""
    (folder / "types").mkdir(parents=True)
    types = ROOT / "rules" / "types"
    (folder / "types" / "us-ssn.yaml").write_text((types / "us-ssn.yaml").read_text("utf-8"), "utf-8")
    rows = {f"code-{code}": f"structure: [{code}]" for code in (*DefectCode, *FactCode)}
    rows["ssn"] = "content: {types: [us-ssn], part: body}"
    rows["ssn-attached"] = "content: {types: [us-ssn], part: attachment}"
    rows["failed-content"] = "control: {failed: content}"
    rows["failed-structure"] = "control: {failed: structure}"
    for name, when in rows.items():
        (folder / f"{name}.yaml").write_text(
            _RULE.format(name=name, when=when, told=name.removeprefix("code-")), "utf-8"
        )
    return folder


@dataclass(frozen=True)
class Hostile:
    """A gateway with one worker, so that all sessions share its loop, and what lies behind it."""

    gateway: CityGateway
    sink: Sink

    def found(self, content: bytes) -> tuple[set[str], float, list[float]]:
        """Codes found in a message, the seconds it took, and those of small messages sent meanwhile."""
        name = mark("hostile")
        whole = b"X-First: %b\r\n" % name.encode() + content
        reply, took, small = self._beside(lambda: self.gateway.send(CLERK, [MAYOR], whole))
        assert reply.startswith("250"), reply
        (arrived,) = self.sink.wait(b"X-First: %b\r\n" % name.encode())
        head = arrived.content[: arrived.content.find(b"X-First:")]
        return {row[9:].strip().decode() for row in head.split(b"\r\n") if row.startswith(b"X-Found:")}, took, small

    def _beside(self, work: Callable[[], str]) -> tuple[str, float, list[float]]:
        answers: list[str] = []
        ended: list[float] = []

        def run() -> None:
            answers.append(work())
            ended.append(time.perf_counter())

        thread = threading.Thread(target=run)
        began = time.perf_counter()
        seconds: list[float] = []
        with contextlib.closing(self.gateway.connect()) as client:
            thread.start()
            while thread.is_alive() or not seconds:  # one at least, however soon the hostile one is done
                sent = time.perf_counter()
                client.sendmail(CLERK, [MAYOR], letter("small"))
                seconds.append(time.perf_counter() - sent)
                time.sleep(0.03)
        assert answers, "no answer"
        return answers[0], ended[0] - began, seconds


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Hostile]:
    """One worker; the limits are the defaults, but for a shorter deadline and less memory to fill until they hold."""
    folder = tmp_path_factory.mktemp("hostile")
    settings = {
        "timeout": f"{DEADLINE + 2:g} s",
        "attachment_timeout": f"{DEADLINE:g} s",
        "process_memory": "500 MiB",
    }
    with (
        Sink() as sink,
        running_city(
            folder / "g", nursery, sink.port, _rules(folder / "rules"), workers=1, inspection=settings
        ) as gateway,
    ):
        one = Hostile(gateway, sink)
        one.found(attachment(zipped({"a.txt": b"warm"})))
        yield one


def attachment(data: bytes, name: str = "file.bin", kind: str = "application/octet-stream") -> bytes:
    """A message with one attachment, and a number in its text that must be found whatever the attachment does."""
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    return (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nSSN %b\r\n--bb\r\n"
        b'Content-Type: %b; name="%b"\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n--bb--\r\n'
        % (SSN.encode(), kind.encode(), name.encode(), encoded)
    )


# --- archives ------------------------------------------------------------------------------------------------------


def deflated(megabytes: int) -> bytes:
    """So many megabytes of zeros as one raw deflate stream, made of one block that is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def member(name: bytes, packed: bytes, size: int, crc: int = 0, method: int = 8) -> tuple[bytes, bytes]:
    """A local entry and its row in the directory (still without its offset)."""
    sizes = struct.pack("<LLL", crc, len(packed), size)
    local = struct.pack("<4s5H", b"PK\x03\x04", 20, 0, method, 0, 0x21) + sizes + struct.pack("<HH", len(name), 0)
    row = struct.pack("<4s6H", b"PK\x01\x02", 20, 20, 0, method, 0, 0x21) + sizes
    row += struct.pack("<5HL", len(name), 0, 0, 0, 0, 0)
    return local + name, row


def archive(bodies: bytes, rows: list[tuple[bytes, int, bytes]]) -> bytes:
    """A ZIP of local entries and directory rows, each with its offset and name."""
    directory = b"".join(row + struct.pack("<L", at) + name for row, at, name in rows)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(rows), len(rows), len(directory), len(bodies), 0)
    return bodies + directory + end


def flat(megabytes: int = 1000) -> bytes:
    """A gigabyte of zeros in one member of a megabyte."""
    packed = deflated(megabytes)
    local, row = member(b"zeros", packed, megabytes * len(ZEROS))
    return archive(local + packed, [(row, 0, b"zeros")])


def nested(levels: int, width: int) -> bytes:
    """As 42.zip: archives in archives, so many in each."""
    data = zipped({"zeros": ZEROS * 10})
    for _ in range(levels):
        data = zipped({f"{n}.zip": data for n in range(width)})
    return data


def quoting(count: int = 2000) -> bytes:
    """Overlapping members (Fifield, «A better zip bomb»): each quotes the next one's local entry, then runs into it."""
    packed = deflated(1)
    size, bodies, rows = len(ZEROS), packed, list[tuple[bytes, int, bytes]]()
    for number in reversed(range(count)):
        name = b"%04d" % number
        local, row = member(name, bodies, size)
        rows = [(row, 0, name), *((r, at + len(local) + 5, n) for r, at, n in rows)]
        bodies = local + bodies
        quoted = struct.pack("<BHH", 0, len(local), len(local) ^ 0xFFFF) if number else b""
        bodies, size = quoted + bodies, size + len(local)
    # the first entry is not quoted by anything: offsets count from it
    return archive(bodies, [(row, at, name) for row, at, name in rows])


def overlapping(count: int = 5000) -> bytes:
    """Many names for one member's octets."""
    packed = deflated(1)
    local, _ = member(b"a", packed, len(ZEROS))
    rows = [(member(b"%05d" % n, packed, len(ZEROS))[1], 0, b"%05d" % n) for n in range(count)]
    return archive(local + packed, rows)


def declared_member() -> bytes:
    """A member that declares a gigabyte and holds a line."""
    raw = bytearray(zipped({"a.txt": b"SSN " + SSN.encode()}))
    for sign, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", raw, raw.find(sign) + offset, GIGABYTE)
    return bytes(raw)


def declared_gzip() -> bytes:
    """A gzip trailer (ISIZE, RFC 1952) that declares a gigabyte."""
    return gzip.compress(b"a line")[:-4] + struct.pack("<L", GIGABYTE)


def declared_tar() -> bytes:
    """A tar header that declares a gigabyte and no octets behind it."""
    entry = tarfile.TarInfo("large.txt")
    entry.size = GIGABYTE
    return entry.tobuf() + b"a line"


def declared_xz() -> bytes:
    """An xz block with a dictionary of a gigabyte and a half (its last filter byte, and the header's sum again)."""
    raw = bytearray(lzma.compress(b"a line"))
    assert raw[14:16] == b"\x21\x01"
    raw[16] = 37
    struct.pack_into("<L", raw, 20, zlib.crc32(raw[12:20]))
    return bytes(raw)


def declared_7z() -> bytes:
    """A 7z start header that declares a next header of a gigabyte."""
    start = struct.pack("<QQL", 0, GIGABYTE, 0)
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<L", zlib.crc32(start)) + start + b"\x01" * 64


def declared_png() -> bytes:
    """A picture of 32,000 by 32,000 points."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    head = struct.pack(">LLBBBBB", 32_000, 32_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(ZEROS)) + chunk(b"IEND", b"")


def declared_tiff() -> bytes:
    """The same as TIFF."""
    rows = ((256, 4, 1, 32_000), (257, 4, 1, 32_000), (258, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, GIGABYTE))
    tags = b"".join(struct.pack("<HHLL", *row) for row in rows)
    return b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", len(rows)) + tags + bytes(4)


# --- documents -----------------------------------------------------------------------------------------------------


def document(body: str, head: str = "") -> bytes:
    """A Word document around some XML."""
    whole = f'<?xml version="1.0"?>{head}<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>'
    return zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": whole.encode()})


def laughs() -> bytes:
    """Ten to the ninth «lol»."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return document("<w:p><w:r><w:t>&l9;</w:t></w:r></w:p>", f'<!DOCTYPE l [<!ENTITY l0 "lol">{entities}]>')


def quadratic() -> bytes:
    """One entity of 100 KB, named 50,000 times."""
    head = f'<!DOCTYPE l [<!ENTITY a "{"a" * 100_000}">]>'
    return document(f"<w:p><w:r><w:t>{'&a;' * 50_000}</w:t></w:r></w:p>", head)


def fetching() -> bytes:
    """An entity that stands in a file and one that stands elsewhere."""
    head = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b SYSTEM "http://127.0.0.1:9/x">]>'
    return document("<w:p><w:r><w:t>&a;&b;</w:t></w:r></w:p>", head)


def objects(rows: Mapping[int, bytes], root: int = 1) -> bytes:
    """A PDF of numbered objects, its table of offsets right."""
    out, places = b"%PDF-1.7\n", dict[int, int]()
    for number, body in rows.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % places.get(n, 0) for n in range(1, max(rows) + 1))
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%b" % (max(rows) + 1, table)
    return out + b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF" % (max(rows) + 1, root, start)


_CATALOGUE = {1: b"<</Type/Catalog/Pages 2 0 R>>"}


def self_referring_pages() -> bytes:
    """A tree of pages whose branches are its root."""
    return objects({**_CATALOGUE, 2: b"<</Type/Pages/Kids[2 0 R 2 0 R 3 0 R]/Count %d>>" % GIGABYTE,
                    3: b"<</Type/Pages/Parent 2 0 R/Kids[2 0 R 3 0 R]/Count 2>>"})  # fmt: skip


def packed_page(megabytes: int) -> bytes:
    """A page whose content unpacks to so much white space."""
    block = zlib.compressobj(9)
    packed = block.compress(b" " * 1_000_000) + block.flush(zlib.Z_FULL_FLUSH)
    rest = packed[2:] * (megabytes - 1)
    content = packed + rest
    return objects({**_CATALOGUE, 2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
                    3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
                    4: b"<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream" % (len(content), content),
                    })  # fmt: skip


def endless_tables() -> bytes:
    """A table of offsets whose predecessor is itself."""
    raw = pdf([SSN])
    at = raw.rfind(b"startxref")
    return raw[:at].replace(b"trailer\n<<", b"trailer\n<< /Prev %d" % raw.rfind(b"xref\n", 0, at)) + raw[at:]


def looped_compound(what: str) -> bytes:
    """A compound file whose sectors run in a circle, or that declares a gigabyte."""
    raw = bytearray(compound({"WordDocument": b"\xec\xa5" + bytes(8000), "1Table": bytes(5000)}))
    fat = struct.unpack_from("<L", raw, 0x4C)[0]
    table, directory = 512 * (fat + 1), 512 * (struct.unpack_from("<L", raw, 0x30)[0] + 1)
    if what == "sectors":
        for number in range(8):
            struct.pack_into("<L", raw, table + 4 * number, number)
    elif what == "tables":
        struct.pack_into("<LL", raw, 0x44, fat, 0x7FFFFFFF)
    elif what == "folders":
        for row in range(3):
            struct.pack_into("<LLL", raw, directory + 128 * row + 68, row, row, row)
    else:
        struct.pack_into("<Q", raw, directory + 128 + 120, GIGABYTE)
    return bytes(raw)


# --- messages ------------------------------------------------------------------------------------------------------


def deep_multiparts(levels: int = 10_000) -> bytes:
    """Multiparts in multiparts."""
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels))


def deep_messages(levels: int = 10_000) -> bytes:
    """Messages in messages."""
    return b"Content-Type: message/rfc822\r\n\r\n" * levels + b"Subject: at last\r\n\r\nhello\r\n"


def deep_encoded(levels: int = 10_000) -> bytes:
    """The same with a transfer encoding, so that each has to be decoded before the next is seen."""
    head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head.replace(b"rfc822", b"global") * levels + b"Subject: at last\r\n\r\nhello\r\n"


def many_parts(count: int = 100_000) -> bytes:
    """So many parts, each a line."""
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"
    return head + b"--bb\r\n\r\nhello\r\n" * count + b"--bb--\r\n"


def part_header() -> bytes:
    """Twenty megabytes of header in a part."""
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n"
    return head + b"X-Long: " + b"x" * 20_000_000 + b"\r\n\r\nhello\r\n--bb--\r\n"


def flipped(data: bytes) -> bytes:
    """Cut in the middle."""
    return data[: len(data) // 2]


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip-flat-1GB": (flat, "archive-limit"),
    "zip-nested": (lambda: nested(4, 10), "archive-limit"),
    "zip-nested-12-levels": (lambda: nested(12, 1), "archive-limit"),
    "zip-overlapping": (overlapping, "archive-limit"),
    "zip-quoting": (quoting, "archive-limit"),
    "gzip-300MB": (lambda: b"\x1f\x8b\x08" + bytes(7) + deflated(300), "archive-limit"),
    "bzip2-1GB": (lambda: bz2.compress(ZEROS * 10) * 100, "archive-limit"),
    "xz-500MB": (lambda: lzma.compress(ZEROS * 50, preset=0) * 10, "archive-limit"),
    "zip-declares-1GB": (declared_member, "ssn-attached"),
    "gzip-declares-1GB": (declared_gzip, "unreadable"),
    "tar-declares-1GB": (declared_tar, "unreadable"),
    "xz-declares-1GB": (declared_xz, "unreadable"),
    "7z-declares-1GB": (declared_7z, "unreadable"),
    "png-declares-1GB": (declared_png, ""),
    "tiff-declares-1GB": (declared_tiff, ""),
}
DOCUMENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "docx-billion-laughs": (laughs, "unreadable"),
    "docx-quadratic": (quadratic, "unreadable"),
    "docx-fetches": (fetching, "unreadable"),
    "docx-1GB": (lambda: with_files(docx("x"), {"word/x.xml": b"<a>" + ZEROS * 60}), "archive-limit"),
    "docx-cut": (lambda: flipped(docx("x" * 3000)), "unreadable"),
    "pdf-cut": (lambda: flipped(pdf([SSN] * 200)), "unreadable"),
    "pdf-pages-loop": (self_referring_pages, "unreadable"),
    "pdf-page-1GB": (lambda: packed_page(1000), "content-unreadable"),
    "pdf-tables-loop": (endless_tables, ""),
    "ole-cut": (lambda: flipped(looped_compound("")), "unreadable"),
    "ole-sectors-loop": (lambda: looped_compound("sectors"), "unreadable"),
    "ole-tables-loop": (lambda: looped_compound("tables"), "unreadable"),
    "ole-folders-loop": (lambda: looped_compound("folders"), "unreadable"),
    "ole-declares-1GB": (lambda: looped_compound("declared"), "unreadable"),
}
MESSAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "10000-multiparts-deep": (deep_multiparts, "too-deep"),
    "10000-messages-deep": (deep_messages, "too-deep"),
    "10000-encoded-deep": (deep_encoded, "archive-limit"),
    "100000-parts": (many_parts, "too-many-parts"),
    "header-20MB-one-field": (lambda: b"X-Long: " + b"x" * 20_000_000 + b"\r\n" + letter("x"), "header-too-large"),
    "header-300000-fields": (lambda: b"X-Field: some value\r\n" * 300_000 + letter("x"), "header-too-large"),
    "header-150000-fields": (lambda: b"A:b\r\n" * 150_000 + letter("x"), "too-many-fields"),
    "header-20MB-in-a-part": (part_header, "header-too-large"),
}


def _show(name: str, codes: set[str], took: float, small: list[float]) -> None:
    print(
        f"\n{name} | {', '.join(sorted(codes))} | {took:.2f} s | {len(small)} small beside it: "
        f"median {statistics.median(small) * 1000:.1f} ms, worst {max(small) * 1000:.0f} ms"
    )


@pytest.mark.parametrize("name", [*ARCHIVES, *DOCUMENTS])
def test_a_hostile_attachment_is_told_and_stalls_nobody(hostile: Hostile, name: str) -> None:
    """Bombs, loops, damage and gigabytes that are only declared: a finding in time, the rest of the message is read."""
    make, code = {**ARCHIVES, **DOCUMENTS}[name]
    codes, took, small = hostile.found(attachment(make()))
    _show(name, codes, took, small)
    assert code in codes or not code
    assert "ssn" in codes or "failed-content" in codes
    assert took < pace.seconds(ANSWERED)
    assert max(small) < pace.seconds(WORST)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_hostile_message_is_told_and_stalls_nobody(hostile: Hostile, name: str) -> None:
    """Ten thousand levels, a hundred thousand parts, twenty megabytes of header: a finding in time."""
    make, code = MESSAGES[name]
    codes, took, small = hostile.found(make())
    _show(name, codes, took, small)
    assert code in codes
    assert took < pace.seconds(ANSWERED)
    assert max(small) < pace.seconds(WORST)


def test_a_gigabyte_that_mail_declares_is_refused_before_it_comes(hostile: Hostile) -> None:
    """SIZE beyond the limit (RFC 1870 section 6.3) is answered at MAIL, and the session goes on."""
    with contextlib.closing(hostile.gateway.connect()) as client:
        code, text = client.mail(CLERK, (f"SIZE={GIGABYTE}",))
        assert (code, text[:5]) == (552, b"5.3.4")
        assert client.mail(CLERK)[0] == 250
