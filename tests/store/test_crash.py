"""Kill -9 at any moment: everything of an accept is there, or nothing; what was acknowledged is there."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.hold import Acceptance, Delivery, DeliveryResult, Hold, Outbox, State, open_hold
from gateway.hold.decide import Order
from gateway.model.reply import Reply
from gateway.settings import Settings
from gateway.store.bodies import ORPHAN_AGE

ROUNDS = 12

KILLED = """
import asyncio, os, random, signal, sys, time
from datetime import UTC, datetime
sys.path.insert(0, sys.argv[1])
import conftest
from pathlib import Path
from gateway.hold import open_hold
from gateway.model.reply import Reply
from gateway.settings import Settings, StoreSettings, NoticeSettings

folder, rounds = Path(sys.argv[2]), int(sys.argv[3])
settings = Settings(store=StoreSettings(directory=folder, database=sys.argv[4], key_file=folder / "body.key"),
                    notices=NoticeSettings(templates=conftest.TEMPLATES))

async def accept(number):
    said = os.open(folder / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    hold = await open_hold(settings, conftest.City())
    make = conftest.acceptance.__wrapped__(lambda: datetime.now(UTC))
    os.write(said, b"begin\\n")
    for count in range(10_000):
        await hold.accept(make(f"R{number}T{count}", conftest.MESSAGE * (1 + 500 * (count % 3))))
        os.write(said, f"R{number}T{count}\\n".encode())

folder.mkdir(exist_ok=True)
(folder / "said").touch()
for number in range(rounds):
    begun = (folder / "said").read_bytes().count(b"begin")
    child = os.fork()
    if child == 0:
        asyncio.run(accept(number))
        os._exit(1)
    while (folder / "said").read_bytes().count(b"begin") == begun:
        time.sleep(0.002)
    said = (folder / "said").stat().st_size
    while number % 2 and (folder / "said").stat().st_size == said:
        time.sleep(0.002)  # every other time not before something was accepted, however slow the machine is
    time.sleep(random.random() * 0.15)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print("done")
"""


async def test_kill_in_the_middle_of_accept(settings: Settings, city: Any) -> None:
    """Twelve kills at random moments: no half of a message is visible, nothing acknowledged is missing or damaged."""
    here = Path(__file__).parent
    folder = settings.store.directory
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(here), str(folder), str(ROUNDS), settings.store.database],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=here.parents[1],
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    said = {line for line in (folder / "said").read_text().splitlines() if line != "begin"}
    assert said
    hold = await open_hold(settings, city)
    try:
        items = {item.message.id: item for item in await hold.list()}
        assert said <= set(items)
        assert len(set(items) - said) <= ROUNDS
        for item in items.values():
            await hold.body(item, len)
        assert (await hold.queue_facts()).outbox == 5 * len(items)
        assert (await hold.verify_events())[0] == len(items)
        await _sweep(hold, folder, 5 * len(items))
        sent = await _deliver_all(hold, settings)
        assert sorted(i for i in sent if i.endswith("-o1")) == sorted(f"{ident}-o1" for ident in items)
    finally:
        await hold.close()


async def _sweep(hold: Hold, folder: Path, wanted: int) -> None:
    """Bodies without rows go once they are old; the others stay."""
    old = time.time() - ORPHAN_AGE - 1
    for path in (folder / "bodies").iterdir():
        os.utime(path, (old, old))
    await hold.sweep()
    assert len(list((folder / "bodies").iterdir())) == wanted


async def _deliver_all(hold: Hold, settings: Settings) -> list[str]:
    sent: list[str] = []

    async def deliver(delivery: Delivery) -> DeliveryResult:
        await delivery.copy(len)
        sent.append(delivery.id)
        ok = Reply.of(250, "2.0.0", "ok")
        return DeliveryResult(tuple(ok for _ in delivery.recipients), ok)

    await Outbox(hold, deliver, settings.outbox).drain()
    return sent


async def test_a_crash_between_250_and_our_commit_sends_again_under_the_same_id(
    hold: Hold, acceptance: Callable[..., Acceptance], sink: Any, clock: Any, settings: Settings
) -> None:
    """The one window in which a message is delivered twice: same row id, same item, and the item ends as released."""
    await hold.accept(acceptance(outgoing=()))
    for person in ("dora@city.example", "carl@city.example"):
        await hold.desk.approve(Order("T1-h1", person))
    crashed = Outbox(hold, sink, settings.outbox, owner="crashed")
    while (row := await crashed.claim()) is not None:
        await sink(crashed._delivery(row))
    clock.move(seconds=settings.outbox.claim_timeout + 1)
    await Outbox(hold, sink, settings.outbox).drain()
    twice = [(d.id, d.trace) for d, _ in sink.got if d.kind == "release"]
    assert len(twice) == 2
    assert twice[0] == twice[1]
    assert (await hold.desk.read("T1-h1")).item.state is State.RELEASED
