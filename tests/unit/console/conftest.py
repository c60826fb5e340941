"""A console for each test, on a copy of a store that was made once; passwords are hashed cheaply."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from gateway.accounts import passwords
from tests.unit.console.serving import Served, hold_of, serving


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty store."""
    folder = tmp_path_factory.mktemp("console")

    async def make() -> None:
        await (await hold_of(folder)).close()

    asyncio.run(make())
    return folder / "store"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm with the smallest parameters; a test of its own holds the real ones."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
async def served(tmp_path: Path, fresh_store: Path) -> AsyncIterator[Served]:
    """The console as it is set by default."""
    async with serving(tmp_path, fresh_store) as one:
        yield one
