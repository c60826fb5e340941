"""What the virus control has to scan besides the message, collected into one tar file that clamd takes apart.

One file for all of it: one scan, one deadline, one answer, however many parts there are. Refuses to hold more than the
limits allow, and says so, for what is not scanned is not clean. Octets that were added before are not added again.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable
from typing import NamedTuple

_BLOCK = 512
_END = bytes(2 * _BLOCK)


class Handed(NamedTuple):
    """What was collected."""

    size: int = 0
    """Octets of the tar file; 0: nothing has to be scanned."""
    files: int = 0
    cut: str = ""
    """Why it is not all that was to be collected; ``""`` when it is."""
    unread: str = ""
    """Why some container was not read to its end, so that it may hold more; a structure finding says so too."""


class Handout:
    """Collects octets for clamd. Use it once."""

    def __init__(self, octets: int, files: int, file: int = -1) -> None:
        """``octets``, ``files``: limits. ``file``: descriptor of an empty file to write to; -1: in memory."""
        self._octets = octets
        self._limit = files
        self._file = file
        self._buffer = bytearray()
        self._at = 0
        self._seen: set[bytes] = set()
        self.cut = ""
        """Why something was left out; whoever knows of something that cannot be had writes it here."""
        self.unread = ""
        """Why some container was not read to its end."""

    def add(self, pieces: Iterable[bytes]) -> bool:
        """One more file; False: it is known already, or empty.

        Beyond a limit, or when it cannot be written, it is left out and ``cut`` says so.
        """
        if self.cut:
            return False
        if len(self._seen) >= self._limit:
            self.cut = f"more than {self._limit} files to be scanned apart"
            return False
        start = self._at
        try:
            return self._add(start, pieces)
        except OSError as error:
            self.cut = f"no room for what is to be scanned apart: {error.strerror}"
            return False

    def done(self) -> Handed:
        """End the tar file."""
        if self._at:
            try:
                self._write(_END)
            except OSError as error:
                self.cut = self.cut or f"no room for what is to be scanned apart: {error.strerror}"
        return Handed(self._at, len(self._seen), self.cut, self.unread)

    def content(self) -> bytes:
        """The tar file, when it is in memory."""
        return bytes(self._buffer)

    def _add(self, start: int, pieces: Iterable[bytes]) -> bool:
        digest = hashlib.sha256()
        size = 0
        for piece in pieces:
            if not piece:
                continue
            if not size:
                self._write(bytes(_BLOCK))
            size += len(piece)
            if self._at + len(piece) > self._octets:
                self.cut = f"more than {self._octets} octets to be scanned apart"
                break
            digest.update(piece)
            self._write(piece)
        if self.cut or not size or digest.digest() in self._seen:
            self._back_to(start)
            return False
        self._seen.add(digest.digest())
        self._write(bytes(-size % _BLOCK))
        entry = tarfile.TarInfo(f"{len(self._seen)}.bin")
        entry.size = size
        self._put(start, entry.tobuf(tarfile.USTAR_FORMAT))
        return True

    def _write(self, data: bytes) -> None:
        if self._file < 0:
            self._buffer += data
        else:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        self._at += len(data)

    def _put(self, at: int, data: bytes) -> None:
        if self._file < 0:
            self._buffer[at : at + len(data)] = data
        else:
            os.pwrite(self._file, data, at)

    def _back_to(self, at: int) -> None:
        if self._file < 0:
            del self._buffer[at:]
        else:
            os.ftruncate(self._file, at)
            os.lseek(self._file, at, os.SEEK_SET)
        self._at = at
