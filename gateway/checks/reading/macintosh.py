"""Files as Macintosh programs wrap them: AppleSingle, AppleDouble (RFC 1740), MacBinary I to III.

The data fork is the file; resource forks and comments are read too, for text can stand there. Refuses nothing: a fork
that reaches beyond the end is read up to it.
"""

from collections.abc import Iterator

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.values import Item, MalformedError, Member, Text
from gateway.mime.charsets import to_text
from gateway.mime.tree import Buffer

_SINGLE = b"\0\5\x16\0"
_DOUBLE = b"\0\5\x16\7"
_DATA, _RESOURCE, _NAME, _COMMENT = 1, 2, 3, 4
_MOST = 100
"""Entries of an AppleSingle file."""
_BLOCK = 128
_LONGEST_TEXT = 4096


def read_macintosh(data: Buffer, budget: Budget) -> Iterator[Item]:
    """The forks of one file. Raises :class:`MalformedError`."""
    if data[:4] in (_SINGLE, _DOUBLE):
        yield from _single(data, budget)
    else:
        yield from _macbinary(data, budget)


def _single(data: Buffer, budget: Budget) -> Iterator[Item]:
    count = int.from_bytes(data[24:26], "big")
    if not 0 < count <= _MOST:
        raise MalformedError("AppleSingle without entries")
    entries: dict[int, tuple[int, int]] = {}
    for at in range(26, min(26 + 12 * count, len(data) - 11), 12):
        number, start, size = (int.from_bytes(data[at + 4 * n : at + 4 * n + 4], "big") for n in range(3))
        entries.setdefault(number, (start, size))
    name = _text(data, entries.get(_NAME)) or "data fork"
    yield Text("comment", _text(data, entries.get(_COMMENT)))
    yield from _forks(data, name, entries.get(_DATA), entries.get(_RESOURCE), budget)


def _macbinary(data: Buffer, budget: Budget) -> Iterator[Item]:
    name = to_text(bytes(data[2 : 2 + min(data[1], 63)]), "macintosh")
    first, second = (int.from_bytes(data[at : at + 4], "big") for at in (83, 87))
    start = _BLOCK + _blocks(int.from_bytes(data[120:122], "big") if data[122] else 0)
    comment = start + _blocks(first) + _blocks(second)
    yield Text("comment", _text(data, (comment, int.from_bytes(data[99:101], "big"))))
    yield from _forks(data, name, (start, first), (start + _blocks(first), second), budget)


def _forks(
    data: Buffer, name: str, first: tuple[int, int] | None, second: tuple[int, int] | None, budget: Budget
) -> Iterator[Item]:
    if first is not None and first[1]:
        yield Member(name, budget.metered(pieces_of(data, first[0], sum(first))), seen=False)
    if second is not None and second[1]:
        pieces = budget.metered(pieces_of(data, second[0], sum(second)))
        yield Member(f"{name}, resource fork", pieces, listed=False, seen=False)


def _text(data: Buffer, entry: tuple[int, int] | None) -> str:
    start, size = entry or (0, 0)
    return to_text(bytes(data[start : start + min(size, _LONGEST_TEXT)]))


def _blocks(size: int) -> int:
    return (size + _BLOCK - 1) // _BLOCK * _BLOCK
