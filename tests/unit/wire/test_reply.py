"""Claims of gateway.wire.reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.reply import Reply
from gateway.wire.reply import MAX_LINE, MAX_LINES, ReplyError, ReplyParser

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)
_REPLY = st.builds(Reply, st.integers(200, 599), st.just(""), st.lists(_TEXT, min_size=1, max_size=4).map(tuple))
_PIECE = st.sampled_from(
    [b"250", b"250 ", b"250-", b"354 go", b"\r\n", b"\n", b"\r", b"ok", b"\0", b"\t", b"\xff", b"199 x", b"600", b"2"]
)


def _whole(data: bytes) -> tuple[list[Reply], bool]:
    """What one feed gives: replies, and whether it was refused."""
    try:
        return ReplyParser().feed(data), False
    except ReplyError as error:
        return list(error.before), True


def _split(data: bytes, cuts: list[int]) -> tuple[list[Reply], bool]:
    parser, found, at = ReplyParser(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        try:
            found += parser.feed(data[at:cut])
        except ReplyError as error:
            return found + list(error.before), True
        at = cut
    return found, False


def test_single_line() -> None:
    """One line in one piece gives one reply with its enhanced code left inside."""
    assert ReplyParser().feed(b"250 2.1.0 Ok\r\n") == [Reply(250, "", ("2.1.0 Ok",))]


def test_code_alone() -> None:
    """A line of a bare code is a reply (RFC 5321 section 4.2 asks clients to bear it)."""
    assert ReplyParser().feed(b"250\r\n") == [Reply(250, "", ("",))]


def test_continuation() -> None:
    """Continuation lines become one reply."""
    assert ReplyParser().feed(b"250-a\r\n250-b\r\n250 c\r\n") == [Reply(250, "", ("a", "b", "c"))]


def test_pending() -> None:
    """Half a reply is pending, not a reply."""
    parser = ReplyParser()
    assert parser.feed(b"250-a\r\n") == []
    assert parser.pending
    assert parser.feed(b"250 b\r") == []
    assert parser.feed(b"\n") == [Reply(250, "", ("a", "b"))]
    assert not parser.pending


@pytest.mark.parametrize(
    "data",
    [
        b"ok\r\n",
        b"\r\n",
        b"25\r\n",
        b"250_ok\r\n",
        b"2500 ok\r\n",
        b"199 no\r\n",
        b"600 no\r\n",
        b"000 no\r\n",
        b"+50 no\r\n",
        "２５０ full width\r\n".encode(),
        b"250 ok\n",
        b"250 ok\r\r\n",
        b"250 a\rb\r\n",
        b"250 a\0b\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\n354 b\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250 " + b"x" * MAX_LINE,
        b"250-x\r\n" * MAX_LINES,
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_refused(data: bytes) -> None:
    """What is not a reply is refused whole and byte by byte, and the parser stays broken."""
    assert _whole(data) == ([], True)
    assert _split(data, list(range(len(data)))) == ([], True)
    parser = ReplyParser()
    with pytest.raises(ReplyError):
        parser.feed(data)
    with pytest.raises(ReplyError):
        parser.feed(b"250 ok\r\n")


def test_limits_are_reachable() -> None:
    """The longest line and the longest reply that are allowed are read."""
    line = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
    assert len(ReplyParser().feed(line)) == 1
    assert len(_split(line, [MAX_LINE - 1])[0]) == 1
    assert len(ReplyParser().feed(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")[0].lines) == MAX_LINES


def test_before() -> None:
    """Replies that were complete before the fault are not lost."""
    assert _whole(b"250 a\r\n550 b\r\nrubbish\r\n") == ([Reply(250, "", ("a",)), Reply(550, "", ("b",))], True)


def test_controls_and_octets() -> None:
    """Control characters do not reach the client, other octets do, unchanged."""
    (reply,) = ReplyParser().feed(b"550 a\tb\x1b[31m \xe9\r\n")
    assert reply.lines == ("a b?[31m \udce9",)
    assert reply.encode() == b"550 a b?[31m \xe9\r\n"


@given(st.lists(_REPLY, min_size=1, max_size=4), st.data())
def test_any_split_gives_the_same(replies: list[Reply], data: st.DataObject) -> None:
    """What ``Reply.encode`` writes is read back, however it is split."""
    wire = b"".join(reply.encode() for reply in replies)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert _whole(wire) == (replies, False)
    assert _split(wire, cuts) == (replies, False)
    assert _split(wire, list(range(len(wire)))) == (replies, False)


@given(st.one_of(st.binary(max_size=60), st.lists(_PIECE, max_size=12).map(b"".join)), st.data())
def test_fuzz(wire: bytes, data: st.DataObject) -> None:
    """Any octets give replies or ReplyError, the same ones however they are split."""
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert _whole(wire) == _split(wire, cuts)
