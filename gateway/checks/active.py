"""Files that do something when they are opened: disk images, shortcuts, scripts, documents that carry programs.

Told by content wherever the kind has a mark of its own; by name alone only where the system goes by the name too (plain
text that is a script). Programs proper have a media type of their own (``attachment: {type: …}``). Refuses to look for
what a script does.
"""

import re
from typing import NamedTuple

from gateway.checks.reading.values import FactCode
from gateway.mime.anyof import AnyOf

TAIL = 512
"""Octets at the end in which some disk images say what they are."""


class Active(NamedTuple):
    """What a file is, in words for people."""

    code: FactCode
    what: str


_IMAGE, _SHORTCUT, _SCRIPT, _DOCUMENT = (
    FactCode.DISK_IMAGE,
    FactCode.SHORTCUT,
    FactCode.SCRIPT_FILE,
    FactCode.ACTIVE_DOCUMENT,
)
_MARKS = (
    (0, b"vhdxfile", Active(_IMAGE, "VHDX")),
    (0, b"conectix", Active(_IMAGE, "VHD")),
    (0, b"KDMV", Active(_IMAGE, "VMDK")),
    (0, b"QFI\xfb", Active(_IMAGE, "QCOW")),
    (0, b"MSWIM\0\0\0", Active(_IMAGE, "WIM")),
    (0, b"encrcdsa", Active(_IMAGE, "DMG, encrypted")),
    (64, b"\x7f\x10\xda\xbe", Active(_IMAGE, "VDI")),
    (512, b"EFI PART", Active(_IMAGE, "GPT disk")),
    (32769, b"CD001", Active(_IMAGE, "ISO 9660")),
    (32769, b"BEA01", Active(_IMAGE, "UDF")),
    (32769, b"NSR0", Active(_IMAGE, "UDF")),
    (0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", Active(_SHORTCUT, "Windows shortcut")),
    (0, b"ITSF", Active(_DOCUMENT, "compiled help")),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", Active(_DOCUMENT, "OneNote")),
    (0, b"\xa1\x2f\xff\x43\xd9\xef\x76\x4c\x9e\xe2\x10\xea\x57\x22\x76\x5f", Active(_DOCUMENT, "OneNote table")),
    (0, b"ID;P", Active(_DOCUMENT, "SYLK")),
    (0, b"\xca\xfe\xba\xbe\0\0\0", Active(_SCRIPT, "Java class")),
)
"""Place, octets, meaning. OneNote: MS-ONESTORE section 2.3.1; shortcuts: MS-SHLLINK section 2.1."""
_FAT = ((54, b"FAT1"), (82, b"FAT32"), (3, b"NTFS    "), (3, b"EXFAT   "))
_BOOT = b"\x55\xaa"
_FIRST = rb"\A(?:\xef\xbb\xbf)?\s*+(?:[;#][^\n]*+\n\s*+)*(?![;#][^\n]*+\n)"
"""Behind empty lines and comments, all of them."""
_CELL = rb"(?:\A|[\n,;\t\"])\s*[=+@-][^\n]{0,200}?"
"""A formula's beginning in CSV."""
_IN_TEXT = tuple(
    (re.compile(pattern, re.IGNORECASE), found)
    for pattern, found in (
        (_FIRST + rb"\[internetshortcut\]", Active(_SHORTCUT, "internet shortcut")),
        (_FIRST + rb"\[desktop entry\]", Active(_SHORTCUT, "desktop entry")),
        (_FIRST + rb"\[shell\]\s[\s\S]{0,400}?(?:command|iconfile)\s*=", Active(_SHORTCUT, "shell command")),
        (_FIRST + rb"(?:Windows Registry Editor Version|REGEDIT4)", Active(_SCRIPT, "registry file")),
        (_FIRST + rb"@echo\s+off\b", Active(_SCRIPT, "command file")),
        (_FIRST + rb"WEB\r?\n1\r?\nhttps?:", Active(_DOCUMENT, "web query")),
        (_FIRST + rb"[^\0]{0,2000}?\bfull address:s:", Active(_DOCUMENT, "remote desktop")),
        (rb"<librarydescription[\s>]", Active(_SHORTCUT, "library")),
        (rb"<(?:persistedquery|searchconnectordescription)[\s>]", Active(_SHORTCUT, "saved search")),
        (rb"<pcsettings[\s>]", Active(_SHORTCUT, "settings link")),
        (rb"<plist[\s>][\s\S]{0,600}?<key>URL</key>", Active(_SHORTCUT, "web location")),
        (rb"<hta:application[\s/>]", Active(_SCRIPT, "HTML application")),
        (rb"<(?:job|package)(?:\s[^>]{0,200})?>[\s\S]{0,2000}?<script[\s>]", Active(_SCRIPT, "script file")),
        (rb"<scriptlet[\s>]", Active(_SCRIPT, "scriptlet")),
        (rb"<mmc_consolefile[\s>]", Active(_SCRIPT, "management console")),
        (rb"<jnlp[\s>]", Active(_SCRIPT, "Java web start")),
        (rb"<asmv1:assembly[\s>][\s\S]{0,4000}?<deployment[\s>]", Active(_SCRIPT, "ClickOnce")),
        (rb"#@~\^[A-Za-z0-9+/]{6}==", Active(_SCRIPT, "encoded script")),
        (
            _CELL + rb"\b(?:cmd|powershell|mshta|msexcel|rundll32|regsvr32|wscript|cscript)(?:\.exe)?['\"]?\s*\|",
            Active(FactCode.OFFICE_DDE, "a cell that starts a program"),
        ),
    )
)
_may_be = AnyOf(
    (
        *("[internetshortcut]", "[desktop entry]", "[shell]", "registry editor version", "regedit4", "@echo"),
        *("1\nhttp", "1\r\nhttp", "full address:s:", "<librarydescription", "<persistedquery", "<scriptlet"),
        *("<searchconnectordescription", "<pcsettings", "<plist", "<hta:application", "<script", "<mmc_consolefile"),
        *(
            "<jnlp",
            "<asmv1:assembly",
            "#@~^",
            "cmd|",
            "cmd.exe|",
            "cmd'|",
            "powershell",
            "mshta",
            "msexcel",
            "rundll32",
        ),
        *("regsvr32", "wscript", "cscript"),
    )
)
"""One of these stands in whatever the patterns find."""
_SEEN = 8192
"""Octets of a text in which these are looked for."""
_ENDING = re.compile(r"\.([a-z0-9_-]{1,24})[. ]*\Z", re.IGNORECASE)
_TEXT_NAMES = {
    **dict.fromkeys(("hta",), Active(_SCRIPT, "HTML application")),
    **dict.fromkeys(("wsf", "wsc", "sct", "vbs", "vbe", "js", "jse", "vb"), Active(_SCRIPT, "script")),
    **dict.fromkeys(("ps1", "psm1", "psd1", "ps1xml", "psc1", "cdxml", "pssc"), Active(_SCRIPT, "PowerShell")),
    **dict.fromkeys(("bat", "cmd", "reg", "inf", "msc", "jnlp", "application", "appref-ms"), Active(_SCRIPT, "script")),
    **dict.fromkeys(("scf", "url", "desktop", "webloc", "library-ms", "search-ms"), Active(_SHORTCUT, "shortcut")),
    **dict.fromkeys(("searchconnector-ms", "settingcontent-ms", "website", "lnk"), Active(_SHORTCUT, "shortcut")),
    **dict.fromkeys(("iqy", "oqy", "dqy", "rqy", "slk", "rdp"), Active(_DOCUMENT, "query or connection")),
}
"""Kinds without a mark, or with one that may be left out: the system goes by the name."""
_BINARY_NAMES = {
    "appref-ms": Active(_SCRIPT, "ClickOnce reference"),
    "xll": Active(_DOCUMENT, "Excel add-in"),
    "one": Active(_DOCUMENT, "OneNote"),
    "onepkg": Active(_DOCUMENT, "OneNote package"),
    "chm": Active(_DOCUMENT, "compiled help"),
    "lnk": Active(_SHORTCUT, "Windows shortcut"),
    "webloc": Active(_SHORTCUT, "web location"),
    **dict.fromkeys(
        ("iso", "img", "udf", "vhd", "vhdx", "dmg", "vmdk", "wim", "toast", "vdi"), Active(_IMAGE, "disk image")
    ),
}


def active_kind(head: bytes, name: str, text: bool, tail: bytes = b"") -> Active | None:
    """What a file does when it is opened, None for one that does nothing by itself.

    ``head``: its first octets (65,536 tell an ISO image); ``tail``: its last :data:`TAIL`; ``text``: it reads as text.
    """
    if not head:
        return None
    for place, mark, found in _MARKS:
        if head.startswith(mark, place):
            return found
    if head[510:512] == _BOOT and any(head.startswith(mark, place) for place, mark in _FAT):
        return Active(_IMAGE, "disk image")
    if tail[-512:-508] == b"koly":
        return Active(_IMAGE, "DMG")
    if tail[-512:-504] == b"conectix":
        return Active(_IMAGE, "VHD")
    ending = _ENDING.search(name)
    by_name = (_TEXT_NAMES if text else _BINARY_NAMES).get(ending[1].lower()) if ending else None
    return (_in_text(head) if text else None) or by_name


def _in_text(head: bytes) -> Active | None:
    start = head[:_SEEN]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (b"\0" in start[:200] and b"\0\0" not in start[:200]):
        start = start.replace(b"\0", b"")[2 if start[:2] in (b"\xff\xfe", b"\xfe\xff") else 0 :]
    if not _may_be(start.decode("latin-1")):
        return None
    return next((found for pattern, found in _IN_TEXT if pattern.search(start)), None)
