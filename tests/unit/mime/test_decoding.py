"""Transfer encodings as streams, tolerant and exact; texts by charset."""

import base64
import binascii
import quopri
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mime import Decoding, Part, decode, decoded_size, parse, text, to_text


def _part(encoding: str, body: bytes, content_type: str = "text/plain") -> tuple[bytes, Part]:
    data = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    return data, parse(data).root


def _decoded(encoding: str, body: bytes, chunk: int = 65536) -> tuple[bytes, Decoding]:
    stream = decode(*_part(encoding, body), chunk)
    pieces = list(stream)
    assert all(pieces), "no empty pieces"
    return b"".join(pieces), stream


@given(st.binary(max_size=400), st.sampled_from([b"\r\n", b"\n"]), st.integers(1, 100))
def test_base64_round_trip_in_chunks_of_any_size(payload: bytes, newline: bytes, chunk: int) -> None:
    """Whole lines, cut lines, one line: the same octets, nothing to complain of."""
    for body in (base64.encodebytes(payload).replace(b"\n", newline), base64.b64encode(payload)):
        out, stream = _decoded("base64", body, chunk)
        assert out == payload
        assert (stream.junk, stream.misplaced_padding, stream.truncated) == (0, 0, False)


@given(st.binary(min_size=1, max_size=200), st.lists(st.tuples(st.integers(0, 300), st.sampled_from(b"*-_!\0\xff"))))
def test_base64_skips_and_counts_foreign_octets(payload: bytes, junk: list[tuple[int, int]]) -> None:
    """Junk between the characters does not shift the groups, and is counted."""
    body = bytearray(base64.encodebytes(payload))
    for at, octet in junk:
        body.insert(min(at, len(body)), octet)
    out, stream = _decoded("base64", bytes(body), 16)
    assert out == payload
    assert stream.junk == len(junk)


@pytest.mark.parametrize(
    ("body", "out", "padding", "truncated"),
    [
        (b"QUJDRA", b"ABCD", 0, True),
        (b"QUJDRA=", b"ABCD", 0, False),
        (b"QUJDRA==", b"ABCD", 0, False),
        (b"QUJDR", b"ABC", 0, True),
        (b"QUI=QUI=", b"ABAB", 1, False),
        (b"QQ==\r\nQUJD\r\nQQ==\r\n", b"AABCA", 1, False),
        (b"====", b"", 0, False),
        (b"", b"", 0, False),
        (b"Q", b"", 0, True),
    ],
)
def test_base64_padding_in_odd_places(body: bytes, out: bytes, padding: int, truncated: bool) -> None:
    """Missing padding is forgiven, data after padding is read on and reported (some readers stop there)."""
    for chunk in (4, 5, 7, 65536):
        got, stream = _decoded("base64", body, chunk)
        assert (got, stream.misplaced_padding, stream.truncated) == (out, padding, truncated)


@given(st.binary(max_size=300), st.integers(1, 90))
def test_quoted_printable_round_trip_in_chunks_of_any_size(payload: bytes, chunk: int) -> None:
    """What the standard library encodes comes back, wherever the chunks are cut."""
    assert _decoded("quoted-printable", quopri.encodestring(payload), chunk)[0] == payload


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (b"a= \t\r\nb", b"ab"),
        (b"a=\nb", b"ab"),
        (b"a=\rhidden\r\nb", b"ahidden\r\nb"),
        (b"a=zz=", b"a=zz"),
        (b"=e4=E4", b"\xe4\xe4"),
        (b"x=\r\n=41", b"xA"),
        (b"a==\r\nb", b"a=b"),
        (b"a===41", b"a==A"),
    ],
)
def test_quoted_printable_tolerates(body: bytes, out: bytes) -> None:
    """Padded and bare-CR soft breaks, lower-case digits, stray equals signs; nothing is swallowed."""
    for chunk in (4, 5, 6, 65536):
        assert _decoded("quoted-printable", body, chunk)[0] == out


@given(st.binary(max_size=500), st.sampled_from([b"\r\n", b"\n"]))
def test_uuencode_round_trip(payload: bytes, newline: bytes) -> None:
    """Lines between begin and end, whatever stands around them."""
    rows = [binascii.b2a_uu(payload[at : at + 45]).rstrip(b"\n") for at in range(0, len(payload), 45)]
    body = newline.join([b"some text", b"begin 644 a.bin", *rows, b"`", b"end", b"after"])
    assert _decoded("x-uuencode", body)[0] == payload


def test_uuencoded_lines_of_nothing_but_a_length_are_no_bomb() -> None:
    """Spaces that a transport has stripped are zeros again; what is decoded is never more than what stands there."""
    assert _decoded("x-uuencode", b"begin 644 a\n" + b"#0V%T\n" * 20 + b"#\n`\nend\n")[0] == b"Cat" * 20 + bytes(3)
    body = b"begin 644 a\n" + b"M\n" * 50_000 + b"`\nend\n"
    out, stream = _decoded("x-uuencode", body)
    assert len(out) <= len(body) // 4
    assert stream.truncated


def test_unknown_encodings_are_read_as_they_stand() -> None:
    """7bit, 8bit, binary and what nobody defines: the raw octets, in chunks."""
    for encoding in ("7bit", "8BIT", "binary", "x-secret"):
        assert _decoded(encoding, b"raw=41", 4)[0] == b"raw=41"


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
def test_memory_does_not_grow_with_the_body(encoding: str) -> None:
    """Decoding 10 MB holds well under one MB."""
    data, part = _part(encoding, base64.encodebytes(bytes(7_500_000)))
    tracemalloc.start()
    size = sum(map(len, decode(data, part)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size >= 7_400_000
    assert peak < 1_000_000


def test_chunk_size_must_be_positive() -> None:
    """A caller's error is an error."""
    with pytest.raises(ValueError, match="chunk"):
        decode(*_part("base64", b""), 0)


@settings(max_examples=50)
@given(st.integers(0, 5000), st.sampled_from([b"\r\n", b"\n"]))
def test_decoded_size_is_estimated_closely(size: int, newline: bytes) -> None:
    """Within a few octets for base64, exact for raw bodies."""
    body = base64.encodebytes(bytes(size)).replace(b"\n", newline)
    assert abs(decoded_size(*_part("base64", body)) - size) <= 3
    assert decoded_size(*_part("8bit", body)) == len(body)


@pytest.mark.parametrize(
    ("charset", "octets", "expected"),
    [
        ("utf-8", "grüß".encode(), "grüß"),
        ("utf-8", b"gr\xfc", "gr�"),
        ("utf-8", b"\xef\xbb\xbfa", "a"),
        ("us-ascii", "grüß".encode(), "grüß"),
        ("", "grüß".encode(), "grüß"),
        ("", b"gr\xfc\xdf", "grüß"),
        ("iso-8859-1", b"gr\xfc\xdf", "grüß"),
        ("ISO-8859-15", b"\xa4", "€"),
        ("windows-1252", b"\x80", "€"),
        ("unknown-8bit", b"\xfc", "ü"),
        ("klingon", "ü".encode(), "ü"),
        ("klingon", b"\xfc", "ü"),
        ("utf-7", b"+AGE-", "+AGE-"),
        ("punycode", b"abc-", "abc-"),
        ("zlib", b"abc", "abc"),
        ("gb2312", "漢字".encode("gbk"), "漢字"),
        ("iso-2022-jp", "漢字".encode("iso-2022-jp"), "漢字"),
        ("utf-16", "hé".encode("utf-16"), "hé"),
        ("", "hé".encode("utf-16"), "hé"),
        ("x" * 100, b"a", "a"),
        ("a\0b", b"a", "a"),
    ],
)
def test_charsets(charset: str, octets: bytes, expected: str) -> None:
    """Aliases, wrong and missing declarations, refused codecs: always a text, by the documented reading."""
    assert to_text(octets, charset) == expected


def test_text_is_cut_at_the_cap_between_characters() -> None:
    """The cap counts decoded octets; a character that it breaks is left out, and the cut is told."""
    data, part = _part("base64", base64.encodebytes("äöü".encode()), "text/plain; charset=utf-8")
    assert text(data, part, 6) == ("äöü", False)
    assert text(data, part, 5) == ("äö", True)
    data, part = _part("8bit", "äöü".encode(), "text/plain")
    assert text(data, part, 5) == ("äö", True)
    assert text(data, part, 100) == ("äöü", False)
