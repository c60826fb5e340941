"""Numbers that somebody has disguised: what is undone, what is left alone, and what it costs."""

import base64
import codecs
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.disguises import AROUND, MAX_PIECES, Disguises
from gateway.checks.plain import plain
from gateway.checks.scanner import Scanner
from gateway.checks.tally import Tally
from gateway.model.finding import Confidence
from tests.shipped import shipped_scanner

DISGUISES = Disguises()
SSN, CARD = "536-90-4399", "4111111111111111"


def _base64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


MORSE = {
    "0": "-----", "1": ".----", "2": "..---", "3": "...--", "4": "....-", "5": ".....", "6": "-....", "7": "--...",
    "8": "---..", "9": "----.", "-": "-",
}  # fmt: skip


def _each(form: str) -> Callable[[str], str]:
    return lambda value: "".join(form.format(ord(c)) for c in value)


CODED: dict[str, Callable[[str], str]] = {
    "base64": _base64,
    "base64 without padding": lambda v: _base64(v).rstrip("="),
    "base64 twice": lambda v: _base64(_base64(v)),
    "base64 of hex": lambda v: _base64(v.encode().hex()),
    "hex": lambda v: v.encode().hex(),
    "hex of base64": lambda v: _base64(v).encode().hex(),
    "hex in pairs": lambda v: v.encode().hex(" "),
    "escapes": _each("\\x{:02x}"),
    "base32": lambda v: base64.b32encode(v.encode()).decode(),
    "base32, small, hex alphabet": lambda v: base64.b32hexencode(v.encode()).decode().lower(),
    "percent": _each("%{:02X}"),
    "percent twice": _each("%25{:02X}"),
    "entities": _each("&#{};"),
    "half in base64": lambda v: v[:3] + _base64(v[3:]),
    "control characters": lambda v: "".join(f"{c}\x1e" for c in v[:-1]) + v[-1],
    "comments": lambda v: "".join(f"{c}/**/" for c in v[:-1]) + v[-1],
    "tags": lambda v: "".join(f"{c}<wbr>" for c in v[:-1]) + v[-1],
    "base64 of ROT13 of hex": lambda v: _base64(codecs.encode(v.encode().hex(), "rot13")),
    "percent, every second": lambda v: "".join(c if n % 2 else f"%{ord(c):02X}" for n, c in enumerate(v)),
    "numbered fields": lambda v: f'{{"part1": "{v[:5]}", "part2": "{v[5:]}"}}',
    "Morse with spaces": lambda v: " ".join(MORSE[c] for c in v),
}
"""Ways to code a number that need no word beside it."""
TOLD = [
    "SSN 5 3 6 9 0 4 3 9 9", "ssn: 5369-0439-9", "my social security number is 536-90-\n4399", "SSN 53G-9O-4399",
    "SSN: five three six nine zero four three nine nine", "ssn five three six dash nine oh dash four three nine nine",
    "ssn XXXX536-90-4399XXXX", "SSN 00000536-90-4399", 'ssn {"part1": "536-9", "part2": "0-4399"}',
    "ssn ..... ...-- -.... ----. ----- ....- ...-- ----. ----.", "SSN: ƼƷ6-90-43９９", "card: 41ll 1lll 1111 ll11",
    "credit card 4111.1111.1111.1111", "card no 41111111\n11111111", "visa 1111111111111114", "card 4532O15112830366",
    "SSN " + codecs.encode(_base64(SSN), "rot13"), "ssn 9934-09-635",
    "SSN \u0406\u01a7\u01b7-4\u01bc-\u04317\u02229",
    "IBAN de89 3704-0044/0532 0130 00", "iban DE 89370400440532013000, thanks",
]  # fmt: skip
NEAR = [
    "The commit is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b, see it.", "https://example.org/?q=a%20b%3D1&id=536904399",
    "30 31 32 33 34 35 36 37 38 39 are the days", "----- ----- ----- ----- ----- ----- ----- ----- -----",
    "U3RhZmYgbWVldGluZyBpcyBtb3ZlZCB0byBUdWVzZGF5IGF0IG5vb24=", "one two three", "responsibilities and Massachusetts",
    "SSN rules: see item O1, lot B2, unit S5 and Z2", "Social Security Administration, zip 53202-1234",
    "SSN forms moved. 12/31/2024 5 pm, room 12", "SSN list\n536\n90\n4399", "library card 21234000000000",
    "MD5 d41d8cd98f00b204e9800998ecf8427e of the card index", '{"x1": "536-9", "y2": "0-4399"}',
    "." * 45, "-" * 45, ".-" * 30, "......................................-----.-----.-----.-----", "53703-1234",
    "call\n920-555-0134\nor", "203.0.113.77", "2026-11-22 1\n12/24/2026 7\n4 x 16 x 8 x 21 x 9",
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Scanner:
    """All shipped types in one database."""
    return shipped_scanner()


def found(scanner: Scanner, text: str) -> set[str]:
    """Types of numbers that are found, at whatever confidence."""
    tally = Tally()
    scanner.scan(plain(text), "1", tally)
    return {f.kind for f in scanner.findings(tally)} & {"us-ssn", "payment-card", "iban"}


@pytest.mark.parametrize("way", sorted(CODED))
@pytest.mark.parametrize(("value", "type_"), [(SSN, "us-ssn"), (CARD, "payment-card")], ids=["ssn", "card"])
def test_a_coded_number_is_found_without_a_word(shipped: Scanner, way: str, value: str, type_: str) -> None:
    """In running text, between words, at least at low."""
    assert type_ in found(shipped, f"Please use {CODED[way](value)} for the form.")


@pytest.mark.parametrize("text", TOLD, ids=range(len(TOLD)))
def test_a_number_that_is_told_is_found_however_it_is_written(shipped: Scanner, text: str) -> None:
    """The word beside it says what the odd row of digits is."""
    assert found(shipped, text)


@pytest.mark.parametrize("text", NEAR, ids=range(len(NEAR)))
def test_what_only_looks_coded_is_left_alone(shipped: Scanner, text: str) -> None:
    """Hashes, addresses, rulers, calendars, other people's base64, near misses with a keyword."""
    assert found(shipped, text) == set()


ALONE = [
    "1234-5678-9", "5 3 6 9 0 4 3 9 9", "536904399", "> 536904399\r\n> 536904400", "536-9\n0-4399", "5369\n0439\n9\n",
    "Here:\n\n(5369 0439 9),\n\nthanks", "\u0406\u01a7\u01b7-4\u01bc-\u04317\u02229", "9934-09-635",
    "XXX536-90-4399XXX", "".join(MORSE[c] for c in SSN), "".join(MORSE[c] for c in SSN if c != "-"),
    "00000536-90-4399", "536-90-439900000", "ref: 536-90-4399",
]  # fmt: skip


@pytest.mark.parametrize("text", ALONE, ids=range(len(ALONE)))
def test_a_number_that_stands_alone_is_found_at_low_at_least(shipped: Scanner, text: str) -> None:
    """Nine digits with a line of their own, in whatever pieces, and the printed form in odd company."""
    assert found(shipped, text) == {"us-ssn"}


def test_nine_digits_in_company_are_none(shipped: Scanner) -> None:
    """Beside other words, without one that says what they are, they could be anything."""
    for text in ("use 1234-5678-9 now", "536904399 and 536904400", "5369\n0439\n9 boxes", "a\n536-9\n0-4399\nb"):
        assert found(shipped, text) == set(), text


def test_the_words_around_a_coded_number_count(shipped: Scanner) -> None:
    """A keyword beside the code makes the number as sure as one in plain digits, at the code's place."""
    tally = Tally()
    shipped.scan(b"x" * 1000 + b" her SSN is " + base64.b64encode(SSN.encode()), "1", tally)
    (seen,) = [f for f in shipped.findings(tally) if f.kind == "us-ssn"]
    assert (seen.confidence, seen.evidence, seen.offset) == (Confidence.HIGH, "***-**-4399", 1012)


def test_a_number_both_plain_and_coded_counts_once(shipped: Scanner) -> None:
    """What is looked at again is not another value, nor another time."""
    tally = Tally()
    shipped.scan(f"SSN {SSN}, that is {CODED['base64'](SSN)}".encode(), "1", tally)
    (seen,) = [f for f in shipped.findings(tally) if f.kind == "us-ssn"]
    assert (seen.count, seen.sightings) == (1, 1)


def test_places_are_bounded() -> None:
    """More codes than can be looked at cost no more than the bound; pieces are no longer than what is around them."""
    code = CODED["hex"](SSN).encode()
    pieces = list(DISGUISES.pieces(b"\n".join([code + b" " * 500] * 3 * MAX_PIECES), told=True))
    assert len(pieces) == MAX_PIECES
    assert max(len(piece) for piece, _ in pieces) <= 2 * AROUND + len(code)


@pytest.mark.parametrize(
    "unit",
    [
        b"a", b"%31", b"4", b"MTIz", b"1 ", b"\\x31", b"&#49;", b"one ", b".---- ", b"0", b"O0", b"a=", b"1<b>",
        b"GEZDGLJU", b"DE12",
    ],
    ids=range(15),
)  # fmt: skip
def test_any_repetition_is_read_in_time(unit: bytes) -> None:
    """Linear whatever stands there: 300 KB in well under a second of processor time, whoever else computes."""
    data = (unit * (300_000 // len(unit)))[:300_000] + b" %31"
    began = time.process_time()
    list(DISGUISES.pieces(data, told=True))
    assert time.process_time() - began < 1


@given(st.binary(max_size=300), st.booleans())
def test_no_octets_break_it(data: bytes, told: bool) -> None:
    """Anything can be looked at."""
    for piece, start in DISGUISES.pieces(data, told):
        assert 0 <= start <= len(data)
        assert piece
