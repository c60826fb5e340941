"""Compiled Hyperscan databases that all processes of one run of the tests share: what one has compiled, others read.

A full set of types takes seconds to compile, and dozens of processes need it. Every run starts with an empty folder,
so that each database is compiled by the very code that is tested.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import hyperscan

from gateway.checks import databases

_NAME = "CIVICGATE_TESTS_COMPILED"
"""Variable with the folder, for the processes that this one starts."""
_compile = databases.compiled


def share() -> None:
    """From now on this process reads what another has compiled, and leaves there what it compiles."""
    if _NAME not in os.environ:
        os.environ[_NAME] = tempfile.mkdtemp(prefix="compiled-")
    databases.compiled = _shared


def forget() -> None:
    """Remove the folder, at the end of the run, from the process that made it."""
    shutil.rmtree(os.environ.pop(_NAME), ignore_errors=True)


def _shared(expressions: Sequence[bytes], flags: Sequence[int], ids: Sequence[int]) -> hyperscan.Database:
    told = repr((*zip(expressions, flags, ids, strict=True),)).encode()
    path = Path(os.environ[_NAME]) / hashlib.sha256(told).hexdigest()
    if not path.parent.is_dir():  # a process that outlived the run
        return _compile(expressions, flags, ids)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            database = hyperscan.loadb(path.read_bytes(), hyperscan.HS_MODE_BLOCK)
            database.scratch = hyperscan.Scratch(database)
            return database
        database = _compile(expressions, flags, ids)
        path.write_bytes(hyperscan.dumpb(database))
    return database
