"""Compiled Hyperscan databases that all processes of one run of the tests share: what one has compiled, others read.

A full set of types takes seconds to compile, and dozens of processes need it. Every run starts with an empty folder,
so that each database is compiled by the very code that is tested.
"""

import fcntl
import hashlib
from collections.abc import Sequence

import hyperscan

from gateway.checks import databases
from tests import together

_compile = databases.compiled


def share() -> None:
    """From now on this process reads what another has compiled, and leaves there what it compiles."""
    databases.compiled = _shared


def _shared(expressions: Sequence[bytes], flags: Sequence[int], ids: Sequence[int]) -> hyperscan.Database:
    told = repr((*zip(expressions, flags, ids, strict=True),)).encode()
    try:
        path = together.folder("compiled") / hashlib.sha256(told).hexdigest()
    except OSError:  # a process that outlived the run
        return _compile(expressions, flags, ids)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return databases.loaded(path.read_bytes())
        database = _compile(expressions, flags, ids)
        path.write_bytes(hyperscan.dumpb(database))
    return database
