"""What a file is, by its first octets: only as fine as the choice of a reader needs.

Names and declared types are hints for text alone, where content has no mark of its own. Refuses libmagic here: this is
asked on the event loop for every part, libmagic tells the media type later.
"""

import binascii
import re
from enum import StrEnum

from gateway.checks.parts import reads_as_text

HEAD = 40_000
"""Octets that :func:`kind_of` wants to see: an ISO image shows itself at 32,769."""


class Kind(StrEnum):
    """Kinds of files, each with one reader, or none."""

    PDF = "PDF"
    ZIP = "ZIP"
    """With all that is built on it: Office, OpenDocument, Java, EPUB."""
    OLE = "OLE"
    """Compound file: old Office, Outlook messages, encrypted new Office, installers."""
    RTF = "RTF"
    TNEF = "TNEF"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    TAR = "tar"
    MACINTOSH = "Macintosh file"
    """AppleSingle, AppleDouble, MacBinary."""
    ACTIVEMIME = "ActiveMime"
    CODED = "coded file"
    """yEnc among octets that are no text; in texts such files are found by the reader of texts."""
    ARCHIVE = "archive"
    """What libarchive reads: 7z, RAR, cabinet, ISO, LHA, cpio, ar, xar, zstd, lz4, compress, lzip."""
    FOREIGN_ARCHIVE = "foreign archive"
    """Archives that nothing here reads: ACE, ARJ, ALZ, ZOO."""
    MARKUP = "markup"
    CALENDAR = "calendar"
    MESSAGE = "message"
    CMS = "CMS"
    PGP = "PGP"
    AGE = "age"
    TEXT = "text"
    EMPTY = "empty"
    PICTURE = "picture"
    """Pictures, sound, film, fonts: no text to read here."""
    OTHER = "other"


CONTAINERS = frozenset({Kind.ZIP, Kind.GZIP, Kind.BZIP2, Kind.XZ, Kind.TAR, Kind.ARCHIVE})

_MARKS: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"PK\x06\x06", Kind.ZIP),
    (b"PK00PK", Kind.ZIP),
    (b"PK\x07\x08PK", Kind.ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.OLE),
    (b"{\\rt", Kind.RTF),
    (b"\x78\x9f\x3e\x22", Kind.TNEF),
    (b"\x1f\x8b", Kind.GZIP),
    (b"BZh", Kind.BZIP2),
    (b"\xfd7zXZ\0", Kind.XZ),
    (b"\x5d\0\0\x80\0\xff\xff\xff\xff", Kind.XZ),
    (b"\x5d\0\0\0\1\xff\xff\xff\xff", Kind.XZ),
    (b"ActiveMime", Kind.ACTIVEMIME),
    (b"\0\5\x16\0", Kind.MACINTOSH),
    (b"\0\5\x16\7", Kind.MACINTOSH),
    (b"7z\xbc\xaf\x27\x1c", Kind.ARCHIVE),
    (b"Rar!\x1a\x07", Kind.ARCHIVE),
    (b"MSCF\0\0\0\0", Kind.ARCHIVE),
    (b"!<arch>\n", Kind.ARCHIVE),
    (b"070701", Kind.ARCHIVE),
    (b"070707", Kind.ARCHIVE),
    (b"xar!", Kind.ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Kind.ARCHIVE),
    (b"\x04\x22\x4d\x18", Kind.ARCHIVE),
    (b"\x1f\x9d", Kind.ARCHIVE),
    (b"LZIP\x01", Kind.ARCHIVE),
    (b"\x60\xea", Kind.FOREIGN_ARCHIVE),
    (b"ALZ\x01", Kind.FOREIGN_ARCHIVE),
    (b"EGGA", Kind.FOREIGN_ARCHIVE),
    (b"age-encryption.org/", Kind.AGE),
    (b"-----BEGIN AGE ENCRYPTED FILE", Kind.AGE),
    (b"-----BEGIN PGP MESSAGE-----", Kind.PGP),
    (b"BEGIN:VCALENDAR", Kind.CALENDAR),
    (b"BEGIN:VCARD", Kind.CALENDAR),
    (b"\x89PNG\r\n", Kind.PICTURE),
    (b"\xff\xd8\xff", Kind.PICTURE),
    (b"GIF87a", Kind.PICTURE),
    (b"GIF89a", Kind.PICTURE),
    (b"II*\0", Kind.PICTURE),
    (b"MM\0*", Kind.PICTURE),
    (b"\xd7\xcd\xc6\x9a", Kind.PICTURE),
    (b"ID3", Kind.PICTURE),
    (b"OggS", Kind.PICTURE),
    (b"fLaC", Kind.PICTURE),
    (b"\x1aE\xdf\xa3", Kind.PICTURE),
    (b"wOF", Kind.PICTURE),
)
_TEXT_MARKS = (
    (b"-----BEGIN PGP MESSAGE", Kind.PGP),
    (b"-----BEGIN AGE ENCRYPTED", Kind.AGE),
    (b"-----BEGIN PKCS7", Kind.CMS),
    (b"-----BEGIN CMS", Kind.CMS),
    (b"BEGIN:VCALENDAR", Kind.CALENDAR),
    (b"BEGIN:VCARD", Kind.CALENDAR),
    (b"{\\rt", Kind.RTF),
)
"""The same behind a byte order mark or empty lines."""
_CODED = re.compile(rb"(?:\A|\n)=ybegin ")
_PDF_WITHIN = 1024
_CMS_OID = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07"
"""PKCS#7 content types (RFC 5652 section 4), 1.2.840.113549.1.7."""
_CMS_MORE = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01"
"""Compressed and authenticated-enveloped data, 1.2.840.113549.1.9.16.1."""
_HTML = re.compile(
    rb"<(?:!doctype|html|head|body|\?xml|svg|table|div|meta|script|style|title|p|br|span|font)[\s>/!]", re.IGNORECASE
)
_FIELD = re.compile(
    rb"^(?:return-path|received|from|to|cc|date|subject|message-id|mime-version|content-type|delivered-to)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_MARKUP_NAME = re.compile(r"\.(?:x?html?|xml|svg|mht|xsl|rss)\s*\Z", re.IGNORECASE)
_MARKUP_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml", "image/svg+xml"})
_CALENDAR_TYPES = frozenset({"text/calendar", "text/vcard", "text/x-vcard", "application/ics"})
_MESSAGE_NAME = re.compile(r"\.(?:eml|mht|mhtml|mbox)\s*\Z", re.IGNORECASE)
_MESSAGE_FIELDS = 3


def kind_of(head: bytes, name: str = "", declared: str = "") -> Kind:
    """The kind of a file by its first :data:`HEAD` octets; ``name`` and ``declared`` tell texts apart."""
    if not head:
        return Kind.EMPTY
    for mark, kind in _MARKS:
        if head.startswith(mark):
            return kind
    if b"%PDF-" in head[:_PDF_WITHIN]:
        return Kind.PDF
    found = _by_place(head)
    if found is not None:
        return found
    if reads_as_text(head[:4096]) or wide_charset(head):
        return _kind_of_text(head, name, declared)
    return Kind.CODED if _CODED.search(head) else Kind.OTHER


def _by_place(head: bytes) -> Kind | None:
    """Kinds whose mark does not stand first."""
    if head[257:262] == b"ustar" or (len(head) >= 512 and _is_old_tar(head)):
        kind = Kind.TAR
    elif head[32769:32774] == b"CD001" or (head[2:5] in (b"-lh", b"-lz") and head[6:7] == b"-"):
        kind = Kind.ARCHIVE
    elif head[7:14] == b"**ACE**" or head[20:24] == b"\xdc\xa7\xc4\xfd":
        kind = Kind.FOREIGN_ARCHIVE
    elif head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI ")):
        kind = Kind.PICTURE
    elif head[:4] == b"\0\0\1\0" and head[4:5] > b"\0" and head[5:6] == b"\0":
        kind = Kind.PICTURE  # an icon with its count; a resource fork begins nearly alike
    elif head[0] == 0 and _is_macbinary(head):
        kind = Kind.MACINTOSH
    elif head[0] == 0x30 and (_CMS_OID in head[:32] or _CMS_MORE in head[:32]):
        kind = Kind.CMS
    else:
        return Kind.PGP if _is_pgp(head) else None
    return kind


def _is_old_tar(head: bytes) -> bool:
    """A tar header without the mark of POSIX: its checksum holds."""
    field = head[148:156].strip(b" \0")
    if not field or len(field) > 7 or field.strip(b"01234567") or not head[0]:
        return False
    return int(field, 8) == sum(head[:148]) + 8 * 32 + sum(head[156:512])


def _is_macbinary(head: bytes) -> bool:
    """A MacBinary header: name and lengths make sense, and it says so, its checksum holds, or the rest is zero (I)."""
    if len(head) < 128 or not 0 < head[1] <= 63 or head[74] or head[82] or min(head[2 : 2 + head[1]]) < 0x20:
        return False
    sizes = [int.from_bytes(head[at : at + 4], "big") for at in (83, 87)]
    if not any(sizes) or max(sizes) > 0x7FFFFFFF:
        return False
    if head[102:106] == b"mBIN" or binascii.crc_hqx(head[:124], 0) == int.from_bytes(head[124:126], "big"):
        return True
    return max(sizes) <= 0x7FFFFF and not any(head[99:128])


def _is_pgp(head: bytes) -> bool:
    """A session key packet, for a public key or a password (RFC 9580 sections 4.2, 5.1, 5.3)."""
    first = head[0]
    if first in (0x84, 0x85, 0x86):
        return head[1 + (1, 2, 4)[first - 0x84] :][:1] == b"\x03" and len(head) > 20
    if first in (0x8C, 0x8D):
        return head[1 + (1, 2)[first - 0x8C] :][:2] in (b"\x04\x07", b"\x04\x09", b"\x04\x08", b"\x04\x03")
    if first in (0xC1, 0xC3) and len(head) > 20:
        start = 2 if head[1] < 192 else 3
        versions = (3, 6) if first == 0xC1 else (4, 6)
        return head[start] in versions and head[1] > 12
    return False


def wide_charset(head: bytes) -> str:
    """``utf-16-le``, ``utf-16-be``, ``utf-32-le``, ``utf-32-be`` when the zeros stand as in such text, else ``""``."""
    sample = head[:4096]
    size = len(sample) - len(sample) % 4
    if size < 8:
        return ""
    zeros = [sample[n:size:4].count(0) * 4 / size for n in range(4)]
    if min(zeros[1], zeros[2], zeros[3]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[0], zeros[1], zeros[2]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    if min(zeros[1], zeros[3]) > 0.5 and max(zeros[0], zeros[2]) < 0.05:
        return "utf-16-le"
    if min(zeros[0], zeros[2]) > 0.5 and max(zeros[1], zeros[3]) < 0.05:
        return "utf-16-be"
    return ""


def _kind_of_text(head: bytes, name: str, declared: str) -> Kind:
    start = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, kind in _TEXT_MARKS:
        if start.startswith(mark):
            return kind
    if declared in _CALENDAR_TYPES:
        return Kind.CALENDAR
    if declared.startswith("message/rfc822") or declared == "message/global" or _MESSAGE_NAME.search(name):
        return Kind.MESSAGE
    if declared in _MARKUP_TYPES or _MARKUP_NAME.search(name) or _HTML.search(start, 0, 1024):
        return Kind.MARKUP
    block = start.partition(b"\n\n")[0].partition(b"\r\n\r\n")[0]
    names = {match[0].lower() for match in _FIELD.finditer(block)}
    return Kind.MESSAGE if len(names) >= _MESSAGE_FIELDS else Kind.TEXT
