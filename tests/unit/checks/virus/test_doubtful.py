"""What is in doubt: never an error, soon said, and found in linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.doubtful import TooLargeError, in_text, suspects
from gateway.checks.hidden import smuggled
from gateway.mime.parser import parse
from gateway.mime.tree import Limits
from tests import pace
from tests.unit.checks.virus.disguises import DISGUISES, FIELDS, attached, mixed

SMALL = [name for name, make in DISGUISES.items() if len(make(b"x")) < 5000]
SCRIPT = b"Content-Type: text/html\r\n\r\n<script>"
TEXT = b"Content-Type: text/plain\r\n\r\n"
ODD = b"x\r\n" + FIELDS + TEXT
SIZE = 128 * 1024
HOSTILE = {
    "numbers": FIELDS + SCRIPT + (b"1," * 30 + b"x") * (SIZE // 61),
    "escapes": FIELDS + SCRIPT + (b"\\x41" * 31 + b"x") * (SIZE // 125),
    "quotes": FIELDS + SCRIPT + b'"' * SIZE,
    "short-literals": FIELDS + SCRIPT + (b'"' + b"a" * 63 + b".") * (SIZE // 65),
    "addresses": FIELDS + SCRIPT + b";base64," * (SIZE // 8),
    "joins": FIELDS + SCRIPT + b'"a","b"+' * (SIZE // 8),
    "lines": FIELDS + TEXT + (b"A" * 76 + b".\r\n") * (SIZE // 79),
    "dashes": FIELDS + TEXT + b"A" * 76 + b"\r\n" + (b"--" + b" " * 190 + b"\r\n") * (SIZE // 194),
    "yenc": ODD + b"=ybegin a\r\n" * (SIZE // 11),
    "uuencode": ODD + b"begin 644 a\r\n" * (SIZE // 13),
    "runs": ODD + (b"A" * 20 + b"\r\nx y\r\n") * (SIZE // 27),
    "returns": b"x\r" + FIELDS.replace(b"\r\n", b"\r") + b"\r" * SIZE,
    "delimiters": b"x\r\n" + mixed(TEXT) + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * (SIZE // 55),
}


def octets_of(content: bytes) -> int:
    """How much is in doubt, all of it read."""
    return sum(len(piece) for found in suspects(content, parse(content, Limits())) for piece in found.pieces)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_is_looked_at_in_linear_time(name: str) -> None:
    """Whether there is doubt is known within some tens of milliseconds, all readings within a second."""
    content = HOSTILE[name]
    tree = parse(content, Limits())
    started = time.process_time()
    next(suspects(content, tree), None)
    first = time.process_time() - started
    octets = octets_of(content)
    assert first < pace.seconds(0.3)
    assert time.process_time() - started < 3
    assert octets < 50 * SIZE


@given(st.sampled_from(SMALL), st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=12)), max_size=6))
def test_damaged_disguises_never_raise(name: str, changes: list[tuple[int, bytes]]) -> None:
    """Whatever the message holds, the answer is octets."""
    content = DISGUISES[name](b"civicgate" * 9)
    for at, octets in changes:
        content = content[:at] + octets + content[at + len(octets) // 2 :]
    for found in suspects(content, parse(content)):
        assert all(isinstance(piece, bytes) for piece in found.pieces)


@given(st.binary(max_size=300), st.booleans(), st.sampled_from(["", "utf-7", "utf-16", "cp037", "nonsense"]))
def test_texts_never_raise(data: bytes, markup: bool, charset: str) -> None:
    """Nor does a file in an attachment."""
    for found in in_text(data, markup, charset):
        list(found.pieces)


def test_a_large_odd_message_is_refused() -> None:
    """Too large to be read anew: said, not passed over."""
    content = b"x\r\n" + attached(bytes(30_000_000))
    with pytest.raises(TooLargeError):
        octets_of(content)


@pytest.mark.parametrize(
    ("script", "octets"),
    [
        pytest.param(b'atob("%s")', b"file", id="too-short"),
        pytest.param(b'src="https://example.org/%s"', b"x" * 200, id="an-address"),
    ],
)
def test_ordinary_scripts_hold_no_files(script: bytes, octets: bytes) -> None:
    """Short strings and links with long tokens are no files."""
    assert not list(smuggled(b"<script>" + script % octets + b"</script>"))
