"""Held items as lists show them. Refuses to tell a subject to who is neither an approver of the item nor its sender."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.console.context import Services, Viewer
from gateway.console.pages import words
from gateway.console.pages.words import Shown, When, harmless
from gateway.hold import HeldItem, State
from gateway.hold.access import may_read
from gateway.hold.approval import Slot
from gateway.hold.index import columns


@dataclass(frozen=True, slots=True)
class Row:
    """One held item in a list."""

    id: str
    subject: str
    """``""``: there is none, or it is not this viewer's to read: see ``sealed``."""
    sealed: bool
    sender: str
    sender_name: str
    to: str
    """The first recipient, and how many more."""
    people: int | None
    size: str
    rules: tuple[str, ...]
    """Titles."""
    queue: str
    state: Shown
    open: bool
    since: When
    expires: When
    digest: str
    mine: bool
    """The viewer can decide it now."""
    needs: tuple[str, ...] = ()
    """Roles that are still asked."""


def rows(services: Services, viewer: Viewer, items: Iterable[HeldItem]) -> list[Row]:
    """All of them; who is asked is worked out once for items that ask the same people."""
    asked: dict[object, tuple[Slot, ...]] = {}
    now = services.clock()
    titles = {rule.id: rule.title for rule in services.rules.rules}
    made = []
    for item in items:
        key = columns(item, None)["parties"]
        if key not in asked:
            asked[key] = services.hold.core.slots(item)
        made.append(row(services, viewer, item, asked[key], titles, now))
    return made


def row(
    services: Services,
    viewer: Viewer,
    item: HeldItem,
    slots: tuple[Slot, ...],
    titles: Mapping[str, str],
    now: datetime,
) -> Row:
    """One of them."""
    permission = may_read(viewer.address, item, slots, services.directory)
    facts = item.message
    known = services.directory.person(facts.reverse_path) if facts.reverse_path else None
    approver = any(permission.person in slot.people for slot in slots)
    return Row(
        id=item.id,
        subject=harmless(facts.subject) if permission else "",
        sealed=not permission,
        sender=harmless(facts.reverse_path) or "an automatic sender",
        sender_name=known.name if known else "",
        to=recipients(item),
        people=item.audience,
        size=words.size(facts.size),
        rules=tuple(dict.fromkeys(titles.get(order.rule, order.rule) for order in item.orders))
        or (("Its record cannot be read",) if item.unreadable else ()),
        queue=item.queue,
        state=words.state(item.state),
        open=item.state in (State.HELD, State.ATTESTING),
        since=words.when(item.created, now),
        expires=words.when(item.expires, now, end=True),
        digest=facts.sha256,
        mine=approver and item.state is State.HELD and item.expires > now,
        needs=tuple(slot.role for slot in slots),
    )


def recipients(item: HeldItem) -> str:
    """«all@city.example and 2 more»."""
    if not item.recipients:
        return "nobody"
    first, more = item.recipients[0].address, len(item.recipients) - 1
    return f"{harmless(first)} and {more} more" if more else harmless(first)
