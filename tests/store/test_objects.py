"""Bodies in an S3-compatible object store: the same promises as in a folder, against a real server."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from gateway.errors import StoreError
from gateway.hold import Acceptance, Outbox, open_hold
from gateway.settings import Settings
from gateway.store.bodies import ORPHAN_AGE, Bodies, Damaged, digest, pieces
from gateway.store.opening import open_bodies
from tests.objects import SECRET, ObjectServer

Make = Callable[..., Acceptance]
MEMORY = """
import asyncio, hashlib, json, sys
from pathlib import Path
from gateway.settings import StoreSettings
from gateway.store.opening import open_bodies

bodies = open_bodies(StoreSettings.model_validate_json(sys.argv[1]))
total = hashlib.sha256()

def source():
    for number in range(172):
        piece = bytes([number]) * 262_144
        total.update(piece)
        yield memoryview(piece)

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024

async def main():
    await bodies.put("warm", [b"x" * 300_000])
    before = peak()
    await bodies.put("large", source())
    await bodies.get("large", total.hexdigest(), len)
    print(peak() - before)

asyncio.run(main())
"""


@pytest.fixture
def in_bucket(settings: Settings, objects: ObjectServer, tmp_path: Path) -> Settings:
    """A store whose bodies are in a bucket, under a prefix of the test's own."""
    own = objects.settings(settings.store.directory, tmp_path.name, settings.store.database)
    return settings.model_copy(update={"store": own})


@pytest.fixture
def bodies(objects: ObjectServer, tmp_path: Path) -> Bodies:
    """A prefix and its key."""
    (tmp_path / "store").mkdir()
    return open_bodies(objects.settings(tmp_path / "store", tmp_path.name))


@pytest.mark.parametrize("size", [0, 1, 200_000, 5 * 1024 * 1024, 12_000_000])
async def test_round_trip(bodies: Bodies, objects: ObjectServer, tmp_path: Path, size: int) -> None:
    """What was put comes back, in one part or several; what the server keeps is sealed."""
    data = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    await bodies.put("one", pieces(data))
    kept = bytearray()
    await bodies.get("one", digest([data]), kept.extend)
    assert bytes(kept) == data
    sealed = bytes(obstore.get(objects.client(tmp_path.name), "one.age").bytes())
    assert sealed.startswith(b"age-encryption.org/v1\n")


def test_memory_stays_bounded(objects: ObjectServer, tmp_path: Path) -> None:
    """45 MB up and down: the process never holds more than a few parts of 5 MB."""
    (tmp_path / "store").mkdir()
    own = objects.settings(tmp_path / "store", tmp_path.name)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, own.model_dump_json()],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "other"])
async def test_a_changed_body_is_damaged(bodies: Bodies, objects: ObjectServer, tmp_path: Path, damage: str) -> None:
    """One bit, the end, the object itself, or another body in its place: each is noticed."""
    data, client = os.urandom(200_000), objects.client(tmp_path.name)
    await bodies.put("b", [data])
    await bodies.put("other", [b"something else"])
    raw = bytearray(obstore.get(client, "b.age").bytes())
    match damage:
        case "flip":
            raw[150_000] ^= 1
            obstore.put(client, "b.age", bytes(raw))
        case "cut":
            obstore.put(client, "b.age", bytes(raw[:-1]))
        case "gone":
            obstore.delete(client, "b.age")
        case _:
            obstore.copy(client, "other.age", "b.age")
    with pytest.raises(Damaged):
        await bodies.get("b", digest([data]), len)


async def test_a_place_that_is_not_there_is_no_damage(bodies: Bodies, objects: ObjectServer, tmp_path: Path) -> None:
    """The prefix was emptied or is another one: not one message is called lost."""
    await bodies.put("b", [b"x"])
    client = objects.client(tmp_path.name)
    for name in ("b.age", "sealed-for"):
        obstore.delete(client, name)
    with pytest.raises(StoreError, match="not there") as caught:
        await bodies.get("b", digest([b"x"]), len)
    assert not isinstance(caught.value, Damaged)


async def test_a_source_that_fails_leaves_nothing(bodies: Bodies, objects: ObjectServer, tmp_path: Path) -> None:
    """The spool breaks in the middle of a large upload: StoreError, and no object is ever seen."""

    def broken() -> Iterator[bytes]:
        yield b"x" * 12_000_000
        raise OSError(5, "Input/output error")

    with pytest.raises(StoreError, match="Input/output"):
        await bodies.put("b", broken())
    assert list(bodies.objects.all()) == []


async def test_sweep_takes_only_what_is_old_and_unknown(bodies: Bodies) -> None:
    """By the server's own times: young ones stay, and so do known ones; the note is no body."""
    for name in ("known.1", "orphan.2"):
        await bodies.put(name, [b"x"])
    assert await bodies.sweep({"known.1"}.__contains__, time.time() + ORPHAN_AGE - 60) == 0
    assert await bodies.sweep({"known.1"}.__contains__, time.time() + ORPHAN_AGE + 60) == 1
    assert [name for name, _ in bodies.objects.all()] == ["known.1"]
    assert bodies.note(fresh=True).keys


async def test_wrong_credentials_stop_the_start_and_are_not_printed(objects: ObjectServer, tmp_path: Path) -> None:
    """The start says which place cannot be used, and repeats no secret."""
    (tmp_path / "store").mkdir()
    wrong = tmp_path / "credentials"
    wrong.write_text(objects.credentials.read_text().replace(SECRET, "WRONG-SECRET"))
    own = objects.settings(tmp_path / "store", "p").model_copy(update={"s3_credentials_file": wrong})
    with pytest.raises(StoreError, match="s3://mail/p") as caught:
        open_bodies(own)
    assert "WRONG-SECRET" not in str(caught.value)
    wrong.write_text("aws_secret_access_key = WRONG-SECRET\n")
    with pytest.raises(StoreError, match="no credentials file") as caught:
        open_bodies(own)
    assert "WRONG-SECRET" not in str(caught.value)


@pytest.mark.sqlite
async def test_the_object_store_is_gone_and_comes_back(
    in_bucket: Settings, objects: ObjectServer, city: Any, clock: Any, acceptance: Make, sink: Any
) -> None:
    """Killed: accepting is 451 and leaves no row, deliveries wait; when it is back all goes on without a restart."""
    hold = await open_hold(in_bucket, city, clock=clock)
    outbox = Outbox(hold, sink, in_bucket.outbox)
    await hold.accept(acceptance("T1"))
    objects.stop(signal.SIGKILL)
    running = asyncio.create_task(outbox.run())
    try:
        with pytest.raises(StoreError) as caught:
            await hold.accept(acceptance("T2"))
        assert caught.value.reply.code == 451
        assert [item.id for item in await hold.list()] == ["T1-h1"]
        assert sink.got == []
        objects.start()
        await hold.accept(acceptance("T3"))
        async with asyncio.timeout(60):
            while (await hold.queue_facts()).outbox:
                clock.move(seconds=250)  # the first attempts failed: due later; no claim may run out meanwhile
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(4):
                        while (await hold.queue_facts()).outbox:
                            await asyncio.sleep(0.05)
        assert len([d for d, _ in sink.got if d.kind == "relay"]) == 2
        assert all(item.state == "held" for item in await hold.list())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hold.close()
        if objects.down:
            objects.start()
