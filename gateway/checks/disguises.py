"""Numbers that somebody has disguised: coded, spelled out, with letters for digits or something between the digits.

One Hyperscan pass tells whether a text holds anything of the kind; nearly no mail does. Only then are the places looked
at, and each is given again as a short piece of the text in which the number is plain, to be scanned like any text.
Undone: base64, base32, hexadecimal, URL and HTML coding (up to three of them, one in the other), backslash escapes,
control characters, comments and tags between digits, numbers in words and in Morse, numbers cut over numbered fields,
letters or zeros around what has the form of a Social Security number; and where the text says that such numbers are in
it, base64 in ROT13, letters that look like digits, letters around any number, zeros before or behind it, an IBAN in any
pieces. Refuses ROT13 of words, texts read backwards, and more than :data:`MAX_PIECES` places a text.
"""

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import hyperscan
import re2

from gateway.checks import morse
from gateway.checks.databases import Databases
from gateway.checks.validators import is_iban

MAX_PIECES = 200
"""Places that are looked at in one text."""
AROUND = 200
"""Octets before and behind a place that are given with it, for the words that say what it is."""
_LONGEST = 400
"""Octets of one disguised number."""
_ROUNDS = 3
_Undo = Callable[[re.Match[bytes]], bytes | None]

_NUMBER = re.compile(rb"\d(?:[ ./_-]{0,3}\d){8}|(?:^|[^A-Za-z0-9])[A-Za-z]{2}\d{2}[A-Za-z0-9]{11,30}")
"""What must come out of a code: nine digits, or what an IBAN looks like."""
_WHOLE = rb"[I-P][CDSTijyz][AEIMQUYcgkosw048][g-z0-9+/]"
"""Four characters of base64 that are three digits, spaces or dashes."""
_REST = rb"(?:[I-P][CDSTijyz][AEIMQUYcgkosw048]=?|[I-P][AQgw](?:==)?)?"
_HEX64 = rb"[MNOYZ][DGTWjmz2][A-Za-z0-9+/][h-mw-z0-5]"
"""Four characters of base64 that are three hexadecimal digits."""
_TWICE = rb"[STU][E-HU-Xk-n0-3][A-Za-z0-9+/]{2}[K-OZa-e][A-Za-z0-9+/]{3}[M-WYZa-d][A-Za-z0-9+/]{3}[QUVae]"
"""The beginning of base64 of base64 of such a number."""
_ROT13 = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", b"NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)
_WHOLE13 = rb"[A-CV-Z][FGPQlmvw][DHLNRVZbfjptx048][a-mt-z0-9+/]"
_REST13 = rb"(?:[A-CV-Z][FGPQlmvw][DHLNRVZbfjptx048]=?|[A-CV-Z][DNjt](?:==)?)?"
"""The same after ROT13."""
_THIRTY_TWO_GROUP = rb"[E-H][AEIMQUY4][QWYZ2-4][CDST][ACEGIKMOQSUWY246][ILMNO][BJRZ][ANQ-Z]"
_THIRTY_TWO_HEX_GROUP = rb"[4-7][048CGKOS][GMO-S][23IJ][02468ACEGIKMOQSU][8BCDE][19HP][0DG-P]"
"""Eight characters of base32, in either alphabet, that are five digits, spaces or dashes."""
_SPOKEN = {
    b"zero": b"0", b"oh": b"0", b"one": b"1", b"two": b"2", b"three": b"3", b"four": b"4", b"five": b"5",
    b"six": b"6", b"seven": b"7", b"eight": b"8", b"nine": b"9",
}  # fmt: skip
_DIGIT_WORD = rb"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)"
_BETWEEN_WORDS = rb"(?:[ \t\r\n,./-]{1,4}(?:dash|hyphen|minus)?[ \t,./-]{0,3})"
_USUAL_IBAN = re.compile(rb"[A-Z]{2}\d{2}(?:(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?|[A-Z0-9]{11,30})")
_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_IBAN_SIZES = {
    country.encode(): size
    for size, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "PT", 26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ CY DO GT HU LB PL BY SV", 29: "BR EG PS QA UA",
        30: "JO KW MU", 31: "MT SC", 32: "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""Characters of an IBAN by country (SWIFT's registry)."""
_COUNTRY = b"(?:%b)" % b"|".join(sorted(_IBAN_SIZES))
_LOOK_ALIKE = bytes.maketrans(b"OoQDIilZzSsBGb", b"00001112255866")
_LIKE = rb"[0-9OoQDIilZzSsBGb]"


class _Disguise(NamedTuple):
    """One way to hide a number."""

    sign: bytes
    """What Hyperscan looks for."""
    written: re.Pattern[bytes]
    undo: _Undo
    told: bool = False
    """True: looked at only in texts that say that they hold such numbers."""
    flags: int = 0
    long: bool = False
    """Looked for apart from the others: Hyperscan is twice as fast at them in two groups."""
    begins: Set[bytes] = frozenset()
    """Not empty: what is written begins with the sign and two of these letters, so that it is looked at there only."""


def _number(data: bytes, rounds: int) -> bytes | None:
    """The data when a number is in it, as it stands or in another code; else None."""
    if not data.isascii() or any(c < 32 and c not in b"\t\r\n" for c in data):
        return None
    if _NUMBER.search(data) and not (rounds and _HEX.fullmatch(data)):
        return data
    if rounds:
        for written, undo in _CODES.items():
            found = written.search(data)
            plain = found and undo(found, rounds - 1)
            if found and plain:
                return data[: found.start()] + plain + data[found.end() :]
    return data if _NUMBER.search(data) else None


def _base64(match: re.Match[bytes], rounds: int = _ROUNDS) -> bytes | None:
    coded = match[0].translate(_ROT13 if match.re is _DIGITS64_13 else None).rstrip(b"=")
    try:
        data = base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except binascii.Error:
        return None
    return _number(data, rounds) or (data if match.re is _DIGITS64 and data.isascii() else None)


def _base32(match: re.Match[bytes], rounds: int = _ROUNDS) -> bytes | None:
    coded = match[0].rstrip(b"=").upper()
    for decode in (base64.b32decode, base64.b32hexdecode):
        try:
            data = decode(coded + b"=" * (-len(coded) % 8))
        except binascii.Error:
            continue
        if plain := _number(data, rounds):
            return plain
    return None


def _hex(match: re.Match[bytes], rounds: int = _ROUNDS) -> bytes | None:
    written = match[0].translate(_ROT13) if match.re is _HEX13 else match[0]
    digits = re.sub(rb"0[xX]|\\x|\\u00|[^0-9A-Fa-f]", b"", written)
    return _number(bytes.fromhex(digits.decode()), rounds) if len(digits) % 2 == 0 else None


def _percent(match: re.Match[bytes], rounds: int = _ROUNDS) -> bytes | None:
    data = match[0]
    few = _FEWER if _ALL_NUMBER.fullmatch(data) else _FEW
    if len(data) > _LONG or (len(_QUOTED_DIGIT.findall(data)) < few and not _DIGITS64.search(data)):
        return None
    for _ in range(_ROUNDS):
        data = unquote_to_bytes(data)
    return _number(data, rounds)


def _entities(match: re.Match[bytes]) -> bytes | None:
    return html.unescape(match[0].decode("ascii")).encode("ascii", "replace")


def _nothing(_match: re.Match[bytes]) -> bytes:
    return b""


def _words(match: re.Match[bytes]) -> bytes | None:
    said = re.findall(_DIGIT_WORD, match[0].lower())
    return b"".join(_SPOKEN[word] for word in said)


def _iban(match: re.Match[bytes]) -> bytes | None:
    """The number in one piece, unless it is written as usual; what stands behind it, as it was."""
    token = match[0]
    usual = token[: _IBAN_SIZES.get(token[:2].upper(), 0)]
    if usual.isalnum() and usual.isupper():
        return None
    places = [n for n, c in enumerate(token) if c in _ALNUM]
    compact = bytes(token[n] for n in places).upper()
    size = _IBAN_SIZES.get(compact[:2], 0)
    if len(compact) < size or not size or not is_iban(compact[:size]):
        return None
    if _USUAL_IBAN.fullmatch(token[: places[size - 1] + 1]):
        return None
    return compact[:size] + b" " + token[places[size - 1] + 1 :]


def _letters(match: re.Match[bytes]) -> bytes | None:
    token = match[0]
    digits = len(token) - len(token.translate(None, b"0123456789"))
    size = len(token.translate(None, b" .-"))
    return token.translate(_LOOK_ALIKE) if size > digits and digits * 3 >= size else None


def _joined(match: re.Match[bytes]) -> bytes | None:
    """The pieces of fields whose names count on: «part1», «part2»."""
    fields = _FIELD.findall(match[0])
    first = int(fields[0][1])
    if [(name, int(number)) for name, number, _ in fields] != [(fields[0][0], first + n) for n in range(len(fields))]:
        return None
    return b'"%b"' % b"".join(piece for _, _, piece in fields)


def _apart(match: re.Match[bytes]) -> bytes | None:
    return match[0].replace(match[1], b" " + match[1] + b" ")


def _unpadded(match: re.Match[bytes]) -> bytes | None:
    return match[1] or match[2]


_DIGITS64 = re.compile(rb"(?:%b){2,100}%b" % (_WHOLE, _REST))
_DIGITS64_13 = re.compile(rb"(?:%b){2,100}%b" % (_WHOLE13, _REST13))
_TEXT64 = re.compile(rb"(?<![A-Za-z0-9+/])(?=(?:%b){2}|%b)[A-Za-z0-9+/]{12,400}={0,2}" % (_HEX64, _TWICE))
_HEX = re.compile(rb"(?<![0-9A-Za-z])(?:0[xX])?(?:[2-7][0-9A-Fa-f]){9,200}(?![0-9A-Za-z])")
_HEX13 = re.compile(rb"(?<![0-9A-Za-z])(?:[2-7][0-9N-Sn-s]){9,200}(?![0-9A-Za-z])")
_SPACED = re.compile(rb"(?<![0-9A-Za-z])(?:[23][0-9A-Fa-f][ :,]){8,60}[23][0-9A-Fa-f](?![0-9A-Za-z])")
_ESCAPED = re.compile(rb"(?:(?:\\x|\\u00)[2-7][0-9A-Fa-f]){9,200}")
_QUOTED = re.compile(rb"(?<![\w.=+/-])[\w.=+/-]*+(?:%(?:25){0,3}[2-7][0-9A-Fa-f][\w.=+/-]{0,400}+){1,200}")
_QUOTED_DIGIT = re.compile(rb"%(?:25){0,3}3\d")
_ALL_NUMBER = re.compile(rb"(?:%(?:25){0,3}(?:3\d|2[0DEFdef])|[\d./_-])+")
_FEW, _FEWER, _LONG = 6, 3, 4000
"""Coded digits that an address on the web may hold by chance; the same where all is digits; octets of one that are
looked at."""
_THIRTY_TWO = re.compile(
    rb"(?i)(?<![0-9A-Za-z])(?=%b|%b)[0-9A-Z]{15,200}={0,6}(?![0-9A-Za-z])" % (_THIRTY_TWO_GROUP, _THIRTY_TWO_HEX_GROUP)
)
_CODES: dict[re.Pattern[bytes], Callable[[re.Match[bytes], int], bytes | None]] = {
    _DIGITS64: _base64, _TEXT64: _base64, _HEX: _hex, _HEX13: _hex, _SPACED: _hex, _ESCAPED: _hex, _QUOTED: _percent,
    _THIRTY_TWO: _base32,
}  # fmt: skip
_PIECES = rb"[ \t\r\n>./_*-]{0,4}"
_FIELD = re.compile(rb'"([A-Za-z_]{1,12})(\d{1,2})"\s{0,8}:\s{0,8}"([\d ./-]{1,20})"')
_NEXT_FIELD = rb'"\s{0,8},\s{0,8}"[A-Za-z_]{1,12}\d{1,2}"\s{0,8}:\s{0,8}"'
_DASHED = rb"\d{3}-\d{2}-\d{4}"
_NUMBER_SHAPE = rb"(?:\d{3}-\d{2}-\d{4}|\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}|\d{13,19}|\d{9})"
_CASELESS = hyperscan.HS_FLAG_CASELESS
_DISGUISES = (
    _Disguise(rb"(?:%b){2}" % _WHOLE, _DIGITS64, _base64, long=True),
    _Disguise(rb"(?:%b){2}|%b" % (_HEX64, _TWICE), _TEXT64, _base64, long=True),
    _Disguise(rb"\b(?:0[xX])?(?:[2-7][0-9A-Fa-f]){9}", _HEX, _hex, long=True),
    _Disguise(rb"\b[23][0-9A-Fa-f](?:[ :,][23][0-9A-Fa-f]){8}", _SPACED, _hex),
    _Disguise(rb"(?:\\x|\\u00)3[0-9]", _ESCAPED, _hex),
    _Disguise(rb"%(?:25){0,3}3[0-9Dd]", _QUOTED, _percent),
    _Disguise(rb"%b|%b" % (_THIRTY_TWO_GROUP, _THIRTY_TWO_HEX_GROUP), _THIRTY_TWO, _base32, flags=_CASELESS, long=True),
    _Disguise(
        rb"&#(?:4[5-9]|5[0-7]|x3[0-9]);",
        re.compile(rb"(?:&#(?:\d{2,3}|[xX][0-9A-Fa-f]{2});[ -]?){4,200}"),
        _entities,
    ),
    _Disguise(rb"[\d-][\x01-\x08\x0e-\x1f]{1,4}[\d-]", re.compile(rb"(?<=[\d-])[\x01-\x08\x0e-\x1f]{1,4}"), _nothing),
    _Disguise(
        rb"[\d-](?:/\*[^*]{0,20}\*/|<[^<>]{0,20}>)[\d-]",
        re.compile(rb"(?<=[\d-])(?:/\*[^*]{0,20}\*/|<[^<>]{0,20}>)(?=[\d-])"),
        _nothing,
    ),
    _Disguise(
        rb"%b(?:%b%b){8}" % (_DIGIT_WORD, _BETWEEN_WORDS, _DIGIT_WORD),
        re.compile(rb"\b%b(?:%b%b){8,18}\b" % (_DIGIT_WORD, _BETWEEN_WORDS, _DIGIT_WORD), re.IGNORECASE),
        _words, flags=_CASELESS,
    ),
    _Disguise(*morse.SPACED),
    _Disguise(*morse.RUN),
    _Disguise(
        rb"\d%b\d" % _NEXT_FIELD.replace(b'"', rb"\""),
        re2.compile(
            rb'"[A-Za-z_]{1,12}\d{1,2}"\s{0,8}:\s{0,8}"[\d ./-]{1,20}(?:%b[\d ./-]{1,20}){1,15}"' % _NEXT_FIELD
        ),
        _joined,
    ),
    _Disguise(
        rb"[A-Za-z_]%b[A-Za-z_]" % _DASHED,
        re2.compile(rb"[A-Za-z]{3}_?(%b)_?[A-Za-z]{3}" % _DASHED),
        _apart,
    ),
    _Disguise(
        rb"\b0{4}0{0,4}%b\b|\b%b0{4}0{0,4}\b" % (_DASHED, _DASHED),
        re2.compile(rb"\b(?:0{4,8}(%b)|(%b)0{4,8})\b" % (_DASHED, _DASHED)),
        _unpadded,
    ),
    _Disguise(rb"(?:%b){2}" % _WHOLE13, _DIGITS64_13, _base64, told=True),
    _Disguise(
        rb"\b[A-Za-z]{2}%b\d%b\d" % (_PIECES, _PIECES),  # without the countries' names twice as fast
        re2.compile(rb"(?i)\b%b(?:%b\d){2}(?:%b[A-Z0-9]){11,30}" % (_COUNTRY, _PIECES, _PIECES)),
        _iban, told=True, begins=_IBAN_SIZES.keys(),
    ),
    _Disguise(
        rb"\d[OoQDIilZzSsBGb]|[OoQDIilZzSsBGb]\d",
        re2.compile(rb"\b(?:%b[ .-]?){8,22}%b\b" % (_LIKE, _LIKE)),
        _letters, told=True,
    ),
    _Disguise(
        rb"[A-Za-z]{3}_?%b|%b_?[A-Za-z]{3}" % (_NUMBER_SHAPE, _NUMBER_SHAPE),
        re2.compile(rb"[A-Za-z]{3}_?(%b)(?:[A-Za-z_]|\b)" % _NUMBER_SHAPE),
        _apart, told=True,
    ),
    _Disguise(
        rb"\b0{4,8}[1-9]\d{2}-?\d{2}-?\d{4}|\d{2}-?\d{3}0{4,8}\b",
        re2.compile(rb"\b(?:0{3,8}(\d{3}-\d{2}-\d{4}|[1-9]\d{12,18})|(\d{3}-\d{2}-\d{4}|[1-9]\d{12,18}?)0{4,8})\b"),
        _unpadded, told=True,
    ),
)  # fmt: skip


class Disguises:
    """The compiled signs. One a process and thread."""

    def __init__(self, databases: Databases | None = None) -> None:
        databases = databases or Databases()
        always = [disguise for disguise in _DISGUISES if not disguise.told]
        self._always = [_Signs([d for d in always if d.long is long], databases) for long in (True, False)]
        # Together these cost several times as much in a text that is full of numbers.
        self._told = [_Signs([disguise], databases) for disguise in _DISGUISES if disguise.told]

    def pieces(self, data: bytes, told: bool) -> Iterator[tuple[bytes, int]]:
        """Pieces of a text in which numbers are plain, and where each begins in it.

        ``told``: the text holds words that say that such numbers are in it.
        """
        found = [seen for signs in self._always for seen in signs.seen(data)]
        if told:
            found += [seen for signs in self._told for seen in signs.seen(data)]
        edits = [edit for disguise, starts in found for edit in _edits(disguise, data, starts)]
        if edits:
            yield from _windows(data, sorted(edits, key=lambda edit: (edit[0], -edit[1]))[:MAX_PIECES])


class _Signs:
    """Signs, compiled together."""

    def __init__(self, disguises: Sequence[_Disguise], databases: Databases) -> None:
        self._disguises = disguises
        self._database = databases.of(
            [disguise.sign for disguise in disguises],
            [
                d.flags | (hyperscan.HS_FLAG_SOM_LEFTMOST if d.begins else hyperscan.HS_FLAG_SINGLEMATCH)
                for d in disguises
            ],
            range(len(disguises)),
        )

    def seen(self, data: bytes) -> list[tuple[_Disguise, list[int]]]:
        """Those of which a sign is in the data, and where the signs begin that say so."""
        signs: dict[int, list[int]] = {}

        def on_match(number: int, start: int, _end: int, _flags: int, _context: Any) -> None:
            signs.setdefault(number, []).append(start)

        self._database.scan(data, match_event_handler=on_match)
        return [(self._disguises[n], signs[n]) for n in sorted(signs)]


def _edits(disguise: _Disguise, data: bytes, starts: Sequence[int]) -> Iterator[tuple[int, int, bytes]]:
    """Where something is disguised, and what it is."""
    for number, (match, shift) in enumerate(_written(disguise, data, starts)):
        if number >= 20 * MAX_PIECES:
            return
        plain = disguise.undo(match)
        if plain is not None and plain != match[0]:
            yield shift + match.start(), shift + match.end(), plain


def _written(disguise: _Disguise, data: bytes, starts: Sequence[int]) -> Iterator[tuple[re.Match[bytes], int]]:
    """Matches that do not overlap, and what their places are counted from."""
    if not disguise.begins:
        yield from ((match, 0) for match in disguise.written.finditer(data))
        return
    end = -1
    for start in starts:
        if start >= end and data[start : start + 2].upper() in disguise.begins:
            match = disguise.written.match(data[start : start + _LONGEST])
            if match:
                end = start + match.end()
                yield match, start


def _windows(data: bytes, edits: list[tuple[int, int, bytes]]) -> Iterator[tuple[bytes, int]]:
    """The text around the edits, with them made; those near each other in one piece."""
    at = 0
    while at < len(edits):
        first = max(0, edits[at][0] - AROUND)
        piece, done = [data[first : edits[at][0]]], edits[at][0]
        while at < len(edits) and edits[at][0] <= done + AROUND:
            start, end, plain = edits[at]
            if start >= done:
                piece += [data[done:start], plain]
                done = end
            at += 1
        yield b"".join((*piece, data[done : done + AROUND])), first
