"""Compiled Hyperscan databases that one process hands to another: seconds of compiling become milliseconds of reading.

A database is known by what it was compiled from. Refuses to keep any on a disk: they go from a gateway's process to an
inspection process that it started, over their own socket, and are code to whoever reads them.
"""

import hashlib
from collections.abc import Mapping, Sequence

import hyperscan


class Databases:
    """The databases of one scanner: ``ready`` ones are read, others compiled."""

    def __init__(self, ready: Mapping[bytes, bytes] | None = None) -> None:
        """``ready``: what :meth:`serialized` gave in another process on this machine."""
        self._ready = ready or {}
        self._made: dict[bytes, hyperscan.Database] = {}

    def of(self, expressions: Sequence[bytes], flags: Sequence[int], ids: Sequence[int]) -> hyperscan.Database:
        """One database of all expressions. Raises :class:`hyperscan.error`."""
        key = hashlib.sha256(repr((*zip(expressions, flags, ids, strict=True),)).encode()).digest()
        database = self._read(key) or compiled(expressions, flags, ids)
        self._made[key] = database
        return database

    def _read(self, key: bytes) -> hyperscan.Database | None:
        octets = self._ready.get(key)
        return None if octets is None else loaded(octets)

    def serialized(self) -> dict[bytes, bytes]:
        """All of them, for another process on this machine with this version of Hyperscan."""
        return {key: hyperscan.dumpb(database) for key, database in self._made.items()}


def loaded(octets: bytes) -> hyperscan.Database:
    """One database as another process on this machine has serialized it, ready to scan."""
    database = hyperscan.loadb(octets, hyperscan.HS_MODE_BLOCK)
    database.scratch = hyperscan.Scratch(database)
    return database


def compiled(expressions: Sequence[bytes], flags: Sequence[int], ids: Sequence[int]) -> hyperscan.Database:
    """One database of all expressions. Raises :class:`hyperscan.error`."""
    database = hyperscan.Database()
    database.compile(expressions=list(expressions), ids=list(ids), elements=len(expressions), flags=list(flags))
    return database
