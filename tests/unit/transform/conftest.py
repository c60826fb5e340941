"""Both event loops for the transforms' tests, and openssl."""

import asyncio
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop; where that cannot be had, on asyncio."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


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
