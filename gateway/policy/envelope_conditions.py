"""The conditions on what is known before the content: direction, sender, recipient, size, exception records.

Each answers yes, no or unknown about one message and one recipient. Refuses to guess: what the client has not said yet
is unknown. Those on what the checks found are :mod:`gateway.policy.finding_conditions`.
"""

from collections.abc import Iterable
from typing import Any

from gateway.model.envelope import CITY_WIDE, Direction, ExceptionRecord, Recipient, a_labels, domain_of, fold
from gateway.policy.logic import NO, UNKNOWN, YES, Aspect, Facts, Node
from gateway.policy.patterns import Names


class DirectionIs(Node):
    """Which way the message goes for the recipient."""

    __slots__ = ("directions",)
    aspects, early = Aspect.DIRECTION, True

    def __init__(self, directions: Iterable[Direction]) -> None:
        self.directions = tuple(directions)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if recipient is None:
            return UNKNOWN
        return YES if recipient.direction in self.directions else NO

    def words(self) -> str:
        return "direction is " + " or ".join(self.directions)

    def never(self, direction: Direction) -> bool:
        return direction not in self.directions


class SenderIs(Node):
    """The reverse-path and its directory facts. Always known."""

    __slots__ = ("address", "departments", "domain", "lists", "marks", "null", "text")
    early = True

    def __init__(self, spec: Any) -> None:
        self.address = Names(map(_folded, spec.address)) if spec.address else None
        self.domain = Names(map(a_labels, spec.domain)) if spec.domain else None
        self.marks = frozenset(spec.mark)
        self.lists = Names(spec.list) if spec.list else None
        self.departments = Names(spec.department) if spec.department else None
        self.null = spec.null
        self.text = "sender " + _spec_words(spec)

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        sender = facts.envelope.sender
        holds = (
            (not self.null or facts.sender == "")
            and (not self.marks or not self.marks.isdisjoint(sender.marks))
            and (self.address is None or self.address.match(facts.sender))
            and (self.domain is None or self.domain.match(facts.domain))
            and (self.departments is None or self.departments.match(sender.department.lower()))
            and (self.lists is None or self.lists.match_any(sender.lists))
        )
        return YES if holds else NO

    def words(self) -> str:
        return self.text

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"sender <{facts.envelope.sender.address}>"


class RecipientIs(Node):
    """One forward-path and its directory facts; unknown while there is none."""

    __slots__ = ("address", "aspects", "city_wide", "domain", "lists", "outside", "text")
    early = True

    def __init__(self, spec: Any) -> None:
        self.address = Names(map(_folded, spec.address)) if spec.address else None
        self.domain = Names(map(a_labels, spec.domain)) if spec.domain else None
        self.lists = Names(spec.list) if spec.list else None
        self.city_wide, self.outside = spec.city_wide, spec.outside
        self.text = "recipient " + _spec_words(spec)
        aspects = Aspect.NONE
        for used, aspect in (
            (self.address, Aspect.ADDRESS), (self.domain, Aspect.DOMAIN), (self.lists, Aspect.LISTS),
            (self.city_wide, Aspect.LISTS), (self.outside, Aspect.DIRECTION),
        ):  # fmt: skip
            aspects |= aspect if used else Aspect.NONE
        self.aspects = aspects

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        if recipient is None:
            return UNKNOWN
        holds = (
            (not self.outside or recipient.direction is Direction.OUTBOUND)
            and (not self.city_wide or CITY_WIDE in recipient.lists)
            and (self.lists is None or self.lists.match_any(recipient.lists))
            and (self.domain is None or self.domain.match(domain_of(recipient.address)))
            and (self.address is None or self.address.match(fold(recipient.address)))
        )
        return YES if holds else NO

    def words(self) -> str:
        return self.text

    def never(self, direction: Direction) -> bool:
        return bool(self.outside) and direction is not Direction.OUTBOUND

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"recipient <{recipient.address}>" if recipient else ""


def _folded(pattern: str) -> str:
    """A pattern of addresses as they are compared; without an «@» it may be the end of one (``*.city.example``)."""
    return fold(pattern) if "@" in pattern or "." not in pattern else a_labels(pattern)


def _spec_words(spec: Any) -> str:
    parts = []
    for name in sorted(spec.model_fields_set, key=list(type(spec).model_fields).index):
        value = getattr(spec, name)
        shown = (
            "" if value is True else " " + (" or ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        )
        parts.append(name.replace("_", "-") + shown)
    return ", ".join(parts)


class SizeIs(Node):
    """Octets as received; while they still come, or as declared, a lower bound."""

    __slots__ = ("over", "under")
    early = True

    def __init__(self, spec: Any) -> None:
        self.over, self.under = spec.over, spec.under

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        size, rest = facts.size, NO if facts.complete else UNKNOWN
        over = YES if self.over is None or size > self.over else rest
        under = YES if self.under is None else NO if size >= self.under else YES if facts.complete else UNKNOWN
        return min(over, under)

    def words(self) -> str:
        rows = [f"{word} {n:,} octets" for word, n in (("over", self.over), ("under", self.under)) if n is not None]
        return "size is " + " and ".join(rows)

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return f"{facts.size:,} octets"


class ExceptionFor(Node):
    """An approved exception record of this kind is in force for sender and recipient."""

    __slots__ = ("kind",)
    aspects, early = Aspect.ADDRESS, True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def value(self, facts: Facts, recipient: Recipient | None) -> int:
        best = NO
        for record in facts.exceptions:
            best = max(best, self._covers(record, facts, recipient))
        return best

    def _covers(self, record: ExceptionRecord, facts: Facts, recipient: Recipient | None) -> int:
        if (
            record.kind != self.kind
            or record.uses_left == 0
            or not record.created <= facts.now < record.expires
            or not _party(record.sender, facts.sender)
        ):
            return NO
        if record.max_size is not None and facts.size > record.max_size:
            return NO
        size = YES if record.max_size is None or facts.complete else UNKNOWN
        if recipient is None:
            return size if record.recipient == "*" else UNKNOWN
        return size if _party(record.recipient, fold(recipient.address)) else NO

    def records(self, facts: Facts, recipient: Recipient | None) -> tuple[str, ...]:
        """Ids of the records in force."""
        return tuple(r.id for r in facts.exceptions if self._covers(r, facts, recipient) == YES)

    def words(self) -> str:
        return f"exception {self.kind}"

    def evidence(self, facts: Facts, recipient: Recipient | None) -> str:
        return "record " + ", ".join(self.records(facts, recipient))


def _party(pattern: str, folded: str) -> bool:
    wanted = fold(pattern)
    return wanted in ("*", folded) or (wanted.startswith("@") and domain_of(folded) == wanted[1:])
