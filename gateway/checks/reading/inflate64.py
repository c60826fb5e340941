"""Deflate64, the method that Windows uses for large ZIP members: deflate with a 64 KiB window and longer matches.

Python's zlib does not know it. Some 1 MB/s: the budget's clock bounds it. Refuses broken codes with ValueError.
"""

from collections.abc import Iterator

from gateway.mime.tree import Buffer

_WINDOW = 65_536
_OUT = 262_144
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_LENGTHS = (
    *((n + 3, 0) for n in range(8)),
    *((11 + 2 * n, 1) for n in range(4)),
    *((19 + 4 * n, 2) for n in range(4)),
    *((35 + 8 * n, 3) for n in range(4)),
    *((67 + 16 * n, 4) for n in range(4)),
    *((131 + 32 * n, 5) for n in range(4)),
    (3, 16),
)
"""Base and extra bits of the symbols from 257 on; the last is what makes it Deflate64."""
_DISTANCES = tuple((n + 1, 0) if n < 4 else ((2 + n % 2 << n // 2 - 1) + 1, n // 2 - 1) for n in range(32))
_Table = dict[int, int]


class _Bits:
    """Bits of a buffer, lowest first."""

    __slots__ = ("_at", "_count", "_data", "_end", "_value")

    def __init__(self, data: Buffer, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end
        self._value = self._count = 0

    def take(self, count: int) -> int:
        while self._count < count:
            if self._at >= self._end:
                raise ValueError("ends early")
            piece = self._data[self._at : min(self._at + 8, self._end)]
            self._value |= int.from_bytes(piece, "little") << self._count
            self._count += 8 * len(piece)
            self._at += len(piece)
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._count -= count
        return value

    def octets(self, count: int) -> bytes:
        """Whole octets from the next boundary on."""
        self.take(self._count % 8)
        return bytes(self.take(8) for _ in range(count))

    def symbol(self, table: _Table) -> int:
        code = 1  # the leading one keeps codes of different lengths apart
        for _ in range(15):
            code = code << 1 | self.take(1)
            found = table.get(code)
            if found is not None:
                return found
        raise ValueError("no such code")


def inflate64(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    """The octets of a Deflate64 stream. Raises ValueError."""
    bits = _Bits(data, start, end)
    out = bytearray()
    last = False
    while not last:
        last = bool(bits.take(1))
        kind = bits.take(2)
        if kind == 0:
            size, check = int.from_bytes(bits.octets(2), "little"), int.from_bytes(bits.octets(2), "little")
            if size ^ check != 0xFFFF:
                raise ValueError("length of a stored block")
            out += bits.octets(size)
        elif kind == 3:
            raise ValueError("kind of a block")
        else:
            literals, distances = _FIXED if kind == 1 else _tables(bits)
            yield from _block(bits, literals, distances, out)
        if len(out) > _OUT + _WINDOW:
            yield bytes(out[:-_WINDOW])
            del out[:-_WINDOW]
    yield bytes(out)


def _block(bits: _Bits, literals: _Table, distances: _Table, out: bytearray) -> Iterator[bytes]:
    while (symbol := bits.symbol(literals)) != 256:
        if symbol < 256:
            out.append(symbol)
            continue
        if symbol > 285:
            raise ValueError("no such length")
        base, extra = _LENGTHS[symbol - 257]
        length = base + bits.take(extra)
        base, extra = _DISTANCES[bits.symbol(distances)]
        distance = base + bits.take(extra)
        if distance > len(out):
            raise ValueError("distance before the beginning")
        piece = out[len(out) - distance : len(out) - distance + length]
        out += (piece * (length // len(piece) + 1))[:length]
        if len(out) > _OUT + _WINDOW:
            yield bytes(out[:-_WINDOW])
            del out[:-_WINDOW]


def _tables(bits: _Bits) -> tuple[_Table, _Table]:
    """The codes that a dynamic block brings along (RFC 1951 section 3.2.7)."""
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    sizes = [0] * 19
    for place in _ORDER[:count]:
        sizes[place] = bits.take(3)
    table = _table(sizes)
    lengths: list[int] = []
    while len(lengths) < literals + distances:
        symbol = bits.symbol(table)
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            if not lengths:
                raise ValueError("nothing to repeat")
            lengths += [lengths[-1]] * (3 + bits.take(2))
        else:
            lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return _table(lengths[:literals]), _table(lengths[literals : literals + distances])


def _table(lengths: list[int]) -> _Table:
    """Canonical codes (RFC 1951 section 3.2.2), each with a leading one."""
    table: _Table = {}
    code = 0
    for size in range(1, 16):
        for symbol, length in enumerate(lengths):
            if length == size:
                table[1 << size | code] = symbol
                code += 1
        code <<= 1
    return table


_FIXED = (_table([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), _table([5] * 32))
