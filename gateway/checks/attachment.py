"""What an attachment really is: libmagic on the first octets, and whether that contradicts what it is called.

Refuses to call a difference a contradiction unless a reader would be deceived by it: see :func:`contradicts`.
"""

import mimetypes
import threading
from functools import lru_cache

import magic

HEAD = 65536
"""Decoded octets that libmagic sees."""
TEXT_HEAD = 2048
"""The same for what reads as text: its text rules cost a thousand times more an octet, and say little more."""
UNKNOWN = "application/octet-stream"

_EXECUTABLE = frozenset(
    {
        "application/x-dosexec",
        "application/vnd.microsoft.portable-executable",
        "application/x-msdownload",
        "application/x-executable",
        "application/x-pie-executable",
        "application/x-sharedlib",
        "application/x-elf",
        "application/x-mach-binary",
        "application/x-msi",
        "application/x-ms-installer",
        "application/java-archive",
        "application/x-java-applet",
        "application/x-java-class",
        "application/x-ms-shortcut",
        "application/x-msdos-program",
        "application/vnd.android.package-archive",
        "application/x-wine-extension-ini",
    }
)
_SCRIPT = frozenset(
    {
        "text/x-shellscript",
        "text/x-msdos-batch",
        "text/x-python",
        "text/x-script.python",
        "text/x-perl",
        "text/x-php",
        "text/x-ruby",
        "text/javascript",
        "application/javascript",
        "application/x-sh",
        "application/x-shellscript",
        "text/vbscript",
    }
)
_ARCHIVE = frozenset(
    {
        "application/zip",
        "application/x-rar",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/gzip",
        "application/x-gzip",
        "application/x-bzip2",
        "application/x-xz",
        "application/x-tar",
        "application/zstd",
        "application/x-lzma",
        "application/vnd.ms-cab-compressed",
        "application/x-iso9660-image",
        "application/x-ace",
        "application/x-arj",
        "application/x-lzh-compressed",
    }
)
_OLE = frozenset({"application/cdfv2", "application/x-ole-storage", "application/vnd.ms-office"})
_OFFICE_MARKS = ("officedocument", "opendocument", "ms-excel", "ms-powerpoint", "ms-word", "msword", "ms-outlook")
_OFFICE_MORE = frozenset({"application/rtf", "text/rtf", "application/vnd.visio", "application/epub+zip"})
_NO_CLAIM = frozenset(
    {"", UNKNOWN, "application/x-empty", "inode/x-empty", "application/binary", "binary/octet-stream"}
)
_TEXTUAL = frozenset({"application/json", "application/xml", "application/csv"})
_GROUPS = (
    (_NO_CLAIM, ""),
    (_EXECUTABLE, "executable"),
    (_SCRIPT, "script"),
    (_ARCHIVE, "archive"),
    (_OLE, "ole"),
    (_OFFICE_MORE, "office"),
    (frozenset({"application/pdf"}), "pdf"),
    (_TEXTUAL, "text"),
)

_UNTOLD = (
    (b"ID3", "audio/mpeg"),
    (b"caff\0\1", "audio/x-caf"),
    *((mark, "application/x-shockwave-flash") for mark in (b"FWS", b"CWS", b"ZWS")),
)
"""What libmagic does not tell, or only from more than the beginning."""
_local = threading.local()


def real_type(head: bytes) -> str:
    """The media type of a part's first decoded octets, by libmagic. :data:`UNKNOWN` when it cannot tell."""
    if not head:
        return "application/x-empty"
    detector: magic.Magic | None = getattr(_local, "detector", None)
    if detector is None:  # a libmagic cookie belongs to one thread
        detector = _local.detector = magic.Magic(mime=True)
    try:
        found: str = detector.from_buffer(head)
    except magic.MagicException:
        return UNKNOWN
    found = found.lower() if "/" in found else UNKNOWN
    return next((type_ for mark, type_ in _UNTOLD if head.startswith(mark)), found) if found == UNKNOWN else found


def contradicts(declared: str, filename: str, real: str) -> bool:
    """True when a reader who goes by the declared type (or, without one, by the file's name) would be deceived.

    Types are compared by group: executable, script, archive, Office, PDF, image, audio and video, text. Within a
    group, and between a container and what is built on it (ZIP and Office, OLE and Office), a difference means
    nothing; nor does it when one side makes no claim. An executable under any other name is always a contradiction.
    """
    claimed = group_of(declared)
    if not claimed or claimed == "text":
        claimed = group_of(_type_by_name(filename)) or claimed
    found = group_of(real)
    if not claimed or not found or claimed == found:
        return False
    if found == "text":  # much is text at the bottom, and libmagic calls so what it does not know
        return claimed in ("pdf", "image", "media", "archive", "executable")
    allowed = {
        "office": ("archive", "ole"),
        "archive": ("office", "executable") if real == "application/java-archive" else ("office",),
        "executable": ("archive", "ole", "script"),
        "script": ("executable",),
        "text": ("script",),
        "pdf": (),
    }
    return found not in allowed.get(claimed, ())


@lru_cache(maxsize=512)
def group_of(media_type: str) -> str:
    """The group of a media type, ``""`` when it claims nothing or is in none."""
    known = next((group for members, group in _GROUPS if media_type in members), None)
    if known is not None:
        return known
    if any(mark in media_type for mark in _OFFICE_MARKS):
        return "office"
    family = media_type.partition("/")[0]
    if family in ("text", "message") or media_type.endswith(("+xml", "+json")):
        return "text"
    return {"audio": "media", "video": "media", "image": "image"}.get(family, "")


def _type_by_name(filename: str) -> str:
    """The type that a file name claims by its last extension."""
    dot = filename.rfind(".")
    return _by_extension(filename[dot:].strip().lower()) if dot >= 0 and len(filename) - dot <= 12 else ""


@lru_cache(maxsize=512)
def _by_extension(extension: str) -> str:
    return _NAMES.guess_type("name" + extension)[0] or ""


_NAMES = mimetypes.MimeTypes()
for _extension, _type in (
    (".exe", "application/x-msdownload"),
    (".scr", "application/x-msdownload"),
    (".com", "application/x-msdownload"),
    (".msi", "application/x-msi"),
    (".bat", "text/x-msdos-batch"),
    (".cmd", "text/x-msdos-batch"),
    (".vbs", "text/vbscript"),
    (".rar", "application/vnd.rar"),
    (".7z", "application/x-7z-compressed"),
    (".docm", "application/vnd.ms-word.document.macroenabled.12"),
):
    _NAMES.add_type(_type, _extension)
