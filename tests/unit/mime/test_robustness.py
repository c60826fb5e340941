"""Whatever the octets: no exception, an end in good time, spans inside the buffer and inside each other."""

import mmap
import tempfile
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mime import (
    DefectCode,
    Limits,
    Part,
    addresses,
    decode,
    decode_words,
    field_value,
    html_to_text,
    parse,
    part_addresses,
    text,
)

SEED = (
    b"From: =?utf-8?q?J=C3=A4ne?= <j@city.example>\r\nTo: a@b.example, c@d.example\r\nSubject: hello\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary="AAA"\r\n\r\npreamble\r\n--AAA\r\n'
    b"Content-Type: multipart/alternative; boundary=AAAB\r\n\r\n--AAAB\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=\r\n=C3=9Fe\r\n--AAAB\r\nContent-Type: text/html\r\n"
    b"\r\n<p>hi</p>\r\n--AAAB--\r\n--AAA\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--AAA\r\n"
    b"Content-Type: application/pdf; name*0*=utf-8''a%20; name*1=b.pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="x (y).pdf"\r\n\r\nQUJD\r\nREVG\r\n--AAA--\r\nepilogue\r\n'
)
PIECES = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"--AAA", b"--AAA--", b"--AAAB", b"--", b" ", b"\t", b":", b";", b'"'),
        *(b"(", b")", b"=?", b"?=", b"=?utf-7?b?+AGE-?=", b"Content-Type: ", b"multipart/mixed; boundary=AAA", b"%"),
        *(b"Content-Transfer-Encoding: base64", b"x-uuencode", b"begin 644 x\r\n", b"message/rfc822", b"charset=zlib"),
        *(b"From ", b"*0*=", b"\\", b"=", b"==", b"<", b">", b"charset=utf-7", b"\r\n\r\n", b"\n\n", b"=\r"),
    ]
)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A good message with pieces put in, taken out or doubled."""
    data = bytearray(SEED)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                data[at:at] = draw(PIECES)
            case 1:
                del data[at : at + draw(st.integers(1, 60))]
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
    return bytes(data)


SOUP = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=60).map(b"".join)


def _check_nesting(part: Part, start: int, end: int) -> None:
    assert start <= part.header.start <= part.header.end <= part.body.start <= part.body.end <= end
    position = part.header.start
    for field in part.fields:
        assert field.span.start == position
        assert field.start < field.value_start <= field.value_end <= field.end <= part.header.end
        position = field.end
    assert position == part.header.end
    assert part.body.start <= part.preamble.start <= part.preamble.end <= part.body.end
    assert part.body.start <= part.epilogue.start <= part.epilogue.end <= part.body.end
    position = part.body.start
    for child in part.children:
        _check_nesting(child, position, part.body.end)
        assert child.sealed or not part.sealed
        position = child.body.end


def _read_all(data: bytes, limits: Limits) -> None:
    message = parse(data, limits)
    _check_nesting(message.root, 0, len(data))
    paths = [part.path for part in message.walk()]
    assert len(set(paths)) == len(paths)
    for part in message.walk():
        whole = b"".join(decode(data, part))
        assert b"".join(decode(data, part, 7)) == whole
        read, cut = text(data, part, 50)
        assert cut == (len(whole) > 50)
        assert isinstance(html_to_text(read), str)
        for field in part.fields:
            assert "\n" not in field_value(data, field)
        part_addresses(data, part, "from")
    for defect in message.defects:
        assert -1 <= defect.offset <= len(data)


@settings(max_examples=200, deadline=None)
@given(st.one_of(mutants(), SOUP), st.sampled_from([Limits(), Limits(3, 3, 100, 3), Limits(1, 1, 0, 0)]))
def test_no_octets_raise_and_spans_nest(data: bytes, limits: Limits) -> None:
    """Parsing, decoding (in chunks of any size alike), text, values and addresses never raise; offsets are sound."""
    _read_all(data, limits)


@settings(max_examples=80, deadline=None)
@given(mutants())
def test_mapped_file_gives_the_same_tree_as_memory(data: bytes) -> None:
    """A mapped file and bytes are read alike."""
    with tempfile.TemporaryFile() as file:
        file.write(data or b"x")
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            message = parse(mapped)
            assert message == parse(data or b"x")
            for part in message.walk():
                assert list(decode(mapped, part)) == list(decode(data or b"x", part))


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="<>!-/a=\"' &#;b?[]ifpstyle", max_size=200), st.text(alphabet='"<>@,;:()[]\\ a=?qb', max_size=80)
)
def test_markup_and_address_soup_never_raise(markup: str, value: str) -> None:
    """Any HTML gives text, any address field gives mailboxes."""
    assert isinstance(html_to_text(markup), str)
    assert isinstance(decode_words(value), str)
    for mailbox in addresses(value):
        assert mailbox.display or mailbox.address


HEAD = b"From: a@b\r\nSubject: x\r\n"
MULTI = HEAD + b"Content-Type: multipart/mixed; boundary=AAA\r\n\r\n"
WIDE = Limits(max_depth=100, max_parts=100_000, max_header_bytes=100_000_000, max_fields=1_000_000)
STALLS: dict[str, Callable[[], bytes]] = {
    "empty lines": lambda: HEAD + b"\r\n" + b"\r\n" * 2_000_000,
    "empty lines in a part": lambda: MULTI + b"--AAA\r\n\r\n" + b"\n" * 4_000_000,
    "one long line": lambda: MULTI + b"--AAA\r\n\r\n" + b"-" * 20_000_000,
    "one long field": lambda: b"X: " + b"x" * 20_000_000 + b"\r\n\r\n",
    "one long name": lambda: b"x" * 20_000_000 + b"\r\n\r\n",
    "100,000 fields": lambda: b"X-A: b\r\n" * 100_000 + b"\r\n",
    "10,000 parts": lambda: MULTI + b"--AAA\r\nContent-Type: text/plain\r\n\r\nhello\r\n" * 10_000 + b"--AAA--\r\n",
    "lines like delimiters": lambda: MULTI + b"--AAA\r\n\r\n" + b"--AAAx\r\n" * 500_000,
    "padded delimiters": lambda: MULTI + b"--AAA\r\n\r\n" + (b"--AAA" + b" " * 20_000 + b"x\r\n") * 200,
    "same boundary": lambda: b"Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\n" * 5_000,
    "nested messages": lambda: b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
    "comments": lambda: b"Content-Type: text/plain" + b"(" * 500_000 + b"\r\n\r\n",
    "quotes": lambda: b"Content-Type: text/plain; x=" + b'"\\' * 250_000 + b"\r\n\r\n",
    "folds": lambda: b"Subject: a\r\n" + b" \t \r\n" * 100_000 + b"\r\n",
}


@pytest.mark.parametrize("shape", STALLS)
def test_stall_shapes_are_read_quickly(shape: str) -> None:
    """Shapes that stall line-by-line or backtracking code take well under a second (bound generous for a busy box)."""
    data = STALLS[shape]()
    start = time.process_time()
    message = parse(data, WIDE)
    assert time.process_time() - start < 2.0
    _check_nesting(message.root, 0, len(data))


MARKUP_STALLS = {
    "open": "<a" * 300_000,
    "quotes": "<a ='" * 200_000,
    "double quotes": '<a ="' * 200_000 + "<b",
    "comments": "<!--" * 200_000,
    "scripts": "<script>" * 100_000,
    "conditions": "<!--[if " * 100_000,
    "declarations": "<!" * 300_000,
    "digits": "&#" + "1" * 1_000_000,
    "equals": "<a " + "= " * 500_000,
    "spaces": " " * 2_000_000,
}


@pytest.mark.parametrize("shape", MARKUP_STALLS)
def test_markup_stall_shapes_are_read_quickly(shape: str) -> None:
    """Unclosed and repeated markup costs linear time."""
    start = time.process_time()
    html_to_text(MARKUP_STALLS[shape])
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize("piece", ["(", "()", '"', '\\"', ",", "<", "=?", "=?u?q?", "[", ":", "@ ", "<@,", "(,", "="])
def test_address_stall_shapes_are_read_quickly(piece: str) -> None:
    """A field of 100,000 odd characters costs linear time."""
    value = '"' + piece * (100_000 // len(piece))
    start = time.process_time()
    addresses(value)
    decode_words(value)
    assert time.process_time() - start < 2.0


def test_usual_small_message_is_parsed_fast() -> None:
    """A 2 KB message costs tens of microseconds (60 aimed at; the bound allows for a loaded machine)."""
    data = HEAD + b"".join(b"Received: from a%d.example by b.example with ESMTP; Sat\r\n" % n for n in range(10))
    data += (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + b"text line\r\n" * 120
    )
    parse(data)
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            parse(data)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 300e-6


def test_limits_refuse_what_recursion_cannot_honour() -> None:
    """A depth over 200 is an error of the settings, not of a message."""
    with pytest.raises(ValueError, match="max_depth"):
        Limits(max_depth=1000)
    with pytest.raises(ValueError, match="max_depth"):
        Limits(max_parts=0)


def test_reaching_a_limit_is_a_defect_and_hides_no_octet() -> None:
    """Beyond the limits on parts and depth the octets are still in the body of some leaf."""
    data = MULTI + b"".join(b"--AAA\r\n\r\nbody%d\r\n" % n for n in range(20)) + b"--AAA--\r\n"
    message = parse(data, Limits(max_parts=5))
    assert [d.code for d in message.defects] == [DefectCode.TOO_MANY_PARTS]
    assert len(list(message.walk())) == 5
    leaves = b"".join(data[p.body.start : p.body.end] for p in message.walk() if not p.children)
    assert all(b"body%d" % n in leaves for n in range(20))

    nested = (
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(10))
        + b"\r\ndeep inside\r\n"
    )
    message = parse(nested, Limits(max_depth=4))
    assert DefectCode.TOO_DEEP in {d.code for d in message.defects}
    deepest = list(message.walk())[-1]
    assert len(list(message.walk())) == 4
    assert b"deep inside" in nested[deepest.body.start : deepest.body.end]


def test_what_the_limit_on_parts_leaves_over_lies_in_its_place() -> None:
    """The part that takes it is sound like any other: its empty preamble and epilogue lie at its own ends."""
    data = (
        HEAD
        + b"Content-Type: multipart/digest; boundary=A\r\n\r\n"
        + b"--A\r\n\r\nSubject: a\r\n\r\nx\r\n" * 3
        + b"--A--"
    )
    message = parse(data, Limits(max_parts=3))
    assert DefectCode.TOO_MANY_PARTS in {d.code for d in message.defects}
    _check_nesting(message.root, 0, len(data))


def test_header_limits_leave_the_rest_in_the_body() -> None:
    """Fields beyond the limit are in the body, where text checks see them, and the defect says so."""
    data = b"Subject: a\r\n" * 100 + b"\r\nbody"
    for limits, code in (
        (Limits(max_fields=10), DefectCode.TOO_MANY_FIELDS),
        (Limits(max_header_bytes=130), DefectCode.HEADER_TOO_LARGE),
    ):
        message = parse(data, limits)
        assert code in {d.code for d in message.defects}
        assert len(message.root.fields) == 10
        assert data[message.root.body.start : message.root.body.end].count(b"Subject") == 90
