"""Which members of a RAR 5 archive need a password: libarchive does not say, and reads noise out of them.

Walks over the blocks' headers as the format's technical note describes them (RAR 5.0 archive format, rarlab.com).
Refuses to trust a size: it stops where a header does not fit, and looks at a bounded number of them.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from gateway.mime.tree import Buffer

MARK = b"Rar!\x1a\x07\x01\x00"
_MOST_BLOCKS = 20_000
_LONGEST_HEADER = 2 * 1024 * 1024
"""What the format allows."""
_FILE, _END = 2, 5
_HAS_EXTRA, _HAS_DATA = 1, 2
_HAS_TIME, _HAS_CHECKSUM = 2, 4
_ENCRYPTION = 1
"""Type of the extra record that says how a file is encrypted."""


class _Block(NamedTuple):
    """One block: its header without checksum and size, and where the next one begins."""

    kind: int
    fields: bytes
    extra: bytes
    after: int


def sealed_members(data: Buffer) -> frozenset[str]:
    """Names of the encrypted files in a RAR 5 archive, as far as its headers can be read."""
    if bytes(data[: len(MARK)]) != MARK:
        return frozenset()
    names = set()
    with contextlib.suppress(IndexError):
        for block in _blocks(data):
            if block.kind == _FILE and _is_sealed(block):
                names.add(_name_of(block.fields))
    return frozenset(names)


def _blocks(data: Buffer) -> Iterator[_Block]:
    """Raises IndexError where the data end too soon."""
    at = len(MARK)
    for _ in range(_MOST_BLOCKS):
        block = _block(data, at)
        if block is None or block.kind == _END:
            return
        yield block
        at = block.after


def _block(data: Buffer, at: int) -> _Block | None:
    """Raises IndexError where the data end too soon."""
    size, start = _number(bytes(data[at + 4 : at + 8]), 0)
    start += at + 4
    if not 0 < size <= _LONGEST_HEADER or start + size > len(data):
        return None
    head = bytes(data[start : start + size])
    kind, at_field = _number(head, 0)
    flags, at_field = _number(head, at_field)
    extra = octets = 0
    if flags & _HAS_EXTRA:
        extra, at_field = _number(head, at_field)
    if flags & _HAS_DATA:
        octets, at_field = _number(head, at_field)
    if extra > size - at_field:
        return None
    return _Block(kind, head[at_field : size - extra], head[size - extra :], start + size + octets)


def _name_of(fields: bytes) -> str:
    """A file header's last field. Raises IndexError."""
    flags, at = _number(fields, 0)
    _, at = _number(fields, at)  # size
    _, at = _number(fields, at)  # attributes
    at += 4 * bool(flags & _HAS_TIME) + 4 * bool(flags & _HAS_CHECKSUM)
    for _ in range(2):  # compression, system
        _, at = _number(fields, at)
    size, at = _number(fields, at)
    return fields[at : at + size].decode("utf-8", "replace")


def _is_sealed(block: _Block) -> bool:
    at = 0
    while at < len(block.extra):
        size, at = _number(block.extra, at)
        if size == 0:
            return False
        if _number(block.extra, at)[0] == _ENCRYPTION:
            return True
        at += size
    return False


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends. Raises IndexError."""
    value = shift = 0
    while True:
        octet = data[at]
        value |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not octet & 0x80:
            return value, at
        if shift > 63:
            raise IndexError
