"""Where a message lies from its first octet until its transaction ends: in memory while small, else in a file.

A writer takes chunks as they come from the socket; closing it gives an immutable :class:`SpooledMessage`. Nothing is
joined in memory beyond the memory limit, and nothing stays behind: an abort or a close removes the file, and a start
sweeps what a crash left. The spool keeps no promise of durability; that is the store's (design section 1, promise 1).
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import StoreError
from gateway.settings import SpoolSettings

CHUNK = 256 * 1024
"""Octets handed on at a time."""
_SUFFIX = ".eml"
_STALE_SECONDS = 3600.0


class SpooledMessage:
    """An immutable message. ``buffer`` is ``bytes`` when it is small, a read-only map of the file when not."""

    __slots__ = ("_fd", "_sha256", "buffer", "disciplined", "path", "size")

    def __init__(
        self,
        buffer: bytes | mmap.mmap,
        size: int,
        path: Path | None = None,
        fd: int = -1,
        *,
        disciplined: bool = False,
    ) -> None:
        self.buffer = buffer
        self.size = size
        self.path = path
        self.disciplined = disciplined
        """True: it is known to have no line end but CRLF, and no NUL."""
        self._fd = fd
        self._sha256 = ""

    @classmethod
    def of(cls, content: bytes) -> "SpooledMessage":
        """A message in memory."""
        return cls(content, len(content))

    @classmethod
    def of_file(cls, path: Path) -> "SpooledMessage":
        """Map a file that is somebody else's; closing does not remove it. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(fd).st_size
        return cls(mmap.mmap(fd, size, access=mmap.ACCESS_READ) if size else b"", size, None, fd)

    def fileno(self) -> int:
        """A real file descriptor on the content, made on first demand for a message in memory (memfd_create(2))."""
        if self._fd < 0:
            fd = os.memfd_create("message", os.MFD_CLOEXEC)
            view = memoryview(self.buffer)
            while view:
                view = view[os.write(fd, view) :]
            os.lseek(fd, 0, os.SEEK_SET)
            self._fd = fd
        return self._fd

    def beside(self) -> int:
        """A new, empty, unnamed file for what is made of the message: in memory when the message is, else beside it.

        The descriptor is the caller's to close. Raises OSError.
        """
        if self.path is None:
            return os.memfd_create("beside", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        name = self.path.with_name(f"{self.path.stem}-{secrets.token_hex(4)}{_SUFFIX}")
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        name.unlink()
        return fd

    @classmethod
    def of_descriptor(cls, fd: int, size: int) -> "SpooledMessage":
        """The first ``size`` octets of a file of our own, which from now on nobody can change if it lies in memory.

        Takes the descriptor. Raises OSError, ValueError: there is less.
        """
        with contextlib.suppress(OSError):  # EINVAL: a file on a disk, whose writer is done
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        return cls(mmap.mmap(fd, size, access=mmap.ACCESS_READ), size, None, fd)

    def sha256(self) -> str:
        """Hex digest of the content, computed once."""
        if not self._sha256:
            self._sha256 = hashlib.sha256(self.buffer).hexdigest()
        return self._sha256

    def chunks(self, start: int = 0, end: int | None = None, step: int = CHUNK) -> Iterator[memoryview]:
        """The octets of ``[start, end)`` as views of at most ``step`` octets, without copying.

        What was handed on of a mapped file leaves our memory again; the system still has it if it is asked for anew.
        """
        stop = self.size if end is None else end
        with memoryview(self.buffer) as view:
            for position in range(start, stop, step):
                with view[position : min(position + step, stop)] as piece:
                    yield piece
                self._forget(position, min(position + step, stop))

    def _forget(self, start: int, stop: int) -> None:
        if isinstance(self.buffer, mmap.mmap) and not self.buffer.closed:
            first = start - start % mmap.PAGESIZE
            self.buffer.madvise(mmap.MADV_DONTNEED, first, stop - first)

    def close(self) -> None:
        """Free everything, and remove the file if it is the spool's own. Doing it twice is harmless."""
        if isinstance(self.buffer, mmap.mmap):
            with contextlib.suppress(BufferError):  # a view is still out: the map goes when the view does
                self.buffer.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.path is not None:
            with contextlib.suppress(OSError):  # the next start sweeps; the reply to the client must not suffer
                self.path.unlink(missing_ok=True)
            self.path = None


class SpoolWriter:
    """Takes the octets of one message. After ``close`` or ``abort`` it takes no more."""

    __slots__ = ("_fd", "_folder", "_memory", "_parts", "_path", "size", "transaction")

    def __init__(self, folder: Path, transaction: str, memory: int) -> None:
        self._folder = folder
        self._path = folder
        self.transaction = transaction
        self._memory = memory
        self._parts: list[bytes] = []
        self._fd = -1
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises :class:`StoreError` when the disk is full or gone."""
        self.size += len(data)
        if self._fd < 0:
            if self.size <= self._memory:
                self._parts.append(bytes(data))
                return
            self._to_file()
        self._write(data)

    def close(self, *, disciplined: bool = False) -> SpooledMessage:
        """The finished message. ``disciplined``: all that was written has kept the line discipline of SMTP."""
        if self._fd < 0:
            parts = self._parts
            content = parts[0] if len(parts) == 1 else b"".join(parts)
            return SpooledMessage(content, self.size, disciplined=disciplined)
        fd, self._fd = self._fd, -1
        try:
            buffer = mmap.mmap(fd, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            os.close(fd)
            self._path.unlink(missing_ok=True)
            raise StoreError(f"spool: cannot map {self._path}: {error}") from error
        return SpooledMessage(buffer, self.size, self._path, fd, disciplined=disciplined)

    def abort(self) -> None:
        """Forget everything."""
        self._parts.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):  # as above
                self._path.unlink(missing_ok=True)

    def _to_file(self) -> None:
        # made up only now: most messages never see a file, and asking for the process id is a system call
        self._path = self._folder / f"{self.transaction}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"spool: cannot create {self._path}: {error.strerror}") from error
        for part in self._parts:
            self._write(part)
        self._parts.clear()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.abort()
            raise StoreError(f"spool: cannot write {self._path}: {error.strerror}") from error


class Spool:
    """The folder of one gateway. Several processes share it; names carry the transaction id."""

    def __init__(self, settings: SpoolSettings) -> None:
        self._folder = settings.directory
        self._memory = settings.memory

    def prepare(self) -> None:
        """Make the folder and sweep files that no live transaction can own. Raises :class:`StoreError`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            oldest = time.time() - _STALE_SECONDS
            for path in self._folder.glob(f"*{_SUFFIX}"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()
        except OSError as error:
            raise StoreError(f"spool: {self._folder}: {error.strerror}") from error

    def free(self) -> int:
        """Octets that an unprivileged process can still write here."""
        state = os.statvfs(self._folder)
        return state.f_bavail * state.f_frsize

    def new(self, transaction: str) -> SpoolWriter:
        """A writer for one message of a transaction."""
        return SpoolWriter(self._folder, transaction, self._memory)
