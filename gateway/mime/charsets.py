"""Charset names to codecs, and octets to text that never fails.

Refuses codecs that are no charset (zlib, rot13), that hide text from ordinary readers (utf-7) or that take more than
linear time (idna, punycode): such octets are read as Latin-1.
"""

import codecs
from functools import lru_cache

_ALIASES = {
    "unknown-8bit": "",
    "x-unknown": "",
    "default": "",
    "ansi_x3.4-1968": "ascii",
    "us-ascii": "ascii",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "x-euc-jp": "euc_jp",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "utf8mb4": "utf-8",
    "cp-850": "cp850",
    "unicode-1-1-utf-8": "utf-8",
}
"""What mail says and what it means; browsers read the East Asian sets by their supersets (WHATWG Encoding)."""

_UNSAFE = frozenset(
    {"utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "charmap", "mbcs", "oem"}
)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@lru_cache(maxsize=256)
def codec_of(charset: str) -> str | None:
    """The codec's name for a declared charset.

    ``""`` means undeclared or unknown by its own word; ``latin-1`` stands for those refused; None: no such charset.
    """
    name = charset.strip().strip("\"'").lower()
    if not name or len(name) > 60:
        return "" if not name else None
    name = _ALIASES.get(name, name)
    if not name:
        return ""
    try:
        canonical = codecs.lookup(name).name
        if canonical in _UNSAFE or canonical.startswith("utf-7"):
            return "latin-1"
        b"a".decode(canonical, "replace")
    except (LookupError, ValueError):
        return None
    return canonical


@lru_cache(maxsize=256)
def is_unsafe(charset: str) -> bool:
    """True for a charset that is refused although Python knows it."""
    try:
        return codecs.lookup(charset.strip().lower()).name in _UNSAFE
    except (LookupError, ValueError):
        return False


def to_text(data: bytes, charset: str = "", whole: bool = True) -> str:
    """Octets as text. Never fails: undecodable octets become U+FFFD; an unknown charset is read as UTF-8, else Latin-1.

    ``whole`` False: the data was cut; a character that the cut broke is left out.
    """
    codec = codec_of(charset)
    if codec and codec != "ascii":
        for mark, by_mark in _BOMS:
            if codec == "utf-8" and data.startswith(mark):
                codec = by_mark
        try:
            return codecs.getincrementaldecoder(codec)("replace").decode(data, final=whole)
        except (LookupError, ValueError):  # a codec without an incremental decoder
            return data.decode(codec, "replace")
    return _guess(data, whole)


def _guess(data: bytes, whole: bool) -> str:
    """Without a usable declaration: a byte order mark, else UTF-8 when valid, else Latin-1."""
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return codecs.getincrementaldecoder(codec)("replace").decode(data, final=whole)
    try:
        return data.decode("utf-8") if whole else codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return data.decode("latin-1")
