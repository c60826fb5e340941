"""Files that do something when opened, by content, by name, in archives; and their kin that do nothing."""

import pytest

from gateway.checks.active import active_kind
from gateway.checks.passive import Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Questions
from gateway.settings import InspectionSettings

from .conftest import ReadFile
from .making import zipped

LNK = bytes.fromhex("4c0000000114020000000000c000000000000046") + bytes(60)
ONE = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(60)
ISO = bytes(32769) + b"CD001\x01" + bytes(2048)
FAT = b"\xeb\x3c\x90MSDOS5.0".ljust(54, b"\0") + b"FAT12   ".ljust(456, b"\0") + b"\x55\xaa" + bytes(512)
PLIST = (
    b'<?xml version="1.0"?>\n<plist version="1.0"><dict><key>URL</key><string>https://x.test</string></dict></plist>'
)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a", LNK, "shortcut"),
        ("a", b"[InternetShortcut]\r\nURL=https://x.test\r\n", "shortcut"),
        ("a", b"\xef\xbb\xbf; made by hand\r\n\r\n[internetshortcut]\r\n", "shortcut"),
        ("a", b"[Desktop Entry]\nExec=sh\n", "shortcut"),
        ("a", b"[Shell]\r\nCommand=2\r\nIconFile=\\\\x.test\\a.ico\r\n", "shortcut"),
        ("a", PLIST, "shortcut"),
        ("a", b'<?xml version="1.0"?><libraryDescription xmlns="x"/>', "shortcut"),
        ("a", b'<?xml version="1.0"?><persistedQuery version="1.0"/>', "shortcut"),
        ("a", ISO, "disk-image"),
        ("a", FAT, "disk-image"),
        ("a", b"vhdxfile" + bytes(600), "disk-image"),
        ("a", b"conectix" + bytes(600), "disk-image"),
        ("a", bytes(512) + b"EFI PART" + bytes(600), "disk-image"),
        ("a.img", b"\x01\x02\x03" * 400, "disk-image"),
        ("a", b"<html><HTA:APPLICATION id=x><script>go()</script></html>", "script-file"),
        ("a", b"<job id='x'><script language='JScript'>go()</script></job>", "script-file"),
        ("a", b"<?xml version='1.0'?><scriptlet><registration/></scriptlet>", "script-file"),
        ("a", b"<?xml version='1.0'?><MMC_ConsoleFile ConsoleVersion='3.0'/>", "script-file"),
        ("a", b"Windows Registry Editor Version 5.00\r\n", "script-file"),
        ("a", "Windows Registry Editor Version 5.00\r\n".encode("utf-16"), "script-file"),
        ("a", b"@echo off\r\nstart x\r\n", "script-file"),
        ("a", b"#@~^WwAAAA==Hello", "script-file"),
        ("update.js", b"go()", "script-file"),
        ("update.PS1 ", b"Get-Item x", "script-file"),
        ("a.hta", b"<html></html>", "script-file"),
        ("a.appref-ms", "http://x.test/a.application#a".encode("utf-16"), "script-file"),
        ("a", ONE, "active-document"),
        ("a", b"ITSF\x03\0\0\0" + bytes(90), "active-document"),
        ("a", b"ID;PWXL;N;E\r\nC;X1;Y1;K1\r\n", "active-document"),
        ("a", b"WEB\r\n1\r\nhttps://x.test/q\r\n", "active-document"),
        ("a", b"screen mode id:i:2\r\nfull address:s:x.test\r\n", "active-document"),
        ("a.csv", b"Name,Sum\r\nx,\"=cmd|'/c calc'!A0\"\r\n", "office-dde"),
        ("a.csv", b"Name,Sum\r\n=1+powershell.exe|'x'!A0,2\r\n", "office-dde"),
    ],
    ids=[
        *("lnk", "url", "url-bom", "desktop", "scf", "webloc", "library", "search", "iso", "fat", "vhdx", "vhd", "gpt"),
        *("img", "hta", "wsf", "sct", "msc", "reg", "reg-wide", "bat", "encoded", "js", "ps1", "hta-name", "appref"),
        *("one", "chm", "sylk", "iqy", "rdp", "csv", "csv-two"),
    ],
)
def test_active_files(read: ReadFile, envelope: Envelope, name: str, data: bytes, code: str) -> None:
    """The same fact for an attachment and for a member of an archive."""
    head = f'Content-Type: application/octet-stream; name="{name}"\r\nContent-Transfer-Encoding: binary\r\n\r\n'
    questions = Questions(frozenset({Check.ATTACHMENT, Check.STRUCTURE}))
    found = inspect(head.encode() + data, envelope, questions, None, InspectionSettings(), Means(readers=open_reader))
    assert code in {f.kind for f in found if f.check is Check.STRUCTURE}
    assert code in read(zipped({name: data})).codes


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("readme.txt", b"Put [InternetShortcut] into a file.\r\n"),
        ("notes.txt", b"Meeting at noon. We mail @echo off the record, cmd|x."),
        ("list.xml", b"<?xml version='1.0'?><jobs><item>script</item></jobs>"),
        ("prefs.plist", b"<plist version='1.0'><dict><key>Name</key><string>URL</string></dict></plist>"),
        ("sums.csv", b"a,b\r\n=A1+B1,=SUM(A1:A9)\r\n-5,+3\r\nTOC | cmd | x\r\n"),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(900)),
        ("minutes.pdf", b"%PDF-1.4\n" + bytes(900)),
        ("data.bin", bytes(510) + b"\x55\xaa"),
        ("budget.one.txt", b"one"),
    ],
    ids=["readme", "notes", "jobs", "plist", "sums", "photo", "pdf", "zeros", "name"],
)
def test_files_that_do_nothing(read: ReadFile, name: str, data: bytes) -> None:
    """Words about them, kin, and names that only look like it."""
    assert active_kind(data, name, b"\0" not in data) is None
    assert read(zipped({name: data})).codes <= {"unreadable"}


@pytest.mark.parametrize("mark", [b"koly", b"conectix"], ids=["dmg", "vhd"])
def test_images_that_say_so_at_their_end(read: ReadFile, mark: bytes) -> None:
    """DMG and fixed VHD, alone and in an archive."""
    data = b"\x01\x02\x03\x04" * 600 + mark.ljust(512, b"\0")
    assert "disk-image" in read(data).codes
    assert "disk-image" in read(zipped({"a.bin": data})).codes
