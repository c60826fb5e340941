"""People's decisions over held items.

Every decision is made on a reading of the item and committed only if the item still is what was read; when somebody
was faster it is made anew on what is there now, so that of two people at the same instant one wins and the other is
told. Refuses who is not an approver of the item, the sender, and a digest that is not the message's.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import CivicgateError, OperatorError
from gateway.hold import allowing, ending, links, parting, rows, senders, turns
from gateway.hold.access import Permission, may_read
from gateway.hold.allowing import Allowance
from gateway.hold.approval import Slot
from gateway.hold.core import Core
from gateway.hold.ending import damage
from gateway.hold.links import Link
from gateway.hold.parting import Parting, Rest
from gateway.hold.reading import (
    TRIES,
    Order,
    Outcome,
    Reading,
    begin,
    busy,
    check_digest,
    check_in_time,
    check_open,
    entitled,
    follow,
    read,
    read_as,
    record,
    said_by,
    unchanged,
    who,
)
from gateway.hold.rows import Moved
from gateway.hold.states import Event, Impossible, State
from gateway.hold.values import Decision, HeldItem, OutboxKind
from gateway.store.bodies import Damaged
from gateway.store.events import Actor

__all__ = ["Desk", "Order", "Outcome", "Reading", "Rest", "Row", "Verdict", "damage"]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one of many."""

    item: str
    outcome: Outcome | None
    problem: str
    """For the person, ``""`` when it worked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An approval that is about to be written."""

    said: Decision
    counted: tuple[Decision, ...]
    """With those given before that still count."""
    missing: tuple[Slot, ...]
    part: Parting | None
    """The recipients that it is not for."""
    link: str


class Desk:
    """Where decisions come in."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def read(self, ident: str) -> Reading:
        """An item with its needs and this round's decisions. Raises OperatorError, StoreError."""
        return await read(self._core, ident)

    async def follow(self, token: str) -> tuple[Link, Reading]:
        """What a one-time link is for; changes nothing, as scanners follow links. Raises LinkRefused."""
        return await follow(self._core, token)

    async def approve(self, order: Order, *, alone: bool = False) -> Outcome:
        """One person's yes. ``alone``: it must be the only one that is needed (``release``).

        Raises OperatorError, whose text says what to do, also when the stored body is not the message any more.
        """
        return await self._yes(order, alone=alone)

    async def release_some(self, order: Order, only: Sequence[str], rest: Rest = Rest.HOLD) -> Outcome:
        """A yes for some recipients (addresses); the others become an item of their own.

        ``rest``: it stays held, or is rejected at once with the order's comment as reason. Raises OperatorError.
        """
        if rest is Rest.REJECT and not order.comment.strip():
            raise OperatorError("Rejecting the others needs a reason: the sender reads it (--reason).")
        return await self._yes(order, only=tuple(only), rest=rest)

    async def release_and_allow(self, order: Order, allow: Allowance) -> Outcome:
        """A yes that also asks for an exception record, so that the like is not held again until a day.

        It is written with the release, and only when everybody whose approval counts asked for the same one: it stands
        in for all of their approvals. Raises OperatorError.
        """
        return await self._yes(order, allow=allow)

    async def _yes(
        self,
        asked: Order,
        *,
        alone: bool = False,
        only: tuple[str, ...] = (),
        rest: Rest = Rest.HOLD,
        allow: Allowance | None = None,
    ) -> Outcome:
        for _ in range(TRIES):
            order, whole = await begin(self._core, asked)
            entitled(self._core, whole, order)
            check_digest(whole.item, order.digest)
            part = parting.plan(self._core, whole, only, rest) if only and whole.item.state is State.HELD else None
            # who is asked can depend on the recipients: what counts is who is asked for those that are left
            reading = read_as(self._core, part.kept, whole.said) if part is not None else whole
            person, roles = entitled(self._core, reading, order)
            needed, missing = reading.missing(), reading.missing({person: roles})
            useless = bool(needed) and len(missing) == len(needed)  # nothing needed: a role was lost and came back
            before = next((d for d in reading.said if d.person == person and d.verdict == "approve"), None)
            if before is not None and (useless or reading.item.state is not State.HELD):
                text = f"{person} had approved {order.item} before; nothing was changed."
                return Outcome(reading.item, changed=False, missing=needed, text=text)
            self._check(reading, alone=alone)
            if useless:
                raise OperatorError(_no_use(reading, person, roles, missing))
            item = reading.item
            said = allowing.noted(said_by(item, "approve", person, roles, order, self._core.clock()), item, allow)
            counted = (*(d for d in reading.counting if d.person != person), said)
            try:
                added = await self._approve(whole, Verdict(said, counted, missing, part, order.link))
            except Moved:
                continue
            return await self._outcome(order.item, missing, added)
        raise busy(asked.item)

    def _check(self, reading: Reading, *, alone: bool) -> None:
        check_open(reading.item, "approved")
        check_in_time(reading.item, self._core.clock())
        if alone and reading.needs.count > 1:
            names = " and ".join(slot.role for slot in reading.slots)
            raise OperatorError(f"{reading.item.id} needs {names}, by different people: use «hold approve».")
        if not reading.slots:
            raise OperatorError(f"{reading.item.id} has no order that anybody could approve.")

    async def _approve(self, reading: Reading, verdict: Verdict) -> tuple[str, ...]:
        """Write it; returns the ids of exceptions that were added. Raises Moved, OperatorError."""
        core, said, part = self._core, verdict.said, verdict.part
        now, complete = said.at, not verdict.missing
        item = part.kept if part is not None else reading.item
        if complete:
            await self._verify(reading)
        letters = core.post.approved(item, verdict.counted, said.person, now) if complete else []
        records = allowing.agreed(verdict.counted, item, now) if complete else ()
        async with core.staged(letters, item.id) as staged, parting.staged(core, reading, part, said) as parted:

            async def work(connection: AsyncConnection) -> None:
                await unchanged(connection, reading)
                if verdict.link:
                    await links.spend(connection, verdict.link, now)
                current = await parting.write(core, connection, reading, part, said, parted)
                actor = Actor(said.person, said.os_user)
                what = Event.COMPLETE if complete else Event.APPROVE
                await rows.move(connection, current, what, now, actor, allowing.words(said, records))
                await record(connection, said)
                await links.spend_all(connection, item, said.person, now)
                if complete:
                    await rows.insert_outbox(connection, _release(item), now)
                await allowing.add(connection, records, said.os_user)
                await core.send(connection, staged, now)

            await core.database.write(work)
        core.wake.set()
        return tuple(found.id for found in records)

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

    async def reject(self, asked: Order) -> Outcome:
        """One person's no ends it: the message goes back to its sender with the reason. Raises OperatorError."""
        if not asked.comment.strip():
            raise OperatorError("A rejection needs a reason: the sender reads it (--reason).")
        for _ in range(TRIES):
            order, reading = await begin(self._core, asked)
            person, roles = entitled(self._core, reading, order)
            check_digest(reading.item, order.digest)
            if any(d.person == person and d.verdict == "reject" for d in reading.said):
                text = f"{person} had rejected {order.item} before; nothing was changed."
                return Outcome(reading.item, changed=False, missing=(), text=text)
            if reading.item.state is not State.DAMAGED:
                check_open(reading.item, "rejected")
            said = said_by(reading.item, "reject", person, roles, order, self._core.clock())
            end = ending.End(Event.REJECT, Actor(person, order.os_user), order.comment, said, order.link)
            try:
                await ending.end(self._core, reading, end)
            except Moved:
                continue
            return await self._outcome(order.item, ())
        raise busy(asked.item)

    async def withdraw(self, order: Order) -> Outcome:
        """The sender takes it back before everybody has approved; nothing is delivered. Raises OperatorError."""
        return await senders.withdraw(self._core, order)

    async def attest(self, order: Order) -> Outcome:
        """The sender confirms what the rule asks; the approvers are asked now. Raises OperatorError."""
        return await senders.attest(self._core, order)

    async def comment(self, order: Order) -> Outcome:
        """A word without a decision, by an approver or the sender, for the history. Raises OperatorError."""
        if not order.comment.strip():
            raise OperatorError("There is nothing in the comment.")
        for _ in range(TRIES):
            reading = await self.read(order.item)
            permission = self._permission(reading, order.address)
            if not permission:
                raise OperatorError(f"{permission.reason} {who(reading.slots)}")
            now, actor = self._core.clock(), Actor(permission.person, order.os_user)
            move = partial(rows.move, item=reading.item, what=Event.COMMENT, now=now, actor=actor)
            try:
                await self._core.database.write(partial(move, comment=order.comment))
            except Moved:
                continue
            return Outcome(reading.item, changed=True, missing=(), text=f"Noted in the history of {order.item}.")
        raise busy(order.item)

    async def bulk(self, verb: str, orders: Iterable[Order]) -> tuple[Row, ...]:
        """The same for many items, each in its own transaction; one that fails keeps none of the others.

        ``verb``: approve, reject, withdraw, attest or comment. Raises OperatorError for another verb.
        """
        verbs: dict[str, Callable[[Order], Awaitable[Outcome]]] = {
            "approve": self.approve,
            "reject": self.reject,
            "withdraw": self.withdraw,
            "attest": self.attest,
            "comment": self.comment,
        }
        if verb not in verbs:
            raise OperatorError(f"«{verb}» cannot be done to many: {', '.join(verbs)}.")
        done = []
        for order in orders:
            try:
                outcome = await verbs[verb](order)
                done.append(Row(order.item, outcome, ""))
            except CivicgateError as error:
                done.append(Row(order.item, None, str(error)))
        return tuple(done)

    async def expire(self, limit: int = 100) -> int:
        """Give back what nobody decided in time; returns how many. Several processes may do so at once."""
        return await turns.expire(self._core, limit)

    async def remind(self, limit: int = 100) -> int:
        """Remind approvers, and ask further roles, where the time has come; returns how many items had their turn."""
        return await turns.take(self._core, limit)

    async def entitled(self, ident: str, address: str) -> str:
        """The identity of an approver of this item. Raises OperatorError for everybody else."""
        return entitled(self._core, await self.read(ident), Order(ident, address))[0]

    async def permission(self, ident: str, address: str) -> Permission:
        """Whether this person may see the item's content now. Raises OperatorError when there is no such item."""
        return self._permission(await self.read(ident), address)

    def _permission(self, reading: Reading, address: str) -> Permission:
        return may_read(address, reading.item, reading.slots, self._core.directory)

    async def view(self, ident: str, address: str, os_user: str, what: str = "") -> HeldItem:
        """Record that somebody who may read it reads content (``what``: which); returns the item.

        Raises OperatorError for everybody else, and when there is nothing to read.
        """
        for _ in range(TRIES):
            reading = await self.read(ident)
            permission = self._permission(reading, address)
            if not permission:
                raise OperatorError(f"{permission.reason} {who(reading.slots)}")
            if not reading.item.message.body:
                raise OperatorError(f"The body of {ident} is not kept any more: the item is {reading.item.state}.")
            actor = Actor(permission.person, os_user)
            move = partial(rows.move, item=reading.item, what=Event.VIEW, now=self._core.clock(), actor=actor)
            try:
                await self._core.database.write(partial(move, comment=what))
            except Moved:
                continue
            except Impossible as error:
                raise OperatorError(f"The body of {ident} is damaged and cannot be shown.") from error
            return reading.item
        raise busy(ident)

    async def _outcome(self, ident: str, missing: Sequence[Slot], added: Sequence[str] = ()) -> Outcome:
        item = (await self.read(ident)).item
        match item.state:
            case State.REJECTED | State.RETURNED:
                text = f"{ident} is rejected; the sender is told where mail rules allow it."
            case State.HELD:
                open_ = " and ".join(f"{slot.role} ({', '.join(sorted(slot.people))})" for slot in missing)
                text = f"{ident} is approved by you; still needed: {open_}."
            case _:
                text = f"{ident} is approved and on its way."
                text += f" The like is not held until then: {', '.join(added)}." if added else ""
        return Outcome(item, changed=True, missing=tuple(missing), text=text)


def _release(item: HeldItem) -> rows.NewRow:
    ident = f"{item.id}-r{item.round}"
    return rows.NewRow(ident, OutboxKind.RELEASE, item.message.id, item.id, item.recipients, item.transforms)


def _no_use(reading: Reading, person: str, roles: tuple[str, ...], missing: Sequence[Slot]) -> str:
    open_ = " and ".join(slot.role for slot in missing)
    return (
        f"{person} can only fill {', '.join(roles)}, which is taken; {reading.item.id} still needs {open_}, "
        f"by another person. {who(missing)}"
    )
