"""Message bodies at rest: one file an object, sealed with age (X25519), written so that a crash leaves all or nothing.

Refuses to hand out a body whose octets are not those that were accepted: :class:`Damaged`. Memory does not grow with
the message: sealing and opening stream, in a thread. A caller that is cancelled waits for that thread, so that nobody
reads from, or writes to, a spool that is closed.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyrage

from gateway.errors import StoreError
from gateway.store.database import uninterrupted

NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
ORPHAN_AGE = 3600.0
"""Seconds after which a file that no row names is taken for what a crash left behind."""


SEALED_FOR = ".sealed-for"
"""Ending of the file beside the folder: the public half of the key that opens its bodies."""


class Damaged(StoreError):
    """The stored body is missing, cannot be opened with our key, or is not what was accepted."""


class Bodies:
    """A folder of sealed bodies and the key to them."""

    def __init__(self, directory: Path, key_file: Path) -> None:
        """Make folder and key when missing. Raises StoreError."""
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _same_owner(directory)
            self._identity = pyrage.x25519.Identity.from_str(_key(key_file, directory))
        except (OSError, pyrage.IdentityError) as error:
            raise StoreError(f"the key {key_file} or the folder {directory} cannot be used: {error}") from error
        self._recipient = self._identity.to_public()
        _check_key(_note(directory), str(self._recipient), key_file)

    async def put(self, name: str, chunks: Iterable[memoryview | bytes]) -> None:
        """Seal and store. Durable, file and folder entry, when it returns. Raises StoreError; then nothing is left."""
        await uninterrupted(asyncio.to_thread(self._put, name, chunks))

    async def get(self, name: str, sha256: str, write: Callable[[bytes], object]) -> None:
        """Open and pass all octets to ``write``, which runs in a thread.

        The digest is known at the end only: what was written is to be used after this has returned, not before.
        Raises :class:`Damaged`; lets through what ``write`` raised, when it was an OSError as :class:`StoreError`.
        """
        await uninterrupted(asyncio.to_thread(self._get, name, sha256, write))

    async def remove(self, names: Iterable[str]) -> None:
        """Take away bodies that nothing needs any more; one that is gone already is no error."""
        await asyncio.to_thread(self._remove, tuple(names))

    async def sweep(self, known: Callable[[str], bool], now: float | None = None) -> int:
        """Remove temporary files and unknown bodies that are older than :data:`ORPHAN_AGE`; returns how many."""
        return await asyncio.to_thread(self._sweep, known, time.time() if now is None else now)

    def _path(self, name: str) -> Path:
        if NAME.match(name) is None:
            raise StoreError(f"«{name}» cannot name a body")
        return self._directory / f"{name}.age"

    def _put(self, name: str, chunks: Iterable[memoryview | bytes]) -> None:
        path = self._path(name)
        temporary = self._directory / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            if path.exists():
                raise StoreError(f"a body named {name} is already there")
            with os.fdopen(_private(temporary), "wb") as file:
                pyrage.encrypt_io(_Source(chunks), file, [self._recipient])
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            _sync_folder(self._directory)
        except (OSError, pyrage.EncryptError) as error:
            for left in (temporary, path):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise StoreError(f"body {name} cannot be stored: {error}") from error
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _get(self, name: str, sha256: str, write: Callable[[bytes], object]) -> None:
        sink = _Sink(write)
        try:
            with self._path(name).open("rb") as file:
                pyrage.decrypt_io(file, sink, [self._identity])
        except FileNotFoundError as error:
            raise Damaged(f"body {name} is missing") from error
        except (OSError, pyrage.DecryptError) as error:
            if sink.failure is not None:
                raise StoreError(f"body {name} cannot be copied: {sink.failure}") from sink.failure
            if isinstance(error, OSError) and error.errno is not None:
                raise StoreError(f"body {name} cannot be read: {error}") from error  # the disk's, may pass
            raise Damaged(f"body {name} cannot be opened: {error}") from error
        if sink.digest.hexdigest() != sha256:
            raise Damaged(f"body {name} is not the message that was accepted (SHA-256 differs)")

    def _remove(self, names: tuple[str, ...]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                self._path(name).unlink()

    def _sweep(self, known: Callable[[str], bool], now: float) -> int:
        swept = 0
        for path in self._directory.iterdir():
            if path.suffix not in (".age", ".tmp"):
                continue
            with contextlib.suppress(FileNotFoundError):
                old = now - path.stat().st_mtime > ORPHAN_AGE
                if old and (path.suffix == ".tmp" or not known(path.stem)):
                    path.unlink()
                    swept += 1
        return swept


class _Source:
    """What pyrage reads from: chunks behind a ``read``."""

    def __init__(self, chunks: Iterable[memoryview | bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest:
            self._rest.release()  # the spool may unmap what nobody looks at
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class _Sink:
    """What pyrage writes to: digests, and keeps the writer's own failure apart from a damaged body."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.digest = hashlib.sha256()
        self.failure: Exception | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            self._write(data)
        except Exception as error:
            self.failure = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""


def digest(chunks: Iterable[memoryview | bytes]) -> str:
    """SHA-256 of all chunks, hex."""
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(chunk)
    return total.hexdigest()


def pieces(data: bytes, step: int = 262_144) -> Iterator[memoryview]:
    """Octets in memory as chunks."""
    view = memoryview(data)
    for start in range(0, len(view), step):
        yield view[start : start + step]


def _private(path: Path) -> int:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _same_owner(path)
    return handle


def _same_owner(path: Path) -> None:
    """What the superuser makes (a command under sudo) belongs to whom its folder belongs: the gateway must read it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if owner.st_uid and not path.stat().st_uid:
            os.chown(path, owner.st_uid, owner.st_gid)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _key(path: Path, bodies: Path) -> str:
    """The identity in ``path``; made when there is none and nothing is sealed yet. Of several that make it, one wins.

    Raises StoreError when it is missing beside bodies that need it: a new one would make all of them worthless.
    """
    if not path.exists():
        if (_note(bodies).exists() or any(bodies.glob("*.age"))) and not path.exists():  # the key comes first
            raise StoreError(f"the key {path} is missing, and {bodies} holds mail that only this key opens: restore it")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(path, f"{pyrage.x25519.Identity.generate()}\n")
    lines = [line.strip() for line in path.read_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if len(keys) != 1:
        raise StoreError(f"{path} must hold one age identity (AGE-SECRET-KEY-1…)")
    return keys[0]


def _note(bodies: Path) -> Path:
    return bodies.with_name(bodies.name + SEALED_FOR)


def _check_key(note: Path, public: str, key_file: Path) -> None:
    """The key must be the one that the folder's bodies are sealed for. Raises StoreError.

    With another key every body would look damaged, and its sender be told that it is lost.
    """
    try:
        if not note.exists():
            _write_once(note, f"{public}\n")
        found = note.read_text().strip()
    except OSError as error:
        raise StoreError(f"{note} cannot be used: {error}") from error
    if found != public:
        raise StoreError(f"{key_file} is not the key that the store's mail is sealed for ({note}: {found})")


def _write_once(path: Path, text: str) -> None:
    """A small private file, whole or not at all; never replaces one that is there already."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with os.fdopen(_private(temporary), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)  # unlike rename, never replaces what is already in use
    temporary.unlink()
    _sync_folder(path.parent)
