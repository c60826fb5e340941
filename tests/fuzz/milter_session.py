"""A mail server's side of the milter protocol: what it sends, in any order and cut anywhere, and what it hears.

The input is packets parted by 0xFE 0xFF, or with a zero in front the very octets of the connection. What a verdict does
with the message is written in it: the store and the rules have no part in this.
"""

import asyncio
import atexit
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import structlog

from gateway.errors import ClientError, StoreError
from gateway.front.edits import ServerEdits
from gateway.front.hearsay import forward_path, reverse_path
from gateway.front.limits import Admission
from gateway.front.milter import _EMPTY, _HEADER_KEPT, MilterSession
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.reply import Reply
from gateway.pipeline.rewriting import header_edits, split
from gateway.settings import MilterListenerSettings, MilterSettings
from gateway.spool import SpooledMessage, SpoolWriter
from gateway.wire import milter as wire
from gateway.wire.command import PathArgument
from gateway.wire.milter import ALLOWED, ENDING, MAX_PACKET, Answer, Decoder, Event, MilterError, Options, Step
from tests.fuzz.bounds import in_time, one_in

LONGEST = 4096
_PARTS = b"\xfe\xff"
_NEW = b"O" + struct.pack("!III", 6, 0x1FF, 0x1FFFFF)
_OLD = b"O" + struct.pack("!III", 2, 0x3F, 0x7F)
_MESSAGE = (b"M<a@b.c>\0", b"R<d@e.f>\0", b"LSubject\0 x\0", b"N", b"Bx\r\n", b"E")
TOKENS = (
    *(_PARTS, _NEW, _OLD, b"DM{auth_authen}\0clerk\0", b"DC{client_addr}\x00IPv6:::1\0", b"Cx\x004\0\x19127.0.0.1\0"),
    *(b"Hx\0", *_MESSAGE, b"R<@x:d@e.f>\0", b"Rd\0", b"T", b"Ux\0", b"A", b"K", b"Q", b"SIZE=1\0", b"LX-Do\0 "),
    *(b"pass", b"refuse", b"edit", b"body", b"remove", b"discard", b"break", b"\0\r\n ", b"LX\0\n\ty\0"),
)
_LIMIT = 1024
"""Octets of a message that are taken."""
_OK, _NO = Reply.of(250, "2.0.0", "OK"), Reply.of(550, "5.7.1", "100% no\nnever")
_folder = Path(tempfile.mkdtemp(prefix="civicgate-fuzz-"))
_loop = asyncio.new_event_loop()
atexit.register(_loop.close)
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


class _Writer(SpoolWriter):
    """Remembers that it is open."""

    open: ClassVar[set["_Writer"]] = set()

    def __init__(self) -> None:
        super().__init__(_folder, "fuzz", 256)
        self.open.add(self)

    def close(self, *, disciplined: bool = False) -> SpooledMessage:
        self.open.discard(self)
        return super().close(disciplined=disciplined)

    def abort(self) -> None:
        self.open.discard(self)
        super().abort()


class _Transaction:
    """Does what the message says."""

    def __init__(self, client: Client, edits: ServerEdits) -> None:
        for text in (client.address, client.name, client.helo, client.login, client.tls):
            assert text.isprintable()
            assert len(text) <= 255
        self.edits, self.queue_id, self.people = edits, "", list[Recipient]()

    async def mail(self, path: PathArgument) -> Reply | None:
        return _NO if "refuse" in path.address else None

    async def recipient(self, path: PathArgument) -> Reply:
        assert path.address
        await asyncio.sleep(0)
        if "refuse" in path.address:
            return _NO
        self.people.append(Recipient(path.address, Direction.INBOUND))
        return _OK

    async def cutoff(self) -> tuple[int, Reply]:
        await asyncio.sleep(0)
        return _LIMIT, _NO

    def new_spool(self) -> SpoolWriter:
        return _Writer()

    def refused(self, reply: Reply, size: int) -> None:
        assert not reply.positive

    def abort(self) -> None:
        pass

    async def finish(self, message: SpooledMessage) -> Reply:
        content = bytes(message.buffer)
        message.close()
        assert len(content) <= _LIMIT
        await asyncio.sleep(0)
        edits = self.edits
        if b"remove" in content:
            for person in self.people:
                assert isinstance(edits.can_remove(person), bool)
                edits.remove(person)
        if b"edit" in content:
            head, _ = split(iter((content,)))
            for change in header_edits(head, b"X-New: 1\r\n" + head):
                edits.edit(change)
        if b"body" in content:
            await edits.replace_body(iter((content, memoryview(content))))
        if b"break" in content:
            raise StoreError("gone")
        if b"discard" in content:
            edits.discard()
        return _NO if b"refuse" in content else _OK


class _Transport:
    """Takes what the session says."""

    def __init__(self, session: MilterSession) -> None:
        self.session, self.said, self.over = session, bytearray(), False

    def write(self, data: bytes) -> None:
        assert not self.over, "something is said behind the end"
        self.said += data

    def close(self) -> None:
        if not self.over:
            self.over = True
            _loop.call_soon(self.session.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def _connection(data: bytes) -> bytes:
    """The octets on the socket."""
    if data[:1] == b"\0":
        return data[1:]
    return b"".join(struct.pack("!I", len(packet)) + packet for packet in data.split(_PARTS) if packet)


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    octets = _connection(data)
    events = _events([octets])
    _read(events)
    with in_time(len(octets)), structlog.testing.capture_logs():
        said, over = _loop.run_until_complete(_talk([octets]))
    _answers(events, said, over)
    if one_in(data, 4):
        single = [octets[at : at + 1] for at in range(len(octets))]
        cut = _events(single)
        assert cut == events or (events == [_BROKEN] == cut[-1:])  # what came with a broken packet is lost with it
        with structlog.testing.capture_logs():
            again, ended = _loop.run_until_complete(_talk(single))
        assert ended == over
        assert again[: len(said)] == said or said[: len(again)] == again
        _answers(cut, again, ended)


_BROKEN = Event(Step.QUIT, b"broken")


def _events(pieces: list[bytes]) -> list[Event]:
    decoder, found = Decoder(), list[Event]()
    try:
        for piece in pieces:
            found.extend(decoder.feed(piece))
            assert decoder.waiting <= MAX_PACKET + 4
    except MilterError:
        found.append(_BROKEN)
    return found


def _read(events: list[Event]) -> None:
    """Each reader reads, or says that this is no milter packet."""
    for event in events:
        for read in (
            *(wire.read_options, wire.read_macros, wire.read_peer, wire.read_header, Event.strings),
            *(reverse_path, forward_path),
        ):
            try:
                read(event)
            except (MilterError, ClientError):
                continue


async def _talk(pieces: list[bytes]) -> tuple[bytes, bool]:
    """What the session says, and whether it ended the connection. Nothing may be left of it."""
    pipeline: Any = SimpleNamespace(
        services=SimpleNamespace(
            rules=SimpleNamespace(reads_messages=True, refuses_senders=sum(map(len, pieces)) % 2 > 0)
        ),
        inside=lambda client, direction, local: local,
        begin_beside=_Transaction,
    )
    listener = MilterListenerSettings(name="fuzz", address="127.0.0.1:1")
    admission = Admission("fuzz", 1, 0)
    session = MilterSession(listener, MilterSettings(), pipeline, admission, _loop)
    transport: Any = _Transport(session)
    session.connection_made(transport)
    for piece in pieces:
        if transport.over:
            break
        session.data_received(piece)
        await _idle(session)
    said, over = bytes(transport.said), transport.over
    transport.over = True
    if session._transport is not None:
        session.connection_lost(None)
    await _idle(session)
    await asyncio.sleep(0)
    assert not _Writer.open, "a message lies in the spool, and nobody's"
    assert not admission.sessions
    return said, over


async def _idle(session: MilterSession) -> None:
    for _ in range(100_000):
        if session._task is None:
            break
        await asyncio.sleep(0)
    assert session._task is None, "an event goes on for ever"
    await asyncio.sleep(0)
    assert sum(map(len, session._fields)) <= _HEADER_KEPT + LONGEST
    assert session._transport is None or session._waiting == len(session._events) * _EMPTY == 0


def _answers(events: list[Event], said: bytes, over: bool) -> None:
    """One answer to each event that has one, of those that the table allows; edits at the end of a message alone."""
    quiet = frozenset[Step]()
    heard = iter(_packets(said))
    for event in events:
        allowed = ALLOWED[event.step]
        if not allowed or event.step in quiet or event.data == b"broken":
            continue
        while True:
            answer, data = next(heard, (None, b""))
            if answer is None:
                assert over, f"no answer to {event.step.name}"
                return
            assert answer in allowed, f"{answer.name} to {event.step.name}"
            if answer is Answer.OPTIONS:
                quiet = _silenced(data)
            if answer in ENDING or answer is Answer.OPTIONS:
                break
    assert next(heard, None) is None, "an answer to nothing"


def _silenced(data: bytes) -> frozenset[Step]:
    agreed = Options(*struct.unpack("!III", data)).protocol
    names = {step: getattr(wire.Protocol, f"SILENT_{step.name}", 0) for step in Step}
    return frozenset(step for step, flag in names.items() if agreed & flag)


def _packets(said: bytes) -> Iterator[tuple[Answer, bytes]]:
    while said:
        (length,) = struct.unpack_from("!I", said)
        assert 1 <= length <= wire.CHUNK + 1
        packet, said = said[4 : 4 + length], said[4 + length :]
        assert len(packet) == length
        yield Answer(packet[:1]), packet[1:]


def seeds() -> Iterator[bytes]:
    """Sessions as servers have them, and some as none should."""
    connected = (_NEW, b"DC{client_addr}\x00203.0.113.9\0", b"Cx\x004\0\x19203.0.113.9\0", b"Hx\0")
    yield _PARTS.join((*connected, *_MESSAGE, *_MESSAGE, b"Q"))
    yield _PARTS.join((_OLD, b"Hx\0", *_MESSAGE))
    for word in (b"pass", b"refuse", b"edit", b"body", b"remove", b"discard", b"break", b"edit body remove"):
        yield _PARTS.join((*connected, *_MESSAGE[:3], b"LX-Do\0 " + word + b"\0", *_MESSAGE[3:], *_MESSAGE))
        yield _PARTS.join((_OLD, *_MESSAGE[:3], b"LX-Do\0" + word + b"\0", *_MESSAGE[3:], b"A", *_MESSAGE))
    yield _PARTS.join((_NEW, b"M<refuse@b.c>\0", *_MESSAGE[:1], b"R<refuse@e.f>\0", *_MESSAGE[1:]))
    yield _PARTS.join((_NEW, *_MESSAGE[:2], b"A", *_MESSAGE[:4], b"K", b"Cx\0U", *_MESSAGE))
    yield _PARTS.join((_NEW, *_MESSAGE[:2], b"LX\0 " + b"y" * 2000 + b"\0", *_MESSAGE[3:]))
    yield _PARTS.join((_NEW, b"E"))
    yield b"\0" + _connection(_PARTS.join((_NEW, *_MESSAGE)))[:-3]
    yield b"\0EHLO there\r\n"
