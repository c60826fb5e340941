"""Check digits and issued ranges, as python-stdnum knows them and several times as fast.

Dense text asks thousands of times a megabyte. Takes what to compare from python-stdnum where it is data (the countries'
formats of IBAN, their own check digits), and is held equal to it by a property test where it is code. Refuses nothing.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from stdnum import numdb
from stdnum.util import get_cc_module

_NEVER_ISSUED_SSN = frozenset({"078051120", "457555462", "219099999"})
"""Numbers that advertising and a pocket-book made known (Social Security Administration)."""
_ITIN_GROUPS = frozenset(str(n) for n in (*range(50, 66), *range(70, 89), 90, 91, 92, *range(94, 100)))
"""Fourth and fifth digit as the Internal Revenue Service assigns them; 50 to 65 are newer than python-stdnum's."""
_THREES = bytes((n - 48) * 3 % 256 for n in range(256))
_SEVENS = bytes((n - 48) * 7 % 256 for n in range(256))
_ONES = bytes((n - 48) % 256 for n in range(256))
_TWICE = bytes(2 * n - 9 * (n > 4) if (n := each - 48) in range(10) else 0 for each in range(256))
_AS_NUMBER = {ord(c): str(int(c, 36)) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_SEPARATORS = {ord(c): None for c in " -."}
_PIECE = re.compile(r"([1-9][0-9]*)!([nac])")
_CHARACTERS = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Za-z0-9]"}


def is_ssn(number: str) -> bool:
    """``number``: digits. Area, group and serial of a Social Security number that was or can be issued."""
    return (
        len(number) == 9
        and number[0] != "9"
        and number[:3] not in ("000", "666")
        and number[3:5] != "00"
        and number[5:] != "0000"
        and number not in _NEVER_ISSUED_SSN
    )


def is_itin(number: str) -> bool:
    """``number``: digits. Area and group of an Individual Taxpayer Identification Number."""
    return len(number) == 9 and number[0] == "9" and number[3:5] in _ITIN_GROUPS


def is_rtn(number: str) -> bool:
    """``number``: digits. Check digit of a routing transit number (weights 3, 7, 1)."""
    if len(number) != 9:
        return False
    octets = number.encode()
    weighed = sum(octets[::3].translate(_THREES)) + sum(octets[1::3].translate(_SEVENS))
    return (weighed + sum(octets[2::3].translate(_ONES))) % 10 == 0


def has_luhn_digit(number: str) -> bool:
    """``number``: digits. The last one is the check digit of ISO/IEC 7812-1, Annex B."""
    octets = number.encode()
    return (sum(octets[::-2].translate(_ONES)) + sum(octets[-2::-2].translate(_TWICE))) % 10 == 0


class _Country(NamedTuple):
    """What a country's IBAN looks like."""

    account: re.Pattern[str]
    """All behind the check digits."""
    own_check: Callable[[str], bool] | None


def is_iban(text: str) -> bool:
    """Country, length, check digits and the country's own format (ISO 13616), separators allowed."""
    number = text.translate(_SEPARATORS).strip().upper()
    if len(number) < 5 or not (number.isascii() and number.isalnum()):
        return False
    if int((number[4:] + number[:4]).translate(_AS_NUMBER)) % 97 != 1:
        return False
    country = _country(number[:2])
    if country is None or country.account.fullmatch(number, 4) is None:
        return False
    return country.own_check is None or country.own_check(number)


@lru_cache(maxsize=1300)
def _country(code: str) -> _Country | None:
    """By python-stdnum's tables; None: no IBAN begins so."""
    known = numdb.get("iban").info(code)[0][1]
    if not known:
        return None
    account = _PIECE.sub(lambda m: f"{_CHARACTERS[m[2]]}{{{m[1]}}}", str(known.get("bban", "")))
    module = get_cc_module(code.lower(), "iban")
    return _Country(re.compile(account), module.is_valid if module else None)
