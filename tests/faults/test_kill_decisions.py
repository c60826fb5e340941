"""kill -9 of any process while mail is held, decided and released: every message is in exactly one place at the end.

What is killed, at random: a worker, the observer, the whole gateway, a backend of PostgreSQL (whose server then ends
all others too). Meanwhile clients send, and a second node decides. Duplicates are counted: SMTP leaves one window open,
the time between the next hop's 250 and our commit of it, and only what goes through the outbox may come twice. A short
cut runs with the suite; `make kill` runs three hundred rounds (CIVICGATE_ROUNDS).
"""

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.directory import load_directory
from gateway.errors import CivicgateError, OperatorError
from gateway.hold import HeldItem, Hold, State, open_hold
from gateway.hold.decide import Order
from gateway.settings import load_settings
from tests import postgresql
from tests.e2e.letters import CLERK, EVERYONE, MAYOR
from tests.e2e.running import DIRECTORY, CityGateway, Nursery, Sink, children_of, running_city, until
from tests.faults.load import Load
from tests.postgresql import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.real]

ROUNDS = int(os.environ.get("CIVICGATE_ROUNDS", "6"))
MINUTES = float(os.environ.get("CIVICGATE_MINUTES", "120"))
"""After so many the rounds end, however many they were."""
CLIENTS = 2
OTHERS = ("one@example.org", "two@example.org")
PEOPLE = ("it-director@city.example", "communications@city.example")
RULES = {
    "hold-list": """\
id: hold-list
title: Mail to the entire city waits for two people
when: {recipient: {city_wide: true}}
then: {hold: {queue: city, approvers: [it-director, communications-specialist], reason: It waits.}}
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
}
KINDS: dict[str, tuple[str, ...]] = {"hold": (EVERYONE,), "split": (EVERYONE, MAYOR), "pass": (MAYOR,)}
DELIVERED = (State.RELEASED,)
ENDED = (State.REJECTED, State.RETURNED)


@dataclass
class Decider:
    """A second node: decides what waits, four yes to one no, and leaves some to wait."""

    gateway: CityGateway
    over: threading.Event = field(default_factory=threading.Event)
    said: Counter[str] = field(default_factory=Counter)
    yes: set[str] = field(default_factory=set)
    no: set[str] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a thread, until the block is left."""
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join(60)

    async def _run(self) -> None:
        chance = random.Random(5)
        hold = await self._open()
        try:
            while not self.over.is_set():
                try:
                    items = await hold.list(states=(State.HELD,))
                    for item in chance.sample(items, min(4, len(items))):
                        await self._decide(hold, item, chance)
                except CivicgateError:
                    self.said["store away"] += 1
                await asyncio.sleep(0.05)
        finally:
            await hold.close()

    async def _open(self) -> Hold:
        return await open_hold(load_settings(self.gateway.config), load_directory(DIRECTORY))

    async def _decide(self, hold: Hold, item: HeldItem, chance: random.Random) -> None:
        if item.id in self.no or int(item.message.sha256[:2], 16) < 20:  # some wait to the end
            return
        reject = int(item.message.sha256[2:4], 16) < 50
        order = Order(item.id, chance.choice(PEOPLE), comment="because")
        try:
            outcome = await (hold.desk.reject(order) if reject else hold.desk.approve(order))
        except OperatorError:
            self.said["told"] += 1  # said before, and the answer was lost; or it fills a role that is taken
        else:
            (self.no if reject else self.yes).add(item.id)
            self.said[f"{'no' if reject else 'yes'}{'' if outcome.changed else ' again'}"] += 1


class Axe:
    """Ends one process of many, without warning."""

    def __init__(self, gateway: CityGateway, cluster: Cluster | None) -> None:
        self.gateway, self.cluster = gateway, cluster
        self.fell: Counter[str] = Counter()
        self.kinds = ["worker"] * 4 + ["observer", "gateway"] + (["database"] * 3 if cluster is not None else [])

    def strike(self, chance: random.Random) -> None:
        """One of them."""
        kind = chance.choice(self.kinds)
        if kind == "gateway":
            self.gateway.kill_all()
            self.gateway.start()
        else:
            pids = getattr(self, f"_{kind}s")()
            if not pids:
                return
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
        self.fell[kind] += 1

    def _workers(self) -> list[int]:
        return self.gateway.workers()

    def _observers(self) -> list[int]:
        return sorted(set(self.gateway.children()) - set(self.gateway.workers()))[:1]

    def _databases(self) -> list[int]:
        """Backends that serve somebody."""
        assert self.cluster is not None
        found = []
        for pid in children_of(self.cluster.pid):
            with suppress(OSError):
                if b"[local]" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster | None]:
    """A PostgreSQL whose backends may be killed; None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    with postgresql.running() as one:
        yield one


@pytest.fixture
def gateway(tmp_path: Path, nursery: Nursery, behind: Sink, cluster: Cluster | None) -> Iterator[CityGateway]:
    """A gateway on either database, with a store that it shares with the test's own node."""
    folder = tmp_path / "gateway"
    store = {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")}
    if cluster is not None:
        store["database"] = cluster.url(cluster.create())
    outbox = {"claim_timeout": "5 s", "poll_interval": "100 ms", "retry_first": "200 ms", "retry_longest": "1 s"}
    with running_city(folder, nursery, behind.port, RULES, outbox=outbox, store=store, workers=3) as one:
        yield one


@pytest.fixture
def behind() -> Iterator[Sink]:
    """A mail server for this test alone."""
    with Sink() as one:
        yield one


def test_exactly_one_place(gateway: CityGateway, behind: Sink, cluster: Cluster | None) -> None:
    """Killed at random while people decide: delivered, or back with its sender, or held; never two, never none."""
    load, decider, chance = Load(gateway.port, KINDS), Decider(gateway), random.Random(ROUNDS)
    axe = Axe(gateway, cluster)
    with load.running(CLIENTS), decider.running():
        end = time.monotonic() + MINUTES * 60
        while sum(axe.fell.values()) < ROUNDS and time.monotonic() < end:
            load.settle(2)
            time.sleep(chance.uniform(0.0, 0.2))
            axe.strike(chance)
        decided = decider.said["yes"]
        load.settle()
        until(lambda: decider.said["yes"] > decided, 90, "nothing is decided any more")
    items = asyncio.run(_at_rest(gateway))
    _examine(load, decider, axe, items, _arrived(behind))


async def _at_rest(gateway: CityGateway) -> list[HeldItem]:
    """All items, once the outbox is empty; every body that is needed opens, and the chain of events holds."""
    hold = await open_hold(load_settings(gateway.config), load_directory(DIRECTORY))
    try:
        deadline = time.monotonic() + 120
        while (facts := await hold.queue_facts()).outbox:
            assert time.monotonic() < deadline, f"the outbox does not empty: {facts}\n{gateway.log[-2000:]}"
            await asyncio.sleep(0.2)
        items = list(await hold.list(states=tuple(State)))
        for item in items:
            if item.state is State.HELD:
                await hold.body(item, len)
        await hold.verify_events()
        for item in items:
            assert bool(item.message.body) == (item.state is State.HELD), (item.id, item.state)
        return items
    finally:
        await hold.close()


def _arrived(behind: Sink) -> dict[str, Counter[str]]:
    """Per name of a message: how often it came to each address; ``returned`` for a letter that gives it back."""
    arrived: dict[str, Counter[str]] = {}
    for one in behind.all():
        name = one.content.partition(b"Message-ID: <k")[2].partition(b"@kill.example>")[0].decode()
        if not name:
            continue
        to = [rcpt.partition("<")[2].partition(">")[0] for rcpt in one.rcpts]
        back = b"Content-Type: multipart/report" in one.content or b"Content-Type: message/rfc822" in one.content
        arrived.setdefault(f"k{name}", Counter()).update(["returned"] if back and to == [CLERK] else to)
    return arrived


def _examine(load: Load, decider: Decider, axe: Axe, items: list[HeldItem], arrived: dict[str, Counter[str]]) -> None:
    held: dict[str, HeldItem] = {item.message.message_id.strip("<>").partition("@")[0]: item for item in items}
    wrong: list[Any] = []
    twice: Counter[str] = Counter()
    for name, kind in load.accepted.items():
        came = arrived.get(name, Counter())
        if MAYOR in KINDS[kind] and not came[MAYOR]:
            wrong.append((name, kind, "not with the mayor"))
        twice[f"{kind}, straight" if kind == "pass" else f"{kind}, relayed"] += max(0, came[MAYOR] - 1)
        if EVERYONE not in KINDS[kind]:
            continue
        item = held.get(name)
        places = {
            "delivered": bool(came[EVERYONE]) and item is not None and item.state in DELIVERED,
            "returned": bool(came["returned"]) and item is not None and item.state in ENDED,
            "held": item is not None and item.state is State.HELD,
        }
        anywhere = [bool(came[EVERYONE]), bool(came["returned"]), places["held"]]
        if sum(places.values()) != 1 or sum(anywhere) != 1:
            wrong.append((name, kind, places, dict(came), item and item.state))
        twice["released"] += max(0, came[EVERYONE] - 1)
        twice["returned"] += max(0, came["returned"] - 1)
    states = Counter(item.state.value for item in items)
    print(
        f"{sum(axe.fell.values())} kills {dict(axe.fell)}: accepted {dict(Counter(load.accepted.values()))}, "
        f"decided {dict(decider.said)}, items {dict(states)}, twice {dict(+twice)}, "
        f"cut off {load.cut_off}, {dict(load.refused)}"
    )
    assert not wrong, wrong[:10]
    assert twice["pass, straight"] == 0, "what the next hop answered while the client waited comes once"
    assert sum(twice.values()) <= sum(axe.fell.values()) * 8, (
        "more duplicates than deliveries that can be under way at a kill"
    )
    said_no = {item.id for item in items if item.state in ENDED}
    assert decider.no <= said_no
    assert states[State.RELEASED.value]
