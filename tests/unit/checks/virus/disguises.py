"""Ways to hide a file in a message so that some programs see it and others do not. Harmless: they hide test files.

Each disguise is a function of the file's octets that gives a whole message with CRLF. In all of them but the last group
the file travels encoded, so that it stands in no raw octets of the message. Refuses nothing; made for tests only.
"""

import base64
import binascii
import bz2
import gzip
import io
import lzma
import quopri
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pypdfium2

from tests.unit.checks.reading.making import (
    applesingle,
    binhex,
    compound,
    docx,
    macbinary,
    outlook,
    pdf,
    ppt,
    tnef,
    with_files,
    zipped,
)

Disguise = Callable[[bytes], bytes]
DISGUISES: dict[str, Disguise] = {}
"""Every disguise by its name, in the order of the table in docs/virus.md."""
GROUPS: dict[str, str] = {}
"""Name of a disguise to that of its group."""

FIELDS = b"From: stranger@example.net\r\nTo: clerk@city.example\r\nSubject: Invoice\r\nMIME-Version: 1.0\r\n"
TEXT = b"Content-Type: text/plain\r\n\r\nPlease see below.\r\n"
BINARY = b'Content-Type: application/octet-stream; name="a.dat"\r\n'
B64 = b"Content-Transfer-Encoding: base64\r\n"
_group = ""


def _disguise(name: str) -> Callable[[Disguise], Disguise]:
    def keep(function: Disguise) -> Disguise:
        DISGUISES[name] = function
        GROUPS[name] = _group
        return function

    return keep


def _simple(name: str, build: Disguise) -> None:
    _disguise(name)(build)


def rows(data: bytes, width: int = 76) -> bytes:
    """Base64 in lines."""
    raw = base64.b64encode(data)
    return b"".join(raw[at : at + width] + b"\r\n" for at in range(0, len(raw), width))


def quoted(data: bytes) -> bytes:
    """Quoted-printable with every octet escaped, in lines."""
    out = [b"=%02X" % octet for octet in data]
    return b"=\r\n".join(b"".join(out[at : at + 24]) for at in range(0, len(out), 24)) + b"\r\n"


def _quoted_lines(data: bytes) -> bytes:
    """Quoted-printable that keeps its lines."""
    return quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def mixed(*parts: bytes, boundary: bytes = b"cut", head: bytes = FIELDS, kind: bytes = b"multipart/mixed") -> bytes:
    """A message of these parts, each with its header."""
    start = head + b'Content-Type: %s; boundary="%s"\r\n\r\n' % (kind, boundary)
    return start + b"".join(b"--%s\r\n%s" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary


def part(data: bytes, fields: bytes = B64, kind: bytes = BINARY, body: bytes | None = None) -> bytes:
    """A part with the file in base64, or with another body."""
    return kind + fields + b"\r\n" + (rows(data) if body is None else body)


def attached(data: bytes, kind: str = "application/octet-stream", name: str = "a.dat") -> bytes:
    """An ordinary message with an ordinary attachment."""
    head = f'Content-Type: {kind}; name="{name}"\r\nContent-Disposition: attachment; filename="{name}"\r\n'
    return mixed(TEXT, part(data, kind=head.encode()))


def nested(message: bytes, levels: int) -> bytes:
    """A message within messages."""
    for _ in range(levels):
        message = FIELDS + b"Content-Type: message/rfc822\r\n\r\n" + message
    return message


def deep(data: bytes, levels: int) -> bytes:
    """Multiparts within multiparts."""
    inner = part(data)
    for level in range(levels):
        cut = b"cut%d" % level
        inner = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n%s\r\n--%s--\r\n' % (cut, cut, inner, cut)
    return FIELDS + inner


def signed(data: bytes) -> bytes:
    """Opaque CMS signed data without signers (RFC 5652 section 5), DER."""

    def der(tag: int, content: bytes) -> bytes:
        size = len(content)
        if size < 128:
            return bytes((tag, size)) + content
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes((tag, 0x80 | len(octets))) + octets + content

    oid = der(6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01")
    inner = der(0x30, der(2, b"\1") + der(0x31, b"") + der(0x30, oid + der(0xA0, der(4, data))) + der(0x31, b""))
    return der(0x30, der(6, b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02") + der(0xA0, inner))


def uuencoded(data: bytes, name: bytes = b"a.dat") -> bytes:
    """A uuencoded file."""
    lines = b"".join(binascii.b2a_uu(data[at : at + 45]).rstrip(b"\n") + b"\r\n" for at in range(0, len(data), 45))
    return b"begin 644 %s\r\n%s`\r\nend\r\n" % (name, lines)


def yencoded(data: bytes) -> bytes:
    """A file in yEnc 1.3."""
    out = bytearray()
    for octet in data:
        coded = (octet + 42) % 256
        out += bytes((61, (coded + 64) % 256)) if coded in (0, 10, 13, 61) else bytes((coded,))
    size, check = len(data), binascii.crc32(data)
    return b"=ybegin line=128 size=%d name=a.dat\r\n%s\r\n=yend size=%d crc32=%08x\r\n" % (size, out, size, check)


def hidden_member(data: bytes) -> bytes:
    """An archive whose directory does not name the first member."""
    first, second = zipped({"hidden.dat": data}), zipped({"seen.txt": b"harmless"})
    cut = first.index(b"PK\1\2")
    directory = second.index(b"PK\1\2")
    end = bytearray(second[second.index(b"PK\5\6") :])
    struct.pack_into("<L", end, 16, cut + directory)
    entry = bytearray(second[directory : second.index(b"PK\5\6")])
    struct.pack_into("<L", entry, 42, cut)
    return first[:cut] + second[:directory] + bytes(entry) + bytes(end)


def lzma_member(data: bytes) -> bytes:
    """An archive packed with a method that clamd does not know."""
    return zipped({"a.dat": data}, zipfile.ZIP_LZMA)


def tarred(data: bytes) -> bytes:
    """A tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.dat")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def in_pdf(data: bytes) -> bytes:
    """A PDF with the file embedded."""
    document = pypdfium2.PdfDocument(pdf(["cover"]))
    document.new_attachment("a.dat").set_data(data)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def in_rtf(data: bytes) -> bytes:
    """RTF with the file as a package object."""
    name = b"a.dat\0"
    native = struct.pack("<H", 2) + name + name + struct.pack("<HHL", 0, 3, len(name)) + name
    native += struct.pack("<L", len(data)) + data
    kind = b"Package\0"
    ole = struct.pack("<LLL", 0x501, 2, len(kind)) + kind + struct.pack("<LLL", 0, 0, len(native)) + native
    return b"{\\rtf1 Agenda{\\object\\objemb{\\*\\objclass Package}{\\*\\objdata " + ole.hex().encode() + b"}}}"


def calendar(data: bytes) -> bytes:
    """An invitation with the file attached inline."""
    line = b"ATTACH;FMTTYPE=application/octet-stream;ENCODING=BASE64;VALUE=BINARY:" + base64.b64encode(data)
    folded = line[:70] + b"".join(b"\r\n " + line[at : at + 70] for at in range(70, len(line), 70))
    return b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\n" + folded + b"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"


# --- what every scanner should find --------------------------------------------------------------------------------
_group = "controls"
_simple("base64 attachment", attached)
_simple("quoted-printable attachment", lambda d: mixed(TEXT, part(
    d, b"Content-Transfer-Encoding: quoted-printable\r\n", body=quoted(d))))  # fmt: skip
_simple("base64 root", lambda d: FIELDS + part(d))
_simple("zip", lambda d: attached(zipped({"a.dat": d}), "application/zip", "a.zip"))
_simple("zip in zip", lambda d: attached(zipped({"b.zip": zipped({"a.dat": d})}), "application/zip", "a.zip"))
_simple(
    "forwarded message", lambda d: mixed(TEXT, b"Content-Type: message/rfc822\r\n\r\n" + attached(d), boundary=b"out")
)

# --- transfer encodings ---------------------------------------------------------------------------------------------
_group = "transfer encoding"


def _encoded(name: str, fields: bytes, body: Callable[[bytes], bytes] = rows) -> None:
    _simple(name, lambda d: mixed(TEXT, part(d, fields, body=body(d))))


def _encoding(value: bytes) -> bytes:
    return b"Content-Transfer-Encoding: " + value + b"\r\n"


_encoded("base64 in capitals", _encoding(b"BASE64"))
_encoded("base64 in quotes", _encoding(b'"base64"'))
_encoded("base64 with a comment behind", _encoding(b"base64 (as always)"))
_encoded("base64 with a comment before", _encoding(b"(as always) base64"))
_encoded("base64 with a comment within", _encoding(b"base(x)64"))
_encoded("base64 with a semicolon", _encoding(b"base64;"))
_encoded("base64 with a parameter", _encoding(b"base64; charset=utf-8"))
_encoded("base64 with a comma", _encoding(b"base64, 7bit"))
_encoded("base64 behind 7bit", _encoding(b"7bit base64"))
_encoded("base64 on a folded line", b"Content-Transfer-Encoding:\r\n base64\r\n")
_encoded("base64 in two folds", b"Content-Transfer-Encoding:\r\n \t\r\n\tbase64\r\n")
_encoded("base64 cut by a fold", b"Content-Transfer-Encoding: base\r\n 64\r\n")
_encoded("base64 behind spaces and tabs", _encoding(b" \t \tbase64 \t"))
_encoded("base64 with a NUL", _encoding(b"base64\0x"))
_encoded("base64 misspelt base-64", _encoding(b"base-64"))
_encoded("base64 misspelt x-base64", _encoding(b"x-base64"))
_encoded("base64 misspelt b64", _encoding(b"b64"))
_encoded("base64 misspelt base64x", _encoding(b"base64x"))
_encoded("base64 as an encoded word", _encoding(b"=?us-ascii?Q?base64?="))
_encoded("no encoding named", b"")
_encoded("an empty encoding", _encoding(b""))
_encoded("an unknown encoding", _encoding(b"x-rot64"))
_encoded("base64 called 7bit", _encoding(b"7bit"))
_encoded("base64 called binary", _encoding(b"binary"))
_encoded("base64 called quoted-printable", _encoding(b"quoted-printable"))
_encoded("quoted-printable called base64", _encoding(b"base64"), quoted)
_encoded("quoted-printable called 7bit", _encoding(b"7bit"), quoted)
_encoded("two encodings, base64 first", _encoding(b"base64") + _encoding(b"7bit"))
_encoded("two encodings, base64 last", _encoding(b"7bit") + _encoding(b"base64"))
_encoded("two encodings, quoted-printable first", _encoding(b"quoted-printable") + _encoding(b"base64"))
_encoded("space before the colon", b"Content-Transfer-Encoding : base64\r\n")
_encoded("tab before the colon", b"Content-Transfer-Encoding\t: base64\r\n")
_encoded("no space behind the colon", b"Content-Transfer-Encoding:base64\r\n")
_encoded("name in odd case", b"cOnTeNt-tRaNsFeR-eNcOdInG: base64\r\n")
_encoded("a field without colon before", b"Content-Description\r\n" + B64)
_encoded("a blank-looking line before", b"X-A: b\r\n \r\n" + B64)
_encoded("a line ended by CR alone before", b"X-A: b\r" + B64)
_encoded("a line ended by LF alone before", b"X-A: b\n" + B64)

_group = "base64"
_encoded("in lines of 60", B64, lambda d: rows(d, 60))
_encoded("in lines of 3", B64, lambda d: rows(d, 3))
_encoded("in lines of 1", B64, lambda d: rows(d, 1))
_encoded("in one line", B64, lambda d: rows(d, 10_000))
_encoded("without padding", B64, lambda d: rows(d + b"\n").replace(b"=", b""))
_encoded("with foreign characters", B64, lambda d: rows(d).replace(b"A", b"A*!"))
_encoded("with dots between", B64, lambda d: b".".join(rows(d)[at : at + 1] for at in range(len(rows(d)))))
_encoded(
    "with spaces between",
    B64,
    lambda d: b" ".join(rows(d).strip()[at : at + 4] for at in range(0, len(rows(d)), 4)) + b"\r\n",
)
_encoded("with octets over 127", B64, lambda d: rows(d).replace(b"V", b"V\xa0\xff"))
_encoded("with NULs", B64, lambda d: rows(d).replace(b"V", b"V\0"))
_encoded("with a comment in brackets", B64, lambda d: b"(a comment)\r\n" + rows(d))
_encoded("behind empty lines", B64, lambda d: b"\r\n" * 20 + rows(d))
_encoded("behind a line of dashes", B64, lambda d: b"-----\r\n" + rows(d))
_encoded("behind a group with padding", B64, lambda d: b"Cg==\r\n" + rows(d))
_encoded("each piece with padding", B64, lambda d: b"".join(
    base64.b64encode(d[at : at + 10]) + b"\r\n" for at in range(0, len(d), 10)))  # fmt: skip
_encoded("padding in one line", B64, lambda d: b"".join(
    base64.b64encode(d[at : at + 10]) for at in range(0, len(d), 10)) + b"\r\n")  # fmt: skip
_encoded("behind four signs of padding", B64, lambda d: b"====\r\n" + rows(d))
_encoded("url alphabet", B64, lambda d: base64.urlsafe_b64encode(b"\xff\xfe>" + d) + b"\r\n")
_encoded("equals sign within", B64, lambda d: rows(d)[:8] + b"=" + rows(d)[8:])
_encoded("text behind", B64, lambda d: rows(d) + b"\r\nBest regards, A. Clerk\r\n")

_group = "quoted-printable"
_QP = _encoding(b"quoted-printable")
_encoded("small letters", _QP, lambda d: quoted(d).lower())
_encoded("soft breaks everywhere", _QP, lambda d: b"=\r\n".join(b"=%02X" % octet for octet in d) + b"\r\n")
_encoded("white space behind soft breaks", _QP, lambda d: quoted(d).replace(b"=\r\n", b"= \t\r\n"))
_encoded("damaged escapes before", _QP, lambda d: b"=ZZ=4=\r\n" + quoted(d))
_encoded("some letters escaped", _QP, lambda d: b"".join(
    b"=%02X" % octet if at % 5 == 0 else bytes((octet,)) for at, octet in enumerate(d)) + b"\r\n")  # fmt: skip

_group = "other encodings"
_UU = _encoding(b"x-uuencode")
_encoded("x-uuencode", _UU, uuencoded)
_encoded("uuencode", _encoding(b"uuencode"), uuencoded)
_simple("uuencode in the text", lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\nSee:\r\n\r\n" + uuencoded(d))
_simple("uuencode in the text, no MIME", lambda d: FIELDS[:-19] + b"\r\nSee:\r\n" + uuencoded(d))
_simple("uuencode in an HTML part", lambda d: mixed(b"Content-Type: text/html\r\n\r\n<p>See</p>\r\n" + uuencoded(d)))
_simple("uuencode in base64", lambda d: mixed(part(uuencoded(d), kind=b"Content-Type: text/plain\r\n")))
_encoded("yEnc", _encoding(b"x-yencode"), yencoded)
_simple("yEnc in the text", lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\n" + yencoded(d))
_simple(
    "yEnc of an archive in the text", lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\n" + yencoded(lzma_member(d))
)
_simple("BinHex in the text", lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\nSee:\r\n\r\n" + binhex(d))
_simple("BinHex in base64", lambda d: mixed(part(binhex(d), kind=b"Content-Type: text/plain\r\n")))
_simple(
    "BinHex of an archive",
    lambda d: mixed(TEXT, b"Content-Type: application/mac-binhex40\r\n\r\n" + binhex(lzma_member(d))),
)
_simple("BinHex attached", lambda d: attached(binhex(d), "application/mac-binhex40", "a.hqx"))
_simple("BinHex attached, in no encoding", lambda d: mixed(
    TEXT, b'Content-Type: application/mac-binhex40; name="a.hqx"\r\n\r\n' + binhex(d)))  # fmt: skip
_simple("base64 in the text", lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\nDecode this:\r\n\r\n" + rows(d))
_simple(
    "a MIME part in the text",
    lambda d: FIELDS + b"Content-Type: text/plain\r\n\r\n--cut\r\n" + part(d) + b"--cut--\r\n",
)

_group = "boundaries"


def _bounded(name: str, line: bytes, delimiter: bytes = b"--cut", close: bytes = b"--cut--", gap: bytes = b"") -> None:
    def build(data: bytes) -> bytes:
        start = FIELDS + b"Content-Type: multipart/mixed; " + line + b"\r\n\r\n" + gap
        return b"\r\n".join((start + delimiter, TEXT + delimiter, part(data) + close, b""))

    _simple(name, build)


_bounded("without quotes", b"boundary=cut")
_bounded("two boundaries, first used", b'boundary="cut"; boundary="other"')
_bounded("two boundaries, last used", b'boundary="other"; boundary="cut"')
_bounded("boundary with space behind", b'boundary="cut "')
_bounded("boundary with space before", b'boundary=" cut"', b"-- cut", b"-- cut--")
_bounded("boundary with spaces within", b'boundary="c u t"', b"--c u t", b"--c u t--")
_bounded("delimiter with white space behind", b'boundary="cut"', b"--cut \t ", b"--cut--  ")
_bounded("boundary in single quotes", b"boundary='cut'", b"--'cut'", b"--'cut'--")
_bounded("boundary in single quotes, used without", b"boundary='cut'")
_bounded("quote that does not close", b'boundary="cut')
_bounded("escaped in the quotes", b'boundary="c\\ut"')
_bounded("comment before the boundary", b"(boundary=no) boundary=cut")
_bounded("comment behind the boundary", b"boundary=cut (the boundary)")
_bounded("boundary in two pieces", b"boundary*0=c; boundary*1=ut")
_bounded("boundary with percent signs", b"boundary*=us-ascii''c%75t")
_bounded("boundary in capitals", b'BOUNDARY="cut"')
_bounded("boundary used in another case", b'boundary="CUT"')
_bounded(
    "boundary of 200 characters", b'boundary="' + b"x" * 200 + b'"', b"--" + b"x" * 200, b"--" + b"x" * 200 + b"--"
)
_bounded("empty boundary", b'boundary=""', b"--", b"----")
_bounded("boundary of dashes", b'boundary="--"', b"----", b"------")
_bounded("no boundary named", b"x=y")
_bounded("no end", b'boundary="cut"', close=b"")
_bounded("end without dashes", b'boundary="cut"', close=b"--cut")
_bounded("end first", b'boundary="cut"', gap=b"--cut--\r\n")
_bounded("delimiter twice", b'boundary="cut"', b"--cut\r\n--cut")
_bounded("delimiter with text behind", b'boundary="cut"', b"--cut here")
_bounded("delimiter with a space before", b'boundary="cut"', b" --cut")
_bounded("delimiter with three dashes", b'boundary="cut"', b"---cut")
_bounded("boundary that looks like an end", b'boundary="cut--"', b"--cut--", b"--cut----")


@_disguise("boundary that is the prefix of the inner one")
def _prefix(data: bytes) -> bytes:
    inner = mixed(TEXT, part(data), boundary=b"cut-1", head=b"")
    return mixed(TEXT, inner, boundary=b"cut")


@_disguise("boundary that the inner one is the prefix of")
def _prefix_of(data: bytes) -> bytes:
    inner = mixed(TEXT, part(data), boundary=b"cut", head=b"")
    return mixed(TEXT, inner, boundary=b"cut-1")


@_disguise("boundary the same outside and inside")
def _same(data: bytes) -> bytes:
    return mixed(TEXT, mixed(TEXT, part(data), head=b""))


@_disguise("in the preamble")
def _preamble(data: bytes) -> bytes:
    start = FIELDS + b'Content-Type: multipart/mixed; boundary="cut"\r\n\r\n'
    return start + part(data) + b"\r\n--cut\r\n" + TEXT + b"--cut--\r\n"


@_disguise("in the epilogue")
def _epilogue(data: bytes) -> bytes:
    return mixed(TEXT) + b"\r\n" + part(data)


@_disguise("parts behind the end")
def _behind(data: bytes) -> bytes:
    return mixed(TEXT) + b"--cut\r\n" + part(data) + b"--cut--\r\n"


@_disguise("another boundary behind the end")
def _another(data: bytes) -> bytes:
    return mixed(TEXT) + b"--other\r\n" + part(data) + b"--other--\r\n"


_simple("one part, multipart/alternative", lambda d: mixed(part(d), kind=b"multipart/alternative"))
_simple("multipart/x-unknown", lambda d: mixed(TEXT, part(d), kind=b"multipart/x-unknown"))


def _places(subtype: str) -> None:
    kind = b"multipart/" + subtype.encode()
    _simple(f"second part, multipart/{subtype}", lambda d: mixed(TEXT, part(d), kind=kind))
    _simple(f"third part, multipart/{subtype}", lambda d: mixed(TEXT, TEXT, part(d), kind=kind))


for _subtype in ("alternative", "related", "parallel", "form-data", "appledouble", "report", "signed", "encrypted"):
    _places(_subtype)
for _subtype in ("mixed-replace", "voice-message", "byteranges", "header-set"):
    _places(_subtype)
_simple(
    "within a signed part", lambda d: mixed(mixed(TEXT, part(d), boundary=b"in", head=b""), kind=b"multipart/signed")
)
_simple("multipart/digest", lambda d: mixed(b"\r\n" + attached(d), kind=b"multipart/digest"))
_simple("multipart without subtype", lambda d: mixed(TEXT, part(d), kind=b"multipart"))
_simple("multipart called text", lambda d: mixed(TEXT, part(d), kind=b"text/plain"))
_simple("two content types, multipart first", lambda d: mixed(TEXT, part(d)).replace(
    b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1))  # fmt: skip
_simple("two content types, multipart last", lambda d: mixed(
    TEXT, part(d), head=FIELDS + b"Content-Type: text/plain\r\n"))  # fmt: skip
_simple("multipart in base64", lambda d: FIELDS + b'Content-Type: multipart/mixed; boundary="cut"\r\n' + B64 + b"\r\n"
        + rows(b"--cut\r\n" + TEXT + b"--cut\r\n" + part(d) + b"--cut--\r\n"))  # fmt: skip
_simple("multipart in quoted-printable", lambda d: FIELDS
        + b'Content-Type: multipart/mixed; boundary="c=ut"\r\n' + _encoding(b"quoted-printable")
        + b"\r\n--c=3Dut\r\n" + part(d).replace(b"=", b"=3D") + b"--c=3Dut--\r\n")  # fmt: skip
_simple("a folded content type", lambda d: mixed(TEXT, part(d)).replace(b"mixed; ", b"mixed;\r\n\t"))
_simple("a content type in comments", lambda d: mixed(TEXT, part(d)).replace(
    b"multipart/mixed", b"multipart (really) / (yes) mixed"))  # fmt: skip

# --- headers --------------------------------------------------------------------------------------------------------
_group = "header"
_simple("an unusual first field", lambda d: b"Alpha: beta\r\n" + attached(d))
_simple("unusual fields of 2 KB first", lambda d: b"".join(b"Alpha-%d: beta\r\n" % n for n in range(150)) + attached(d))
_simple("no usual field at all", lambda d: attached(d).replace(FIELDS, b"Alpha: beta\r\nMIME-Version: 1.0\r\n"))
_simple("no field but the content type", lambda d: attached(d).replace(FIELDS, b""))
_simple("a first field of 20 KB", lambda d: b"Alpha: " + b"beta\r\n " * 3000 + b"end\r\n" + attached(d))
_simple(
    "a header of 300 KB",
    lambda d: FIELDS + b"X-Long: " + b"beta\r\n " * 40_000 + b"end\r\n" + attached(d)[len(FIELDS) :],
)
_simple("2,000 fields", lambda d: FIELDS + b"X-A: b\r\n" * 2000 + attached(d)[len(FIELDS) :])
_simple("a line of 100 KB", lambda d: FIELDS + b"X-Long: " + b"b" * 100_000 + b"\r\n" + attached(d)[len(FIELDS) :])
_simple("an mbox line first", lambda d: b"From someone Mon Jan  1 00:00:00 2026\r\n" + attached(d))
_simple("an empty line first", lambda d: b"\r\n" + attached(d))
_simple("a space first", lambda d: b" \r\n" + attached(d))
_simple("a byte order mark first", lambda d: b"\xef\xbb\xbf" + attached(d))
_simple("a first line that is no field", lambda d: b"hello\r\n" + attached(d))
_simple("a line that is no field within", lambda d: attached(d).replace(b"MIME-Version", b"hello\r\nMIME-Version"))
_simple("a program's first octets", lambda d: b"MZ: x\r\n" + attached(d))
_simple("a picture's first octets", lambda d: b"GIF89a: x\r\n" + attached(d))
_simple("an archive's first octets", lambda d: b"PK\3\4: x\r\n" + attached(d))
_simple("an HTML page's first octets", lambda d: b"<html>: x\r\n" + attached(d))
_simple("a PDF's first octets", lambda d: b"%PDF-1.4: x\r\n" + attached(d))
_simple("no space behind any colon", lambda d: attached(d).replace(b": ", b":"))
_simple("tabs behind all colons", lambda d: attached(d).replace(b": ", b":\t"))
_simple("names in small letters", lambda d: attached(d).replace(FIELDS, FIELDS.lower()))
_simple("names in capitals", lambda d: attached(d).replace(FIELDS, FIELDS.upper()))
_simple("no MIME-Version", lambda d: attached(d).replace(b"MIME-Version: 1.0\r\n", b""))
_simple("lines ended by CR alone", lambda d: attached(d).replace(b"\r\n", b"\r"))
_simple("lines ended by LF alone", lambda d: attached(d).replace(b"\r\n", b"\n"))
_simple("lines ended by CR CR LF", lambda d: attached(d).replace(b"\r\n", b"\r\r\n"))
_simple("a NUL in the header", lambda d: attached(d).replace(b"Subject: ", b"Subject: \0"))
_simple("a NUL in the content type", lambda d: mixed(TEXT, part(d)).replace(b"multipart/mixed", b"multipart\0/mixed"))
_simple("header ends at a line of spaces", lambda d: attached(d).replace(b"\r\n\r\n", b"\r\n \t\r\n", 1))
_simple("no empty line before the parts", lambda d: attached(d).replace(b"\r\n\r\n", b"\r\n", 1))

# --- nesting --------------------------------------------------------------------------------------------------------
_group = "nesting"


def _levels(count: int) -> None:
    _simple(f"messages, {count} deep", lambda d: nested(attached(d), count))
    _simple(f"multiparts, {count} deep", lambda d: deep(d, count))


for _count in (10, 15, 18, 30, 60, 150):
    _levels(_count)
_simple("1,500 parts before", lambda d: mixed(*[TEXT] * 1500, part(d)))
_simple("900 parts before", lambda d: mixed(*[TEXT] * 900, part(d)))
_MESSAGE = b"Content-Type: message/rfc822\r\n"
_simple("message in base64", lambda d: mixed(TEXT, part(attached(d), kind=_MESSAGE)))
_simple("message in quoted-printable", lambda d: mixed(TEXT, part(
    d, _encoding(b"quoted-printable"), _MESSAGE, _quoted_lines(attached(d)))))  # fmt: skip
_simple(
    "message in base64 in base64",
    lambda d: mixed(TEXT, part(mixed(TEXT, part(attached(d), kind=_MESSAGE)), kind=_MESSAGE)),
)
_simple("message as a file", lambda d: attached(attached(d), name="note.eml"))
_simple(
    "message without its usual fields as a file",
    lambda d: attached(attached(d).replace(FIELDS, b"Alpha: b\r\n"), name="note.eml"),
)
_simple("message/global", lambda d: mixed(TEXT, b"Content-Type: message/global\r\n\r\n" + attached(d)))
_simple("message/partial, the first", lambda d: FIELDS
        + b'Content-Type: message/partial; id="a@b"; number=1; total=2\r\n\r\n' + attached(d)[:-40])  # fmt: skip
_simple("message/partial, the last", lambda d: FIELDS
        + b'Content-Type: message/partial; id="a@b"; number=2; total=2\r\n\r\n' + rows(d))  # fmt: skip
_simple("message/external-body", lambda d: mixed(TEXT, b'Content-Type: message/external-body; access-type=URL;'
        b' URL="http://files.example/a.dat"\r\n\r\n' + part(d)))  # fmt: skip
_simple("message/x-unknown", lambda d: mixed(TEXT, b"Content-Type: message/x-unknown\r\n\r\n" + attached(d)))
_simple("delivery report returning it", lambda d: mixed(
    TEXT, b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; a\r\n", _MESSAGE + b"\r\n" + attached(d),
    kind=b"multipart/report; report-type=delivery-status"))  # fmt: skip

# --- containers -----------------------------------------------------------------------------------------------------
_group = "containers"
_P7M = b'Content-Type: application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"\r\n'
_simple("opaque signed message", lambda d: FIELDS + part(signed(attached(d)), kind=_P7M))
_simple("opaque signed part", lambda d: FIELDS + part(signed(part(d)), kind=_P7M))
_simple("opaque signed twice", lambda d: FIELDS + part(signed(part(signed(part(d)), kind=_P7M)), kind=_P7M))
_simple("opaque signed, as a file", lambda d: attached(signed(part(d)), "application/octet-stream", "a.p7m"))
_simple("opaque signed raw file", lambda d: FIELDS + part(signed(d), kind=_P7M))
_simple("opaque signed zip", lambda d: FIELDS + part(signed(part(zipped({"a.dat": d}))), kind=_P7M))
_TNEF = "application/ms-tnef"
_simple("winmail.dat", lambda d: attached(tnef("See", {"a.dat": d}), _TNEF, "winmail.dat"))
_simple(
    "winmail.dat with a zip", lambda d: attached(tnef("See", {"a.zip": zipped({"a.dat": d})}), _TNEF, "winmail.dat")
)
_simple(
    "winmail.dat in a zip",
    lambda d: attached(zipped({"winmail.dat": tnef("See", {"a.zip": zipped({"a.dat": d})})}), name="a.zip"),
)
_simple(
    "Outlook message", lambda d: attached(outlook("See", "See", {"a.dat": d}), "application/vnd.ms-outlook", "a.msg")
)
_simple("Outlook message with a zip", lambda d: attached(
    outlook("See", "See", {"a.zip": zipped({"a.dat": d})}), "application/vnd.ms-outlook", "a.msg"))  # fmt: skip
_simple("compound file", lambda d: attached(compound({"Package": zipped({"a.dat": d})}), name="a.doc"))
_simple("zip with a hidden member", lambda d: attached(hidden_member(d), "application/zip", "a.zip"))
_simple("zip packed with LZMA", lambda d: attached(lzma_member(d), "application/zip", "a.zip"))
_simple(
    "zip packed with bzip2", lambda d: attached(zipped({"a.dat": d}, zipfile.ZIP_BZIP2), "application/zip", "a.zip")
)
_simple("zip behind a picture", lambda d: attached(b"GIF89a" + bytes(300) + zipped({"a.dat": d}), "image/gif", "a.gif"))
_simple("zip behind noise", lambda d: attached(bytes(range(256)) * 20 + zipped({"a.dat": d}), name="a.bin"))
_simple("tar", lambda d: attached(tarred(d), "application/x-tar", "a.tar"))
_simple("tar.gz", lambda d: attached(gzip.compress(tarred(d)), "application/gzip", "a.tar.gz"))
_simple("tar.xz", lambda d: attached(lzma.compress(tarred(d)), "application/x-xz", "a.tar.xz"))
_simple("gzip", lambda d: attached(gzip.compress(d), "application/gzip", "a.gz"))
_simple(
    "gzip of two streams", lambda d: attached(gzip.compress(b"first\n") + gzip.compress(d), "application/gzip", "a.gz")
)
_simple("bzip2", lambda d: attached(bz2.compress(d), "application/x-bzip2", "a.bz2"))
_simple("bzip2 of two streams", lambda d: attached(bz2.compress(b"first\n") + bz2.compress(d), name="a.bz2"))
_simple("xz", lambda d: attached(lzma.compress(d), "application/x-xz", "a.xz"))
_simple("xz of two streams", lambda d: attached(lzma.compress(b"first\n") + lzma.compress(d), name="a.xz"))
_simple("lzma", lambda d: attached(lzma.compress(d, lzma.FORMAT_ALONE), name="a.lzma"))
_simple("Word document with it embedded", lambda d: attached(
    with_files(docx("Agenda"), {"word/embeddings/a.bin": d}), name="a.docx"))  # fmt: skip
_simple("PDF with it embedded", lambda d: attached(in_pdf(d), "application/pdf", "a.pdf"))
_simple("PDF with a zip embedded", lambda d: attached(in_pdf(zipped({"a.dat": d})), "application/pdf", "a.pdf"))
_simple("RTF object", lambda d: attached(in_rtf(d), "application/rtf", "a.rtf"))
_simple("RTF object of a zip", lambda d: attached(in_rtf(zipped({"a.dat": d})), "application/rtf", "a.rtf"))
_simple("AppleSingle", lambda d: attached(applesingle(d), "application/applefile", "a.dat"))
_simple("AppleSingle of a zip", lambda d: attached(applesingle(zipped({"a.dat": d})), name="a.bin"))
_simple("MacBinary", lambda d: attached(macbinary(d), "application/x-macbinary", "a.bin"))
_simple("MacBinary of a zip", lambda d: attached(macbinary(zipped({"a.dat": d})), name="a.bin"))
_simple("resource fork", lambda d: attached(applesingle(b"data", d), "application/applefile", "a.dat"))
_simple(
    "PowerPoint 97 with it as an object",
    lambda d: attached(ppt("Agenda", [compound({"Package": zipped({"a.dat": d})})]), name="a.ppt"),
)
_simple("PowerPoint 97 with a zip as an object", lambda d: attached(ppt("Agenda", [lzma_member(d)]), name="a.ppt"))
_simple("invitation with it attached", lambda d: attached(calendar(d), "text/calendar", "a.ics"))
_simple("invitation as the text", lambda d: FIELDS + b"Content-Type: text/calendar\r\n\r\n" + calendar(d))
_simple("invitation with a zip", lambda d: attached(calendar(zipped({"a.dat": d})), "text/calendar", "a.ics"))

# --- texts ----------------------------------------------------------------------------------------------------------
_group = "texts"
_HTML = b"Content-Type: text/html; charset=utf-8\r\n"


def _page(name: str, build: Callable[[bytes], bytes]) -> None:
    _simple(name, lambda d: mixed(part(d, kind=_HTML, fields=_encoding(b"8bit"), body=build(d))))
    _simple(f"{name}, as a file", lambda d: attached(build(d), "text/html", "a.html"))


_page("data: URL in a link", lambda d: b'<html><body><a download="a.dat" href="data:application/octet-stream;base64,'
      + base64.b64encode(d) + b'">Open</a></body></html>\r\n')  # fmt: skip
_page("data: URL with percent signs", lambda d: b'<html><body><a href="data:,'
      + b"".join(b"%%%02x" % octet for octet in d) + b'">Open</a></body></html>\r\n')  # fmt: skip
_page("base64 in a script", lambda d: b'<html><script>var b=atob("' + base64.b64encode(d)
      + b'");save(new Blob([b]),"a.dat")</script></html>\r\n')  # fmt: skip
_page("base64 of a zip in a script", lambda d: b'<html><script>var b=atob("' + base64.b64encode(zipped({"a.dat": d}))
      + b'");save(new Blob([b]),"a.zip")</script></html>\r\n')  # fmt: skip
_page("base64 in pieces in a script", lambda d: b"<html><script>var b=atob("
      + b"+".join(b'"' + base64.b64encode(d)[at : at + 30] + b'"' for at in range(0, len(base64.b64encode(d)), 30))
      + b");save(b)</script></html>\r\n")  # fmt: skip
_page("octets as numbers in a script", lambda d: b"<html><script>var b=new Uint8Array(["
      + b",".join(b"%d" % octet for octet in d) + b"]);save(b)</script></html>\r\n")  # fmt: skip
_page(
    "hexadecimal in a script", lambda d: b'<html><script>var b=unhex("' + d.hex().encode() + b'")</script></html>\r\n'
)
_page("base64 by way of names in a script", lambda d: b"<html><script>var s='';"
      + b"".join(b"s+='%s';" % base64.b64encode(d)[at : at + 9] for at in range(0, len(base64.b64encode(d)), 9))
      + b"save(atob(s))</script></html>\r\n")  # fmt: skip
_page("base64 backwards in a script", lambda d: b"<html><script>save(atob('" + base64.b64encode(d)[::-1]
      + b"'.split('').reverse().join('')))</script></html>\r\n")  # fmt: skip
_page("base64 letter by letter in a script", lambda d: b"<html><script>save(atob(["
      + b",".join(b"'%c'" % octet for octet in base64.b64encode(d)) + b"].join('')))</script></html>\r\n")  # fmt: skip
_simple("SVG with a data: URL", lambda d: attached(
    b'<svg xmlns="http://www.w3.org/2000/svg"><a href="data:application/zip;base64,'
    + base64.b64encode(zipped({"a.dat": d})) + b'"/></svg>', "image/svg+xml", "a.svg"))  # fmt: skip
_simple(
    "UTF-16 text",
    lambda d: attached("\ufeff".encode("utf-16-le") + d.decode("latin-1").encode("utf-16-le"), "text/plain", "a.txt"),
)
_simple(
    "UTF-16 text, other end first", lambda d: attached(d.decode("latin-1").encode("utf-16-be"), "text/plain", "a.txt")
)
_simple("UTF-7 text", lambda d: mixed(part(d, _encoding(b"7bit"), b"Content-Type: text/plain; charset=utf-7\r\n",
        b"".join(b"+%s-" % base64.b64encode(bytes((0, octet))).rstrip(b"=") for octet in d) + b"\r\n")))  # fmt: skip

_group = "names"
_simple("name in pieces", lambda d: mixed(TEXT, part(d, kind=b"Content-Type: application/octet-stream;\r\n"
        b" name*0*=us-ascii''a%2e; name*1=dat\r\n")))  # fmt: skip
_simple("name of 5,000 characters", lambda d: attached(d, name="a" * 5000 + ".dat"))
_simple("name with a NUL", lambda d: mixed(TEXT, part(d, kind=b'Content-Type: application/x-a; name="a\0.txt"\r\n')))
_simple("name with a path", lambda d: attached(d, name="../../a/b.dat"))
_simple("called a picture", lambda d: attached(d, "image/png", "a.png"))
_simple("called text", lambda d: mixed(TEXT, part(d, kind=b"Content-Type: text/plain\r\n")))
_simple("called application/pgp-encrypted", lambda d: mixed(part(
    d, kind=b"Content-Type: application/pgp-encrypted\r\n"), part(d), kind=b"multipart/encrypted"))  # fmt: skip
_simple("behind a detached signature", lambda d: mixed(TEXT, part(
    d, kind=b"Content-Type: application/pgp-signature\r\n"), kind=b"multipart/signed"))  # fmt: skip
_simple("no content type", lambda d: mixed(TEXT, B64 + b"\r\n" + rows(d)))
_simple("a content type that is none", lambda d: mixed(TEXT, b"Content-Type: nonsense\r\n" + B64 + b"\r\n" + rows(d)))
