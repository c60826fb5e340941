"""What goes into the store and comes out of it, as frozen values; and their JSON.

The JSON is made by :mod:`orjson` from the values themselves and read back by one explicit constructor a value: a key
that is not known, or a missing one, is a :class:`~gateway.errors.StoreError`, never a guess.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import orjson

from gateway.errors import StoreError
from gateway.hold.states import State
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.verdict import Disposition, HoldOrder, Mode, Notice, RuleMatch, Transform, TransformKind

Value = TypeVar("Value")
Known = TypeVar("Known", bound=StrEnum)


class Body(Protocol):
    """The message as received; the spool's message is one."""

    @property
    def size(self) -> int:
        """Octets."""

    def sha256(self) -> str:
        """Hex digest of all octets."""

    def chunks(self) -> Iterator[memoryview]:
        """All octets, in pieces."""


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Recipients for whom the message waits."""

    recipients: tuple[Recipient, ...]
    orders: tuple[HoldOrder, ...]
    transforms: tuple[Transform, ...] = ()
    matches: tuple[RuleMatch, ...] = ()
    audience: int | None = None
    """How many people get it in the end (lists counted out), None: what the directory says, if it does."""


@dataclass(frozen=True, slots=True)
class OutgoingGroup:
    """Recipients to whom the outbox delivers at once."""

    recipients: tuple[Recipient, ...]
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """All that must be durable before 250 is said."""

    transaction: str
    client: Client
    reverse_path: str
    message: Body
    received: datetime
    """Aware."""
    parameters: tuple[str, ...] = ()
    """MAIL parameters, verbatim."""
    message_id: str = ""
    subject: str = ""
    """Decoded, for approvers; never logged."""
    authors: tuple[str, ...] = ()
    """Addresses of From and Sender: they may not approve either."""
    automatic: bool = False
    """Auto-submitted or list mail (RFC 3834 section 2): nobody is answered. See :func:`is_automatic`."""
    held: tuple[HeldGroup, ...] = ()
    outgoing: tuple[OutgoingGroup, ...] = ()
    notices: tuple[Notice, ...] = ()
    recipients: tuple[Recipient, ...] = ()
    """All of the message, for notices of one of which nothing is stored; without: those of the groups."""


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """A stored message without its body."""

    id: str
    received: datetime
    client: Client
    reverse_path: str
    parameters: tuple[str, ...]
    size: int
    sha256: str
    body: str
    """Name of the body object, ``""`` when it is gone."""
    message_id: str
    subject: str
    authors: tuple[str, ...]
    automatic: bool


@dataclass(frozen=True, slots=True)
class HeldItem:
    """One group of recipients of one message that waits, or waited, for people."""

    id: str
    message: MessageFacts
    state: State
    queue: str
    """Queue of the first hold order; metrics count by it."""
    round: int
    """1, and one more each time that a release came back: approvals count in their own round only."""
    recipients: tuple[Recipient, ...]
    orders: tuple[HoldOrder, ...]
    transforms: tuple[Transform, ...]
    matches: tuple[RuleMatch, ...]
    audience: int | None
    created: datetime
    changed: datetime
    """Since when it has been in its state."""
    expires: datetime
    version: int = 1
    """Counts changes: a move is made on what was read, or not at all."""
    asked: datetime | None = None
    """When the approvers of this round were asked; None before the sender has confirmed what a rule asks."""
    escalated: datetime | None = None
    """When further roles were asked last, in this round."""
    reminded: datetime | None = None
    """When the approvers were reminded last, in this round."""
    unreadable: str = ""
    """Why its row cannot be read; then it stands in lists as damaged, with what can be read of it."""

    @property
    def attestations(self) -> tuple[str, ...]:
        """What the sender must confirm, each text once."""
        return tuple(dict.fromkeys(order.attestation for order in self.orders if order.attestation))


@dataclass(frozen=True, slots=True)
class Decision:
    """What one person said about one item in one round."""

    item: str
    round: int
    person: str
    """Identity: the person's main address, folded."""
    verdict: str
    """``approve`` or ``reject``."""
    roles: tuple[str, ...]
    """Roles of the item that the person could fill at that time (one, when named)."""
    digest: str
    """SHA-256 of the message that the decision is bound to."""
    comment: str
    os_user: str
    at: datetime
    allow: str = ""
    """JSON of the exception that is to be recorded with the release, ``""``: none."""


class OutboxKind(StrEnum):
    """Why a row is in the outbox."""

    RELAY = "relay"
    RELEASE = "release"
    NOTICE = "notice"
    RETURN = "return"
    """Gives a held message back to its sender."""


class OutboxState(StrEnum):
    """What became of an outbox row."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    """Refused for good, or given up."""
    HELD = "held"
    """A transform failed; its recipients are a held item now."""
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One delivery that is still to be made."""

    id: str
    message: MessageFacts
    kind: OutboxKind
    item: str
    """Held item that it belongs to, ``""`` for none."""
    recipients: tuple[Recipient, ...]
    """Those still without an answer."""
    transforms: tuple[Transform, ...]
    created: datetime
    attempts: int
    """How many times it was claimed, this one included."""
    owner: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """For the metrics."""

    held: Mapping[str, int]
    """Open held items by queue."""
    oldest_held: Mapping[str, float]
    """Seconds since the oldest of a queue was held."""
    outbox: int
    oldest_outbox: float
    """Seconds; 0.0 when the outbox is empty."""
    damaged: int
    undecidable: int = 0
    """Items that nobody whom the directory names could approve."""


def list_ids(recipients: Iterable[Recipient]) -> tuple[str, ...]:
    """Lists among the recipients, each once; tags such as ``@city-wide`` are not lists."""
    return tuple(dict.fromkeys(i for recipient in recipients for i in recipient.lists if not i.startswith("@")))


def is_automatic(fields: Mapping[str, str]) -> bool:
    """Whether nobody may be answered (RFC 3834 section 2). ``fields``: lower case field name -> value."""
    auto = fields.get("auto-submitted", "no").split(";")[0].strip().lower()
    precedence = fields.get("precedence", "").strip().lower()
    return auto not in ("no", "") or precedence in ("bulk", "list", "junk") or "list-id" in fields


def dump(value: object) -> str:
    """JSON of model values, tuples of them, strings and numbers. Raises StoreError for what JSON cannot carry."""
    try:
        return orjson.dumps(value, default=_plain).decode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"a value cannot be stored: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    raise TypeError(type(value).__name__)


def known(kind: type[Known], text: str) -> Known:
    """A word of an enumeration. Raises StoreError for one that this version does not know."""
    try:
        return kind(text)
    except ValueError as error:
        raise StoreError(f"«{text}» is no {kind.__name__.lower()} that this version knows") from error


def load_strings(text: str) -> tuple[str, ...]:
    """A tuple of strings."""
    return tuple(str(item) for item in _list(text))


def load_client(text: str) -> Client:
    """The client's facts."""
    return _build(lambda d: Client(**d), _parse(text))


def load_recipients(text: str) -> tuple[Recipient, ...]:
    """Recipients with their RCPT parameters."""
    return tuple(_build(_recipient, item) for item in _list(text))


def load_transforms(text: str) -> tuple[Transform, ...]:
    """Transforms in their order."""
    return tuple(_build(_transform, item) for item in _list(text))


def load_orders(text: str) -> tuple[HoldOrder, ...]:
    """Hold orders."""
    return tuple(_build(_order, item) for item in _list(text))


def load_matches(text: str) -> tuple[RuleMatch, ...]:
    """Matched rules."""
    return tuple(_build(_match, item) for item in _list(text))


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise StoreError(f"a stored value is not JSON: {error}") from error


def _list(text: str) -> list[Any]:
    value = _parse(text)
    if not isinstance(value, list):
        raise StoreError("a stored value is not a list")
    return value


def _build(constructor: Callable[[dict[str, Any]], Value], data: dict[str, Any]) -> Value:
    try:
        return constructor(data)
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"a stored value cannot be read: {error}") from error


def _recipient(d: dict[str, Any]) -> Recipient:
    return Recipient(
        **d
        | {
            "direction": Direction(d["direction"]),
            "parameters": tuple(d["parameters"]),
            "lists": tuple(d["lists"]),
        }
    )


def _transform(d: dict[str, Any]) -> Transform:
    tuples = {key: tuple(d[key]) for key in ("lines", "methods", "wordings")}
    return Transform(**d | tuples | {"kind": TransformKind(d["kind"]), "on_failure": Disposition(d["on_failure"])})


_SPANS = ("expires_after", "remind_after", "remind_every", "escalate_after")
_NAMES = ("roles", "escalate_to", "exceptions")


def _order(d: dict[str, Any]) -> HoldOrder:
    """An order from before approval policies has fewer keys."""
    spans = {key: timedelta(seconds=d[key]) for key in _SPANS if d.get(key) is not None}
    return HoldOrder(**d | spans | {key: tuple(d[key]) for key in _NAMES if key in d})


def _match(d: dict[str, Any]) -> RuleMatch:
    return RuleMatch(
        **d
        | {
            "mode": Mode(d["mode"]),
            "disposition": Disposition(d["disposition"]),
            "source": tuple(d["source"]),
        }
    )
