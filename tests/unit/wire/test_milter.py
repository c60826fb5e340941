"""The milter protocol's codec."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.reply import Reply
from gateway.wire import milter
from gateway.wire.milter import ALLOWED, Action, Answer, Decoder, Event, MilterError, NotAllowed, Protocol, Step


def packed(step: Step, data: bytes = b"") -> bytes:
    """A packet as a mail server sends it."""
    return struct.pack("!I", 1 + len(data)) + step.value + data


DIALOG = [
    Event(Step.OPTIONS, struct.pack("!III", 6, 0x1FF, 0x1FFFFF)),
    Event(Step.MACROS, b"Cj\0mail.example\0{client_addr}\x00203.0.113.9\0"),
    Event(Step.CONNECT, b"far.example\x004\x12\x34203.0.113.9\0"),
    Event(Step.HELO, b"far.example\0"),
    Event(Step.MAIL, b"<a@b.example>\0SIZE=100\0"),
    Event(Step.RCPT, b"<c@d.example>\0"),
    Event(Step.HEADER, b"Subject\0 hello\n there\0"),
    Event(Step.END_OF_HEADER),
    Event(Step.BODY, b"one\r\n"),
    Event(Step.END_OF_BODY, b"two\r\n"),
    Event(Step.ABORT),
    Event(Step.QUIT),
]
WHOLE = b"".join(packed(event.step, event.data) for event in DIALOG)


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name)
@pytest.mark.parametrize("answer", list(Answer), ids=lambda answer: answer.name)
def test_every_cell_of_the_table(step: Step, answer: Answer) -> None:
    """An answer is taken exactly where the table has it."""
    if answer in ALLOWED[step]:
        milter.check(step, answer)
    else:
        with pytest.raises(NotAllowed):
            milter.check(step, answer)


@pytest.mark.parametrize(
    ("step", "answers"),
    [
        (Step.MACROS, ""),
        (Step.ABORT, ""),
        (Step.QUIT, ""),
        (Step.QUIT_AND_STAY, ""),
        (Step.OPTIONS, "O"),
        (Step.CONNECT, "carty"),
        (Step.HELO, "carty"),
        (Step.UNKNOWN, "crty"),
        (Step.MAIL, "cartyd"),
        (Step.RCPT, "cartyd"),
        (Step.DATA, "cartyd"),
        (Step.HEADER, "cartyd"),
        (Step.END_OF_HEADER, "cartyd"),
        (Step.BODY, "cartyds"),
        (Step.END_OF_BODY, "cartydphimb+-eq"),
    ],
    ids=lambda value: value.name if isinstance(value, Step) else "",
)
def test_the_table_is_the_protocols(step: Step, answers: str) -> None:
    """Written down a second time, by the letters of the protocol: TemporaryFailure for MAIL is among them."""
    assert {answer.value.decode() for answer in ALLOWED[step]} == set(answers)


def test_a_dialog_byte_by_byte() -> None:
    """However the octets are cut, the events are the same."""
    decoder = Decoder()
    assert [event for n in range(len(WHOLE)) for event in decoder.feed(WHOLE[n : n + 1])] == DIALOG
    assert decoder.waiting == 0
    assert list(Decoder().feed(WHOLE)) == DIALOG


@given(st.lists(st.integers(0, len(WHOLE)), max_size=20))
def test_a_dialog_cut_anywhere(cuts: list[int]) -> None:
    """Any pieces give the same events."""
    decoder, edges = Decoder(), [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in itertools.pairwise(edges)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == DIALOG


@given(st.binary(max_size=200))
def test_octets_that_are_no_packets(data: bytes) -> None:
    """Whatever comes, the decoder gives events, waits, or says that this is no milter protocol."""
    decoder = Decoder()
    try:
        for event in decoder.feed(data):
            for read in (milter.read_options, milter.read_macros, milter.read_peer, milter.read_header, Event.strings):
                try:
                    read(event)
                except MilterError:
                    continue
    except MilterError:
        return
    assert decoder.waiting <= len(data)


@pytest.mark.parametrize("length", [0, milter.MAX_PACKET + 1, 2**32 - 1])
def test_a_length_beyond_all_bounds(length: int) -> None:
    """A packet that nobody sends is refused before it is waited for."""
    with pytest.raises(MilterError):
        list(Decoder().feed(struct.pack("!I", length) + b"Q"))


def test_what_a_server_offers() -> None:
    """Options beyond what we know are left out."""
    offered = milter.read_options(Event(Step.OPTIONS, struct.pack("!III", 6, 0xFFFFFFFF, 0xFFFFFFFF)))
    assert offered.version == 6
    assert offered.actions == sum(Action)
    assert offered.protocol == sum(Protocol)
    with pytest.raises(MilterError, match="version 1"):
        milter.read_options(Event(Step.OPTIONS, struct.pack("!III", 1, 0, 0)))


@pytest.mark.parametrize(
    ("data", "peer"),
    [
        (b"far.example\x004\x00\x19203.0.113.9\0", milter.Peer("far.example", "203.0.113.9", 25)),
        (b"[2001:db8::1]\x006\x00\x19IPv6:2001:db8::1\0", milter.Peer("[2001:db8::1]", "2001:db8::1", 25)),
        (b"localhost\0L\x00\x00/run/x\0", milter.Peer("localhost", "", 0, local=True)),
        (b"unknown\0U", milter.Peer("unknown", "", 0)),
    ],
    ids=["ipv4", "ipv6", "unix", "unknown"],
)
def test_who_the_client_is(data: bytes, peer: milter.Peer) -> None:
    """Each family of addresses."""
    assert milter.read_peer(Event(Step.CONNECT, data)) == peer


def test_macros_lose_their_braces() -> None:
    """Short names and long ones are one name space."""
    event = Event(Step.MACROS, b"Mi\x004XYZ\0{auth_authen}\0clerk\0")
    step, macros = milter.macros_for(event), milter.read_macros(event)
    assert step is Step.MAIL
    assert macros == {"i": "4XYZ", "auth_authen": "clerk"}


def test_a_reply_of_several_lines_with_a_per_cent_sign() -> None:
    """Lines as in SMTP, and the sign twice: servers read the text as a format."""
    said = milter.reply(Reply.of(550, "5.7.1", "No more than 50%\nof it"))
    assert said[4:] == b"y550-5.7.1 No more than 50%%\r\n550 5.7.1 of it\0"
    assert struct.unpack("!I", said[:4])[0] == len(said) - 4


@pytest.mark.parametrize(
    ("data", "with_space", "without"),
    [
        (b"Subject\0 x\0", b"Subject: x\r\n", b"Subject:  x\r\n"),
        (b"Subject\0x\0", b"Subject:x\r\n", b"Subject: x\r\n"),
        (b"Subject\0\tx\0", b"Subject:\tx\r\n", b"Subject:\tx\r\n"),
        (b"Subject\0\0", b"Subject:\r\n", b"Subject:\r\n"),
        (b"Subject\0 x\n\ty\r\n z\0", b"Subject: x\r\n\ty\r\n z\r\n", b"Subject:  x\r\n\ty\r\n z\r\n"),
    ],
    ids=["space", "none", "tab", "empty", "folded"],
)
def test_a_field_as_it_stood(data: bytes, with_space: bytes, without: bytes) -> None:
    """With leading space agreed the value is all; without it the server has taken one off."""
    event = Event(Step.HEADER, data)
    assert milter.field_of(event, leading_space=True) == with_space
    assert milter.field_of(event, leading_space=False) == without
