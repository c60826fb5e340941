"""Exact checks of numbers that a pattern has found: whether they are possible at all.

Refuses nothing by itself; each function answers True or False for digits that may carry separators.
"""

from collections.abc import Callable, Mapping

from stdnum import luhn
from stdnum.us import ssn

ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),
    (300, 305, frozenset(range(14, 20))),  # Diners Club
    (3095, 3095, frozenset(range(14, 20))),
    (36, 36, frozenset(range(14, 20))),
    (38, 39, frozenset(range(14, 20))),
    (3528, 3589, frozenset(range(16, 20))),  # JCB
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),
    (6011, 6011, frozenset(range(16, 20))),  # Discover
    (644, 649, frozenset(range(16, 20))),
    (65, 65, frozenset(range(16, 20))),
    (62, 62, frozenset(range(16, 20))),  # UnionPay
    (5018, 5018, frozenset(range(13, 20))),  # Maestro
    (5020, 5020, frozenset(range(13, 20))),
    (5038, 5038, frozenset(range(13, 20))),
    (5893, 5893, frozenset(range(13, 20))),
    (6304, 6304, frozenset(range(13, 20))),
    (6759, 6763, frozenset(range(13, 20))),
)
"""First and last issuer prefix (as many leading digits as they are written with) and the lengths in use."""


def digits_of(match: bytes) -> str:
    """The ASCII digits of a match."""
    return "".join(chr(c) for c in match if 48 <= c <= 57)


def is_us_ssn(match: bytes) -> bool:
    """Area, group and serial in use, and not one of the numbers known to be invalid (python-stdnum).

    The Social Security Administration never issues area 000, 666 and 900 to 999, group 00 and serial 0000.
    """
    return bool(ssn.is_valid(digits_of(match)))


def is_payment_card(match: bytes) -> bool:
    """A known issuer's prefix with a length that it uses, and the right Luhn digit (ISO/IEC 7812-1, Annex B)."""
    number = digits_of(match)
    return any(
        first <= int(number[: len(str(first))]) <= last and len(number) in lengths for first, last, lengths in ISSUERS
    ) and bool(luhn.is_valid(number))


VALIDATORS: Mapping[str, Callable[[bytes], bool]] = {"us-ssn": is_us_ssn, "payment-card": is_payment_card}
"""By the names that patterns use."""
