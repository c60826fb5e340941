"""The inside of an inspection process: takes one request after the other, answers each, keeps nothing between them.

A request is a function and its arguments with a file descriptor of the message, which is mapped and never read in
whole. The process limits itself before it reads anything: memory, processor time, open files, no core dump, low
priority, no sockets and no programs, no life without its parent. Refuses to go on after it ran out of memory.
"""

import contextlib
import ctypes
import io
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from functools import partial
from typing import Any, NamedTuple

from gateway.checks.confine import confine
from gateway.checks.handout import Handed, Handout
from gateway.checks.inside import ReadAttachment
from gateway.checks.passive import Means, inspect
from gateway.checks.scanner import Scanner
from gateway.errors import CivicgateError
from gateway.mime.tree import Buffer
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Finding, Questions
from gateway.policy.types import InformationType
from gateway.settings import InspectionSettings

HEADER = struct.Struct("!Q")
"""Length of the pickle that follows, in both directions. A request's header carries the message's file descriptor, and
maybe that of a file to write to."""
READY = b"\x06"
"""Said once, when all is imported and limited: only then does a request's time begin."""
_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 64
_SPARE_CPU = 5


class Outcome(IntEnum):
    """First item of an answer."""

    RESULT = 0
    RAISED = 1
    """module, class, args, attributes of a CivicgateError."""
    CRASHED = 2
    """What another exception said."""
    OUT_OF_MEMORY = 3


class Depth(IntEnum):
    """How far into a message an inspection looks."""

    MESSAGE = 0
    """Its parts, but not into attachments."""
    ATTACHMENTS = 1
    """And into documents and archives; a picture to be read is asked to be looked at elsewhere."""
    PICTURES = 2
    """And at the words in pictures."""


class Manner(NamedTuple):
    """How one message is read."""

    depth: Depth
    disciplined: bool
    """See :class:`gateway.checks.passive.Means`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an inspection is to look for and how: sent once, for it is larger than many a message."""

    types: tuple[InformationType, ...]
    compiled: dict[bytes, bytes]
    """Their databases (:attr:`Scanner.compiled`)."""
    questions: Questions
    settings: InspectionSettings


_compiled: dict[str, tuple[Scanner, Terms]] = {}


def inspect_as_told(
    buffer: Buffer, envelope: Envelope, key: str, terms: Terms | None, manner: "Manner", file: int = -1
) -> tuple[tuple[Finding, ...], Handed]:
    """:func:`gateway.checks.passive.inspect` on the terms that were sent with ``key``, compiled once.

    ``terms`` None: they are known already under this key. ``file``: where what the virus control has
    to scan apart is written; -1: it does not ask. Raises :class:`NeedsPicturesError`.
    """
    if terms is not None:
        _compiled.clear()
        _compiled[key] = Scanner(terms.types, terms.compiled), replace(terms, compiled={})
    scanner, known = _compiled[key]
    settings = known.settings
    out = Handout(settings.rescan_octets, settings.rescan_files, file) if file >= 0 else None
    readers = _readers() if manner.depth else None
    asked = settings.ocr and Check.CONTENT in known.questions.checks and known.questions.types
    pictures = manner.depth >= Depth.PICTURES if asked else None
    opening = partial(readers, out=out, pictures=pictures) if readers else None
    means = Means(readers=opening, disciplined=manner.disciplined, out=out)
    items = inspect(buffer, envelope, known.questions, scanner, settings, means)
    return items, out.done() if out is not None else Handed()


def _readers() -> "Callable[..., ReadAttachment]":
    """The readers of documents and archives, with their libraries: here only, never in the gateway's own process."""
    from gateway.checks.reading.attachments import open_reader  # noqa: PLC0415 - see above

    return open_reader


class _Answer(pickle.Pickler):
    """Writes an enumeration's member as its class and value.

    Early 3.11 (Debian 12 has it) writes a call of getattr otherwise, and no answer may hold one.
    """

    def reducer_override(self, obj: Any) -> Any:
        """As :meth:`pickle.Pickler.reducer_override`."""
        return (type(obj), (obj.value,)) if isinstance(obj, Enum) else NotImplemented


def pickled(answer: object) -> bytes:
    """An answer as the gateway's process takes it."""
    octets = io.BytesIO()
    _Answer(octets, pickle.HIGHEST_PROTOCOL).dump(answer)
    return octets.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Serve until the other end closes. Arguments: socket's descriptor, memory in octets, seconds a request."""
    number, memory, seconds = (int(argument) for argument in arguments)
    parent = os.getppid()
    _readers()
    _limit(memory)
    if os.getppid() != parent:
        return
    with socket.socket(fileno=number) as channel, contextlib.suppress(ConnectionError):  # the parent went away
        channel.sendall(READY)
        while (request := _receive(channel)) is not None:
            payload, descriptors = request
            _renew_cpu(seconds)
            answer = _answer(payload, descriptors)
            channel.sendall(HEADER.pack(len(answer)))
            channel.sendall(answer)
            if answer == _OUT_OF_MEMORY:
                return


def _limit(memory: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent's business; it closes the socket
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.nice(10)
    confine()


def _renew_cpu(seconds: int) -> None:
    """Processor time for one request: what was used so far and the deadline; the kernel ends what goes beyond."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + _SPARE_CPU
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _receive(channel: socket.socket) -> tuple[bytes, list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, 2)
    if not head:
        return None
    while len(head) < HEADER.size:
        more = channel.recv(HEADER.size - len(head))
        if not more:
            return None
        head += more
    payload = bytearray(HEADER.unpack(head)[0])
    view = memoryview(payload)
    while view:
        count = channel.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(payload), descriptors


def _answer(payload: bytes, descriptors: list[int]) -> bytes:
    """Run one request. Every exception becomes an answer: the parent must learn of it, and the process can go on."""
    try:
        function, arguments = pickle.loads(payload)  # noqa: S301 - our own parent's words
        return pickled((Outcome.RESULT.value, _run(function, descriptors, arguments)))
    except MemoryError:
        return _OUT_OF_MEMORY
    except CivicgateError as error:
        kind = type(error)
        said = (Outcome.RAISED.value, kind.__module__, kind.__qualname__, error.args, error.__dict__)
        return pickled(said)
    except Exception as error:  # noqa: BLE001 - see the docstring
        said_ = (Outcome.CRASHED.value, f"{type(error).__name__}: {error}"[:500])
        return pickled(said_)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _run(function: Callable[..., Any], descriptors: list[int], arguments: tuple[Any, ...]) -> Any:
    """A second descriptor is one more argument: a file to write to."""
    descriptor, *more = descriptors
    arguments = (*arguments, *more)
    size = os.fstat(descriptor).st_size
    if not size:
        return function(b"", *arguments)
    buffer = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    try:
        return function(buffer, *arguments)
    finally:
        with contextlib.suppress(BufferError):  # something still looks at it: it goes when that goes
            buffer.close()


_OUT_OF_MEMORY = pickled((Outcome.OUT_OF_MEMORY.value,))
