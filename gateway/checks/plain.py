"""The one plain form in which text is matched: UTF-8 octets in which typographic variants of ASCII are ASCII.

Full-width, mathematical and circled letters and digits, digits of other scripts, letters of other scripts that look
like ASCII ones (Unicode's confusables), odd dashes and spaces become plain; what is not seen (soft hyphen, zero width
characters, direction marks, tags, NUL) goes. Words that are looked for are made plain in the same way, so that a
Russian word is still found where it is meant. Refuses full normalisation (NFKC): it is quadratic in runs of combining
characters, and no number is written with them. Linear in the input.
"""

import re
import unicodedata

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_UNSEEN = (
    (0x00, 0x00), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x180B, 0x180F), (0x200B, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x2064), (0x2066, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE007F),
    (0xE0100, 0xE01EF),
)  # fmt: skip
_FORMS = ((0xAA, 0xBA), (0x2070, 0x209F), (0x2100, 0x2189), (0x2460, 0x24FF), (0x2776, 0x2793), (0xFF01, 0xFF5E),
          (0x1D400, 0x1D7FF), (0x1F100, 0x1F169))  # fmt: skip
"""Where Unicode keeps letters and digits in other dress: their compatibility decomposition is one ASCII character."""
_LOOK_ALIKE = {
    # Cyrillic
    "аА": "aA", "еЕ": "eE", "оО": "oO", "рР": "pP", "сС": "cC", "уУ": "yY", "хХ": "xX", "іІ": "iI", "јЈ": "jJ",
    "ѕЅ": "sS", "ԁԀ": "dd", "һҺ": "hH", "ԛԚ": "qQ", "ԝԜ": "wW", "вВ": "bB", "кК": "kK", "мМ": "mM", "нН": "hH",
    "тТ": "tT", "ѵѴ": "vV", "ӏӀ": "lI", "З": "3", "Ғ": "F", "ү": "y", "Ү": "Y", "ɡ": "g", "Ԍ": "G", "б": "6", "з": "3",
    "Ӡӡ": "33",
    # Greek
    "αΑ": "aA", "βΒ": "bB", "Ε": "E", "Ζ": "Z", "Η": "H", "ιΙ": "iI", "κΚ": "kK", "Μ": "M", "νΝ": "vN", "οΟ": "oO",
    "ρΡ": "pP", "Τ": "T", "υΥ": "uY", "χΧ": "xX", "ϲϹ": "cC", "ϳͿ": "jJ", "γ": "y", "τ": "t",
    # Armenian, Latin beyond ASCII, others
    "օՕ": "oO", "հ": "h", "ո": "n", "ս": "u", "ց": "g", "զ": "q", "Տ": "S", "ı": "i", "ȷ": "j", "ɑ": "a",
    "ɩ": "i", "ʟ": "L", "ɴ": "N", "ʀ": "R", "ᴀ": "A", "ʙ": "B", "ᴄ": "C", "ᴅ": "D", "ᴇ": "E", "ɢ": "G", "ʜ": "H",
    "ɪ": "I", "ᴊ": "J", "ᴋ": "K", "ᴍ": "M", "ᴏ": "O", "ᴘ": "P", "ꜱ": "S", "ᴛ": "T", "ᴜ": "U", "ᴠ": "V", "ᴡ": "W",
    "ʏ": "Y", "ᴢ": "Z", "ǀ": "l", "ⅼ": "l", "ⵏ": "l", "Ꭺ": "A", "Ᏼ": "B", "Ꮯ": "C", "Ꭼ": "E", "Ꮋ": "H", "Ꭻ": "J",
    "Ꮶ": "K", "Ꮮ": "L", "Ꮇ": "M", "Ꮲ": "P", "Ꮪ": "S", "Ꭲ": "T", "Ꮩ": "V", "Ꮤ": "W", "Ꮓ": "Z",
    "ƧƨƷƼȢȣȜȝ": "22358833", "Ꮞ": "4", "Ꮾ": "6",
    "\u2044\u2215": "//", "\u2024\u0589": ".:", "\u02d7\u06d4": "-.", "\ua78f": ".",
}  # fmt: skip
"""From Unicode Technical Standard 39, table of confusables: those whose skeleton is one ASCII letter or digit."""


def _table() -> dict[int, str | int | None]:
    table: dict[int, str | int | None] = {ord(c): "-" for c in _DASHES}
    table.update((ord(c), " ") for c in _SPACES)
    for first, last in _FORMS:
        for point in range(first, last + 1):
            plain_form = unicodedata.normalize("NFKC", chr(point))
            if len(plain_form) == 1 and plain_form.isascii():
                table[point] = plain_form
    for strange, usual in _LOOK_ALIKE.items():
        table.update((ord(s), u) for s, u in zip(strange, usual, strict=True))
    for point in range(0x80, 0x1FC00):
        digit = unicodedata.decimal(chr(point), None)
        if digit is not None:
            table[point] = str(int(digit))
    for point in range(0x2460, 0x24FF):  # ① and its like, up to nine
        digit = unicodedata.digit(chr(point), None)
        if digit is not None:
            table[point] = str(int(digit))
    for first, last in _UNSEEN:
        table.update((point, None) for point in range(first, last + 1))
    return table


class _Table(dict[int, str | int | None]):
    """A table for ``str.translate`` in which what is not listed stays, without an exception for each."""

    def __missing__(self, point: int) -> int:
        return point


_TABLE = _Table(_table())
_VARIANTS = re.compile("[^\x01-\x7f]+")
"""Runs in which there may be something to do: one simple class; a class of all that is listed is slow to search."""


def plain_text(text: str) -> str:
    """The plain form of decoded text, as text."""
    if text.isascii():
        return text.replace("\x00", "") if "\x00" in text else text
    return _VARIANTS.sub(_ascii, text)


def plain(text: str) -> bytes:
    """The plain form of decoded text. Lone surrogates become ``?``."""
    return plain_text(text).encode("utf-8", "replace")


def plain_octets(data: bytes) -> bytes | None:
    """The plain form of octets in an ASCII-compatible charset, when that can be told without decoding; else None."""
    if not data.isascii():
        return None
    return data.replace(b"\x00", b"") if b"\x00" in data else data


_LIKE_DIGITS = str.maketrans("OoIl", "0011")
_ONLY_LIKE = re.compile(r"[0-9OoIl]{1,20}")


def _ascii(match: re.Match[str]) -> str:
    """A run in its plain form: a strange O among digits is a nought, a strange I a one."""
    text = match[0].translate(_TABLE)
    if _ONLY_LIKE.fullmatch(text) and not text.isdigit():
        around = match.string[max(0, match.start() - 1) : match.end() + 1]
        if any(c.isdigit() for c in text + around):
            return text.translate(_LIKE_DIGITS)
    return text
