"""Where words stand and what is looked for near them: short cuts find what the long way round finds."""

import random
import re
from collections.abc import Iterator
from copy import copy
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import texts
from gateway.checks import heard
from gateway.checks.expressions import sources_of
from gateway.checks.plain import plain
from gateway.checks.scanner import Scanner, Tally
from gateway.checks.validators import address_of
from gateway.checks.widths import longest
from gateway.model.finding import Finding
from tests.shipped import shipped_types

RULES = Path(__file__).resolve().parents[3] / "rules"


@cache
def _short() -> Scanner:
    return Scanner(shipped_types())


@cache
def _long() -> Scanner:
    """The same, which looks for everything in the whole text."""
    scanner = copy(_short())
    scanner._named = {n: copy(needing) for n, needing in scanner._named.items()}
    for needing in scanner._named.values():
        needing._longest = None
    return scanner


def _found(scanner: Scanner, text: bytes) -> list[Finding]:
    tally = Tally()
    scanner.scan(text, "1", tally)
    return scanner.findings(tally)


def _agree(text: bytes, patch: pytest.MonkeyPatch) -> None:
    short = _found(_short(), text)
    with patch.context() as patched:
        patched.setattr(heard, "_most", lambda _size: 0)
        assert _found(_long(), text) == short


def _numbers(rng: random.Random) -> bytes:
    digits = "".join(rng.choice("0123456789") for _ in range(rng.choice((3, 4, 5, 8, 9, 9, 9, 10, 13, 16, 16))))
    if len(digits) == 9:
        digits = rng.choice("- ./").join((digits[:3], digits[3:5], digits[5:]))
    return digits.encode()


def _pieces(rng: random.Random, words: list[bytes], cases: list[bytes]) -> Iterator[bytes]:
    """A text of keywords, exclusions, values, cut cases and common words, with all kinds of gaps between."""
    gaps = (b" ", b" ", b" ", b"\r\n", b", ", b": ", b"-", b"_", b" " * 12, b"\r\n" * 6, b"", b".", b" \xe2\x80\x94 ")
    for _ in range(rng.randrange(1, 150)):
        kind = rng.random()
        if kind < 0.15:
            yield rng.choice(words)
        elif kind < 0.3:
            yield _numbers(rng)
        elif kind < 0.4:
            yield rng.choice(texts._KINDS)(rng).encode()
        elif kind < 0.5:
            case = rng.choice(cases)
            start = rng.randrange(len(case) + 1)
            yield case[start : start + rng.randrange(1, 60)]
        else:
            yield rng.choice(
                (b"the", b"of the council", b"water main", b"1234 Main", b"caf\xc3\xa9", b"is", b"AT", b"no")
            )
        yield rng.choice(gaps)


@pytest.mark.parametrize("seed", range(4))
def test_mixed_texts_are_read_alike_near_keywords_and_as_a_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keywords' places from one pass and patterns near them: the same findings as in all of the text."""
    rng = random.Random(seed)
    words = [word.encode() for type_ in shipped_types() for word in (*type_.keywords, *type_.exclusions, *type_.doubts)]
    cases = [plain(case.text) for type_ in shipped_types() for case in type_.cases]
    for _ in range(30):
        _agree(b"".join(_pieces(rng, words, cases)).decode("utf-8", "ignore").encode(), monkeypatch)


@pytest.mark.parametrize(("octets", "every"), [(20_000, 60), (60_000, 400), (100_000, 1000)], ids=["60", "400", "1000"])
def test_dense_texts_are_read_alike(octets: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the text that speed is measured with."""
    _agree(texts.dense(octets, every), monkeypatch)


def test_a_text_filled_with_keywords_keeps_none_of_their_places() -> None:
    """Beyond a bound only which there are is kept, so that memory does not grow with them."""
    words = _short()._words.heard(b"ssn " * 50_000, 1000)
    assert words.keywords is None
    assert words.spots(0) is None
    assert {shipped_types()[n].id for n in words.named} >= {"us-ssn"}


@pytest.mark.parametrize(
    ("expression", "width"),
    [
        (rb"abc", 3), (rb"a|bcd|ef", 3), (rb"\d{3}-\d{2}", 6), (rb"(?:\b|_)(?:a{2,5}b?)", 7), (rb"[\]a\-]{4}x", 5),
        (rb"(?i)ab(?i:cd){2}", 6), (rb"a+", None), (rb"a*b", None), (rb"a{2,}", None), (rb"\x41{,3}", 3),
        (rb"(a(?:b|cde){2}){3}", 21), (rb"a)", None), (rb"(?=a)b", None), (rb"(?:a", None),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else str(value),
)  # fmt: skip
def test_the_longest_match_is_known(expression: bytes, width: int | None) -> None:
    """An upper bound where there is one; None for what has none, or cannot be read."""
    assert longest(expression) == width


_NEEDING = sorted(
    {
        s.expression
        for n, t in enumerate(shipped_types())
        for s, m in sources_of(n, t)
        if m.pattern and m.pattern.needs_keyword
    }
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_match_of_a_shipped_pattern_is_longer(data: st.DataObject) -> None:
    """What an expression matches is never longer than is said of it."""
    expression = data.draw(st.sampled_from(_NEEDING))
    width = longest(expression)
    assert width is not None
    assert len(data.draw(st.from_regex(re.compile(expression.replace(rb"(?:\b|_)", rb"_?")), fullmatch=True))) <= width


@given(
    st.from_regex(rb"[0-9a-f.:]{1,20}(?:/[0-9]{1,3})?", fullmatch=True)
    | st.ip_addresses().map(lambda a: str(a).encode())
)
def test_addresses_are_read_as_the_standard_library_reads_them(written: bytes) -> None:
    """The short way for four decimal numbers accepts what ipaddress accepts, and reads the same number."""
    try:
        address = ip_address(written.partition(b"/")[0].decode())
    except ValueError:
        assert address_of(written) is None
    else:
        assert address_of(written) == (address.version, int(address))
