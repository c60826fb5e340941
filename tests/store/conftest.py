"""A store on a real database, a small city, a clock that the test moves.

Whoever asks for ``settings``, and so for a store, runs on SQLite and on PostgreSQL; marked ``sqlite``, on SQLite alone
(what is shown does not depend on the database, or is SQLite's own).
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.hold import Acceptance, Delivery, DeliveryResult, HeldGroup, Hold, Outbox, OutgoingGroup, open_hold
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import HoldOrder
from gateway.settings import NoticeSettings, OutboxSettings, Settings, StoreSettings
from gateway.store.opening import place
from gateway.store.postgres import WRITERS, Server
from tests.objects import ObjectServer
from tests.objects import running as running_objects
from tests.postgresql import Cluster

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "config" / "templates"
MESSAGE = (
    b"From: Alice <alice@city.example>\r\nTo: all@city.example\r\nSubject: Picnic\r\nMessage-ID: <1@city.example>\r\n"
    b"\r\nThe needle in this body must never lie in clear on the disk.\r\n"
)
OK = Reply.of(250, "2.0.0", "ok")


class Memory:
    """A message in memory, with the spool's interface."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def sha256(self) -> str:
        """Hex digest."""
        return hashlib.sha256(self._data).hexdigest()

    def chunks(self) -> Iterator[memoryview]:
        """All octets."""
        for start in range(0, self.size, 262_144):
            yield memoryview(self._data)[start : start + 262_144]


@dataclass(frozen=True)
class SomePerson:
    """Whom an address reaches."""

    address: str


@dataclass(frozen=True)
class SomeList:
    """A list."""

    size: int
    owners: tuple[str, ...] = ("otto@city.example",)


@dataclass
class City:
    """A directory that the test can change."""

    roles: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "director": ("dora@city.example",),
            "communications": ("carl@city.example", "cora@city.example"),
            "it-director": ("ida@city.example",),
        }
    )
    aliases: dict[str, str] = field(default_factory=lambda: {"d.smith@city.example": "dora@city.example"})
    standing_in: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def holders(self, role: str, sender_address: str) -> tuple[str, ...]:
        """Who holds it."""
        return self.roles.get(role, ())

    def person(self, address: str) -> SomePerson | None:
        """Everybody at the city is known."""
        found = self.aliases.get(address.lower(), address.lower())
        return SomePerson(found) if found.endswith("@city.example") and "+" not in found else None

    def list(self, id: str) -> SomeList | None:  # noqa: A002 - the directory's own signature
        """One list."""
        return SomeList(412) if id == "all-city" else None

    def deputies(self, address: str, at: datetime) -> tuple[str, ...]:
        """Who stands in."""
        return self.standing_in.get(address, ())


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def move(self, **span: float) -> None:
        """Later by ``timedelta(**span)``."""
        self.now += timedelta(**span)


@dataclass
class Sink:
    """A next hop in the test: says what it is told to say, keeps what it was given."""

    answer: Callable[[Delivery], Awaitable[DeliveryResult] | DeliveryResult] | None = None
    got: list[tuple[Delivery, bytes]] = field(default_factory=list)

    async def __call__(self, delivery: Delivery) -> DeliveryResult:
        """One delivery."""
        kept = bytearray()
        await delivery.copy(kept.extend)
        if self.answer is not None:
            result = self.answer(delivery)
            result = result if isinstance(result, DeliveryResult) else await result
        else:
            result = DeliveryResult(tuple(OK for _ in delivery.recipients), OK)
        self.got.append((delivery, bytes(kept)))
        return result

    def to(self, address: str) -> list[bytes]:
        """What this recipient was sent."""
        return [data for delivery, data in self.got if address in [r.address for r in delivery.recipients]]


@pytest.fixture
def city() -> City:
    """A directory."""
    return City()


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def sink() -> Sink:
    """A next hop."""
    return Sink()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One contract: every test of a store on both databases."""
    if "database" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("sqlite") is not None
        metafunc.parametrize("database", ["sqlite"] if alone else ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def objects() -> Iterator[ObjectServer]:
    """An S3-compatible server, one for each process of tests."""
    with running_objects() as one:
        yield one


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """What ``store.database`` says: SQLite, or a PostgreSQL database of the test's own."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    with cluster.database(request.getfixturevalue("template")) as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    """Settings with a store of its own."""
    folder = tmp_path / "store"
    return Settings(
        store=StoreSettings(directory=folder, database=database, key_file=folder / "body.key"),
        notices=NoticeSettings(templates=TEMPLATES),
        outbox=OutboxSettings.model_validate({"poll_interval": "50 ms"}),
    )


@dataclass
class ByHand:
    """Somebody at the database with its own tools, past the gateway."""

    at: Path | Server
    _locks: list[Any] = field(default_factory=list)

    async def __call__(self, *statements: str) -> list[list[Any]]:
        """Run and commit; returns the rows of each."""
        if isinstance(self.at, Path):
            with closing(sqlite3.connect(self.at)) as file:
                found = [file.execute(statement).fetchall() for statement in statements]
                file.commit()
                return found
        server = await self.at.connect(10.0)
        try:
            async with server.transaction():
                return [[tuple(row) for row in await server.fetch(statement)] for statement in statements]
        finally:
            await server.close()

    async def lock(self) -> None:
        """Let no writer in until :meth:`unlock`."""
        if isinstance(self.at, Path):
            self._locks.append(sqlite3.connect(self.at, isolation_level=None))
            self._locks[-1].execute("BEGIN IMMEDIATE")
        else:
            self._locks.append(await self.at.connect(10.0))
            await self._locks[-1].execute(f"SELECT pg_advisory_lock({WRITERS})")
            await self._locks[-1].execute("BEGIN; LOCK TABLE outbox IN SHARE MODE")

    async def unlock(self) -> None:
        """As before."""
        while self._locks:
            done = self._locks.pop().close()
            if done is not None:
                await done


@pytest.fixture
async def by_hand(settings: Settings) -> AsyncIterator[ByHand]:
    """The database behind the gateway's back."""
    one = ByHand(place(settings.store))
    yield one
    await one.unlock()


@pytest.fixture
async def hold(settings: Settings, city: City, clock: Clock) -> AsyncIterator[Hold]:
    """An open store."""
    found = await open_hold(settings, city, clock=clock, busy_timeout=2.0)
    yield found
    await found.close()


@pytest.fixture
def outbox(hold: Hold, sink: Sink, settings: Settings) -> Outbox:
    """An outbox that delivers to ``sink``."""
    return Outbox(hold, sink, settings.outbox)


@pytest.fixture
def acceptance(clock: Clock) -> Callable[..., Acceptance]:
    """Makes an acceptance: by default one list held for two roles, one recipient at once."""

    def make(transaction: str = "T1", data: bytes = MESSAGE, **changes: object) -> Acceptance:
        values: dict[str, object] = {
            "transaction": transaction,
            "client": Client("192.0.2.1", 4711, "mx.city.example", "mx", "alice", "ESMTPS", "TLSv1.3", inside=True),
            "reverse_path": "alice@city.example",
            "message": Memory(data),
            "received": clock(),
            "parameters": ("BODY=8BITMIME", "RET=FULL"),
            "message_id": "<1@city.example>",
            "subject": "Picnic",
            "held": (HeldGroup((to("all@city.example", lists=("all-city",)),), (order(),)),),
            "outgoing": (OutgoingGroup((to("bob@city.example"),)),),
        }
        return Acceptance(**(values | changes))  # type: ignore[arg-type]  # checked by the dataclass's users

    return make


def to(address: str, *parameters: str, lists: tuple[str, ...] = ()) -> Recipient:
    """A recipient."""
    return Recipient(address, Direction.INTERNAL, parameters, lists)


def order(*roles: str, queue: str = "all-city", after: timedelta | None = None) -> HoldOrder:
    """A hold order; by default the director's and the communications specialist's."""
    return HoldOrder("city-wide", queue, roles or ("director", "communications"), after, "wdm/all-city asks for it")


@pytest.fixture
def recipient() -> Callable[..., Recipient]:
    """Makes a recipient."""
    return to


@pytest.fixture
def hold_order() -> Callable[..., HoldOrder]:
    """Makes a hold order."""
    return order
