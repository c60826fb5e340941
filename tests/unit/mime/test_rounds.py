"""Repeated groups: every round counts, however many there are and however the last one breaks off."""

import base64
import re
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.disguises import _QUOTED
from gateway.checks.hidden import _DATA_URL, _ESCAPES, _NUMBERS, RUN, SHORT_RUN, Repeated, runs, smuggled
from gateway.checks.smuggling import _holds_file
from gateway.checks.tags import tags_of
from gateway.mime.fields import read_header
from gateway.mime.hypertext import html_to_text
from gateway.mime.mailboxes import addresses
from gateway.mime.rounds import behind
from gateway.mime.structured import structured
from gateway.mime.tree import Span
from gateway.transform.markup import top_of_body

_PAIR = re.compile(r"(?:ab){1,1000}")


@pytest.mark.parametrize("rounds", [0, 1, 999, 1000, 1001, 2000, 5000])
def test_all_rounds_are_passed(rounds: int) -> None:
    """No number of rounds is too many, and a last one that breaks off takes nothing along."""
    assert behind(_PAIR, "x" + "ab" * rounds + "a", 1) == 1 + 2 * rounds
    assert behind(_PAIR, "ab" * rounds, 0, 2 * rounds - 1 if rounds else 0) == max(2 * rounds - 2, 0)


_TOKENS = (
    *(
        "\n",
        "\r\n",
        "\r",
        "A" * 60,
        "B" * 20,
        "=",
        " ",
        ">",
        "\t",
        "\0",
        "x",
        "%41",
        "%4",
        "%",
        "%25",
        "%2541",
        ";base64,",
    ),
    *("1,", "12, ", "0xff,", "7,0x1 , " * 16, "1234", "\\x41" * 16, "\\x4", "\\u0041" * 16, "\\u00", "%41" * 16),
)
_REPEATED = {
    "run": (
        RUN,
        rb"\n[ \t>]*([A-Za-z0-9+/]{60,}={0,2}[ \t]*\r?(?:\n[A-Za-z0-9+/]+={0,2}[ \t]*\r?(?=\n|\Z))*)(?=\n|\Z)",
    ),
    "short": (
        SHORT_RUN,
        rb"[\r\n][ \t>]*(B{16,}={0,2}[ \t\0]*(?:[\r\n]+|\Z)(?:B+={0,2}[ \t\0]*(?:[\r\n]+|\Z))*)".replace(
            b"B", b"[A-Za-z0-9+/]"
        ),
    ),
    "data": (_DATA_URL, rb";base64,((?:[A-Za-z0-9+/_\-]|%[0-9A-Fa-f]{2}|\s)+)"),
    "numbers": (_NUMBERS, rb"((?:(?:0x[0-9a-f]{1,2}|\d{1,3})\s*,\s*){31,}(?:0x[0-9a-f]{1,2}|\d{1,3}))"),
    "escapes": (_ESCAPES[0], rb"((?:\\x[0-9A-Fa-f]{2}){32,})"),
}


@pytest.mark.parametrize("name", _REPEATED)
@given(pieces=st.lists(st.sampled_from(_TOKENS), max_size=40))
def test_rounds_apart_are_rounds_together(name: str, pieces: list[str]) -> None:
    """On any text the same places are found as by one greedy expression, which keeps all its rounds."""
    repeated, whole = _REPEATED[name]
    text = "".join(pieces).encode()
    assert list(repeated.spans(text)) == [match.span(1) for match in re.finditer(whole, text)]


def test_long_lists_are_found_whole() -> None:
    """Thousands of lines, numbers and escapes give all their octets; a comma behind the last number changes nothing."""
    secret = bytes(range(256)) * 20
    numbers = ",".join(map(str, secret)).encode()
    lines = base64.encodebytes(secret * 30)
    (found,) = runs(b"Text:\n" + lines + b"-- end", Span(0, 6 + len(lines) + 6))
    assert b"".join(found) == secret * 30
    for script in (
        b"x = [" + numbers + b"]",
        b"x = [" + numbers + b",]",
        b"x = '" + b"".join(b"\\x%02x" % octet for octet in secret) + b"'",
        b"x = '" + b"".join(b"\\u00%02x" % octet for octet in secret) + b"\\u00'",
        b"x = '" + b"".join(b"%%%02x" % octet for octet in secret) + b"%2'",
    ):
        assert secret in list(smuggled(b"<script>" + script + b"</script>"))
    assert list(smuggled(b'<img src="data:x;base64,' + base64.b64encode(secret) + b'">')) == [secret]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("see ?a=%2541%25 now", ["a=%2541%25"]),
        ("%41%4", ["%41"]),
        ("x%252541y%2 z", ["x%252541y"]),
        ("x%2525%252", ["x%2525%252"]),
    ],
    ids=["percent of percent", "cut", "twice", "half"],
)
def test_a_quoted_address_ends_where_its_last_whole_sign_does(address: str, shown: list[str]) -> None:
    """Half a sign at the end, or one that reads in two ways, moves no end."""
    assert [match[0].decode() for match in _QUOTED.finditer(address.encode())] == shown


def test_tags_may_have_any_number_of_attributes() -> None:
    """Thousands of values with brackets in them: a tag ends where it ends for a reader."""
    many = " a='>' b=\">\" c=d" * 1500
    assert html_to_text(f"one <b{many}>two</b> <i title='seen'{many}>three") == "seen\none two three"
    assert top_of_body(f"<html><body{many}>text") == len(f"<html><body{many}>")
    assert top_of_body(f"<html><body{many} x='>text") == len("<html>")
    (tag,) = tags_of(f"<a{many[:8000]}>text".encode()).found
    assert tag.end == len(f"<a{many[:8000]}>")


@pytest.mark.parametrize("folds", [1, 999, 1000, 1001, 4000])
def test_a_field_may_be_folded_any_number_of_times(folds: int) -> None:
    """Its lines stay its own, and the next field is the next."""
    field = b"Subject: a" + b"\r\n b" * folds + b"\r\n"
    block = read_header(field + b"To: x@y.example\r\n\r\nbody", Span(0, len(field) + 23), True, 1 << 20, 100)
    assert [(each.name, each.end) for each in block.fields] == [("subject", len(field)), ("to", len(field) + 17)]


def test_quoted_strings_may_hold_any_number_of_escapes() -> None:
    """In addresses and in parameters, closed or not."""
    assert addresses('"' + r"\a\"" * 3000 + '" <x@y.example>') == (('a"' * 3000, "x@y.example"),)
    assert structured(b'a/b; name="' + rb"\a\"" * 3000 + b'"; x=y').get("x") == "y"
    assert structured(b'a/b; name="' + rb"\a\"" * 3000 + b"; x=y").defects


_HOSTILE: dict[str, tuple[bytes, bytes, Callable[[bytes], object]]] = {
    "short lines": (b"\n" + b"A" * 60, b"\nA", lambda data: list(RUN.spans(data))),
    "lines that stop": (b"\n", b"A" * 60 + b"\nA" * 20 + b"!\n", lambda data: list(RUN.spans(data))),
    "odd lines": (b"\n" + b"A" * 16, b"\nA", lambda data: list(SHORT_RUN.spans(data))),
    "numbers": (b"", b"1,", lambda data: list(_NUMBERS.spans(data))),
    "numbers that stop": (b"", b"1," * 30 + b"x", lambda data: list(_NUMBERS.spans(data))),
    "numbers in a script": (b"", b"1," * 7 + b"x", _holds_file),
    "escapes that stop": (b"", b"\\x41" * 31 + b"x", lambda data: list(_ESCAPES[0].spans(data))),
    "data": (b";base64,", b"%41A", lambda data: list(_DATA_URL.spans(data))),
    "quoted": (b"%", b"25", lambda data: list(_QUOTED.finditer(data))),
    "tag": (b"<a ", b"=''", lambda data: html_to_text(data.decode())),
    "tag without end": (b"<a ='a", b'="', lambda data: html_to_text(data.decode())),
    "body": (b"<body ", b"''", lambda data: top_of_body(data.decode())),
    "folds": (b"a:b", b"\n ", lambda data: read_header(data, Span(0, len(data)), True, len(data), 9)),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_twice_the_rounds_take_twice_the_time(name: str) -> None:
    """Linear on what is made to be gone back over: the best of three, at two sizes."""
    head, piece, work = _HOSTILE[name]

    def spent(octets: int) -> float:
        data = head + piece * (octets // len(piece))
        times = []
        for _ in range(3):
            begun = time.thread_time()
            work(data)
            times.append(time.thread_time() - begun)
        return min(times)

    once, twice = spent(150_000), spent(300_000)
    assert twice < 3 * once + 0.02


@pytest.mark.parametrize("name", sorted(set(_HOSTILE) - {"tag", "tag without end", "body"}))
def test_rounds_keep_no_memory(name: str) -> None:
    """Half a megabyte of rounds takes less than one more: a round on its own would keep a hundred octets."""
    head, piece, work = _HOSTILE[name]
    data = head + piece * (500_000 // len(piece))
    tracemalloc.start()
    try:
        work(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000, peak


def test_a_repeated_group_in_one_piece_would_keep_memory() -> None:
    """The measure measures: the greedy expression takes what the one in rounds does not."""
    data = b"\n" + b"A" * 60 + b"\nA" * 250_000
    tracemalloc.start()
    try:
        assert re.search(_REPEATED["run"][1], data)
        assert tracemalloc.get_traced_memory()[1] > 20_000_000
    finally:
        tracemalloc.stop()


def test_a_span_begins_at_the_first_group() -> None:
    """With a group the span is the group's start, without one the match's."""
    assert list(Repeated(re.compile(rb"x(y)"), re.compile(rb"(?:zz){1,1000}")).spans(b".xyzzz")) == [(2, 5)]
    assert list(Repeated(re.compile(rb"xy"), re.compile(rb"(?:zz){1,1000}")).spans(b".xyzzz.xy")) == [(1, 5), (7, 9)]
