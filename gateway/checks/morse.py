"""Numbers in Morse: digits of five signs each, with spaces, slashes or line ends between them, or with nothing.

Without a space only what is as long as a Social Security number or a card is read, with dashes between its groups or
without. Refuses letters, and rulers and leaders, which are made of dots and dashes too.
"""

import re
from collections.abc import Sequence

_DIGITS = {
    b"-----": b"0", b".----": b"1", b"..---": b"2", b"...--": b"3", b"....-": b"4", b".....": b"5",
    b"-....": b"6", b"--...": b"7", b"---..": b"8", b"----.": b"9",
}  # fmt: skip
_DASH = b"-"
_GROUPS = ((3, 2, 4), (4, 4, 4, 4), (4, 6, 5))
"""Of Social Security numbers and cards."""
_VARIED = 4
"""Different digits that a run must hold to be one."""
_TURN = rb"(?:\.-|-\.)"


def spaced(match: re.Match[bytes]) -> bytes | None:
    """The digits; a dash that stands alone is one."""
    return b"".join(_DASH if sign == _DASH else _DIGITS.get(sign, b"?") for sign in re.findall(rb"[.-]+", match[0]))


def run(match: re.Match[bytes]) -> bytes | None:
    """The digits with dashes between the groups; None: it is no such number."""
    for groups in _GROUPS:
        for between in (len(_DASH), 0):
            number = _read(match[0], groups, between)
            if number is not None:
                return number
    return None


def _read(signs: bytes, groups: Sequence[int], between: int) -> bytes | None:
    if len(signs) != 5 * sum(groups) + between * (len(groups) - 1):
        return None
    pieces, at = [], 0
    for size in groups:
        pieces.append(b"".join(_DIGITS.get(signs[n : n + 5], b"?") for n in range(at, at + 5 * size, 5)))
        at += 5 * size + between
    digits = b"".join(pieces)
    return _DASH.join(pieces) if b"?" not in digits and len(set(digits)) >= _VARIED else None


SPACED = (
    rb"[.-]{5}(?:[ /\r\n]{1,3}(?:-[ /\r\n]{1,3})?[.-]{5}){8}",
    re.compile(rb"(?<![.-])[.-]{5}(?:[ /\r\n]{1,3}(?:-[ /\r\n]{1,3})?[.-]{5}){8,18}(?![.-])"),
    spaced,
)
"""What Hyperscan looks for, how it is written, what undoes it."""
RUN = (
    rb"%b[.-]{0,12}%b[.-]{0,12}%b[.-]{0,12}%b" % (_TURN, _TURN, _TURN, _TURN),
    re.compile(rb"(?<![.-])[.-]{45,83}(?![.-])"),
    run,
)
"""The same without spaces."""
