"""A store on a real SQLite file, a small city, a clock that the test moves."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.hold import Acceptance, Delivery, DeliveryResult, HeldGroup, Hold, Outbox, OutgoingGroup, open_hold
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import HoldOrder
from gateway.settings import NoticeSettings, OutboxSettings, Settings, StoreSettings

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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a store of its own."""
    return Settings(
        store=StoreSettings(directory=tmp_path / "store", key_file=tmp_path / "store" / "body.key"),
        notices=NoticeSettings(templates=TEMPLATES),
        outbox=OutboxSettings.model_validate({"poll_interval": "50 ms"}),
    )


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
