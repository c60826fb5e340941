"""The milter protocol, version 6, without I/O: octets in, events out; answers in, octets out.

A packet is a length of four octets, a command of one, and its data (strings end in NUL). What a filter may answer to
which event is one table, :data:`ALLOWED`; an answer that is not in it raises. Refuses packets that are no milter
packets with :class:`MilterError`: who sends them is no mail server, and a connection out of step cannot be saved.

The protocol has no standard; it is what Sendmail's libmilter and Postfix's ``milter8`` agree on.
"""

import struct
from dataclasses import dataclass
from enum import Enum, IntFlag
from functools import lru_cache
from typing import NamedTuple

from gateway.errors import CivicgateError
from gateway.model.reply import Reply

VERSION = 6
MAX_PACKET = 2 * 1024 * 1024
"""Octets of a packet that is taken. Servers send at most 64 KiB, or 1 MiB when that is negotiated."""
CHUNK = 65_535
"""Octets of a replaced body in one packet."""
_MOST_PIECES = 1024
"""Reads of one packet that are kept apart."""

_LENGTH = struct.Struct("!I")
_PACKET = struct.Struct("!IB")
"""Length of what follows, and its first octet."""
_OPTIONS = struct.Struct("!III")
_INDEX = struct.Struct("!I")


class MilterError(CivicgateError):
    """The other side does not speak the milter protocol."""


class Action(IntFlag):
    """What a filter may ask to be changed at the end of a message (``SMFIF_``)."""

    ADD_HEADER = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENT = 0x04
    DELETE_RECIPIENT = 0x08
    CHANGE_HEADER = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENT_PARAMETERS = 0x80
    CHOOSE_MACROS = 0x100


class Protocol(IntFlag):
    """Steps that are left out, and ways of speaking (``SMFIP_``)."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADER = 0x20
    NO_END_OF_HEADER = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    REJECTED_RCPT = 0x800
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x1_0000
    SILENT_UNKNOWN = 0x2_0000
    SILENT_END_OF_HEADER = 0x4_0000
    SILENT_BODY = 0x8_0000
    LEADING_SPACE = 0x10_0000


ALL_ACTIONS = int(sum(Action))
ALL_STEPS = int(sum(Protocol))
"""What this version of the protocol knows."""


class Step(Enum):
    """An event, by the octet that carries it (``SMFIC_``)."""

    # by identity: Enum asks for the name, in Python, at each of a hundred look-ups for a message
    __hash__ = object.__hash__

    OPTIONS = b"O"
    MACROS = b"D"
    CONNECT = b"C"
    HELO = b"H"
    MAIL = b"M"
    RCPT = b"R"
    DATA = b"T"
    UNKNOWN = b"U"
    HEADER = b"L"
    END_OF_HEADER = b"N"
    BODY = b"B"
    END_OF_BODY = b"E"
    ABORT = b"A"
    QUIT = b"Q"
    QUIT_AND_STAY = b"K"


class Answer(Enum):
    """What a filter says, by the octet that carries it (``SMFIR_``)."""

    __hash__ = object.__hash__

    OPTIONS = b"O"
    CONTINUE = b"c"
    ACCEPT = b"a"
    REJECT = b"r"
    TEMPFAIL = b"t"
    DISCARD = b"d"
    REPLY = b"y"
    SKIP = b"s"
    PROGRESS = b"p"
    ADD_HEADER = b"h"
    INSERT_HEADER = b"i"
    CHANGE_HEADER = b"m"
    REPLACE_BODY = b"b"
    ADD_RECIPIENT = b"+"
    DELETE_RECIPIENT = b"-"
    CHANGE_SENDER = b"e"
    QUARANTINE = b"q"


_REFUSALS = frozenset({Answer.REJECT, Answer.TEMPFAIL, Answer.REPLY})
_EARLY = _REFUSALS | {Answer.CONTINUE, Answer.ACCEPT}
_EDITS = frozenset(
    {
        Answer.ADD_HEADER,
        Answer.INSERT_HEADER,
        Answer.CHANGE_HEADER,
        Answer.REPLACE_BODY,
        Answer.ADD_RECIPIENT,
        Answer.DELETE_RECIPIENT,
        Answer.CHANGE_SENDER,
        Answer.QUARANTINE,
        Answer.PROGRESS,
    }
)

ALLOWED: dict[Step, frozenset[Answer]] = {
    Step.OPTIONS: frozenset({Answer.OPTIONS}),
    Step.MACROS: frozenset(),
    Step.CONNECT: _EARLY,
    Step.HELO: _EARLY,
    Step.MAIL: _EARLY | {Answer.DISCARD},
    Step.RCPT: _EARLY | {Answer.DISCARD},
    Step.DATA: _EARLY | {Answer.DISCARD},
    Step.UNKNOWN: _REFUSALS | {Answer.CONTINUE},
    Step.HEADER: _EARLY | {Answer.DISCARD},
    Step.END_OF_HEADER: _EARLY | {Answer.DISCARD},
    Step.BODY: _EARLY | {Answer.DISCARD, Answer.SKIP},
    Step.END_OF_BODY: _EARLY | {Answer.DISCARD} | _EDITS,
    Step.ABORT: frozenset(),
    Step.QUIT: frozenset(),
    Step.QUIT_AND_STAY: frozenset(),
}
"""What may be said to each event: every other answer leaves the server out of step, or is taken for something else."""

ENDING = _EARLY | {Answer.DISCARD, Answer.SKIP}
"""Answers that end an event; the edits before them leave it open."""


class NotAllowed(Exception):
    """A mistake of ours: the answer does not belong to the event."""


class Event(NamedTuple):
    """One packet from the mail server. A tuple, not a dataclass: dozens are made for one message."""

    step: Step
    data: bytes = b""

    def strings(self) -> list[str]:
        """The data as NUL-ended strings; octets beyond UTF-8 survive as surrogates. Raises MilterError."""
        if not self.data:
            return []
        if self.data[-1:] != b"\0":
            raise MilterError(f"a string of «{self.step.name}» has no end")
        return self.data[:-1].decode("utf-8", "surrogateescape").split("\0")


@dataclass(frozen=True, slots=True)
class Options:
    """What is negotiated: the data of an OPTIONS packet."""

    version: int
    actions: int
    """Of :class:`Action`; plain, for arithmetic on flags costs microseconds, and this is done for every connection."""
    protocol: int
    """Of :class:`Protocol`."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The data of a CONNECT packet: the SMTP client as its server saw it."""

    name: str
    """Verified host name, or the address in brackets."""
    address: str
    """IP address; ``""`` for a unix socket and for what the server does not know."""
    port: int
    local: bool = False
    """It came to the server by a unix socket."""


class Decoder:
    """Cuts what comes from the socket into events."""

    __slots__ = ("_head", "_missing", "_pieces", "_step")

    def __init__(self) -> None:
        self._head = b""
        """The first octets of a packet, too few to say what it is."""
        self._step: Step | None = None
        """What the packet carries of which a part is here."""
        self._pieces: list[bytes] = []
        """That part, as it came: Postfix writes a chunk of a body in six pieces, which are put together once."""
        self._missing = 0

    @property
    def waiting(self) -> int:
        """Octets of a packet that is not whole, its first five left out once they are all there."""
        return len(self._head) + sum(map(len, self._pieces))

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole now. Raises :class:`MilterError`: then those before it are lost, too."""
        events: list[Event] = []
        at = 0
        if self._step is not None:
            at = self._missing
            if len(data) < at:
                self._keep(data)
                return events
            self._pieces.append(data if len(data) == at else data[:at])
            events.append(Event(self._step, b"".join(self._pieces)))
            self._step = None
            self._pieces.clear()
        elif self._head:
            data = self._head + data
            self._head = b""
        size = len(data)
        while size - at > 4:
            length, command = _PACKET.unpack_from(data, at)
            step = _STEPS.get(command)
            if not 1 <= length <= MAX_PACKET:
                raise MilterError(f"a packet of {length} octets")
            if step is None:
                raise MilterError(f"an unknown command {command:#04x}")
            end = at + 4 + length
            if end > size:
                self._step, self._missing = step, end - at - 5
                self._keep(data[at + 5 :])
                return events
            events.append(_new(Event, (step, data[at + 5 : end])))
            at = end
        self._head = data[at:]
        return events

    def _keep(self, data: bytes) -> None:
        """Some more of the packet that is not whole."""
        self._pieces.append(data)
        self._missing -= len(data)
        if len(self._pieces) > _MOST_PIECES:  # one octet at a time: each would take a hundred of memory
            self._pieces[:] = [b"".join(self._pieces)]


_new = tuple.__new__
"""Makes an event in a third of the time that its class takes."""
_STEPS = {step.value[0]: step for step in Step}


def read_options(event: Event) -> Options:
    """Raises :class:`MilterError` for an older protocol than version 2, or no options at all."""
    if len(event.data) < _OPTIONS.size:
        raise MilterError("options of the wrong length")
    version, actions, protocol = _OPTIONS.unpack_from(event.data)
    if version < 2:
        raise MilterError(f"version {version} of the protocol")
    return Options(version, actions & ALL_ACTIONS, protocol & ALL_STEPS)


def macros_for(event: Event) -> Step | None:
    """The step that the macros of a MACROS packet go with; None: one that is unknown."""
    return _STEPS.get(event.data[0]) if event.data else None


def read_macros(event: Event) -> dict[str, str]:
    """The macros of a MACROS packet, names without braces. Raises :class:`MilterError`."""
    words = Event(event.step, event.data[1:]).strings()
    if len(words) % 2:
        raise MilterError("a macro without a value")
    return dict(zip(map(_bare, words[::2]), words[1::2], strict=True))


@lru_cache(maxsize=256)
def _bare(name: str) -> str:
    """A macro's name without braces; servers say the same few for every message."""
    return name[1:-1] if name.startswith("{") and name.endswith("}") else name


def read_peer(event: Event) -> Peer:
    """CONNECT: host name, family, port, address. Raises :class:`MilterError`."""
    name, mark, rest = event.data.partition(b"\0")
    if not mark or not rest:
        raise MilterError("a connection without a family")
    host = name.decode("utf-8", "surrogateescape")
    family = rest[:1]
    if family not in b"46":
        return Peer(host, "", 0, family == b"L")
    if len(rest) < 4 or rest[-1:] != b"\0":
        raise MilterError("a connection without an address")
    address = rest[3:-1].decode("ascii", "replace")
    if address[:5].upper() == "IPV6:":
        address = address[5:]
    return Peer(host, address, int.from_bytes(rest[1:3], "big"))


def read_header(event: Event) -> tuple[bytes, bytes]:
    """Name and value, lines of a folded value parted by LF. Raises :class:`MilterError`."""
    name, mark, value = event.data.partition(b"\0")
    if not mark or value[-1:] != b"\0":
        raise MilterError("a header field without an end")
    return name, value[:-1]


def field_of(event: Event, *, leading_space: bool) -> bytes:
    """A header field as it stands in the message. Raises :class:`MilterError`.

    ``leading_space``: the value has all that is behind the colon; else servers leave the first space out.
    """
    name, value = read_header(event)
    if not leading_space and value[:1] not in (b"\t", b""):
        value = b" " + value
    if b"\n" in value:
        value = value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return b"%b:%b\r\n" % (name, value)


def packet(answer: Answer, data: bytes = b"") -> bytes:
    """The octets of an answer; :func:`check` says whether it may be given."""
    return _LENGTH.pack(1 + len(data)) + answer.value + data


def check(step: Step, answer: Answer) -> None:
    """Raises :class:`NotAllowed` when ``answer`` is none to ``step``."""
    if answer not in ALLOWED[step]:
        raise NotAllowed(f"{answer.name} is no answer to {step.name}")


def options(version: int, actions: int, protocol: int) -> bytes:
    """Our half of the negotiation."""
    return packet(Answer.OPTIONS, _OPTIONS.pack(version, actions, protocol))


def reply(answered: Reply) -> bytes:
    """A refusal (4yz or 5yz) in our words, its lines as in SMTP.

    A per cent sign is written twice: the servers read the text as a format.
    """
    return packet(Answer.REPLY, answered.encode()[:-2].replace(b"%", b"%%") + b"\0")


def insert_header(index: int, name: bytes, value: bytes) -> bytes:
    """``index``: how many fields stand above it, the server's own trace field included."""
    return packet(Answer.INSERT_HEADER, _INDEX.pack(index) + name + b"\0" + value + b"\0")


def add_header(name: bytes, value: bytes) -> bytes:
    """At the end of the header."""
    return packet(Answer.ADD_HEADER, name + b"\0" + value + b"\0")


def change_header(name: bytes, number: int, value: bytes) -> bytes:
    """The ``number``-th field of that name, from 1; an empty value takes it out."""
    return packet(Answer.CHANGE_HEADER, _INDEX.pack(number) + name + b"\0" + value + b"\0")


def delete_recipient(address: str) -> bytes:
    """As the server named it at RCPT, in angle brackets."""
    return packet(Answer.DELETE_RECIPIENT, address.encode("utf-8", "surrogateescape") + b"\0")
