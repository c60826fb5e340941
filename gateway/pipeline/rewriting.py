"""What changed between two forms of a message, as a mail server lets a filter change it.

That is: header fields by name and number, and the body as a whole. Pure. Linear in the number of fields. Refuses to
name a field that is the same in both.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from gateway.mime import Limits, parse

_ROOT_ONLY = Limits(max_parts=1)
_BLANK = re.compile(rb"\n\r?\n")


class Change(Enum):
    """What is done with a field."""

    INSERT = "insert"
    APPEND = "append"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """One change, to be made in the order given."""

    change: Change
    name: bytes
    value: bytes = b""
    """All behind the colon, its line ends inside as they were, without the last."""
    number: int = 0
    """REPLACE, REMOVE: which of the fields of that name, from 1. INSERT: how many of the message's fields are above."""


@dataclass(frozen=True, slots=True)
class _Raw:
    name: bytes
    value: bytes

    @property
    def key(self) -> bytes:
        return self.name.lower()


def split(pieces: Iterator[bytes | memoryview]) -> tuple[bytes, Iterator[bytes | memoryview]]:
    """The header block with its empty line, and the octets behind it.

    The parser says where the header ends, as for every other part of the gateway; see :func:`ends` for what it does not
    take for a header as a mail server does. Of a header that is too large no more than the parser takes is kept.
    """
    head = b""
    for piece in pieces:
        looked = max(0, len(head) - 3)
        head += piece
        if _BLANK.search(head, looked) or head.startswith((b"\r\n", b"\n")) or len(head) > _ROOT_ONLY.max_header_bytes:
            end = parse(head, _ROOT_ONLY).root.body.start
            return head[:end], chain((head[end:],), pieces)
    end = parse(head, _ROOT_ONLY).root.body.start
    return head[:end], iter((head[end:],))


def ends(head: bytes) -> bool:
    """Whether a header block ends in its empty line: else what stands behind it is header, too, for a mail server."""
    return head in (b"\r\n", b"\n") or head.endswith((b"\n\r\n", b"\n\n"))


def header_edits(old: bytes, new: bytes) -> tuple[HeaderEdit, ...]:
    """What makes the fields of ``new`` out of those of ``old`` (header blocks). Fields keep their order.

    First what is replaced, then what is inserted from top to bottom, then what is removed from bottom to top: so that
    no change moves what the next one names.
    """
    before, after = _fields(old), _fields(new)
    replaced, inserted, removed = _align(before, after)
    numbers = _numbers(before)
    edits = [HeaderEdit(Change.REPLACE, before[at].name, value.value, numbers[at]) for at, value in replaced]
    total = len(before)
    for number, (at, field) in enumerate(inserted):
        if at >= total:
            edits.append(HeaderEdit(Change.APPEND, field.name, field.value))
        else:
            edits.append(HeaderEdit(Change.INSERT, field.name, field.value, at + number))
    put = Counter(field.key for _, field in inserted)  # of each name, at or above the place that is looked at
    above = len(inserted)
    for at in reversed(removed):
        while above and inserted[above - 1][0] > at:
            above -= 1
            put[inserted[above][1].key] -= 1
        edits.append(HeaderEdit(Change.REMOVE, before[at].name, b"", numbers[at] + put[before[at].key]))
    return tuple(edits)


def without(block: bytes, name: bytes) -> bytes:
    """A header block without the fields of that name."""
    root = parse(block, _ROOT_ONLY).root
    kept, last = bytearray(), 0
    for field in root.fields:
        if field.name == name.decode("ascii").lower():
            kept += block[last : field.start]
            last = field.end
    return bytes(kept) + block[last:]


def _numbers(fields: list[_Raw]) -> list[int]:
    """Of each field: which of its name it is, from 1."""
    seen = Counter[bytes]()
    numbers = []
    for field in fields:
        seen[field.key] += 1
        numbers.append(seen[field.key])
    return numbers


def _align(before: list[_Raw], after: list[_Raw]) -> tuple[list[tuple[int, _Raw]], list[tuple[int, _Raw]], list[int]]:
    """Replaced (place, new), inserted (place before which, new), removed (place)."""
    left, right = Counter(before), Counter(after)
    replaced: list[tuple[int, _Raw]] = []
    inserted: list[tuple[int, _Raw]] = []
    removed: list[int] = []
    i = j = 0
    while i < len(before) or j < len(after):
        old = before[i] if i < len(before) else None
        new = after[j] if j < len(after) else None
        if old is not None and old == new:
            left[old] -= 1
            right[old] -= 1
            i, j = i + 1, j + 1
            continue
        if old is not None and new is not None and not right[old] and not left[new] and old.key == new.key:
            replaced.append((i, new))
            left[old] -= 1
            right[new] -= 1
            i, j = i + 1, j + 1
        elif new is not None and (old is None or not left[new] or right[old]):
            inserted.append((i, new))
            right[new] -= 1
            j += 1
        else:
            assert old is not None
            removed.append(i)
            left[old] -= 1
            i += 1
    return replaced, inserted, removed


def _fields(block: bytes) -> list[_Raw]:
    root = parse(block, _ROOT_ONLY).root
    return [_Raw(*_parted(block[field.start : field.end])) for field in root.fields]


def _parted(raw: bytes) -> tuple[bytes, bytes]:
    name, _, value = raw.partition(b":")
    return name.rstrip(b" \t"), value.removesuffix(b"\n").removesuffix(b"\r")
