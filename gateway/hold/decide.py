"""People's decisions over held items, and what happens when nobody decides.

Every decision is made on a reading of the item and committed only if the item still is what was read; when somebody
was faster it is made anew on what is there now, so that of two people at the same instant one wins and the other is
told. Refuses who is not an approver of the item, the sender, and a digest that is not the message's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError, StoreError
from gateway.hold import rows, values
from gateway.hold.approval import Slot, assign, identity
from gateway.hold.core import DAMAGE_GRACE, Core
from gateway.hold.rows import Moved
from gateway.hold.states import Event, Impossible, State
from gateway.hold.values import Decision, HeldItem, OutboxKind
from gateway.store.bodies import Damaged
from gateway.store.events import GATEWAY, Actor
from gateway.store.tables import decision, held
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

    item: str
    address: str
    role: str = ""
    comment: str = ""
    os_user: str = ""
    digest: str = ""
    """SHA-256 of the message, or its beginning, as the person saw it; ``""``: the one that the store shows."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An item and all that a decision depends on, from one consistent view."""

    item: HeldItem
    slots: tuple[Slot, ...]
    said: tuple[Decision, ...]
    """Decisions of this round."""

    @property
    def counting(self) -> tuple[Decision, ...]:
        """The approvals whose giver still holds a role that was filled."""
        return tuple(d for d in self.said if d.verdict == "approve" and self._held(d))

    def _held(self, said: Decision) -> tuple[str, ...]:
        """The roles of a decision that its giver holds now: who is no director any more approves nothing as one."""
        return tuple(slot.role for slot in self.slots if slot.role in said.roles and said.person in slot.people)

    def missing(self, extra: dict[str, tuple[str, ...]] | None = None) -> tuple[Slot, ...]:
        """The slots that the approvals so far, and ``extra`` (person -> roles), leave open."""
        offers = {d.person: self._held(d) for d in self.counting} | (extra or {})
        filled = assign([slot.role for slot in self.slots], offers)
        return tuple(slot for slot in self.slots if slot.role not in filled)


class Desk:
    """Where decisions come in."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def read(self, ident: str) -> Reading:
        """An item with its slots and this round's decisions. Raises OperatorError, StoreError."""
        async with self._core.database.read() as connection:
            item = await rows.item_by_id(connection, ident)
            said = await rows.decisions(connection, ident, item.round)
        return Reading(item, self._core.slots(item), said)

    async def approve(self, order: Order, *, alone: bool = False) -> Outcome:
        """One person's yes. ``alone``: it must be the only one that is needed (``release``).

        Raises OperatorError, whose text says what to do, also when the stored body is not the message any more.
        """
        for _ in range(TRIES):
            reading = await self.read(order.item)
            person, roles = self._entitled(reading, order)
            _check_digest(reading.item, order.digest)
            needed, missing = reading.missing(), reading.missing({person: roles})
            useless = bool(needed) and len(missing) == len(needed)  # nothing needed: a role was lost and came back
            before = next((d for d in reading.said if d.person == person and d.verdict == "approve"), None)
            if before is not None and (useless or reading.item.state is not State.HELD):
                text = f"{person} had approved {order.item} before; nothing was changed."
                return Outcome(reading.item, changed=False, missing=needed, text=text)
            _check_open(reading.item, "approved")
            _check_in_time(reading.item, self._core.clock())
            if alone and len(reading.slots) > 1:
                names = " and ".join(slot.role for slot in reading.slots)
                raise OperatorError(f"{order.item} needs {names}, by different people: use «hold approve».")
            if useless:
                raise OperatorError(_no_use(reading, person, roles, missing))
            try:
                await self._approve(reading, order, person, roles, missing)
            except Moved:
                continue
            return await self._outcome(order.item, missing)
        raise OperatorError(f"{order.item} changes all the time; try again.")

    async def reject(self, order: Order) -> Outcome:
        """One person's no ends it: the message goes back to its sender with the reason. Raises OperatorError."""
        if not order.comment.strip():
            raise OperatorError("A rejection needs a reason: the sender reads it (--reason).")
        for _ in range(TRIES):
            reading = await self.read(order.item)
            person, roles = self._entitled(reading, order)
            _check_digest(reading.item, order.digest)
            if any(d.person == person and d.verdict == "reject" for d in reading.said):
                text = f"{person} had rejected {order.item} before; nothing was changed."
                return Outcome(reading.item, changed=False, missing=(), text=text)
            if reading.item.state is not State.DAMAGED:
                _check_open(reading.item, "rejected")
            said = _decision(reading.item, "reject", person, roles, order, self._core.clock())
            try:
                await self._end(reading, Event.REJECT, Actor(person, order.os_user), order.comment, said)
            except Moved:
                continue
            return await self._outcome(order.item, ())
        raise OperatorError(f"{order.item} changes all the time; try again.")

    async def expire(self, limit: int = 100) -> int:
        """Give back what nobody decided in time; returns how many. Several processes may do so at once."""
        now, count = self._core.clock(), 0
        due = (
            select(held.c.id)
            .where(held.c.state.in_([State.HELD, State.DAMAGED]), held.c.expires <= now)
            .order_by(held.c.expires)
            .limit(limit)
        )
        async with self._core.database.read() as connection:
            found = (await connection.execute(due)).scalars().all()
        problem: StoreError | None = None
        for ident in found:
            try:
                count += await self._expire(ident, now)
            except StoreError as error:  # one that cannot be read must not keep the others
                problem = error
        if problem is not None:
            raise problem
        return count

    async def _expire(self, ident: str, now: datetime) -> int:
        reading = await self.read(ident)
        if reading.item.state not in (State.HELD, State.DAMAGED) or reading.item.expires > now:
            return 0
        try:
            await self._end(reading, Event.EXPIRE, GATEWAY, "nobody decided in time", None)
        except Moved:
            return 0  # another process did
        return 1

    async def entitled(self, ident: str, address: str) -> str:
        """The identity of an approver of this item. Raises OperatorError for everybody else."""
        return self._entitled(await self.read(ident), Order(ident, address))[0]

    async def view(self, ident: str, address: str, os_user: str) -> HeldItem:
        """Record that an approver of this item reads its body; returns the item. Raises OperatorError."""
        for _ in range(TRIES):
            reading = await self.read(ident)
            person, _roles = self._entitled(reading, Order(ident, address))
            if not reading.item.message.body:
                raise OperatorError(f"The body of {ident} is not kept any more: the item is {reading.item.state}.")
            move = partial(rows.move, item=reading.item, what=Event.VIEW, now=self._core.clock())
            try:
                await self._core.database.write(partial(move, actor=Actor(person, os_user)))
            except Moved:
                continue
            except Impossible as error:
                raise OperatorError(f"The body of {ident} is damaged and cannot be shown.") from error
            return reading.item
        raise OperatorError(f"{ident} changes all the time; try again.")

    def _entitled(self, reading: Reading, order: Order) -> tuple[str, tuple[str, ...]]:
        """The person's identity and the roles of this item that the person can fill. Raises OperatorError."""
        directory, facts = self._core.directory, reading.item.message
        person = identity(directory, order.address)
        if person in {identity(directory, address) for address in (facts.reverse_path, *facts.authors) if address}:
            raise OperatorError(f"{order.address} sent this message and cannot decide it. {_who(reading.slots)}")
        roles = tuple(slot.role for slot in reading.slots if person in slot.people)
        if not roles:
            raise OperatorError(f"{order.address} is no approver of {order.item}. {_who(reading.slots)}")
        if order.role and order.role not in roles:
            mine = ", ".join(roles)
            raise OperatorError(f"{order.address} does not fill the role {order.role} here, but {mine}.")
        return person, (order.role,) if order.role else roles

    async def _approve(
        self, reading: Reading, order: Order, person: str, roles: tuple[str, ...], missing: tuple[Slot, ...]
    ) -> None:
        core, item, now = self._core, reading.item, self._core.clock()
        said = _decision(item, "approve", person, roles, order, now)
        actor = Actor(person, order.os_user)
        if missing:

            async def more(connection: AsyncConnection) -> None:
                await _unchanged(connection, reading)
                await rows.move(connection, item, Event.APPROVE, now, actor, order.comment)
                await _record(connection, said)

            await core.database.write(more)
            return
        await self._verify(reading)
        letters = core.post.approved(item, [*reading.counting, said], person, now)
        async with core.staged(letters, item.id) as staged:

            async def last(connection: AsyncConnection) -> None:
                await _unchanged(connection, reading)
                await rows.move(connection, item, Event.COMPLETE, now, actor, order.comment)
                await _record(connection, said)
                release = rows.NewRow(
                    f"{item.id}-r{item.round}",
                    OutboxKind.RELEASE,
                    item.message.id,
                    item.id,
                    item.recipients,
                    item.transforms,
                )
                await rows.insert_outbox(connection, release, now)
                await core.send(connection, staged, now)

            await core.database.write(last)
        core.wake.set()

    async def _verify(self, reading: Reading) -> None:
        """The stored body must be the message that people decided on, else the item is damaged."""
        core, item = self._core, reading.item
        try:
            await core.bodies.get(item.message.body, item.message.sha256, len)
        except Damaged as error:
            await damage(core, item, str(error))
            raise OperatorError(
                f"{item.id} cannot be released: its stored body is damaged ({error}). "
                "Ask the sender to send it again, and reject it so that the sender is told."
            ) from error

    async def _end(self, reading: Reading, what: Event, actor: Actor, comment: str, said: Decision | None) -> None:
        core, item, now = self._core, reading.item, self._core.clock()
        original = await core.original(item.message)
        name = "rejected" if what is Event.REJECT else "expired"
        letters, back = core.post.ended(item, reading.slots, (name, actor.name, comment), now, original)
        gone = ""
        async with core.staged(letters, item.id, back) as staged:

            async def work(connection: AsyncConnection) -> str:
                await _unchanged(connection, reading)
                await rows.move(connection, item, what, now, actor, comment)
                if said is not None:
                    await _record(connection, said)
                await core.send(connection, staged, now)
                return await rows.forget(connection, item.message.id)

            gone = await core.database.write(work)
        core.wake.set()
        await core.bodies.remove([gone] if gone else [])

    async def _outcome(self, ident: str, missing: Sequence[Slot]) -> Outcome:
        item = (await self.read(ident)).item
        match item.state:
            case State.REJECTED | State.RETURNED:
                text = f"{ident} is rejected; the sender is told where mail rules allow it."
            case State.HELD:
                open_ = " and ".join(f"{slot.role} ({', '.join(sorted(slot.people))})" for slot in missing)
                text = f"{ident} is approved by you; still needed: {open_}."
            case _:
                text = f"{ident} is approved and on its way."
        return Outcome(item, changed=True, missing=tuple(missing), text=text)


async def damage(core: Core, item: HeldItem, why: str) -> None:
    """Mark an item as damaged and tell those who look after the gateway; no harm when somebody was faster."""
    now = core.clock()
    letters = core.post.damaged(item.id, item.message, core.fallback_people(item.message), now)
    try:
        async with core.staged(letters, item.id) as staged:

            async def work(connection: AsyncConnection) -> None:
                expires = max(item.expires, now + DAMAGE_GRACE)
                await rows.move(connection, item, Event.DAMAGE, now, GATEWAY, why, expires=expires)
                await core.send(connection, staged, now)

            await core.database.write(work)
    except (Moved, Impossible):
        return
    core.wake.set()


async def _unchanged(connection: AsyncConnection, reading: Reading) -> None:
    if await rows.decisions(connection, reading.item.id, reading.item.round) != reading.said:
        raise Moved(reading.item.id)


async def _record(connection: AsyncConnection, said: Decision) -> None:
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
    }
    await connection.execute(insert(decision).values(row))


def _decision(
    item: HeldItem, verdict: str, person: str, roles: tuple[str, ...], order: Order, now: datetime
) -> Decision:
    blank = Decision(item.id, item.round, person, verdict, roles, item.message.sha256, "", order.os_user, now)
    return replace(blank, comment=order.comment)


def _check_digest(item: HeldItem, stated: str) -> None:
    if stated and not item.message.sha256.startswith(stated.lower()):
        raise OperatorError(
            f"{item.id} is another message than the one you looked at: "
            f"its digest is {item.message.sha256}, not {stated}."
        )


def _check_open(item: HeldItem, wanted: str) -> None:
    if item.state is State.HELD:
        return
    when = f"{item.changed:%Y-%m-%d %H:%M} UTC"
    raise OperatorError(
        f"{item.id} cannot be {wanted}: it is {item.state} since {when}. «civicgate hold history {item.id}» shows how."
    )


def _check_in_time(item: HeldItem, now: datetime) -> None:
    """After the deadline it goes back, whether or not a worker has come to it: the sender counts on what was said."""
    if item.expires <= now:
        when = f"{item.expires:%Y-%m-%d %H:%M} UTC"
        raise OperatorError(f"{item.id} expired at {when} and goes back to its sender, who can send it again.")


def _who(slots: Sequence[Slot]) -> str:
    return "Who can: " + "; ".join(f"{slot.role}: {', '.join(sorted(slot.people)) or 'nobody'}" for slot in slots) + "."


def _no_use(reading: Reading, person: str, roles: tuple[str, ...], missing: Sequence[Slot]) -> str:
    open_ = " and ".join(slot.role for slot in missing)
    return (
        f"{person} can only fill {', '.join(roles)}, which is taken; {reading.item.id} still needs {open_}, "
        f"by another person. {_who(missing)}"
    )
