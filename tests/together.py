"""The folder that all processes of one run of the tests share: its name goes with the environment.

Who makes it removes it, and nobody else: neither a process of tests that ends first, nor a fork.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_NAME = "CIVICGATE_TESTS_FOLDER"


def begin() -> None:
    """Make the folder, in the first process of a run; it goes when that ends."""
    if _NAME not in os.environ:
        os.environ[_NAME] = tempfile.mkdtemp(prefix="tests-")
        atexit.register(_end, os.getpid())


def _end(maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(os.environ.pop(_NAME), ignore_errors=True)


def folder(name: str) -> Path:
    """A folder in it. Raises OSError once the run is over."""
    begin()
    path = Path(os.environ[_NAME]) / name
    path.mkdir(exist_ok=True)
    return path
