"""ZIP: the directory, what it does not list, and members as streams (APPNOTE.TXT 6.3.10).

Believes no declared size. Refuses archives whose members share octets (overlapping bombs) and methods that Python's
standard library cannot undo.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.inflate64 import inflate64
from gateway.checks.reading.octets import pieces_of
from gateway.checks.reading.values import Fact, FactCode, Item, LimitReached, MalformedError, Member
from gateway.mime.tree import Buffer

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_TAIL = 65_557
_STEP = 65_536
_LARGEST_OUT = 262_144
_UTF8 = 0x800
_ENCRYPTED = 0x1
_STRONG = 0x40
_AES = 99
_MOST = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the directory, or its own header, describes it."""

    name: str
    method: int
    flags: int
    offset: int
    """Of its local header."""
    packed: int
    size: int
    listed: bool = True

    @property
    def encrypted(self) -> bool:
        """True when it needs a password."""
        return bool(self.flags & (_ENCRYPTED | _STRONG)) or self.method == _AES

    @property
    def is_folder(self) -> bool:
        """True for a folder: nothing in it."""
        return self.name.endswith(("/", "\\"))


class Archive:
    """A ZIP file. Raises :class:`MalformedError` when there is neither directory nor member."""

    def __init__(self, data: Buffer, budget: Budget) -> None:
        self._data = data
        self._budget = budget
        self.entries = self._listed()
        unlisted = self._unlisted()
        if not self.entries and not unlisted and data[:4] != b"PK\x05\x06":
            raise MalformedError("ZIP without members")
        self.entries += unlisted

    def read(self, entry: Entry) -> Iterator[bytes]:
        """A member's octets. Raises :class:`MalformedError` where its data is damaged."""
        start = self._start_of(entry)
        end = min(start + entry.packed, len(self._data)) if entry.packed else len(self._data)
        if not entry.packed and entry.listed:
            return iter(())
        return _unpacked(self._data, start, end, entry)

    def _start_of(self, entry: Entry) -> int:
        local = self._data[entry.offset : entry.offset + _LOCAL.size]
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
            raise MalformedError(f"no member at {entry.offset}")
        fields = _LOCAL.unpack(local)
        return int(entry.offset + _LOCAL.size + fields[9] + fields[10])

    def _listed(self) -> list[Entry]:
        data = self._data
        at = data.rfind(b"PK\x05\x06", max(0, len(data) - _TAIL))
        if at < 0 or len(data) - at < _END.size:
            return []
        _, _, _, _, count, size, offset, _ = _END.unpack(data[at : at + _END.size])
        start = at - size
        if count == 0xFFFF or _MOST in (offset, size):
            found = self._end64(at)
            if found:
                size, offset, start = found
        if start < 0 or data[start : start + 4] not in (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"):
            start = offset  # something stands between the directory and its end
        return list(self._directory(start, start + size, start - offset))

    def _end64(self, at: int) -> tuple[int, int, int] | None:
        """Size, declared and real offset of a ZIP64 directory."""
        data = self._data
        locator = data[max(0, at - _LOCATOR64.size) : at]
        if len(locator) < _LOCATOR64.size or locator[:4] != b"PK\x06\x07":
            return None
        end = data.rfind(b"PK\x06\x06", 0, at)
        if end < 0 or len(data) - end < _END64.size:
            return None
        fields = _END64.unpack(data[end : end + _END64.size])
        return int(fields[8]), int(fields[9]), end - int(fields[8])

    def _directory(self, at: int, end: int, shift: int) -> Iterator[Entry]:
        """``shift``: octets before the archive, as in self-extracting programs."""
        data = self._data
        count = 0
        while at + _CENTRAL.size <= min(end, len(data)) and data[at : at + 4] == b"PK\x01\x02":
            fields = _CENTRAL.unpack(data[at : at + _CENTRAL.size])
            _, _, _, flags, method, _, _, _, packed, size, name_size, extra_size, note_size, _, _, _, offset = fields
            name = data[at + _CENTRAL.size : at + _CENTRAL.size + name_size]
            extra = data[at + _CENTRAL.size + name_size : at + _CENTRAL.size + name_size + extra_size]
            size, packed, offset = _sizes64(extra, size, packed, offset)
            yield Entry(_name(name, flags), method, flags, offset + max(0, shift), packed, size)
            at += _CENTRAL.size + name_size + extra_size + note_size
            count += 1
            if count > self._budget.limits.members:
                raise LimitReached(FactCode.ARCHIVE_LIMIT, f"more than {self._budget.limits.members} members")

    def _unlisted(self) -> list[Entry]:
        """Members that stand where no listed one does; and a look whether listed ones share octets."""
        data = self._data
        gaps: list[tuple[int, int]] = []
        at = 0
        for entry in sorted(self.entries, key=lambda e: e.offset):
            if entry.offset < at and entry.packed and not entry.is_folder:
                raise LimitReached(FactCode.ARCHIVE_LIMIT, "members share their octets")
            gaps.append((at, entry.offset))
            try:
                at = max(at, self._start_of(entry) + entry.packed)
            except MalformedError:
                at = max(at, entry.offset)
        gaps.append((at, len(data)))
        found: list[Entry] = []
        for start, end in gaps:
            here = data.find(b"PK\x03\x04", start, end)
            while here >= 0 and len(found) < self._budget.limits.members:
                entry_ = self._local(here, end)
                if entry_ is not None:
                    found.append(entry_)
                here = data.find(b"PK\x03\x04", here + 4 + (entry_.packed if entry_ else 0), end)
        return found

    def _local(self, at: int, end: int) -> Entry | None:
        """A member by its own header alone."""
        raw = self._data[at : at + _LOCAL.size]
        if len(raw) < _LOCAL.size:
            return None
        _, _, flags, method, _, _, _, packed, size, name_size, extra_size = _LOCAL.unpack(raw)
        name = self._data[at + _LOCAL.size : at + _LOCAL.size + name_size]
        if method not in _METHODS or not name or at + _LOCAL.size + name_size + extra_size > end:
            return None
        packed = min(packed, end - at) if packed and packed != _MOST else 0
        return Entry(_name(name, flags), method, flags, at, packed, size, listed=False)


def members(archive: Archive, budget: Budget) -> Iterator[Item]:
    """Every file of an archive that is no document."""
    encrypted = hidden = 0
    for entry in archive.entries:
        if entry.is_folder and not entry.size:
            continue
        encrypted += entry.encrypted
        hidden += not entry.listed
        seen = entry.listed and entry.method in _COMMON
        yield Member(entry.name, None if entry.encrypted else budget.metered(archive.read(entry)), seen=seen)
    if encrypted:
        yield Fact(FactCode.ARCHIVE_ENCRYPTED, f"ZIP, {encrypted} of {len(archive.entries)} members", "zip")
    if hidden and hidden < len(archive.entries):
        yield Fact(FactCode.HIDDEN_MEMBER, f"{hidden} members stand in the ZIP but not in its directory")


def _sizes64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset that stand in the ZIP64 extra field because they do not fit (section 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            values = [int.from_bytes(extra[n : n + 8], "little") for n in range(at + 4, at + 4 + length - 7, 8)]
            if size == _MOST and values:
                size = values.pop(0)
            if packed == _MOST and values:
                packed = values.pop(0)
            if offset == _MOST and values:
                offset = values.pop(0)
            break
        at += 4 + length
    return size, packed, offset


def _name(raw: bytes, flags: int) -> str:
    if flags & _UTF8:
        return raw.decode("utf-8", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _unpacked(data: Buffer, start: int, end: int, entry: Entry) -> Iterator[bytes]:
    unpack = _METHODS.get(entry.method)
    if unpack is None:
        raise MalformedError(f"compression method {entry.method}")
    try:
        yield from unpack(data, start, end)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
        raise MalformedError(f"{entry.method}: {error}") from error


def _stored(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    return iter(pieces_of(data, start, end))


def _deflated(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    return inflated(data, start, end, -zlib.MAX_WBITS)


def inflated(data: Buffer, start: int, end: int, window: int) -> Iterator[bytes]:
    """A stream of zlib in pieces that a bomb cannot make large. Raises zlib.error, EOFError."""
    stream = zlib.decompressobj(window)
    for piece in pieces_of(data, start, end, _STEP):
        rest = piece
        while rest or stream.unconsumed_tail:
            out = stream.decompress(rest, _LARGEST_OUT)
            if out:
                yield out
            rest = stream.unconsumed_tail
            if stream.eof:
                return
            if not out and not rest:
                break
    out = stream.flush()
    if out:
        yield out
    if not stream.eof:
        raise EOFError("ends early")


def _lzma(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    """LZMA as ZIP has it (section 5.8.8): version, size of properties, properties, raw stream."""
    size = int.from_bytes(data[start + 2 : start + 4], "little")
    properties = data[start + 4 : start + 4 + size]
    first, dictionary = properties[0], int.from_bytes(properties[1:5], "little")
    if dictionary > 1 << 28 or first >= 225:
        raise MalformedError("LZMA dictionary too large")
    chosen = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(dictionary, 4096),
        "lc": first % 9,
        "lp": first // 9 % 5,
        "pb": first // 45,
    }
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chosen])
    return decompressed(decoder, data, start + 4 + size, end)


def _bzip2(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    return decompressed(bz2.BZ2Decompressor(), data, start, end)


def _xz(data: Buffer, start: int, end: int) -> Iterator[bytes]:
    return decompressed(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28), data, start, end)


def decompressed(
    decoder: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: Buffer, start: int, end: int
) -> Iterator[bytes]:
    """One stream of bz2 or lzma in bounded pieces."""
    for piece in pieces_of(data, start, end, _STEP):
        yield from drained(decoder, piece)
        if decoder.eof:
            return
    raise EOFError("ends early")


def drained(decoder: bz2.BZ2Decompressor | lzma.LZMADecompressor, piece: bytes) -> Iterator[bytes]:
    """All that comes out of one more piece, in bounded pieces."""
    while not decoder.eof:
        out = decoder.decompress(piece, _LARGEST_OUT)
        piece = b""
        if out:
            yield out
        if decoder.needs_input or not out:
            return


_COMMON = frozenset({0, 8, 12})
"""Methods that clamd unpacks."""
_METHODS = {0: _stored, 8: _deflated, 9: inflate64, 12: _bzip2, 14: _lzma, 95: _xz}
