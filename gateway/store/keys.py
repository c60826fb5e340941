"""The keys that open bodies (age identities, X25519), and the note beside the bodies that says which of them seals.

The key file, or the variable in its place, is a set: every node has a copy. The note is one for all nodes: the id of
the store, and the public halves of the keys in use, oldest first; the last one seals. So a new key comes into use on
every node at the same moment, and a node whose file lacks it says so and loses nothing. Refuses to make a new key where
one is missing that is needed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage

from gateway.errors import StoreError
from gateway.store.objects import replace_file, write_once

VARIABLE = "CIVICGATE_STORE_KEY"
"""Identities, one a line or with spaces between; takes the key file's place."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """One key of the note."""

    public: str
    since: datetime | None = None
    """When it began to seal; None for the first."""


@dataclass(frozen=True, slots=True)
class Note:
    """What stands beside the bodies."""

    store: str = ""
    """Id of the store; "" in a note that an older version wrote."""
    keys: tuple[Sealing, ...] = ()
    """Oldest first; the last one seals."""

    @classmethod
    def parse(cls, text: str) -> "Note":
        """Lines ``store ID`` and ``PUBLIC-KEY [SINCE]``. Raises StoreError."""
        note = cls()
        for line in filter(None, map(str.strip, text.splitlines())):
            first, _, rest = line.partition(" ")
            if first == "store":
                note = replace(note, store=rest.strip())
            elif first.startswith("age1"):
                note = replace(note, keys=(*note.keys, Sealing(first, _moment(rest.strip()))))
            else:
                raise StoreError("the note beside the bodies (sealed-for) cannot be read: restore it")
        return note

    def __str__(self) -> str:
        lines = [f"store {self.store}"] if self.store else []
        lines += [f"{k.public} {k.since.isoformat()}" if k.since is not None else k.public for k in self.keys]
        return "".join(f"{line}\n" for line in lines)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError as error:
        raise StoreError("the note beside the bodies (sealed-for) cannot be read: restore it") from error


class KeyRing:
    """The identities of this node; read again when the file is another one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: tuple[int, int, int] | None = None
        self._identities: dict[str, Any] = {}

    @property
    def from_environment(self) -> bool:
        """Whether the variable stands in for the file."""
        return bool(os.environ.get(VARIABLE))

    @property
    def place(self) -> str:
        """For messages."""
        return f"the variable {VARIABLE}" if self.from_environment else str(self.file)

    def identities(self) -> dict[str, Any]:
        """Public half to identity; empty when there is no file. Raises StoreError for what is no key."""
        if self.from_environment:
            self._identities = self._identities or _parse(os.environ[VARIABLE].split(), self.place)
            return self._identities
        try:
            status = self.file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._seen != version:
                lines = [line.strip() for line in self.file.read_text().splitlines()]
                found = _parse([line for line in lines if line and not line.startswith("#")], self.place)
                self._identities, self._seen = found, version
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeError) as error:
            raise StoreError(f"the key {self.file} cannot be read: {error}") from error
        return self._identities

    def make_first(self) -> None:
        """A key file with one new key, unless there is one by now. Raises OSError."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_once(self.file, _lines(new_identity()))

    def add(self) -> str:
        """One more identity in the file; returns its public half. It opens from now on, and seals nothing yet."""
        identity = new_identity()
        replace_file(self.file, self.file.read_text().rstrip("\n") + "\n" + _lines(identity))
        return str(identity.to_public())

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Take all other identities out of the file."""
        kept = [identity for public, identity in self.identities().items() if wanted(public)]
        replace_file(self.file, "".join(map(_lines, kept)))


def new_identity() -> Any:
    """A key."""
    return pyrage.x25519.Identity.generate()


def _lines(identity: Any) -> str:
    """As age-keygen writes it."""
    return f"# public key: {identity.to_public()}\n{identity}\n"


def _parse(words: list[str], place: str) -> dict[str, Any]:
    try:
        found = [pyrage.x25519.Identity.from_str(word) for word in words]
    except pyrage.IdentityError:
        found = []  # its words would repeat the key
    if not found:
        raise StoreError(f"{place} must hold age identities (AGE-SECRET-KEY-1…), one a line, and nothing else")
    return {str(identity.to_public()): identity for identity in found}
