"""Octets of one file for readers of all habits: as a buffer, as a file object, as a pointer for C libraries.

Large ones lie in an unnamed memory file that is mapped, so that joining pieces never needs twice the room. Refuses to
write anywhere that outlives the process.
"""

import ctypes
import io
import mmap
import os
from collections.abc import Iterable
from typing import Any

from gateway.mime.tree import Buffer

_IN_MEMORY = 1024 * 1024


def hold(pieces: Iterable[bytes]) -> Buffer:
    """All pieces as one buffer. What iterating them raises comes through; see :class:`Holding` to keep a beginning."""
    holding = Holding()
    holding.take(pieces)
    return holding.done()


class Holding:
    """Pieces that come one by one; what has come is kept when the rest fails."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._file: int | None = None

    def take(self, pieces: Iterable[bytes]) -> None:
        """Keep all of them."""
        for piece in pieces:
            self._size += len(piece)
            if self._file is None and self._size > _IN_MEMORY:
                self._file = os.memfd_create("member", os.MFD_CLOEXEC)
                for early in self._pieces:
                    _write(self._file, early)
                self._pieces.clear()
            if self._file is None:
                self._pieces.append(piece)
            else:
                _write(self._file, piece)

    def done(self) -> Buffer:
        """What has come so far. To be called once."""
        if self._file is None:
            return b"".join(self._pieces)
        try:  # a private, writable map: only such a one has an address that ctypes gives
            return mmap.mmap(self._file, self._size, access=mmap.ACCESS_COPY)
        finally:
            os.close(self._file)
            self._file = None


def _write(file: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]


def pieces_of(data: Buffer, start: int = 0, end: int | None = None, step: int = 262_144) -> Iterable[bytes]:
    """A range of a buffer in pieces."""
    stop = len(data) if end is None else min(end, len(data))
    for at in range(start, stop, step):
        yield bytes(data[at : min(at + step, stop)])


def pointer(data: Buffer) -> "ctypes.Array[ctypes.c_char]":
    """The octets as a C array, without a copy where that is possible. Keep it as long as the library looks at it."""
    if isinstance(data, mmap.mmap):
        try:
            return (ctypes.c_char * len(data)).from_buffer(data)
        except TypeError:  # the message itself: mapped for reading only
            data = bytes(data)
    return ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_char * len(data))).contents


class File(io.RawIOBase):
    """A buffer as a seekable file, without a copy."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:  # noqa: D102 - as in io
        return True

    def seekable(self) -> bool:  # noqa: D102 - as in io
        return True

    def tell(self) -> int:  # noqa: D102 - as in io
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102 - as in io
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """As in io, but without room for what is not there: sizes come from the file, and may say gigabytes."""
        start = min(self._at, len(self._data))
        stop = len(self._data) if size is None or size < 0 else min(start + size, len(self._data))
        self._at += stop - start
        return bytes(self._data[start:stop])

    def readinto(self, buffer: Any) -> int:  # noqa: D102 - as in io
        view = memoryview(buffer).cast("B")
        piece = self._data[self._at : self._at + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class Stream(io.RawIOBase):
    """Pieces as a file that is read once, forwards."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:  # noqa: D102 - as in io
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: D102 - as in io
        view = memoryview(buffer).cast("B")
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
