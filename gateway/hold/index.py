"""The columns of a held item that lists, searches and reminders read, made from the item itself.

``parties`` names all that decides who is asked, beside the directory and the day: items with the same value have the
same approvers, so that «what waits for me» asks once for each value and not once for each item.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from gateway.hold import values
from gateway.hold.approval import Question
from gateway.hold.states import State
from gateway.hold.values import HeldItem, list_ids
from gateway.model.envelope import fold
from gateway.model.verdict import HoldOrder


def question(item: HeldItem) -> Question:
    """What decides who is asked for an item."""
    facts = item.message
    escalated = frozenset(order.rule for order in item.orders if is_escalated(order, item))
    return Question(item.orders, facts.reverse_path, facts.authors, list_ids(item.recipients), escalated)


def is_escalated(order: HoldOrder, item: HeldItem) -> bool:
    """Whether an order's further roles have been asked."""
    if order.escalate_after is None or item.asked is None or item.escalated is None:
        return False
    return item.asked + order.escalate_after <= item.escalated


def columns(item: HeldItem, remind_after: timedelta | None) -> dict[str, object]:
    """All of them. ``remind_after``: the setting, for orders that do not say."""
    facts = item.message
    words = (item.id, facts.reverse_path, *(r.address for r in item.recipients), facts.message_id)
    rules = dict.fromkeys(order.rule for order in item.orders)
    return {
        "parties": hashlib.sha256(values.dump(question(item)).encode()).hexdigest()[:32],
        "sender": base(facts.reverse_path),
        "size": facts.size,
        "rules": f" {' '.join(rules)} ",
        "search": " ".join(words).lower(),
        "subject": facts.subject.lower(),
        "asked": item.asked,
        "escalated": item.escalated,
        "reminded": item.reminded,
        "turn": next_turn(item, remind_after),
    }


def base(address: str) -> str:
    """An address as the column ``sender`` has it: folded, without a detail (``name+detail``)."""
    local, at, domain = fold(address).rpartition("@")
    return local.partition("+")[0] + at + domain


def next_turn(item: HeldItem, remind_after: timedelta | None) -> datetime | None:
    """When somebody is to be reminded or asked besides; None: never before it expires."""
    if item.state is not State.HELD or item.asked is None:
        return None
    coming = [at for at in (next_reminder(item, remind_after), *_escalations(item)) if at is not None]
    first = min(coming, default=None)
    return first if first is not None and first < item.expires else None


def next_reminder(item: HeldItem, remind_after: timedelta | None) -> datetime | None:
    """When the approvers are reminded next: of several orders the shortest span counts."""
    if item.asked is None:
        return None
    if item.reminded is None:
        after = _shortest(remind_after if o.remind_after is None else o.remind_after for o in item.orders)
        return None if after is None else item.asked + after
    every = _shortest(order.remind_every for order in item.orders)
    return None if every is None else item.reminded + every


def _escalations(item: HeldItem) -> list[datetime]:
    return [
        item.asked + order.escalate_after
        for order in item.orders
        if item.asked is not None and order.escalate_after is not None and not is_escalated(order, item)
    ]


def next_escalation(item: HeldItem) -> datetime | None:
    """When further roles are asked next."""
    return min(_escalations(item), default=None)


def _shortest(spans: Iterable[timedelta | None]) -> timedelta | None:
    return min((span for span in spans if span is not None), default=None)
