"""Message content on the wire: the end of data, dot transparency (RFC 5321 section 4.5.2), line discipline.

Only ``<CR><LF>.<CR><LF>`` ends data. A bare CR, a bare LF and a NUL are faults that a decoder reports (or repairs, when
told to); they never end anything. This is what keeps a smuggled end of data from becoming a second message: what
leaves here has no line end but CRLF, and every line that starts with a dot leaves with two.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

Octets = bytes | bytearray | memoryview

_END = b"\r\n.\r\n"


class Fault(StrEnum):
    """What content did that RFC 5321 sections 2.3.8 and 4.5.2 forbid."""

    BARE_CR = "bare-cr"
    BARE_LF = "bare-lf"
    NUL = "nul"


class LineDiscipline:
    """Checks or repairs line ends. Takes octets that never split a CRLF; the decoders below see to that."""

    __slots__ = ("fault", "normalise")

    def __init__(self, *, normalise: bool = False) -> None:
        self.normalise = normalise
        self.fault: Fault | None = None
        """The first violation; None when there was none or it was repaired."""

    def take(self, data: bytes) -> bytes:
        """The octets to keep: the same object unless something had to be repaired."""
        fault = _first_fault(data)
        if fault is None:
            return data
        if not self.normalise:
            self.fault = self.fault or fault
            return data
        plain = data.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return plain.replace(b"\n", b"\r\n")


def _first_fault(data: bytes) -> Fault | None:
    pairs = data.count(b"\r\n")
    if data.count(b"\n") != pairs:
        return Fault.BARE_LF
    if data.count(b"\r") != pairs:
        return Fault.BARE_CR
    if b"\0" in data:
        return Fault.NUL
    return None


class DataDecoder:
    """The content of a DATA command: finds its end and undoes dot transparency, chunk by chunk.

    ``feed`` returns the decoded octets of a chunk (fewer or more than the chunk: octets that may begin the end of data
    wait for the next one). When ``done`` is true the end was seen and ``rest`` is what came behind it.
    """

    __slots__ = ("_begun", "_lines", "_tail", "done", "rest")

    def __init__(self, *, normalise: bool = False) -> None:
        self._lines = LineDiscipline(normalise=normalise)
        self._tail = b"\r\n"  # the end of the DATA line itself: a dot right behind it ends an empty message
        self._begun = False
        self.done = False
        self.rest = b""

    @property
    def fault(self) -> Fault | None:
        """The first line discipline violation, None when there is none."""
        return self._lines.fault

    def feed(self, chunk: bytes) -> bytes:
        """Decode one chunk. Must not be called once ``done`` is true."""
        data = self._tail + chunk
        dotted = data.find(b"\r\n.")
        end = data.find(_END, dotted) if dotted >= 0 else -1
        if end >= 0:
            self.done = True
            self.rest = data[end + 5 :]
            data = data[: end + 2]
        else:
            keep = undecided(data)
            cut = len(data) - keep
            self._tail = data[cut:]
            data = data[:cut]
        if not data:
            return b""
        if dotted >= 0:
            data = data.replace(b"\r\n.", b"\r\n")
        decoded = self._lines.take(data)
        if not self._begun:
            self._begun = True
            return decoded[2:]
        return decoded


def undecided(data: bytes) -> int:
    """How many octets at the end of ``data`` may be the beginning of an end of data."""
    last = data[-4:]
    for length in (4, 3, 2, 1):
        if last.endswith(_END[:length]):
            return length
    return 0


class BdatDecoder:
    """The content of BDAT commands (RFC 3030): counted octets, no transparency, the same line discipline."""

    __slots__ = ("_lines", "_tail")

    def __init__(self, *, normalise: bool = False) -> None:
        self._lines = LineDiscipline(normalise=normalise)
        self._tail = b""

    @property
    def fault(self) -> Fault | None:
        """The first line discipline violation, None when there is none."""
        return self._lines.fault

    def feed(self, chunk: bytes) -> bytes:
        """Check one run of octets."""
        data = self._tail + chunk if self._tail else chunk
        if data.endswith(b"\r"):
            self._tail = b"\r"
            data = data[:-1]
        else:
            self._tail = b""
        return self._lines.take(data)

    def finish(self) -> bytes:
        """What was still held back when the last chunk ended."""
        tail, self._tail = self._tail, b""
        return self._lines.take(tail) if tail else b""


def encode_data(chunks: Iterable[Octets]) -> Iterator[bytes]:
    """The content as DATA sends it: dots doubled at line starts, ended by ``CRLF.CRLF`` (RFC 5321 section 4.5.2).

    A line starts after CRLF and nowhere else. Content that does not end in CRLF gets one: DATA cannot say it otherwise.
    """
    before = b"\r\n"
    for chunk in chunks:
        data = bytes(chunk)
        if not data:
            continue
        after = (before + data[-2:])[-2:]
        if data[0] == 0x2E and before == b"\r\n":
            data = b"." + data
        elif before[-1:] == b"\r" and data[:2] == b"\n.":
            data = b"\n." + data[1:]
        if b"\r\n." in data:
            data = data.replace(b"\r\n.", b"\r\n..")
        before = after
        yield data
    yield b".\r\n" if before == b"\r\n" else b"\r\n.\r\n"
