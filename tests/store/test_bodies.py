"""Sealed bodies: whole or not at all, verified when read, with bounded memory."""

import asyncio
import hashlib
import os
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.hold import Hold, Outbox
from gateway.settings import Settings
from gateway.store.bodies import ORPHAN_AGE, Bodies, Damaged, digest


@pytest.fixture
def bodies(tmp_path: Path) -> Bodies:
    """A folder and its key."""
    return Bodies.local(tmp_path / "bodies", tmp_path / "key")


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=3000), max_size=6))
def test_round_trip(bodies: Bodies, chunks: list[bytes]) -> None:
    """Any octets in any pieces come back the same."""
    name = f"b{time.monotonic_ns()}"

    async def story() -> bytes:
        await bodies.put(name, chunks)
        kept = bytearray()
        await bodies.get(name, digest(chunks), kept.extend)
        return bytes(kept)

    assert asyncio.run(story()) == b"".join(chunks)


async def test_memory_stays_bounded_and_the_loop_stays_alive(bodies: Bodies) -> None:
    """45 MB in and out: the peak of Python's memory stays under 3 MB, and the event loop goes on turning."""
    total = hashlib.sha256()

    def source() -> Iterator[memoryview]:
        for number in range(172):
            piece = bytes([number]) * 262_144
            total.update(piece)
            yield memoryview(piece)

    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.002)
            turns += 1

    turner = asyncio.create_task(turn())
    tracemalloc.start()
    try:
        await bodies.put("large", source())
        await bodies.get("large", total.hexdigest(), len)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        turner.cancel()
    assert peak < 3_000_000
    assert turns > 10


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "other"])
async def test_a_changed_body_is_damaged(bodies: Bodies, tmp_path: Path, damage: str) -> None:
    """One bit, the end, everything, the file itself, or another body in its place: each is noticed."""
    data = os.urandom(200_000)
    await bodies.put("b", [data])
    await bodies.put("other", [b"something else"])
    path = tmp_path / "bodies" / "b.age"
    raw = bytearray(path.read_bytes())
    match damage:
        case "flip":
            raw[150_000] ^= 1
            path.write_bytes(raw)
        case "cut":
            path.write_bytes(raw[:-1])
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case _:
            (tmp_path / "bodies" / "other.age").replace(path)
    with pytest.raises(Damaged):
        await bodies.get("b", digest([data]), len)


async def test_another_key_stops_the_start(bodies: Bodies, tmp_path: Path) -> None:
    """A key that is not the bodies' own is refused at start: with it all held mail would look damaged."""
    await bodies.put("b", [b"secret"])
    Bodies.local(tmp_path / "other", tmp_path / "key2")
    with pytest.raises(StoreError, match="key2 is not the key"):
        Bodies.local(tmp_path / "bodies", tmp_path / "key2")


async def test_a_lost_key_is_not_replaced(bodies: Bodies, tmp_path: Path) -> None:
    """The key is gone, the bodies are there: no new key is made, the start says what to restore."""
    await bodies.put("b", [b"secret"])
    (tmp_path / "key").unlink()
    with pytest.raises(StoreError, match="restore it"):
        Bodies.local(tmp_path / "bodies", tmp_path / "key")
    assert not (tmp_path / "key").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give files away")
async def test_what_the_superuser_writes_belongs_to_the_folder_s_owner(bodies: Bodies, tmp_path: Path) -> None:
    """A command under sudo leaves no body that the gateway's own user cannot read."""
    os.chown(tmp_path / "bodies", 12345, 12345)
    await bodies.put("b", [b"secret"])
    assert (tmp_path / "bodies" / "b.age").stat().st_uid == 12345


async def test_a_writer_that_fails_is_no_damage(bodies: Bodies) -> None:
    """The spool is full while a body is read: a StoreError that passes, the body is not called damaged."""
    await bodies.put("b", [b"x" * 100_000])

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space") as caught:
        await bodies.get("b", digest([b"x" * 100_000]), full)
    assert not isinstance(caught.value, Damaged)


async def test_a_source_that_fails_leaves_nothing(bodies: Bodies, tmp_path: Path) -> None:
    """The spool breaks while a body is written: StoreError, no file stays."""

    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError(5, "Input/output error")

    with pytest.raises(StoreError, match="Input/output"):
        await bodies.put("b", broken())
    assert list((tmp_path / "bodies").iterdir()) == []


async def test_sweep_takes_only_what_is_old_and_unknown(bodies: Bodies, tmp_path: Path) -> None:
    """Old orphans and temporary files go; young ones (an accept under way) and known ones stay."""
    for name in ("known.1", "orphan.2", "young.3"):
        await bodies.put(name, [b"x"])
    (tmp_path / "bodies" / ".half.tmp").write_bytes(b"x")
    old = time.time() - ORPHAN_AGE - 60
    for name in ("known.1.age", "orphan.2.age", ".half.tmp"):
        os.utime(tmp_path / "bodies" / name, (old, old))
    assert await bodies.sweep({"known.1"}.__contains__) == 2
    assert sorted(p.name for p in (tmp_path / "bodies").iterdir()) == ["known.1.age", "young.3.age"]


def test_many_starts_at_once_make_one_key(tmp_path: Path) -> None:
    """Several starts race for the first key: all of them use the one that is on the disk."""

    def start(_: int) -> str:
        return " ".join(Bodies.local(tmp_path / "bodies", tmp_path / "key").keys.identities())

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(start, range(16)))
    assert len(keys) == 1
    assert (tmp_path / "key").read_text().count("AGE-SECRET-KEY-1") == 1
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "nonsense\n", "# only a comment\n", "AGE-SECRET-KEY-1\n"])
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A key file with anything but identities stops the start; it is never overwritten."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(StoreError, match="key"):
        Bodies.local(tmp_path / "bodies", tmp_path / "key")
    assert (tmp_path / "key").read_text() == text


@pytest.mark.sqlite
async def test_orphans_go_while_the_gateway_runs(hold: Hold, sink: Any, settings: Settings, monkeypatch: Any) -> None:
    """What a store that was away has left behind needs no restart."""
    monkeypatch.setattr("gateway.hold.outbox.ORPHAN_AGE", 0.05)
    running = asyncio.create_task(Outbox(hold, sink, settings.outbox).run())
    await asyncio.sleep(0.1)
    await hold.core.bodies.put("orphan", [b"x"])
    path = settings.store.directory / "bodies" / "orphan.age"
    old = time.time() - ORPHAN_AGE - 60
    os.utime(path, (old, old))
    async with asyncio.timeout(10):
        while path.exists():
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
