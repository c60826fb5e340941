"""Archives: every member, with its path; what is encrypted, hidden or damaged is said."""

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from gateway.checks.reading.inflate64 import inflate64
from tests.unit.checks.reading.conftest import ReadFile
from tests.unit.checks.reading.making import SSN, by_libarchive, docx, rar4, with_files, zipped

TEXT = f"the number {SSN}".encode()


def tarred(mode: str) -> bytes:
    """A tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]  # mode is a parameter here
        for name in ("a.txt", "folder/b.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(TEXT)
            archive.addfile(entry, io.BytesIO(TEXT))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods(read: ReadFile, method: int) -> None:
    """Every method that Python's library writes is read; folders are no members."""
    found = read(zipped({"folder/": b"", "folder/a.txt": TEXT * 100}, method))
    assert found.places(SSN) == ["folder/a.txt"]
    assert [(f.path, f.media_type, f.size) for f in found.files] == [("folder/a.txt", "text/plain", len(TEXT) * 100)]
    assert not found.facts


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_tar(read: ReadFile, mode: str) -> None:
    """Tar, open or compressed, is read as a stream; links hold nothing."""
    found = read(tarred(mode))
    assert found.places(SSN) == ["a.txt", "folder/b.txt"]
    assert not found.facts


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files(read: ReadFile, compress: object) -> None:
    """Streams that follow one another are one file; what is cut off is read as far as it goes, and said."""
    assert callable(compress)
    once: bytes = compress(TEXT)
    assert read(once + compress(b" and more")).text == TEXT.decode() + " and more"
    large = bytes(range(256)) * 3000 + TEXT
    assert read(compress(large)[:-20]).codes == {"unreadable"}


@pytest.mark.parametrize("form", ["7zip", "iso9660", "cpio_newc", "xar", "ar_svr4"])
def test_archives_by_libarchive(read: ReadFile, tmp_path: Path, form: str) -> None:
    """Formats that libarchive writes and reads."""
    found = read(by_libarchive({"a.txt": TEXT, "b.docx": docx("inner words")}, form, tmp_path))
    assert found.places(SSN) == ["a.txt"]
    assert found.places("inner words") == ["b.docx"]
    assert not found.facts


@pytest.mark.parametrize("filter_", ["zstd", "lz4", "lzip", "compress"])
def test_compressors_by_libarchive(read: ReadFile, tmp_path: Path, filter_: str) -> None:
    """One file, compressed in less common ways."""
    assert read(by_libarchive({"x": TEXT * 9}, "raw", tmp_path, filter_)).places(SSN) == ["content"]


def test_rar(read: ReadFile) -> None:
    """RAR is read; one with a password is named, with its members' names."""
    assert read(rar4("a.txt", TEXT)).places(SSN) == ["a.txt"]
    sealed = read(rar4("plan.exe", TEXT, encrypted=True))
    assert sealed.codes == {"archive-encrypted"}
    assert [f.name for f in sealed.files] == ["plan.exe"]


def test_encrypted_zip(read: ReadFile) -> None:
    """A member with a password keeps its name; the others are read."""
    raw = bytearray(zipped({"secret.exe": TEXT, "open.txt": TEXT}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(mark) + offset] |= 1
    found = read(bytes(raw))
    assert found.codes == {"archive-encrypted"}
    assert found.places(SSN) == ["open.txt"]
    assert [(f.name, f.media_type) for f in found.files] == [("secret.exe", ""), ("open.txt", "text/plain")]


def test_executables_inside(read: ReadFile) -> None:
    """A program deep inside is told by content, whatever it is called, with the path that leads to it."""
    inner = zipped({"photo.jpg": b"MZ" + bytes(300)})
    found = read(zipped({"a/inner.zip": inner}))
    assert [(f.path, f.media_type) for f in found.files][1] == ("a/inner.zip/photo.jpg", "application/x-dosexec")


def test_members_outside_the_directory(read: ReadFile) -> None:
    """What one program unpacks and another does not see is read, and said."""
    whole = zipped({"seen.txt": b"seen"})
    hidden = zipped({"hidden.txt": TEXT})
    first = hidden[: hidden.find(b"PK\x01\x02")]
    found = read(first + whole)
    assert found.places(SSN) == ["hidden.txt"]
    assert found.codes == {"hidden-member"}


def test_an_archive_behind_a_picture(read: ReadFile) -> None:
    """A file that is a picture to one program and an archive to another is read as both."""
    found = read(b"\x89PNG\r\n\x1a\n" + bytes(500) + zipped({"a.txt": TEXT}))
    assert found.places(SSN) == ["a.txt"]


def test_a_cut_archive(read: ReadFile) -> None:
    """Without its directory an archive is read by its members' own headers."""
    whole = with_files(zipped({"a.txt": TEXT * 50}), {"b.txt": TEXT})
    assert SSN in read(whole[: whole.find(b"PK\x01\x02")]).text


def test_deflate64(read: ReadFile) -> None:
    """The method of large Windows archives: stored and fixed blocks, a long match, and through a ZIP."""
    stored = b"\x01" + struct.pack("<HH", len(TEXT), len(TEXT) ^ 0xFFFF) + TEXT
    assert b"".join(inflate64(stored, 0, len(stored))) == TEXT
    # fixed block: literal «a», length symbol 285 (base 3, 16 extra bits: 997), distance symbol 0, end
    bits = [1, 1, 0]
    bits += [int(c) for c in f"{0x30 + ord('a'):08b}"]
    bits += [int(c) for c in f"{285 - 280 + 0xC0:08b}"]
    bits += [997 >> n & 1 for n in range(16)]
    bits += [0] * 5 + [0] * 7
    raw = bytes(sum(b << n for n, b in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
    assert b"".join(inflate64(raw, 0, len(raw))) == b"a" * 1001
    packed = bytearray(zipped({"a.txt": TEXT}, zipfile.ZIP_STORED))
    at = packed.find(TEXT)
    packed[at : at + len(TEXT)] = stored
    for mark, method, size in ((b"PK\x03\x04", 8, 18), (b"PK\x01\x02", 10, 20)):
        head = packed.find(mark)
        struct.pack_into("<H", packed, head + method, 9)
        struct.pack_into("<L", packed, head + size, len(stored))
    end = packed.find(b"PK\x05\x06")
    struct.pack_into("<L", packed, end + 16, packed.find(b"PK\x01\x02"))
    assert read(bytes(packed)).places(SSN) == ["a.txt"]


def test_deflate64_agrees_with_deflate() -> None:
    """Where a stream uses what both have (no match longer than 257), both give the same."""
    words = random.Random(1).choices(["alpha", "beta", "gamma", "delta\n"], k=4000)
    data = " ".join(words).encode()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    assert b"".join(inflate64(packed, 0, len(packed))) == data


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04 garbage",
        b"%PDF-1.4 garbage",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 600,
        b"7z\xbc\xaf\x27\x1c" + b"x" * 100,
        b"Rar!\x1a\x07\0" + b"x" * 100,
        b"\x1f\x8b\x08\0garbage garbage",
        b"BZh9garbage",
        b"\xfd7zXZ\0garbage",
        b"\x60\xea" + bytes(40),
        b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
    ],
)
def test_garbage(read: ReadFile, data: bytes) -> None:
    """What claims to be a document or an archive and is none is unreadable, never an exception."""
    assert read(data).codes == {"unreadable"}
