"""openssl for the transforms' tests."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., bytes]:
    """Run openssl on octets; fails the test when it fails."""

    def run(*arguments: str, data: bytes) -> bytes:
        done = subprocess.run(
            ["openssl", *arguments], input=data, capture_output=True, cwd=tmp_path, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
