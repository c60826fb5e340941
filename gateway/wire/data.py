"""Message content on the wire: the end of data, dot transparency (RFC 5321 section 4.5.2), line discipline.

Only ``<CR><LF>.<CR><LF>`` ends data. A bare CR, a bare LF and a NUL are faults that a decoder reports (or repairs, when
told to); they never end anything. This is what keeps a smuggled end of data from becoming a second message: what
leaves here has no line end but CRLF, and every line that starts with a dot leaves with two.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import hyperscan

Octets = bytes | bytearray | memoryview

_END = b"\r\n.\r\n"


class Fault(StrEnum):
    """What content did that RFC 5321 sections 2.3.8 and 4.5.2 forbid."""

    BARE_CR = "bare-cr"
    BARE_LF = "bare-lf"
    NUL = "nul"


class _Look:
    """One pass over octets for all that is rare in them; Hyperscan does it at some GB/s, ``bytes.count`` does not.

    After a call ``broken`` tells whether a bare CR, a bare LF or a NUL is in the octets (at their edges: see
    :class:`LineDiscipline`); ``dot`` is where the first line that starts with a dot begins, its CRLF included, ``end``
    where the first end of data does; both -1 when there is none. Not for two threads at once.
    """

    __slots__ = ("_database", "broken", "dot", "end")

    def __init__(self, patterns: dict[bytes, int]) -> None:
        flags = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=list(patterns),
            ids=list(patterns.values()),
            elements=len(patterns),
            flags=[flags] * len(patterns),
        )

    def __call__(self, data: bytes) -> None:
        """Look once."""
        self.broken, self.dot, self.end = False, -1, -1
        self._database.scan(data, match_event_handler=self._note)

    def _note(self, found: int, _start: int, stop: int, _flags: int, _context: object) -> None:
        if found == _BROKEN:
            self.broken = True
        elif found == _DOT:
            self.dot = stop - 3
        else:
            self.end = stop - 5


_BROKEN, _DOT, _DATA_END = 0, 1, 2
_BREAKS = {rb"\r[^\n]": _BROKEN, rb"[^\r]\n": _BROKEN, rb"\x00": _BROKEN}
_look = _Look({**_BREAKS, rb"\r\n\.": _DOT, rb"\r\n\.\r\n": _DATA_END})
_look_for_breaks = _Look(_BREAKS)
_look_for_dots = _Look({rb"\r\n\.": _DOT})


class LineDiscipline:
    """Checks or repairs line ends. Takes octets that never split a CRLF; the decoders below see to that."""

    __slots__ = ("fault", "normalise")

    def __init__(self, *, normalise: bool = False) -> None:
        self.normalise = normalise
        self.fault: Fault | None = None
        """The first violation; None when there was none or it was repaired."""

    def take(self, data: bytes, *, broken: bool | None = None) -> bytes:
        """The octets to keep: the same object unless something had to be repaired. ``broken``: if it is known."""
        if broken is None:
            _look_for_breaks(data)
            broken = _look_for_breaks.broken
        # at the edges: a CR that belongs to a LF is never cut off from it, so one that stands alone is bare
        if not (broken or data[:1] == b"\n" or data[-1:] == b"\r"):
            return data
        if not self.normalise:
            self.fault = self.fault or _first_fault(data)
            return data
        # NUL goes last: what it keeps apart are two line ends, however the octets were cut into chunks
        plain = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\0", b"")
        return plain.replace(b"\n", b"\r\n")


def _first_fault(data: bytes) -> Fault | None:
    pairs = data.count(b"\r\n")
    if data.count(b"\n") != pairs:
        return Fault.BARE_LF
    if data.count(b"\r") != pairs:
        return Fault.BARE_CR
    return Fault.NUL if b"\0" in data else None


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
        _look(data)
        broken, dot, end = _look.broken, _look.dot, _look.end
        if end >= 0:
            self.done = True
            self.rest = data[end + 5 :]
            data = data[: end + 2]
        else:
            cut = len(data) - undecided(data)
            self._tail = data[cut:]
            data = data[:cut]
        if not data:
            return b""
        if 0 <= dot != end:
            data = data.replace(b"\r\n.", b"\r\n")
        decoded = self._lines.take(data, broken=broken)
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
        _look_for_dots(data)
        if _look_for_dots.dot >= 0:
            data = data.replace(b"\r\n.", b"\r\n..")
        before = after
        yield data
    yield b".\r\n" if before == b"\r\n" else b"\r\n.\r\n"
