"""What is odd about a message's line ends: NUL, CR without LF, LF without CR. One pass of Hyperscan at some GB/s.

Refuses nothing; says only what stands there.
"""

from typing import NamedTuple

import hyperscan

from gateway.mime.tree import Buffer

_CHUNK = 1 << 18
_NUL, _BARE_CR, _BARE_LF = range(3)


class LineEnds(NamedTuple):
    """What stands anywhere in the octets."""

    nul: bool
    bare_cr: bool
    bare_lf: bool
    pair: bool
    """CRLF."""


class _Look:
    __slots__ = ("_database", "_seen")

    def __init__(self) -> None:
        patterns = {rb"\x00": _NUL, rb"\r[^\n]": _BARE_CR, rb"[^\r]\n": _BARE_LF}
        flags = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL
        self._database = hyperscan.Database()
        self._database.compile(expressions=list(patterns), ids=list(patterns.values()), elements=3, flags=[flags] * 3)
        self._seen: set[int] = set()

    def _note(self, found: int, _start: int, _stop: int, _flags: int, _context: object) -> None:
        self._seen.add(found)

    def __call__(self, data: bytes, seen: set[int]) -> None:
        self._seen = seen
        self._database.scan(data, match_event_handler=self._note)


_look = _Look()


def line_ends(buffer: Buffer) -> LineEnds:
    """Look at all octets, a bounded copy at a time. Not for two threads at once."""
    size = len(buffer)
    seen: set[int] = set()
    for start in range(0, size, _CHUNK):
        # One octet of the chunk before: what two octets say may stand on both sides of the cut.
        _look(bytes(buffer[max(0, start - 1) : start + _CHUNK]), seen)  # all of a small message is no copy
    if size and buffer[0] == 10:
        seen.add(_BARE_LF)
    if size and buffer[size - 1] == 13:
        seen.add(_BARE_CR)
    return LineEnds(_NUL in seen, _BARE_CR in seen, _BARE_LF in seen, buffer.find(b"\r\n") >= 0)
