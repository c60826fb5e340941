"""What the pipeline needs of the other rooms, as protocols, and the snapshot of all of it that a transaction holds.

A reload makes a new snapshot; a transaction ends with the one that it began with.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.directory import Directory
from gateway.model.envelope import Client, Envelope, ExceptionRecord
from gateway.model.finding import Check, ControlFailure, Finding, Questions
from gateway.model.reply import Reply
from gateway.model.verdict import Notice, RecipientGroup, Transform
from gateway.policy import RuleSet
from gateway.settings import Settings
from gateway.spool import Spool, SpooledMessage


class Capabilities(Protocol):
    """What the next hop's last EHLO offered."""

    @property
    def size(self) -> int | None: ...
    @property
    def smtputf8(self) -> bool: ...
    @property
    def eightbitmime(self) -> bool: ...
    @property
    def dsn(self) -> bool: ...


class Relay(Protocol):
    """A transaction with the next hop."""

    async def rcpt(self, address: str, parameters: Sequence[str] = ()) -> Reply: ...
    async def send(self, chunks: Iterable[bytes | memoryview]) -> Reply: ...
    def abort(self) -> object: ...


class NextHop(Protocol):
    """The mail server behind."""

    @property
    def capabilities(self) -> Capabilities | None: ...
    async def begin(self, client: Client, reverse_path: str, parameters: Sequence[str]) -> Relay: ...


class Inspector(Protocol):
    """The passive checks."""

    async def inspect(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...], frozenset[Check]]: ...


class Scanner(Protocol):
    """The virus control."""

    async def scan(self, message: SpooledMessage) -> tuple[Finding, ...]: ...


class Outgoing(Protocol):
    """A message on its way out, edits applied as it streams."""

    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    def chunks(self) -> Iterator[bytes | memoryview]: ...
    def close(self) -> None: ...


class Transformer(Protocol):
    """Makes the changes that rules ask for."""

    async def apply(
        self, message: SpooledMessage, transforms: tuple[Transform, ...], recipients: tuple[str, ...]
    ) -> Outgoing: ...


@dataclass(frozen=True, slots=True)
class Custody:
    """What the store takes over in one commit: the message, and what is to become of it."""

    envelope: Envelope
    message: SpooledMessage | None
    """None when only notices are to be sent."""
    message_id: str
    automatic: bool
    """Auto-submitted (RFC 3834): nobody is answered."""
    groups: tuple[RecipientGroup, ...]
    """Held groups are held; passing ones go to the outbox."""
    notices: tuple[Notice, ...]
    trace: bytes
    """The trace block, to be put on top when it is delivered."""


class Store(Protocol):
    """The durable side: held mail, outbox, exceptions."""

    async def accept(self, custody: Custody) -> None:
        """Commit, or raise :class:`StoreError`. After it returns the message is ours."""

    def exceptions(self) -> Sequence[ExceptionRecord]:
        """The live exception records, from memory."""

    async def use(self, ids: Sequence[str]) -> bool:
        """Count one use of each. False when one is used up meanwhile."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a transaction works with."""

    settings: Settings
    hostname: str
    rules: RuleSet
    directory: Directory
    next_hop: NextHop
    inspector: Inspector
    scanner: Scanner
    transformer: Transformer
    store: Store
    spool: Spool
    new_id: Callable[[], str]
    clock: Callable[[], float]
    record: Callable[..., None]
    """Writes the log line and counts; see :mod:`gateway.pipeline.record`."""
