"""Exact checks of values that a pattern has found: whether they are possible at all.

Refuses nothing by itself; each function answers True or False for octets that may carry separators.
"""

from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import ip_address

from stdnum.us import ein

from gateway.checks.numbers import has_luhn_digit, is_itin, is_rtn, is_ssn
from gateway.checks.numbers import is_iban as has_iban_form

ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (1, 1, frozenset({15})),  # UATP
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),
    (300, 305, frozenset(range(14, 20))),  # Diners Club
    (3095, 3095, frozenset(range(14, 20))),
    (36, 36, frozenset(range(14, 20))),
    (38, 39, frozenset(range(14, 20))),
    (3528, 3589, frozenset(range(16, 20))),  # JCB, RuPay's 353 and 356
    (1800, 1800, frozenset({15})),  # JCB of old
    (2131, 2131, frozenset({15})),
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),
    (2200, 2205, frozenset(range(16, 20))),  # Mir, Borica
    (6011, 6011, frozenset(range(16, 20))),  # Discover
    (644, 649, frozenset(range(16, 20))),
    (65, 65, frozenset(range(16, 20))),  # also RuPay, Troy and Verve
    (62, 62, frozenset(range(16, 20))),  # UnionPay
    (81, 82, frozenset(range(16, 20))),  # UnionPay, RuPay
    (5018, 5018, frozenset(range(12, 20))),  # Maestro
    (5019, 5019, frozenset({16})),  # Dankort
    (5020, 5020, frozenset(range(12, 20))),
    (5038, 5038, frozenset(range(12, 20))),
    (5614, 5614, frozenset({16})),  # Uzcard
    (5893, 5893, frozenset(range(12, 20))),
    (6304, 6304, frozenset(range(12, 20))),
    (6759, 6759, frozenset(range(12, 20))),
    (6761, 6763, frozenset(range(12, 20))),
    (506099, 506198, frozenset({16, 18, 19})),  # Verve
    (507865, 507964, frozenset({16, 18, 19})),
    (508, 508, frozenset({16})),  # RuPay
    (60, 60, frozenset({16})),  # RuPay, UkrCard
    (636, 636, frozenset(range(16, 20))),  # InterPayment
    (637, 639, frozenset({16})),  # InstaPayment
    (8600, 8600, frozenset({16})),  # Uzcard
    (9792, 9792, frozenset({16})),  # Troy
    (9860, 9860, frozenset({16})),  # Humo
)
"""First and last issuer prefix (as many leading digits as they are written with) and the lengths in use."""

_LENGTHS: dict[str, frozenset[int]] = {}
for _first, _last, _sizes in ISSUERS:
    for _number in range(_first, _last + 1):
        _LENGTHS[str(_number)] = _LENGTHS.get(str(_number), frozenset()) | _sizes
_PREFIX_SIZES = sorted({len(prefix) for prefix in _LENGTHS})
NUMERIC = frozenset(
    {"us-ssn", "us-ssn-reversed", "us-itin", "us-ein", "us-rtn", "payment-card", "payment-card-reversed", "luhn", "npi"}
)
"""Validators of numbers: the digits alone are the value, whatever stands between them."""
DISGUISED = NUMERIC | {"iban"}
"""Validators of types whose numbers are looked for in disguise as well."""
_NOT_DIGITS = bytes(c for c in range(256) if not 48 <= c <= 57)
_PREFIX = "80840"
"""Issuer identifier of health in the United States, which the check digit of an NPI includes (45 CFR 162.406)."""


def digits_of(match: bytes) -> str:
    """The ASCII digits of a match."""
    return match.translate(None, _NOT_DIGITS).decode("ascii")


def is_us_ssn(match: bytes) -> bool:
    """Area, group and serial in use, and not one of the numbers known to be invalid (python-stdnum).

    The Social Security Administration never issues area 000, 666 and 900 to 999, group 00 and serial 0000.
    """
    return is_ssn(digits_of(match))


def is_us_ssn_reversed(match: bytes) -> bool:
    """The same, read backwards."""
    return is_us_ssn(match[::-1])


def is_us_itin(match: bytes) -> bool:
    """An Individual Taxpayer Identification Number: area 9xx and a group in use (python-stdnum)."""
    return is_itin(digits_of(match))


def is_us_ein(match: bytes) -> bool:
    """An Employer Identification Number: a prefix of a campus of the Internal Revenue Service (python-stdnum)."""
    return bool(ein.is_valid(digits_of(match)))


def is_us_rtn(match: bytes) -> bool:
    """A routing transit number: right check digit, and a prefix that the American Bankers Association assigns."""
    number = digits_of(match)
    prefix = int(number[:2] or 0)
    return is_rtn(number) and (1 <= prefix <= 12 or 21 <= prefix <= 32 or 61 <= prefix <= 72)


def is_payment_card(match: bytes) -> bool:
    """A known issuer's prefix with a length that it uses, and the right Luhn digit (ISO/IEC 7812-1, Annex B)."""
    number = digits_of(match)
    size = len(number)
    for prefix in _PREFIX_SIZES:
        if size in _LENGTHS.get(number[:prefix], ()):
            return has_luhn_digit(number)
    return False


def is_payment_card_reversed(match: bytes) -> bool:
    """The same, read backwards."""
    return is_payment_card(match[::-1])


def is_iban(match: bytes) -> bool:
    """Country, length, check digits and the country's own format (ISO 13616; python-stdnum)."""
    return has_iban_form(match.decode("ascii", "replace"))


def is_luhn(match: bytes) -> bool:
    """The right Luhn digit."""
    number = digits_of(match)
    return bool(number) and has_luhn_digit(number)


def is_npi(match: bytes) -> bool:
    """A National Provider Identifier: ten digits from 1 or 2, the last one Luhn's over them behind 80840."""
    number = digits_of(match)
    return len(number) == 10 and number[0] in "12" and has_luhn_digit(_PREFIX + number)


def is_date(match: bytes) -> bool:
    """A day that was in the calendar, month first (or year first), from 1900 to 2099; two digits of a year will do."""
    pieces = [int(piece) for piece in match.decode("ascii", "replace").replace("-", "/").replace(".", "/").split("/")]
    if len(pieces) != 3:
        return False
    year, month, day = pieces if pieces[0] > 31 else (pieces[2], pieces[0], pieces[1])
    year += 1900 if year < 100 else 0
    try:
        date(year, month, day)
    except ValueError:
        return False
    return 1900 <= year <= 2099


def address_of(match: bytes) -> tuple[int, int] | None:
    """Version and number of the address that a match is, whether or not a network's length stands behind it."""
    text = match.partition(b"/")[0]
    pieces = text.split(b".")
    if len(pieces) == 4:
        number = 0
        for piece in pieces:  # as :mod:`ipaddress` has it, which takes four times as long
            if not piece.isdigit() or len(piece) > 3 or (piece[0] == _ZERO and len(piece) > 1) or int(piece) > 255:
                break
            number = number << 8 | int(piece)
        else:
            return 4, number
    try:
        address = ip_address(text.decode("ascii", "replace"))
    except ValueError:
        return None
    return address.version, int(address)


_ZERO = 0x30


def is_ip_address(match: bytes) -> bool:
    """An IPv4 or IPv6 address; not the unspecified one."""
    address = address_of(match)
    return address is not None and address[1] != 0


def is_mixed(match: bytes) -> bool:
    """Looks like a password: at least two of small letters, capitals (beyond the first), digits and symbols."""
    return _kinds(match) >= 2


def is_strong(match: bytes) -> bool:
    """Looks like a password and hardly like anything else: at least three of them."""
    return _kinds(match) >= 3


def _kinds(match: bytes) -> int:
    """Small letters, capitals beyond the first, digits, symbols: how many of them; 0 for fewer than four characters."""
    if match.isascii():  # the same in a fourth of the time
        short = match.rstrip(b".,;:!?)]}>\"'")
        rest = short[1:]
        return (
            (short != short.upper()) + (rest != rest.lower()) + (short != short.translate(None, _DIGITS))
            + bool(match[1:].translate(None, _NO_SYMBOLS))
        ) if len(short) >= 4 else 0  # fmt: skip
    text = match.decode("utf-8", "replace").rstrip(".,;:!?)]}>\"'»”")
    kinds = (
        any(c.islower() for c in text),
        any(c.isupper() for c in text[1:]),
        any(c.isdigit() for c in text),
        any(not c.isalnum() and c not in ".,'’-/:()<>[]_=…" for c in match.decode("utf-8", "replace")[1:]),
    )
    return sum(kinds) if len(text) >= 4 else 0


_DIGITS = b"0123456789"
_NO_SYMBOLS = b".,'-/:()<>[]_=" + bytes(octet for octet in range(128) if chr(octet).isalnum())


def is_secret(match: bytes) -> bool:
    """Looks random: letters and digits, and nearly no character more often than chance would have it."""
    text = match.decode("ascii", "replace")
    return (
        len(set(text)) * 4 >= min(len(text), 40) and any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    )


VALIDATORS: Mapping[str, Callable[[bytes], bool]] = {
    "us-ssn": is_us_ssn,
    "us-ssn-reversed": is_us_ssn_reversed,
    "us-itin": is_us_itin,
    "us-ein": is_us_ein,
    "us-rtn": is_us_rtn,
    "payment-card": is_payment_card,
    "payment-card-reversed": is_payment_card_reversed,
    "iban": is_iban,
    "luhn": is_luhn,
    "npi": is_npi,
    "date": is_date,
    "ip-address": is_ip_address,
    "mixed": is_mixed,
    "strong": is_strong,
    "secret": is_secret,
}
"""By the names that patterns use."""
