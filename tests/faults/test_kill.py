"""kill -9 at random moments under load: nothing that was accepted is missing, nothing that is held is damaged.

Every sixth kill takes the whole gateway with it, parent and observer and all workers; the others take one worker. A
client that reads 250 notes the message; a client that is cut off forgets it, as it may. With CIVICGATE_CAMPAIGN
set it is five hundred kills instead of fifty.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.directory import load_directory
from gateway.hold import HeldItem, State, open_hold
from gateway.settings import load_settings
from tests.e2e.letters import EVERYONE, MAYOR, Certificate, certificate
from tests.e2e.running import DIRECTORY, CityGateway, Nursery, Sink, running_city
from tests.faults.load import Load, under_load

pytestmark = [pytest.mark.slow, pytest.mark.real]

KILLS = 500 if os.environ.get("CIVICGATE_CAMPAIGN") else 50
CLIENTS = 3
ONE, TWO = "one@example.org", "two@example.org"
RULES = {
    "hold-list": """\
id: hold-list
title: Mail to the entire city waits
when: {recipient: {city_wide: true}}
then: {hold: {queue: city, approvers: [it-director], reason: It waits.}}
source: wdm/all-city
cases:
  - it: holds
    message: {from: clerk@city.example, to: everyone@city.example, text: x}
    given: {lists: {everyone@city.example: [all-staff, "@city-wide"]}}
    expect: {disposition: hold}
  - it: leaves a person alone
    message: {from: clerk@city.example, to: mayor@city.example, text: x}
    expect: {disposition: pass}
""",
    "encrypt-outside": """\
id: encrypt-outside
title: Mail to the outside is encrypted
direction: outbound
when: {recipient: {outside: true}}
then: {encrypt: {methods: [smime]}}
source: mil/encrypt-outside
cases:
  - it: encrypts
    message: {from: clerk@city.example, to: one@example.org, text: x}
    expect: {transforms: [encrypt]}
  - it: leaves a colleague alone
    message: {from: clerk@city.example, to: mayor@city.example, text: x}
    expect: {transforms: []}
""",
}
KINDS: dict[str, tuple[str, ...]] = {
    "pass": (MAYOR,),
    "hold": (EVERYONE,),
    "split": (EVERYONE, MAYOR),
    "encrypt": (ONE,),
    "outbox": (ONE, TWO),
}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Folder of the recipients' certificates."""
    folder = tmp_path / "gateway" / "certificates"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def gateway(tmp_path: Path, nursery: Nursery, sealed: Path, sink_of_kills: Sink) -> Iterator[CityGateway]:
    """A gateway whose rules ask for no inspection: what is shown here is what becomes of accepted mail."""
    assert sealed.is_dir()
    outbox = {"claim_timeout": "1 s", "poll_interval": "100 ms", "retry_first": "200 ms", "retry_longest": "1 s"}
    with running_city(tmp_path / "gateway", nursery, sink_of_kills.port, RULES, outbox=outbox, workers=3) as one:
        yield one


@pytest.fixture
def sink_of_kills() -> Iterator[Sink]:
    """A mail server for this test alone."""
    with Sink() as one:
        yield one


def test_nothing_accepted_is_ever_missing(
    gateway: CityGateway, sink_of_kills: Sink, sealed: Path, tmp_path: Path
) -> None:
    """After fifty kills under load every 250 is kept: it is at the next hop, or held and undamaged."""
    owners = {address: certificate(sealed, tmp_path, address) for address in (ONE, TWO)}
    load = Load(gateway.port, KINDS)
    with load.running(CLIENTS):
        under_load(load, KILLS, 50, lambda round_, chance: kill(gateway, round_, chance))
    examine(gateway, sink_of_kills, load, owners)


def kill(gateway: CityGateway, round_: int, chance: random.Random) -> None:
    """One worker, or everything."""
    if round_ % 6 == 5:
        gateway.kill_all()
        gateway.start()
        return
    workers = gateway.workers()
    if workers:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)


def examine(
    gateway: CityGateway, sink: Sink, load: Load, owners: dict[str, Certificate], *, through_postfix: bool = False
) -> None:
    """Whether everything that was accepted is somewhere. Raises AssertionError.

    ``through_postfix``: what goes straight through may come twice too, from Postfix's own queue.
    """
    held = asyncio.run(_store(gateway))
    arrived: dict[str, Counter[str]] = {}
    sample: dict[str, bytes] = {}
    for one in sink.all():
        name = one.content.partition(b"Message-ID: <")[2].partition(b"@kill.example>")[0].decode()
        for rcpt in one.rcpts:
            address = rcpt.partition("<")[2].partition(">")[0]
            arrived.setdefault(name, Counter())[address] += 1
            if address in owners and len(sample) < 40:
                sample[f"{address} {name}"] = one.content
    missing: list[tuple[str, str, str]] = []
    twice: Counter[str] = Counter()
    for name, kind in load.accepted.items():
        for address in KINDS[kind]:
            if address == EVERYONE:
                if f"<{name}@kill.example>" not in held:
                    missing.append((name, kind, address))
                continue
            count = arrived.get(name, Counter())[address]
            twice[kind] += max(0, count - 1)
            if not count:
                missing.append((name, kind, address))
    kinds = Counter(load.accepted.values())
    print(f"accepted {dict(kinds)}, twice {dict(twice)}, cut off {load.cut_off}, {dict(load.refused)}")
    assert not missing
    assert set(kinds) == set(KINDS)
    if not through_postfix:
        assert twice["pass"] == twice["encrypt"] == 0, "only what goes through the outbox may come twice"
    outside = [one for one in sink.all() if any("example.org" in rcpt for rcpt in one.rcpts)]
    assert not any(b"line of text" in one.content for one in outside), "a clear copy left"
    for key, content in sample.items():
        assert owners[key.partition(" ")[0]].open(content).count(b"line of text") > 90


async def _store(gateway: CityGateway) -> set[str]:
    """Message-IDs of what is held, once the outbox is empty; every body is read and every event verified."""
    hold = await open_hold(load_settings(gateway.config), load_directory(DIRECTORY))
    try:
        deadline = time.monotonic() + 60
        while (facts := await hold.queue_facts()).outbox:
            assert time.monotonic() < deadline, f"the outbox does not empty: {facts}\n{gateway.log[-2000:]}"
            await asyncio.sleep(0.2)
        items: tuple[HeldItem, ...] = await hold.list(states=tuple(State))
        for item in items:
            octets: list[Any] = []
            await hold.body(item, octets.append)  # raises Damaged unless it is what was accepted
            assert sum(map(len, octets)) == item.message.size
        events, _ = await hold.verify_events()
        assert events >= len(items)
        return {item.message.message_id for item in items}
    finally:
        await hold.close()
