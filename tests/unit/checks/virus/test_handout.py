"""The tar file for a second scan: what it holds, its limits, and that clamd takes it apart whatever stands in it."""

import io
import os
import tarfile
from collections.abc import Callable

import pytest

from gateway.checks.handout import Handed, Handout
from gateway.checks.virus import VirusScanner
from gateway.spool import SpooledMessage
from tests.unit.checks.virus.conftest import Clamd, MakeScanner
from tests.unit.checks.virus.disguises import attached, signed

DECOYS = {
    "mail": b"\nFrom: a@b\nReceived: x\nContent-Type: text/plain\n\nHello\n",
    "message": attached(b"harmless"),
    "zip": b"PK\3\4" + bytes(600),
    "pdf": b"%PDF-1.4\n" + bytes(600),
    "program": b"MZ" + bytes(3000),
    "html": b"<html><script>" + b"x" * 600,
    "picture": b"GIF89a" + bytes(900),
    "tar": b"a".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"),
    "zeros": bytes(4096),
    "signed": signed(b"harmless" * 100),
}


def collected(*files: bytes, octets: int = 10**6, count: int = 100) -> tuple[Handout, Handed]:
    """A handout of these files, ended."""
    out = Handout(octets, count)
    for file in files:
        out.add(iter((file[:7], b"", file[7:])))
    return out, out.done()


def members(content: bytes) -> list[bytes]:
    """The files in a tar file."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [opened.read() for member in archive if (opened := archive.extractfile(member)) is not None]


def test_what_is_added_is_in_it_once() -> None:
    """Files in their order, of any length; the same octets once; an empty one not at all."""
    files = [b"x" * size for size in (1, 511, 512, 513, 5000)]
    out, handed = collected(*files, b"", *files)
    assert members(out.content()) == files
    assert handed == Handed(len(out.content()), 5)
    assert collected(b"")[1] == Handed()


def test_add_says_whether_it_is_new() -> None:
    """So that a file is not read twice either."""
    out = Handout(10**6, 100)
    assert [out.add(iter((b"a",))), out.add(iter((b"a",))), out.add(iter((b"b",))), out.add(iter(()))] == [
        True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("octets", "count"), [pytest.param(5000, 100, id="octets"), pytest.param(10**6, 2, id="files")]
)
def test_limits_are_said(octets: int, count: int) -> None:
    """What is beyond a limit is left out, and so is all after it."""
    files = [bytes([65 + number]) * 1500 for number in range(5)]
    out, handed = collected(*files, octets=octets, count=count)
    assert "more than" in handed.cut
    assert members(out.content()) == files[:2]


def test_a_file_is_written_as_memory_is() -> None:
    """To a descriptor goes the very same tar file."""
    files = (b"a" * 700, b"b", b"a" * 700, b"c" * 1024)
    fd = os.memfd_create("test")
    try:
        out = Handout(10**6, 100, fd)
        for file in files:
            out.add(iter((file,)))
        size = out.done().size
        assert os.pread(fd, size + 1, 0) == collected(*files)[0].content()
    finally:
        os.close(fd)


def test_a_full_disk_is_said() -> None:
    """A file that cannot be written is a limit, not an error that ends the inspection."""
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        out = Handout(10**6, 100, fd)
        assert not out.add(iter((b"a",)))
        assert "no room" in out.done().cut
    finally:
        os.close(fd)


def test_what_is_sealed_stays() -> None:
    """A process that goes on writing cannot change what clamd is given."""
    message = SpooledMessage.of(b"x")
    fd = message.beside()
    os.write(fd, b"content")
    with pytest.raises(ValueError, match="greater"):
        SpooledMessage.of_descriptor(fd, 100)
    apart = SpooledMessage.of_descriptor(fd, 7)
    with pytest.raises(PermissionError):
        os.write(fd, b"more")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert bytes(apart.buffer[:]) == b"content"
    apart.close()


@pytest.mark.real
async def test_clamd_takes_it_apart_whatever_it_holds(
    clamd: Clamd, make_scanner: MakeScanner, zipped: Callable[..., bytes], eicar: bytes
) -> None:
    """A file behind any other, and among hundreds, is found as if it were alone, also over TCP."""
    for address in (clamd.unix, clamd.tcp):
        scanner: VirusScanner = make_scanner(address)
        for name, decoy in DECOYS.items():
            out, _ = collected(decoy, zipped(eicar))
            assert await scanner.scan(SpooledMessage.of(out.content())), name
            out, _ = collected(decoy)
            assert not await scanner.scan(SpooledMessage.of(out.content())), name
        out, _ = collected(*(b"%d" % number for number in range(900)), zipped(eicar), count=1000)
        assert await scanner.scan(SpooledMessage.of(out.content()))
