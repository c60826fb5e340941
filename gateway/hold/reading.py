"""What a decision is made on: an order as it came in, the item as it was read, and the checks between the two.

Refuses who is not an approver of the item, the sender, a digest that is not the message's, and what is too late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.hold import links, rows, values
from gateway.hold.access import is_sender
from gateway.hold.approval import Needs, Offer, Slot, covers, identity
from gateway.hold.core import Core
from gateway.hold.links import Link, Purpose
from gateway.hold.rows import Moved
from gateway.hold.states import State
from gateway.hold.values import Decision, HeldItem
from gateway.store.tables import decision
from gateway.store.text import plain

TRIES = 20
"""How often a decision is made anew because the item changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision did."""

    item: HeldItem
    """As it stands after."""
    changed: bool
    """False: it had been said before, nothing was done."""
    missing: tuple[Slot, ...]
    """Approvals that are still needed."""
    text: str
    """For the person who decided."""


@dataclass(frozen=True, slots=True)
class Order:
    """One person's word as it came in."""

    item: str = ""
    address: str = ""
    role: str = ""
    comment: str = ""
    os_user: str = ""
    digest: str = ""
    """SHA-256 of the message, or its beginning, as the person saw it; ``""``: the one that the store shows."""
    link: str = field(default="", repr=False)
    """Token of a one-time link: says item, person and digest, and is used up by the decision."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An item and all that a decision depends on, from one consistent view."""

    item: HeldItem
    needs: Needs
    said: tuple[Decision, ...]
    """Decisions of this round."""
    standing: Mapping[str, Mapping[str, frozenset[str]]]
    """Person -> roles of the item that an approval fills, those whose giver holds them now or did on its day, and in
    whose right."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The approvals that can be given now."""
        return self.needs.slots

    @property
    def counting(self) -> tuple[Decision, ...]:
        """The approvals whose giver still holds a role that was filled."""
        return tuple(d for d in self.said if d.verdict == "approve" and self.standing.get(d.person))

    def missing(self, extra: Mapping[str, tuple[str, ...]] | None = None) -> tuple[Slot, ...]:
        """The slots that the approvals so far, and ``extra`` (person -> roles), leave open."""
        return self.needs.missing(self._offers | dict(extra or {}))

    def helps(self, person: str) -> bool:
        """Whether an approval by this person is missing."""
        return self.needs.helps(person, self._offers)

    @property
    def _offers(self) -> dict[str, Offer]:
        return {d.person: self.standing[d.person] for d in self.counting}


async def read(core: Core, ident: str) -> Reading:
    """An item with its needs and this round's decisions. Raises OperatorError, StoreError."""
    async with core.database.read() as connection:
        return await _read(core, connection, ident)


async def _read(core: Core, connection: AsyncConnection, ident: str) -> Reading:
    item = await rows.item_by_id(connection, ident)
    return read_as(core, item, await rows.decisions(connection, ident, item.round))


def read_as(core: Core, item: HeldItem, said: Sequence[Decision]) -> Reading:
    """What these decisions mean for the item: also for one that is about to be there."""
    needs = core.needs(item)
    standing = {d.person: _standing(core, item, needs, d) for d in said if d.verdict == "approve"}
    return Reading(item, needs, tuple(said), standing)


def _standing(core: Core, item: HeldItem, needs: Needs, said: Decision) -> Mapping[str, frozenset[str]]:
    """Who is no director any more approves nothing as one; whose time as deputy has ended since, has approved."""
    now, then = needs.rights_of(said.person), core.needs(item, said.at).rights_of(said.person)
    nobody = frozenset[str]()
    return {
        role: now.get(role, nobody) | then.get(role, nobody)
        for role in {**now, **then}
        if any(covers(given, role) for given in said.roles)
    }


async def begin(core: Core, order: Order, purpose: Purpose = Purpose.DECIDE) -> tuple[Order, Reading]:
    """The order with what its link says, and the item. Raises OperatorError (LinkRefused)."""
    if not order.link:
        return order, await read(core, order.item)
    found, reading = await follow(core, order.link, purpose)
    return replace(order, item=found.item, address=found.person, digest=found.digest), reading


async def follow(core: Core, token: str, purpose: Purpose | None = None) -> tuple[Link, Reading]:
    """A link that can be used now, and its item; changes nothing. Raises LinkRefused with a text for the person."""
    async with core.database.read() as connection:
        found = await links.find(connection, token)
        reading = await _read(core, connection, found.item)
    links.check(found, reading.item, core.clock(), purpose)
    return found, reading


def entitled(core: Core, reading: Reading, order: Order) -> tuple[str, tuple[str, ...]]:
    """The person's identity and the roles of this item that the person can fill. Raises OperatorError."""
    directory, facts = core.directory, reading.item.message
    person = identity(directory, order.address)
    if person in {identity(directory, address) for address in (facts.reverse_path, *facts.authors) if address}:
        raise OperatorError(f"{order.address} sent this message and cannot decide it. {who(reading.slots)}")
    roles = reading.needs.roles_of(person)
    if not roles:
        raise OperatorError(f"{order.address} is no approver of {reading.item.id}. {who(reading.slots)}")
    if order.role and order.role not in roles:
        mine = ", ".join(roles)
        raise OperatorError(f"{order.address} does not fill the role {order.role} here, but {mine}.")
    return person, (order.role,) if order.role else roles


def sender(core: Core, reading: Reading, order: Order) -> str:
    """The sender's identity. Raises OperatorError for everybody else."""
    person = identity(core.directory, order.address)
    if not is_sender(person, reading.item, core.directory):
        raise OperatorError(f"{order.address or 'Nobody'} did not send {reading.item.id}: only its sender can do that.")
    return person


async def unchanged(connection: AsyncConnection, reading: Reading) -> None:
    """Raises Moved when somebody has said something since."""
    if await rows.decisions(connection, reading.item.id, reading.item.round) != reading.said:
        raise Moved(reading.item.id)


async def record(connection: AsyncConnection, said: Decision) -> None:
    """The person's word of this round; a rejection takes the place of an earlier approval (the events keep both)."""
    mine = (decision.c.item == said.item, decision.c.round == said.round, decision.c.person == said.person)
    await connection.execute(delete(decision).where(*mine))
    row = {
        "item": said.item,
        "round": said.round,
        "person": said.person,
        "verdict": said.verdict,
        "roles": values.dump(said.roles),
        "digest": said.digest,
        "comment": plain(said.comment),
        "os_user": said.os_user,
        "at": said.at,
        "allow": said.allow,
    }
    await connection.execute(insert(decision).values(row))


def said_by(item: HeldItem, verdict: str, person: str, roles: tuple[str, ...], order: Order, now: datetime) -> Decision:
    """A decision on the item as it stands."""
    blank = Decision(item.id, item.round, person, verdict, roles, item.message.sha256, "", order.os_user, now)
    return replace(blank, comment=order.comment)


def check_digest(item: HeldItem, stated: str) -> None:
    """Raises OperatorError when the message is not the one that was looked at."""
    if stated and not item.message.sha256.startswith(stated.lower()):
        raise OperatorError(
            f"{item.id} is another message than the one you looked at: "
            f"its digest is {item.message.sha256}, not {stated}."
        )


def check_open(item: HeldItem, wanted: str) -> None:
    """Raises OperatorError for an item that waits for nobody's decision."""
    if item.state is State.HELD:
        return
    if item.state is State.ATTESTING:
        raise OperatorError(f"{item.id} cannot be {wanted} yet: its sender has to confirm something first.")
    when = f"{item.changed:%Y-%m-%d %H:%M} UTC"
    raise OperatorError(
        f"{item.id} cannot be {wanted}: it is {item.state} since {when}. «civicgate hold history {item.id}» shows how."
    )


def check_in_time(item: HeldItem, now: datetime) -> None:
    """After the deadline it goes back, whether or not a worker has come to it: the sender counts on what was said."""
    if item.expires <= now:
        when = f"{item.expires:%Y-%m-%d %H:%M} UTC"
        raise OperatorError(f"{item.id} expired at {when} and goes back to its sender, who can send it again.")


def busy(ident: str) -> OperatorError:
    """After :data:`TRIES`."""
    return OperatorError(f"{ident} changes all the time; try again.")


def who(slots: Sequence[Slot]) -> str:
    """Who can decide, in words."""
    return "Who can: " + "; ".join(f"{slot.role}: {', '.join(sorted(slot.people)) or 'nobody'}" for slot in slots) + "."
