"""The one plain form in which text is matched: UTF-8 octets in which typographic variants of ASCII are ASCII.

Full-width letters and digits, digits of other scripts, odd dashes and spaces become plain; what is not seen (soft
hyphen, zero width characters, direction marks, NUL) goes. Refuses full normalisation (NFKC): it is quadratic in runs
of combining characters, and no number is written with them. Linear in the input.
"""

import re
import unicodedata

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_UNSEEN = (
    "\x00\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
)
_VARIANTS = re.compile(rf"[{_UNSEEN}]+|[{_DASHES}]|[{_SPACES}]|[\uff01-\uff5e]|(?![0-9])\d")


def plain(text: str) -> bytes:
    """The plain form of decoded text. Lone surrogates become ``?``."""
    if not text.isascii():
        text = _VARIANTS.sub(_ascii, text)
    elif "\x00" in text:
        text = text.replace("\x00", "")
    return text.encode("utf-8", "replace")


def plain_octets(data: bytes) -> bytes | None:
    """The plain form of octets in an ASCII-compatible charset, when that can be told without decoding; else None."""
    if not data.isascii():
        return None
    return data.replace(b"\x00", b"") if b"\x00" in data else data


def _ascii(match: re.Match[str]) -> str:
    character = match[0]
    if character in _DASHES:
        return "-"
    if character in _SPACES:
        return " "
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    digit = unicodedata.digit(character[0], -1)
    return str(digit) if digit >= 0 else ""
