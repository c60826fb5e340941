"""Files in an encoding of their own: uuencode, yEnc, BinHex in texts; Macintosh wrappings; objects of presentations."""

import base64
import random
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks import coded
from gateway.checks.coded import binhexed, coded_files, may_hold
from tests.unit.checks.virus.disguises import uuencoded, yencoded

from .conftest import ReadFile
from .making import SSN, applesingle, binhex, compound, docx, macbinary, ppt, zipped
from .test_macros import MODULE, packed

TEXT = f"Her Social Security number is {SSN}.".encode()
ARCHIVE = zipped({"staff.txt": TEXT})
Wrap = Callable[[bytes], bytes]
WRAPPED: dict[str, Wrap] = {
    "BinHex": binhex,
    "AppleSingle": applesingle,
    "MacBinary I": lambda data: macbinary(data, 1),
    "MacBinary II": macbinary,
    "MacBinary III": lambda data: macbinary(data, 3),
    "yEnc": yencoded,
    "uuencode": uuencoded,
    "yEnc behind words": lambda data: b"As promised:\r\n\r\n" + yencoded(data),
    "BinHex behind words": lambda data: b"As promised:\r\n" + binhex(data),
    "BinHex in HTML": lambda data: b"<html><pre>" + binhex(data) + b"</pre></html>",
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("called", ["", "a.hqx"], ids=["no-name", "name"])
def test_an_archive_in_it_is_opened(read: ReadFile, name: str, called: str) -> None:
    """Whatever the file is called: the text within the archive within is found in its place."""
    found = read(WRAPPED[name](ARCHIVE), called)
    assert [place for place in found.places(SSN) if place.endswith("/staff.txt")]
    assert not found.codes
    assert "application/zip" in {file.media_type for file in found.files}


FORKS: dict[str, Wrap] = {
    "AppleSingle": lambda data: applesingle(b"data", data),
    "AppleDouble": lambda data: applesingle(b"", data),
    "MacBinary": lambda data: macbinary(b"data", 2, data),
    "BinHex": lambda data: binhex(b"data", resource=data),
}


@pytest.mark.parametrize("name", FORKS)
def test_resource_forks_are_read(read: ReadFile, name: str) -> None:
    """Text clippings stand in there."""
    fork = struct.pack(">LLLL", 256, 400, 144, 50) + bytes(240) + TEXT
    (place,) = read(FORKS[name](fork)).places(SSN)
    assert place.endswith(", resource fork")


@pytest.mark.parametrize("number", [0, 1], ids=["packed", "plain"])
def test_macros_of_old_presentations_are_read(read: ReadFile, number: int) -> None:
    """Their project is an object of its own in the stream, packed or not."""
    source = MODULE + f"Sub Auto_Open()\r\n' {SSN}\r\nEnd Sub\r\n".encode()
    project = compound({"VBA/Module1": packed(source), "VBA/dir": b"\x01", "PROJECT": b"ID"})
    objects = [b"", project][1 - number :]
    found = read(ppt("Agenda", objects))
    assert found.places(SSN) == [f"object {number + 1}, macros, module module1"]
    assert {"office-macros", "office-autoexec"} <= found.codes


@pytest.mark.parametrize("form", ["Word 2003 XML", "flat package", "page as a message"])
def test_macros_in_flat_documents_are_read(read: ReadFile, form: str) -> None:
    """Base64 in an element, or a part of its own: ActiveMime, a compound file within."""
    source = MODULE + f"Sub AutoOpen()\r\n' {SSN}\r\nEnd Sub\r\n".encode()
    project = compound({"Macros/VBA/ThisDocument": packed(source), "PROJECT": b"ID"})
    mso = b"ActiveMime" + bytes(20) + struct.pack("<H", 4) + bytes(18) + zlib.compress(project)
    body = base64.encodebytes(mso)
    data = {
        "Word 2003 XML": b'<?xml version="1.0"?><w:wordDocument><w:binData w:name="editdata.mso">%b</w:binData>',
        "flat package": b'<?xml version="1.0"?><pkg:package><pkg:part><pkg:binaryData>%b</pkg:binaryData></pkg:part>',
        "page as a message": b"MIME-Version: 1.0\r\nSubject: x\r\nFrom: a\r\nContent-Type: application/x-mso\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n%b",
    }[form] % body
    found = read(data, "a.xml" if "XML" in form or "flat" in form else "a.mht")
    assert found.places(SSN)
    assert {"office-macros", "office-autoexec"} <= found.codes


def test_objects_of_old_presentations_are_files(read: ReadFile) -> None:
    """An archive in one is opened; damage is said, and what comes before it is read."""
    assert read(ppt("Agenda", [ARCHIVE])).places(SSN) == ["object 1/staff.txt"]
    found = read(ppt("Agenda", [docx(TEXT.decode())]))
    assert found.places(SSN)
    broken = ppt("Agenda", [ARCHIVE]).replace(b"\x78\x9c", b"\x78\x00", 1)
    assert read(broken).codes == {"unreadable"}
    assert read(broken).places("Agenda")


def test_encrypted_presentations_are_said_to_be(read: ReadFile) -> None:
    """Office 97: by the token of the user's stream."""
    assert read(ppt("Agenda", encrypted=True)).codes == {"content-encrypted"}
    assert not read(ppt("Agenda")).codes


@given(st.lists(st.sampled_from([b"\x90", b"\x90\0", b"a", b"bc", b"x" * 300, b"\0\n\r=:"])).map(b"".join), st.data())
def test_binhex_comes_back_as_it_was(content: bytes, data: st.DataObject) -> None:
    """Runs, the mark of runs, and pieces that end anywhere."""
    step = data.draw(st.sampled_from([4, 64, 65_536]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coded, "_CHUNK", step)
        found = [(file.name, b"".join(file.pieces)) for file in binhexed(b"Hi\n" + binhex(content, resource=b"fork"))]
    expected = [("a.dat", content)]
    assert found == [*expected, ("a.dat, resource fork", b"fork")]


@given(st.binary(max_size=300))
def test_anything_behind_a_mark_ends(data: bytes) -> None:
    """Damage gives fewer octets, never an error."""
    for mark in (b"=ybegin name=a\n", b"(This file must be converted with BinHex 4.0):", b"begin 644 a\n"):
        for file in coded_files(mark + data):
            assert len(b"".join(file.pieces)) <= 255 * len(data) + 100


def test_many_beginnings_cost_no_more() -> None:
    """A megabyte of marks, of runs, of lines."""
    for data in (
        b"=ybegin \n" * 100_000,
        b"begin 644 a\n" * 90_000,
        b"(This file must be converted with BinHex 4.0):" * 20_000,
    ):
        started = time.process_time()
        assert may_hold(data)
        for file in coded_files(data):
            b"".join(file.pieces)
        assert time.process_time() - started < 1.0


def test_a_bomb_in_binhex_is_counted(read: ReadFile) -> None:
    """Runs make a hundred octets of one."""
    bomb = binhex(bytes(40_000_000))
    assert "archive-limit" in read(bomb, unpacked=20_000_000).codes


def test_ordinary_texts_are_not_looked_into() -> None:
    """Words that begin like a mark."""
    for text in (
        b"begin with me",
        b"Please begin 644 new files",
        b"=ybeginning",
        b"BinHex",
        random.Random(1).randbytes(10_000),
    ):
        assert not may_hold(b"Hello\r\n" + text)
