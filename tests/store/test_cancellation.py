"""Readers that are cancelled at any moment leave no connection and no thread behind."""

import asyncio
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.errors import StoreError
from gateway.store.database import Database


def _threads() -> int:
    return sum("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def _read(database: Database) -> None:
    async with database.read() as connection:
        await connection.execute(text("SELECT count(*) FROM held"))


@pytest.mark.parametrize("cancellations", [1, 3])
def test_a_stop_at_any_moment_leaves_no_thread(
    tmp_path: Path, cancellations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers cancelled while connecting, reading or closing, and the loop closed: no thread meets a closed loop."""
    asyncio.run(_migrated(tmp_path / "store.db"))
    before, died = _threads(), list[object]()
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_value))
    for turn in range(60):
        asyncio.run(_stopped(tmp_path / "store.db", turn * 0.0002, cancellations))
    deadline = time.monotonic() + 2
    while _threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not died
    assert _threads() == before


async def _migrated(path: Path) -> None:
    await (await Database.open(path, 2.0)).close()


async def _stopped(path: Path, after: float, cancellations: int) -> None:
    database = Database(path, 2.0)
    readers = [asyncio.create_task(_read(database)) for _ in range(3)]
    await asyncio.sleep(after)
    for _ in range(cancellations):
        for reader in readers:
            reader.cancel()
        await asyncio.sleep(0)
    await database.close()


async def test_close_waits_for_a_reader(tmp_path: Path) -> None:
    """A view that is open keeps its connection until it ends; nobody gets a new one meanwhile, nor later."""
    database = await Database.open(tmp_path / "store.db", 2.0)
    async with database.read() as connection:
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(StoreError, match="closed"):
            await _read(database)
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1
    await closing
    with pytest.raises(StoreError, match="closed"):
        await _read(database)
