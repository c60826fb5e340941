"""A new key while gateways run: nothing is lost, whoever is killed; and what `civicgate store` says of it."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyrage
import pytest

from gateway.cli import store
from gateway.errors import OperatorError, StoreError
from gateway.hold import Acceptance, Hold, open_hold
from gateway.settings import Settings
from gateway.store.bodies import ORPHAN_AGE, Bodies, Damaged, digest, pieces
from gateway.store.keys import VARIABLE, KeyRing
from gateway.store.objects import Folder
from gateway.store.opening import open_store
from gateway.store.rotation import Rotation
from tests.objects import ObjectServer

Make = Callable[..., Acceptance]
ROTATOR = """
import asyncio, os, random, signal, sys, time
from gateway.settings import StoreSettings
from gateway.store.checkup import check
from gateway.store.opening import open_store
from gateway.store.rotation import Rotation

settings, chance = StoreSettings.model_validate_json(sys.argv[1]), random.Random(7)

async def rotate(said):
    database, bodies = await open_store(settings)
    os.write(said, b"x")
    done = await Rotation(database, bodies).rotate()
    await database.close()
    return done

async def look():
    database, bodies = await open_store(settings)
    good = [answer.good async for answer in check(database, bodies)]
    print(all(good), *[key.public for key in bodies.note().keys], flush=True)
    await database.close()

def forked(work):
    child = os.fork()
    if child == 0:
        asyncio.run(work)
        os._exit(0)
    return child

for _ in range(int(sys.argv[2])):
    hears, says = os.pipe()
    child = forked(rotate(says))
    os.read(hears, 1)
    time.sleep(chance.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.waitpid(forked(look()), 0)
print(asyncio.run(rotate(1)).key)
"""


def later() -> datetime:
    """When an old key may go."""
    return datetime.now(UTC) + timedelta(seconds=ORPHAN_AGE + 60)


async def all_open(hold: Hold, keys: list[Any] | None = None) -> int:
    """Every held body is what was accepted, opened with these keys alone; returns how many there are."""
    items = await hold.list()
    for item in items:
        await asyncio.to_thread(hold.core.bodies.get_now, item.message.body, item.message.sha256, len, keys)
    return len(items)


def identity(hold: Hold, public: str) -> list[Any]:
    """One key alone."""
    return [hold.core.bodies.keys.identities()[public]]


async def test_a_running_gateway_follows(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """Another process changes the key: this one opens old and new, seals with the new, and works without the old."""
    for number in range(4):
        await hold.accept(acceptance(f"T{number}", b"Subject: x\r\n\r\n" + os.urandom(number * 70_000)))
    (old,) = hold.core.bodies.keys.identities()
    database, bodies = await open_store(settings.store)
    try:
        done = await Rotation(database, bodies).rotate()
        assert (done.old, done.damaged) == ((old,), ())
        assert done.done > 4  # notices too
        await hold.accept(acceptance("NEW"))
        assert await all_open(hold, identity(hold, done.key)) == 5
        with pytest.raises(OperatorError, match="on its way"):
            await Rotation(database, bodies).drop()
        gone = await Rotation(database, bodies, later).drop()
        assert (gone.done, gone.old) == (0, ())
        assert list(KeyRing(settings.store.key_file).identities()) == [done.key]
        await hold.accept(acceptance("LAST"))
        assert await all_open(hold) == 6
        with pytest.raises(OperatorError, match="one key"):
            await Rotation(database, bodies, later).drop()
    finally:
        await database.close()
    again = await open_hold(settings, hold.core.directory)
    assert await all_open(again) == 6
    await again.close()


@pytest.mark.sqlite
async def test_in_a_bucket_too(
    objects: ObjectServer, settings: Settings, city: Any, acceptance: Make, tmp_path: Path
) -> None:
    """Objects are replaced in place: same names, new key."""
    own = settings.model_copy(update={"store": objects.settings(settings.store.directory, tmp_path.name)})
    hold = await open_hold(own, city)
    try:
        await hold.accept(acceptance("T1", b"Subject: x\r\n\r\n" + b"large " * 1_200_000))
        names = sorted(name for name, _ in hold.core.bodies.objects.all())
        done = await Rotation(hold.core.database, hold.core.bodies).rotate()
        assert sorted(name for name, _ in hold.core.bodies.objects.all()) == names
        assert await all_open(hold, identity(hold, done.key)) == 1
    finally:
        await hold.close()


@pytest.mark.sqlite
def test_killed_at_any_moment(settings: Settings, city: Any, acceptance: Make) -> None:
    """Kill -9 at ten random moments of a rotation: every body opens each time; the next run goes on, to one key."""

    async def fill() -> str:
        hold = await open_hold(settings, city)
        for number in range(8):
            await hold.accept(acceptance(f"T{number}", b"Subject: x\r\n\r\n" + os.urandom(50_000 * (number % 4))))
        (old,) = hold.core.bodies.keys.identities()
        await hold.close()
        return old

    async def only_new(public: str) -> None:
        hold = await open_hold(settings, city)
        assert await all_open(hold, identity(hold, public)) == 8
        await hold.close()

    old = asyncio.run(fill())
    done = subprocess.run(
        [sys.executable, "-c", ROTATOR, settings.store.model_dump_json(), "10"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *rounds, last = [line.removeprefix("x") for line in done.stdout.splitlines()]
    assert len(rounds) == 10
    for line in rounds:
        good, first, *second = line.split()
        assert (good, first) == ("True", old)
        assert second in ([], [last]), "one new key, however often it begins again"
    asyncio.run(only_new(last))


async def test_another_node_s_key_is_no_damage(hold: Hold, acceptance: Make, settings: Settings, city: Any) -> None:
    """A node whose key file lacks the new key: a 451 that names it, never «damaged»; with the key all is well."""
    await hold.accept(acceptance("T1"))
    other = settings.store.directory / "other.key"
    shutil.copy(settings.store.key_file, other)
    database, bodies = hold.core.database, Bodies(Folder(settings.store.directory / "bodies"), KeyRing(other))
    done = await Rotation(database, hold.core.bodies).rotate()
    (item,) = await hold.list()
    with pytest.raises(StoreError, match=done.key) as caught:
        await bodies.get(item.message.body, item.message.sha256, len)
    assert not isinstance(caught.value, Damaged)
    await bodies.put("sealed-by-the-other", pieces(b"x"))
    await hold.core.bodies.get("sealed-by-the-other", digest([b"x"]), len)
    with pytest.raises(StoreError, match="is not the key"):
        Bodies(Folder(settings.store.directory / "bodies"), KeyRing(other))
    shutil.copy(settings.store.key_file, other)
    await bodies.get(item.message.body, item.message.sha256, len)


@pytest.mark.sqlite
async def test_prepared_keys_and_two_commands(hold: Hold, acceptance: Make) -> None:
    """A prepared key opens and seals nothing until it is rotated to; of two commands at once one is told."""
    await hold.accept(acceptance("T1"))
    rotation = Rotation(hold.core.database, hold.core.bodies)
    public = await rotation.prepare()
    assert await rotation.prepare() == public
    assert [key.public for key in hold.core.bodies.note().keys] != [public]
    async with hold.core.database.kind.sole("rotation") as alone:
        assert alone
        with pytest.raises(OperatorError, match="already"):
            await rotation.rotate()
    assert (await rotation.rotate()).key == public


@pytest.mark.sqlite
async def test_a_damaged_body_stays_and_is_named(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """What no key opens is neither sealed anew nor in the way of the others."""
    await hold.accept(acceptance("T1"))
    await hold.accept(acceptance("T2"))
    name = (await hold.list())[0].message.body
    path = settings.store.directory / "bodies" / f"{name}.age"
    path.write_bytes(path.read_bytes()[:-3])
    before = path.read_bytes()
    done = await Rotation(hold.core.database, hold.core.bodies).rotate()
    assert done.damaged == (name,)
    assert path.read_bytes() == before


@pytest.mark.sqlite
async def test_keys_in_the_environment(
    settings: Settings, city: Any, acceptance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable takes the file's place; a rotation wants the new key there first."""
    one, two = (str(pyrage.x25519.Identity.generate()) for _ in range(2))
    monkeypatch.setenv(VARIABLE, one)
    hold = await open_hold(settings, city)
    await hold.accept(acceptance("T1"))
    with pytest.raises(OperatorError, match="add a new identity"):
        await Rotation(hold.core.database, hold.core.bodies).rotate()
    await hold.close()
    assert not settings.store.key_file.exists()
    monkeypatch.setenv(VARIABLE, f"{one} {two}")
    hold = await open_hold(settings, city)
    done = await Rotation(hold.core.database, hold.core.bodies).rotate()
    await Rotation(hold.core.database, hold.core.bodies, later).drop()
    await hold.close()
    monkeypatch.setenv(VARIABLE, two)
    hold = await open_hold(settings, city)
    assert await all_open(hold, identity(hold, done.key)) == 1
    await hold.close()
    monkeypatch.setenv(VARIABLE, "AGE-SECRET-KEY-1SLIP")
    with pytest.raises(StoreError, match=VARIABLE) as caught:
        await open_hold(settings, city)
    assert "SLIP" not in str(caught.value)


def say(settings: Settings, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """One ``civicgate store … --json``: exit code and what it printed."""
    parser = argparse.ArgumentParser()
    store.register(parser.add_subparsers(dest="command"))
    code = store.run(parser.parse_args(["store", *words, "--json"]), settings)
    return code, orjson.loads(capsys.readouterr().out)


def test_store_check(settings: Settings, city: Any, acceptance: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole store is good; a body that is gone, or a place that is not there, is said, with its message."""

    async def fill() -> None:
        hold = await open_hold(settings, city)
        await hold.accept(acceptance("T1"))
        await hold.close()

    asyncio.run(fill())
    code, said = say(settings, capsys, "check")
    assert (code, said["good"], [c["check"] for c in said["checks"]]) == (
        0,
        True,
        ["database", "events", "keys", "bodies"],
    )
    (path,) = (settings.store.directory / "bodies").glob("T1.*.age")
    octets = path.read_bytes()
    path.write_bytes(octets[:-1])
    assert say(settings, capsys, "check", "--quick")[0] in (0, 1)
    code, said = say(settings, capsys, "check")
    assert (code, said["good"], said["checks"][-1]["ids"]) == (1, False, ["T1"])
    path.unlink()
    assert say(settings, capsys, "check", "--quick")[1]["checks"][-1]["ids"] == ["T1"]
    (settings.store.directory / "bodies").rename(settings.store.directory / "elsewhere")
    code, said = say(settings, capsys, "check")
    assert (code, said["good"]) == (1, False)


def test_store_rotate_key(settings: Settings, city: Any, acceptance: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line does what the rotation does, and says what comes next."""

    async def fill() -> None:
        hold = await open_hold(settings, city)
        await hold.accept(acceptance("T1"))
        await hold.close()

    asyncio.run(fill())
    key = say(settings, capsys, "rotate-key", "--prepare")[1]["key"]
    code, said = say(settings, capsys, "rotate-key")
    assert (code, said["key"], len(said["old"])) == (0, key, 1)
    with pytest.raises(OperatorError, match="--at-once"):
        say(settings, capsys, "rotate-key", "--drop-old")
    code, said = say(settings, capsys, "rotate-key", "--drop-old", "--at-once")
    assert (code, said["key"], said["old"]) == (0, key, [])
    assert say(settings, capsys, "check")[1]["good"]
