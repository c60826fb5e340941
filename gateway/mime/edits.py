"""Changes to a message as byte ranges: what no edit covers leaves as the very octets that came in.

Refuses edits that overlap, run backwards, or lie outside the buffer. Plans are picklable values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from gateway.mime.tree import Buffer

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the octets ``start <= i < end`` by ``data``; an insertion when both are equal. Raises ValueError."""

    start: int
    end: int
    data: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"an edit from {self.start} to {self.end} runs backwards")

    @property
    def delta(self) -> int:
        """By how many octets the message grows."""
        return len(self.data) - (self.end - self.start)


@dataclass(frozen=True, slots=True, init=False)
class EditPlan:
    """Edits in the order of the message. Raises ValueError when two overlap.

    Insertions at one point keep the order in which they were given, and stand before a replacement that begins there.
    """

    edits: tuple[Edit, ...]

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        ordered = tuple(sorted(edits, key=lambda edit: (edit.start, edit.end)))
        for before, after in pairwise(ordered):
            if after.start < before.end:
                raise ValueError(f"edits overlap: {before.start}-{before.end} and {after.start}-{after.end}")
        object.__setattr__(self, "edits", ordered)

    def __bool__(self) -> bool:
        return bool(self.edits)

    @property
    def delta(self) -> int:
        """By how many octets the message grows; negative when it shrinks."""
        return sum(edit.delta for edit in self.edits)

    def pieces(self, buffer: Buffer) -> Iterator[memoryview | bytes]:
        """The edited message: unedited ranges as views of at most 256 KiB on the buffer, new octets as given.

        The buffer (a mapped file) cannot be closed while a view lives. Raises ValueError, before the first piece, when
        an edit reaches beyond the buffer.
        """
        size = len(buffer)
        if self.edits and max(edit.end for edit in self.edits) > size:
            raise ValueError(f"an edit reaches beyond the {size} octets of the message")
        return self._pieces(memoryview(buffer), size)

    def _pieces(self, view: memoryview, size: int) -> Iterator[memoryview | bytes]:
        position = 0
        for edit in self.edits:
            yield from _slices(view, position, edit.start)
            if edit.data:
                yield edit.data
            position = edit.end
        yield from _slices(view, position, size)


def _slices(view: memoryview, start: int, end: int) -> Iterator[memoryview]:
    for at in range(start, end, _PIECE):
        yield view[at : min(at + _PIECE, end)]
