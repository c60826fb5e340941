"""Any octets in any charset: decoding to text, the plain form, other forms in which programs show a text.

The input's first line is the charset's name, the rest is the octets.
"""

import re
from collections.abc import Iterator

from gateway.checks.forms import other_forms, rtf_to_text, uuencoded
from gateway.checks.parts import reads_as_text
from gateway.checks.plain import plain, plain_octets, plain_text
from gateway.mime.charsets import codec_of, is_unsafe, to_text
from gateway.mime.quoting import fold_words, has_wording
from gateway.mime.structured import structured
from gateway.mime.words import decode_words, header_text
from tests.fuzz.bounds import in_time, one_in, stretched

LONGEST = 2048
CHARSETS = (
    *(
        "",
        "utf-8",
        "us-ascii",
        "iso-8859-1",
        "iso-8859-15",
        "windows-1252",
        "windows-1251",
        "koi8-r",
        "utf-16",
        "utf-32",
    ),
    *("utf-16le", "utf-16be", "utf-32be", "utf-7", "gb2312", "gb18030", "big5", "big5hkscs", "shift_jis", "euc-jp"),
    *("iso-2022-jp", "iso-2022-kr", "iso-2022-jp-2004", "iso-2022-jp-ext", "hz", "euc-kr", "johab", "cp437", "cp037"),
    *("mac-roman", "utf-8-sig", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "zlib", "rot13", "charmap"),
    *("cp65001", "tis-620", "iso-8859-8-i", "ptcp154", "viscii", "unknown-8bit", "undefined", "hex", "shift_jisx0213"),
)
_MARKS = (
    *("\u00ad", "\u200b", "\u202e", "\ufeff", "\uff11\uff12", "\U0001d7ce", "\u0660", "\u2011", "\u00a0", "\u0455"),
    *("\u2460", "\u0301", "\U000e0041", "\u2044", "\ufffd", "\u0130", "\u1e9e"),
    *(
        "{\\rtf1",
        "\\u8209 ?",
        "\\'2d",
        "\\par",
        "BEGIN:VCALENDAR\n",
        "\n ",
        "\\n",
        "<p>",
        "&#45;",
        "begin 644 a\n",
        "end\n",
    ),
    *("=?utf-8?b?", "=?iso-2022-jp?q?", "?=", "filename*0*=", "''%41", "; "),
)
TOKENS = (
    *(name.encode() + b"\n" for name in CHARSETS if name),
    *(one.encode() for one in _MARKS),
    *(b"\x1b$B", b"\x1b(B", b"\x0e", b"\x0f", b"~{", b"~}", b"\xff\xfe", b"\xfe\xff", b"\xed\xa0\x80"),
    *(b"\x81\x30\x81\x30",),
)  # fmt: skip
_ASCII_COMPATIBLE = re.compile(
    r"(?:us-)?ascii|utf-?8|latin-?1|iso-8859-\d{1,2}|windows-125\d|cp125\d|\Z", re.IGNORECASE
)
"""As :mod:`gateway.checks.parts` names them: ASCII octets in one of these are not decoded."""


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    first, line, octets = data.partition(b"\n")
    charset = first[:60].decode("latin-1").strip().lower() if line else ""
    octets = octets if line else data
    with in_time(20 * len(data)):
        text = _decoded(octets, charset)
        _plain(text, octets, charset)
        _forms(text, octets)
        _field(octets)
    stretched(octets, lambda long: _all_forms(long, charset))


def _all_forms(octets: bytes, charset: str) -> None:
    text = to_text(octets, charset)
    plain(text)
    for form in other_forms(text):
        plain(form)
    decode_words(header_text(octets))
    has_wording(text, ("strictly confidential",))
    uuencoded(octets, 1 << 20)
    reads_as_text(octets)


def _decoded(octets: bytes, charset: str) -> str:
    codec = codec_of(charset)
    text = to_text(octets, charset)
    assert len(text) <= len(octets) + 1
    assert isinstance(is_unsafe(charset), bool)
    half = octets[: len(octets) // 2]
    begun = to_text(half, charset, whole=False)
    assert len(begun) <= len(half) + 1
    if codec and codec not in ("ascii", "utf-16", "utf-32") and len(half) > 3:  # a byte order mark is not cut
        assert text.startswith(begun), "a text that was cut is no beginning of the whole"
    return text


def _plain(text: str, octets: bytes, charset: str) -> None:
    form = plain_text(text)
    assert len(form) <= len(text)
    assert plain_text(form) == form, "what is plain becomes something else"
    assert plain(text) == form.encode("utf-8", "replace")
    middle = len(text) // 2
    assert plain_text(text[:middle]) + plain_text(text[middle:]) == form, "the plain form depends on what is near"
    assert "\0" not in form
    if text.isascii():
        assert form == text.replace("\0", "")
    quick = plain_octets(octets)
    if quick is not None and _ASCII_COMPATIBLE.match(charset):
        assert quick == plain(to_text(octets, charset)), "octets and decoded text have two plain forms"
    folded = fold_words(text)
    assert folded[0] == folded[-1] == " "
    reads_as_text(octets)


def _forms(text: str, octets: bytes) -> None:
    for form in other_forms(text):
        assert len(form) <= len(text) + 2
        plain(form)
    assert len(rtf_to_text(text)) <= len(text)
    assert len(uuencoded(octets, 100)) <= 100


def _field(octets: bytes) -> None:
    shown = header_text(octets)
    assert len(decode_words(shown)) <= len(shown.encode("utf-8", "surrogateescape"))
    found = structured(octets)
    assert all(name for name, _ in found.parameters)
    assert sum(len(name) + len(value) for name, value in found.parameters) <= 2 * len(octets)
    if one_in(octets, 8):
        assert structured(octets) == found


def seeds() -> Iterator[bytes]:
    """Texts to begin with when there is no corpus."""
    sample = "SSN 123\u201145\u20116789, \uff11\uff12\uff13 \u0455\u0455n"
    sample += " \u00ad\u200b\u202e\U0001d7d8 Stra\u00dfe \u2460\u0660 e\u0301"
    for name in CHARSETS:
        if (codec := codec_of(name)) is not None:
            yield name.encode() + b"\n" + sample.encode(codec or "utf-8", "ignore")
    yield b"utf-8\n{\\rtf1\\ansi SSN \\u8209 ?\\'2d\\par x}"
    yield b"utf-8\nBEGIN:VCALENDAR\r\nSUMMARY:SSN 123\r\n -45\\, x\r\n"
    yield b"\nbegin 644 a\n#0V%T\n`\nend\n"
    yield b"\nattachment; filename*0*=utf-8''a%20; filename*1=b; x=\"=?utf-8?b?w6k=?=\""
