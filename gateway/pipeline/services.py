"""What the pipeline needs of the other rooms, as protocols, and the snapshot of all of it that a transaction holds.

A reload makes a new snapshot; a transaction ends with the one that it began with.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.directory import Directory
from gateway.hold.marks import Claim
from gateway.hold.values import Acceptance
from gateway.model.envelope import Client, Envelope, ExceptionRecord
from gateway.model.finding import Check, ControlFailure, Finding, Questions
from gateway.model.reply import Reply
from gateway.model.verdict import Transform
from gateway.policy import RuleSet
from gateway.settings import Settings
from gateway.spool import Spool, SpooledMessage


class Capabilities(Protocol):
    """What the next hop's last EHLO offered."""

    @property
    def name(self) -> str: ...
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

    @property
    def lost(self) -> bool: ...
    async def rcpt(self, address: str, parameters: tuple[str, ...] = ()) -> Reply: ...
    async def send(self, chunks: Iterable[bytes | memoryview]) -> Reply: ...
    def rest(self) -> None:
        """Nothing to do until the client goes on. Look at ``lost`` before any other method is called."""

    def abort(self) -> object: ...


class NextHop(Protocol):
    """The mail server behind."""

    @property
    def capabilities(self) -> Capabilities | None: ...
    async def begin(self, client: Client, reverse_path: str, parameters: tuple[str, ...], ident: str) -> Relay: ...


class Inspector(Protocol):
    """The passive checks."""

    async def inspect(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...], frozenset[Check]]: ...
    async def examine(
        self, message: SpooledMessage, envelope: Envelope, questions: Questions
    ) -> tuple[tuple[Finding, ...], tuple[ControlFailure, ...], frozenset[Check], SpooledMessage | None]:
        """The same, and what has to be scanned besides the message."""


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


class Store(Protocol):
    """The durable side: held mail and outbox."""

    async def accept(self, acceptance: Acceptance) -> None:
        """Commit, or raise :class:`StoreError`. After it returns the message is ours."""


class Releases(Protocol):
    """Knows mail again that was approved and released."""

    async def rules(self, claim: Claim) -> frozenset[str]:
        """Ids of rules that may not hold it again; none when it proves nothing. Raises :class:`StoreError`."""


class Exceptions(Protocol):
    """The approved, expiring exceptions to rules."""

    async def snapshot(self) -> tuple[ExceptionRecord, ...]:
        """All that hold now; from memory but for once a second. Raises :class:`StoreError`."""

    async def use(self, ids: Sequence[str]) -> None:
        """Count one use of each. Raises :class:`StoreError` when one is used up meanwhile."""

    async def give_back(self, ids: Sequence[str]) -> None:
        """Take one use of each back. Raises :class:`StoreError`."""


class Passages(Protocol):
    """The marks on copies of ours that a mail server asks about."""

    async def use(self, claim: Claim) -> bool:
        """Whether the mark is good, this once. Raises :class:`StoreError`."""


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
    exceptions: Exceptions
    spool: Spool
    new_id: Callable[[], str]
    clock: Callable[[], float]
    record: Callable[..., None]
    """Writes the log line and counts; see :mod:`gateway.records.transaction`."""
    releases: Releases | None = None
    passages: Passages | None = None
    """None: released mail that comes again is not known."""
