"""Message bodies at rest: one object each, sealed with age (X25519), written so that a crash leaves all or nothing.

Refuses to hand out a body whose octets are not those that were accepted: :class:`Damaged`. A body that cannot be had
now (object store away, key not on this node) is a plain StoreError: it passes, and nobody is told that mail is lost.
Memory does not grow with the message: sealing and opening stream, in a thread. A caller that is cancelled waits for
that thread, so that nobody reads from, or writes to, a spool that is closed.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyrage

from gateway.errors import StoreError
from gateway.store.keys import KeyRing, Note, Sealing
from gateway.store.objects import Folder, Objects, Writer
from gateway.store.waiting import uninterrupted

NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
ORPHAN_AGE = 3600.0
"""Seconds after which an object that no row names is taken for what a crash left behind."""
NO_KEY = "No matching keys found"


class Damaged(StoreError):
    """The stored body is missing, cannot be opened with our keys, or is not what was accepted."""


class Bodies:
    """A place of sealed bodies and the keys to them."""

    def __init__(self, objects: Objects, keys: KeyRing) -> None:
        """Make place, key and note when missing. Raises StoreError."""
        self.objects, self.keys = objects, keys
        try:
            objects.prepare()
            self._begin()
        except OSError as error:
            raise StoreError(f"the bodies' place {objects.place} or {keys.place} cannot be used: {error}") from error

    @classmethod
    def local(cls, directory: Path, key_file: Path) -> "Bodies":
        """In a folder of this machine. Raises StoreError."""
        return cls(Folder(directory), KeyRing(key_file))

    def _begin(self) -> None:
        note = self.note(fresh=True)
        if not self.keys.identities():
            if (note.keys or any(self.objects.all())) and not self.keys.identities():  # the key comes first
                raise StoreError(
                    f"the key {self.keys.place} is missing, and {self.objects.place} holds mail that only this key "
                    "opens: restore it, or copy it from another node"
                )
            self.keys.make_first()
        if not note.keys:
            first = Note(note.store, (Sealing(next(iter(self.keys.identities()))),))
            self.objects.write_note(str(first), first=True)
            note = self.note(fresh=True)
        missing = self._missing(note)
        if missing:
            # with other keys every body would look damaged, and its sender be told that it is lost
            raise StoreError(
                f"{self.keys.place} is not the key that the store's mail is sealed for ({', '.join(missing)}, "
                f"{self.objects.place})"
            )

    def note(self, *, fresh: bool = False) -> Note:
        """What stands beside the bodies. Raises OSError, StoreError."""
        return Note.parse(self.objects.read_note(fresh=fresh))

    def _missing(self, note: Note) -> list[str]:
        return [key.public for key in note.keys if key.public not in self.keys.identities()]

    def sealing_key(self) -> Any:
        """The recipient that seals now: the newest key of the note that this node has. Raises OSError, StoreError."""
        found = [self.keys.identities().get(key.public) for key in self.note().keys]
        known = [identity for identity in found if identity is not None]
        if not known:
            raise StoreError(f"none of the keys that {self.objects.place} is sealed for is in {self.keys.place}")
        return known[-1].to_public()

    async def put(self, name: str, chunks: Iterable[memoryview | bytes]) -> None:
        """Seal and store. Durable when it returns. Raises StoreError; then nothing is left."""
        await uninterrupted(asyncio.to_thread(self.put_now, name, _Source(chunks)))

    async def get(self, name: str, sha256: str, write: Callable[[bytes], object]) -> None:
        """Open and pass all octets to ``write``, which runs in a thread.

        The digest is known at the end only: what was written is to be used after this has returned, not before.
        Raises :class:`Damaged`; lets through what ``write`` raised, when it was an OSError as :class:`StoreError`.
        """
        await uninterrupted(asyncio.to_thread(self.get_now, name, sha256, write))

    async def remove(self, names: Iterable[str]) -> None:
        """Take away bodies that nothing needs any more; what cannot be taken away now is left to the sweep."""
        await asyncio.to_thread(self._remove, tuple(names))

    async def sweep(self, known: Callable[[str], bool], now: float | None = None) -> int:
        """Remove half-written and unknown bodies that are older than :data:`ORPHAN_AGE`; returns how many.

        Raises OSError when the place does not answer.
        """
        return await asyncio.to_thread(self._sweep, known, time.time() if now is None else now)

    def put_now(self, name: str, source: Any, *, replace: bool = False) -> None:
        """Seal what ``source`` reads, in this thread. Raises StoreError."""
        if NAME.match(name) is None:
            raise StoreError(f"«{name}» cannot name a body")

        def fill(file: Writer) -> None:
            pyrage.encrypt_io(source, file, [recipient])

        try:
            recipient = self.sealing_key()
            self.objects.put(name, fill, replace=replace)
        except (OSError, pyrage.EncryptError) as error:
            raise StoreError(f"body {name} cannot be stored: {error}") from error

    def get_now(
        self, name: str, sha256: str, write: Callable[[bytes], object], keys: Iterable[Any] | None = None
    ) -> None:
        """Open in this thread, with this node's keys, or with ``keys`` alone. Raises Damaged, StoreError."""
        sink = _Sink(write)
        try:
            self._open(name, sink, list(keys or self.keys.identities().values()))
        except (OSError, pyrage.DecryptError) as error:
            if sink.failure is not None:
                raise StoreError(f"body {name} cannot be copied: {sink.failure}") from sink.failure
            raise Damaged(f"body {name} cannot be opened: {error}") from error
        if sink.digest.hexdigest() != sha256:
            raise Damaged(f"body {name} is not the message that was accepted (SHA-256 differs)")

    def opens(self, name: str, key: Any) -> bool:
        """Whether this key opens the body, by its beginning. Raises Damaged, StoreError."""
        try:
            self._open(name, _Glance(), [key], alone=True)
        except _Enough:
            return True
        except (OSError, pyrage.DecryptError) as error:
            if str(error) == NO_KEY:
                return False
            raise Damaged(f"body {name} cannot be opened: {error}") from error
        return True

    def _open(self, name: str, sink: Any, keys: list[Any], *, alone: bool = False) -> None:
        """Lets through what ``sink`` raises, and what pyrage says of the octets; all else is StoreError or Damaged."""
        if NAME.match(name) is None:
            raise StoreError(f"«{name}» cannot name a body")
        source: _Faithful | None = None
        try:
            with self.objects.open(name) as file:
                source = _Faithful(file)
                pyrage.decrypt_io(source, sink, keys)
        except (OSError, pyrage.DecryptError) as error:
            if isinstance(error, FileNotFoundError) and source is None:
                self._is_it_there(name)
                raise Damaged(f"body {name} is missing") from error
            if source is None or source.failure is not None:
                raise StoreError(f"body {name} cannot be read: {error}") from error  # the place's, may pass
            if str(error) == NO_KEY and not alone:
                self._is_a_key_missing(name)
            raise

    def _is_it_there(self, name: str) -> None:
        """A body is missing only where the place itself is there. Raises StoreError when it is not."""
        try:
            note = self.note(fresh=True)
        except OSError as error:
            raise StoreError(f"body {name} cannot be read: {error}") from error
        if not note.keys:
            raise StoreError(f"body {name} cannot be read: {self.objects.place} is not there, or is another one")

    def _is_a_key_missing(self, name: str) -> None:
        """A body that no key opens is damaged only where all keys are. Raises StoreError where one is missing."""
        try:
            missing = self._missing(self.note(fresh=True))
        except OSError as error:
            raise StoreError(f"body {name} cannot be read: {error}") from error
        if missing:
            raise StoreError(f"body {name} cannot be opened: {self.keys.place} lacks {', '.join(missing)}")

    def _remove(self, names: tuple[str, ...]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                self.objects.remove(name)

    def _sweep(self, known: Callable[[str], bool], now: float) -> int:
        swept = self.objects.clean(now - ORPHAN_AGE)
        for name, changed in self.objects.all():
            if now - changed > ORPHAN_AGE and not known(name):
                self.objects.remove(name)
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


class _Faithful:
    """What pyrage reads a sealed body from: keeps the place's own failure apart from a damaged body."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            self.failure = error
            raise


class _Enough(Exception):
    """The body opens."""


class _Glance:
    """Sees the first octets, and wants no more."""

    def write(self, _: bytes) -> int:
        raise _Enough

    def flush(self) -> None:
        """Nothing is kept back."""


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
