"""Data on the wire: one end of data, dots undone and doubled, whatever the cuts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.data import BdatDecoder, DataDecoder, Fault, encode_data

LINES = st.lists(st.sampled_from([b"", b".", b"..", b"text", b".text", b"x" * 300, b"a.b"]), max_size=8)
OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"x", b"\0", b"\r\n.", b"\r\n.\r\n"]), max_size=14)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same octets in pieces."""
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def decode(pieces: list[bytes], *, normalise: bool = False) -> tuple[bytes, bytes | None, Fault | None]:
    """Content, what came behind the end (None: no end), fault."""
    decoder = DataDecoder(normalise=normalise)
    content = b""
    for number, piece in enumerate(pieces):
        content += decoder.feed(piece)
        if decoder.done:
            return content, decoder.rest + b"".join(pieces[number + 1 :]), decoder.fault
    return content, None, decoder.fault


@given(LINES, st.lists(st.integers(min_value=0), max_size=6), st.lists(st.integers(min_value=0), max_size=6))
def test_what_is_encoded_decodes_to_itself(lines: list[bytes], one: list[int], two: list[int]) -> None:
    """Encoding then decoding is the identity for content that ends in CRLF, wherever either side is cut."""
    content = b"".join(line + b"\r\n" for line in lines)
    wire = b"".join(encode_data(cut(content, one)))
    assert decode(cut(wire + b"QUIT\r\n", two)) == (content, b"QUIT\r\n", None)


@given(OCTETS, st.lists(st.integers(min_value=0), max_size=6))
def test_cuts_do_not_matter(parts: list[bytes], places: list[int]) -> None:
    """Any octets decode to the same content and end, and are faulty or not, however they are cut."""
    data = b"".join(parts) + b"\r\n.\r\n"
    content, rest, fault = decode([data])
    cut_content, cut_rest, cut_fault = decode(cut(data, places))
    assert (cut_content, cut_rest) == (content, rest)
    assert (cut_fault is None) == (fault is None)


@given(OCTETS, st.booleans(), st.lists(st.integers(min_value=0), max_size=4))
def test_nothing_but_the_last_line_ends_data_downstream(parts: list[bytes], normalise: bool, cuts: list[int]) -> None:
    """Whatever comes in, what goes out has its first end of data at its very end."""
    content, _, fault = decode([b"".join(parts) + b"\r\n.\r\n"], normalise=normalise)
    wire = b"\r\n" + b"".join(encode_data(cut(content, cuts)))
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    if normalise:
        assert fault is None
        assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
        assert b"\0" not in content


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a\nb", Fault.BARE_LF),
        (b"a\rb", Fault.BARE_CR),
        (b"a\0b", Fault.NUL),
        (b"\n.\n", Fault.BARE_LF),
        (b"\r\r\n", Fault.BARE_CR),
        (b"a\r\nb", None),
    ],
)
def test_faults_are_named(data: bytes, fault: Fault | None) -> None:
    """Each violation of the line discipline has its name."""
    assert decode([data + b"\r\n.\r\n"])[2] is fault


@given(OCTETS, st.lists(st.integers(min_value=0), max_size=6))
def test_bdat_keeps_every_octet(parts: list[bytes], places: list[int]) -> None:
    """BDAT content comes out as it went in, and a fault is seen wherever the chunks are cut."""
    data = b"".join(parts)
    decoder = BdatDecoder()
    out = b"".join(decoder.feed(piece) for piece in cut(data, places)) + decoder.finish()
    assert out == data
    alone = data.replace(b"\r\n", b"")
    assert (decoder.fault is None) == (b"\r" not in alone and b"\n" not in alone and b"\0" not in data)


def test_content_without_a_last_line_end_gets_one() -> None:
    """DATA cannot say «no line end»: one is added, nothing else."""
    assert b"".join(encode_data([b"x"])) == b"x\r\n.\r\n"
    assert b"".join(encode_data([])) == b".\r\n"


def test_a_repaired_message_does_not_depend_on_the_chunks() -> None:
    """A NUL between CR and LF once made one line end or two, as the chunks fell."""
    content = b"a\r\0\0\nb\r\n.\r\n"
    whole = decode([content], normalise=True)
    assert whole[0] == b"a\r\n\r\nb\r\n"
    assert decode([content[n : n + 1] for n in range(len(content))], normalise=True) == whole
