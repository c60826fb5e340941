"""Where sealed octets lie: a folder of this machine, or a bucket of an S3-compatible server.

Both are called in threads, stream, and hold at most a few megabytes of an object. Refuses to know what is sealed in
them: :mod:`gateway.store.bodies` does. The folder is written by ourselves, not through obstore: that one syncs neither
file nor folder to the disk, and a 250 that a power cut undoes is a lost message. An S3 server has stored what it has
answered.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

ENDING = ".age"
NOTE_ENDING = ".sealed-for"
"""Ending of the note beside the folder, and of its object: which store this is, and which keys open it."""


class Reader(Protocol):
    """What an object is read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` octets; none at the end."""


class Writer(Protocol):
    """What an object is written to."""

    def write(self, data: bytes, /) -> int:
        """All of it."""

    def flush(self) -> None:
        """Nothing that a caller may rely on."""


class Objects(Protocol):
    """A place. All raise OSError, FileNotFoundError among them, for what the place does not do."""

    place: str
    """For messages; holds no secret."""

    def prepare(self) -> None:
        """Make what is missing and can be made."""

    def put(self, name: str, fill: Callable[[Writer], None], *, replace: bool = False) -> None:
        """Store what ``fill`` writes, whole or not at all; durable when it returns.

        ``replace``: in the place of one that is there, at one instant. What ``fill`` raises goes through, and nothing
        of it is ever seen.
        """

    def open(self, name: str) -> AbstractContextManager[Reader]:
        """Read from the beginning, as it is at this moment. FileNotFoundError when there is none."""

    def remove(self, name: str) -> None:
        """Take it away. One that is not there is no error."""

    def all(self) -> Iterator[tuple[str, float]]:
        """Names and times of last change (seconds since 1970) of all objects."""

    def clean(self, before: float) -> int:
        """Remove what a crash left half-written before that time; returns how many."""

    def read_note(self, *, fresh: bool = False) -> str:
        """The note, "" when there is none; as it was a short while ago unless ``fresh``."""

    def write_note(self, text: str, *, first: bool = False) -> None:
        """Replace the note, durable when it returns; ``first``: leave one that is there already."""


class Folder:
    """A folder of this machine; each object is a file of its owner alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._note = directory.with_name(directory.name + NOTE_ENDING)
        self._seen: tuple[tuple[int, int, int], str] | None = None
        self.place = str(directory)

    def prepare(self) -> None:
        """Make the folder."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        same_owner(self._directory)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{ENDING}"

    def put(self, name: str, fill: Callable[[Writer], None], *, replace: bool = False) -> None:
        """File and folder entry are on the disk when it returns."""
        path = self._path(name)
        temporary = self._directory / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            if not replace and path.exists():
                raise FileExistsError(f"a body named {name} is already there")
            with os.fdopen(_private(temporary), "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            try:
                _sync_folder(self._directory)
            except OSError:
                if not replace:  # the old one is gone already: then the new one is as good
                    path.unlink()
                raise
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """The file."""
        return self._path(name).open("rb")

    def remove(self, name: str) -> None:
        """The file."""
        self._path(name).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, float]]:
        """By the files' own times."""
        for path in self._directory.iterdir():
            if path.suffix == ENDING:
                with contextlib.suppress(FileNotFoundError):
                    yield path.stem, path.stat().st_mtime

    def clean(self, before: float) -> int:
        """Temporary files."""
        gone = 0
        for path in self._directory.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
        return gone

    def read_note(self, *, fresh: bool = False) -> str:
        """Read again whenever the file is another one: a look at the folder is cheap."""
        try:
            status = self._note.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._seen is None or self._seen[0] != version:
                self._seen = version, self._note.read_text()
        except FileNotFoundError:
            return ""
        return self._seen[1]

    def write_note(self, text: str, *, first: bool = False) -> None:
        """Whole or not at all."""
        (write_once if first else replace_file)(self._note, text)


def write_once(path: Path, text: str) -> None:
    """A small private file, whole or not at all; never replaces one that is there already."""
    with _temporary(path, text) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)  # unlike rename, never replaces what is already in use


def replace_file(path: Path, text: str) -> None:
    """A small private file in the place of the old one; at every moment one of the two is there, whole."""
    with _temporary(path, text) as temporary:
        temporary.rename(path)


@contextmanager
def _temporary(path: Path, text: str) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(_private(temporary), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _private(path: Path) -> int:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    same_owner(path)
    return handle


def same_owner(path: Path) -> None:
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
