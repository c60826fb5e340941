"""What the answer to one delivery attempt means: sorts replies, and writes the result in one transaction.

Refuses a result from a claimer whose claim ran out: the row may be somebody else's by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Update, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import StoreError, TransformError
from gateway.hold import index, rows, values
from gateway.hold.asking import asking
from gateway.hold.core import DAMAGE_GRACE, Core
from gateway.hold.letters import Letter, Refusal
from gateway.hold.states import Event, State
from gateway.hold.values import HeldItem, OutboxKind, OutboxRow, OutboxState
from gateway.model.envelope import Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import HoldOrder, Transform, TransformKind
from gateway.settings import OutboxSettings
from gateway.store import events
from gateway.store.events import GATEWAY
from gateway.store.tables import outbox

QUEUES = {TransformKind.ENCRYPT: "encryption"}
"""Queue for a transform that failed; others go to ``transform``."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Recipients by answer."""

    accepted: tuple[Recipient, ...]
    refused: tuple[Refusal, ...]
    again: tuple[Refusal, ...]
    """4xx: to be tried again, with the reply."""


def sort_replies(recipients: Sequence[Recipient], replies: Sequence[Reply], final: Reply | None) -> Sorted:
    """One outcome a recipient: its RCPT reply if that is a refusal, else the reply to the message.

    What is neither 2yz nor 5yz, or missing, is tried again: only a clear answer settles anything.
    """
    accepted: list[Recipient] = []
    refused: list[Refusal] = []
    again: list[Refusal] = []
    silent = Reply.of(451, "4.4.2", "The next hop did not answer for this recipient")
    for number, recipient in enumerate(recipients):
        reply = replies[number] if number < len(replies) else silent
        if reply.positive:
            reply = final if final is not None else silent
        if reply.positive:
            accepted.append(recipient)
        else:
            (refused if 500 <= reply.code < 600 else again).append(Refusal(recipient, reply))
    return Sorted(tuple(accepted), tuple(refused), tuple(again))


class Settler:
    """Writes results."""

    def __init__(self, core: Core, settings: OutboxSettings) -> None:
        self._core, self._settings = core, settings

    async def answered(self, row: OutboxRow, result: Sorted, delay: float, *, attach: bool = True) -> None:
        """Settle what is clear, keep the rest for ``delay`` seconds later, or give up when it is too old.

        ``attach``: what is reported to the sender goes with its original, or not at all. Raises StoreError.
        """
        core, now = self._core, self._core.clock()
        if result.again and now - row.created >= self._settings.give_up_after:
            gone = tuple(replace(r, reply=_given_up(r.reply)) for r in result.again)
            result = Sorted(result.accepted, result.refused + gone, ())
        back = await self._bounce(row, result.refused, now, attach=attach)
        async with core.staged([back] if back is not None else [], row.item) as staged:

            async def work(connection: AsyncConnection) -> str:
                await core.send(connection, staged, now)
                return await self._write(connection, row, result, now, now + timedelta(seconds=delay))

            of_item = row.kind in (OutboxKind.RELEASE, OutboxKind.RETURN)
            gone_body = await core.database.write(work, alone=of_item)
        if staged:
            core.wake.set()
        await core.bodies.remove([gone_body] if gone_body else [])

    async def _write(
        self, connection: AsyncConnection, row: OutboxRow, result: Sorted, now: datetime, then: datetime
    ) -> str:
        last = (result.again or result.refused)[-1:]
        accepted = outbox.c.accepted + len(result.accepted)
        changes = {"accepted": accepted, "last_reply": str(last[0].reply) if last else "", "owner": None}
        if result.again:
            left = values.dump([refusal.recipient for refusal in result.again])
            changes |= {"recipients": left, "next_attempt": then, "claimed_until": None}
        total = (await connection.execute(mine(row).values(**changes).returning(outbox.c.accepted))).scalar()
        if total is None:
            raise LostClaim(row.id)
        if result.again:
            await self._note(connection, row, result, now)
            return ""
        state = OutboxState.DONE if total else OutboxState.FAILED
        await connection.execute(update(outbox).where(outbox.c.id == row.id).values(state=state))
        await self._item_done(connection, row, result, now, delivered=bool(total))
        return await rows.forget(connection, row.message.id)

    async def _note(self, connection: AsyncConnection, row: OutboxRow, result: Sorted, now: datetime) -> None:
        """Part of a release is delivered or refused: its history says for whom."""
        if row.kind is OutboxKind.RELEASE and (result.accepted or result.refused):
            await events.append(connection, row.item, "partly-delivered", now, GATEWAY, _words(result))

    async def _item_done(
        self, connection: AsyncConnection, row: OutboxRow, result: Sorted, now: datetime, *, delivered: bool
    ) -> None:
        if not row.item or row.kind not in (OutboxKind.RELEASE, OutboxKind.RETURN):
            return
        item = await rows.place_of(connection, row.item)
        if row.kind is OutboxKind.RELEASE:
            what = Event.DELIVERED if delivered else Event.REFUSE
            await rows.move(connection, item, what, now, GATEWAY, _words(result))
        elif delivered:
            await rows.move(connection, item, Event.RETURN, now, GATEWAY)

    async def failed_transform(self, row: OutboxRow, error: TransformError) -> None:
        """A change that the policy demands cannot be made: people decide; never sent without it."""
        core, now = self._core, self._core.clock()
        transform = _blamed(row.transforms, error)
        order = order_for_failure(transform, error)
        existing: HeldItem | None = None
        if row.item:
            async with core.database.read() as connection:
                existing = await rows.item_by_id(connection, row.item)
        item = self._held_again(row, order, existing, now)
        asks = asking(core, item, now)
        default = core.settings.remind_after
        async with core.staged(asks.letters, item.id) as staged:

            async def work(connection: AsyncConnection) -> None:
                await self._close(connection, row, OutboxState.HELD, error.detail)
                if existing is None:
                    await rows.insert_item(connection, item, GATEWAY, order.reason, default)
                else:
                    changed = {
                        "round": item.round,
                        "queue": item.queue,
                        "orders": values.dump(item.orders),
                        "recipients": values.dump(item.recipients),
                        "expires": item.expires,
                        **index.columns(item, default),
                    }
                    await rows.move(connection, existing, Event.HOLD_AGAIN, now, GATEWAY, order.reason, **changed)
                await core.send(connection, staged, now)

            await core.database.write(work)
        core.wake.set()
        asks.alarm()

    def _held_again(self, row: OutboxRow, order: HoldOrder, existing: HeldItem | None, now: datetime) -> HeldItem:
        expires = now + self._core.settings.expires_after
        if existing is not None:
            return replace(
                existing,
                state=State.HELD,
                queue=order.queue,
                round=existing.round + 1,
                recipients=row.recipients,
                orders=(order,),
                audience=None,
                expires=expires,
                changed=now,
                asked=now,
                escalated=None,
                reminded=None,
            )
        return HeldItem(
            id=f"{row.id}-h",
            message=row.message,
            state=State.HELD,
            queue=order.queue,
            round=1,
            recipients=row.recipients,
            orders=(order,),
            transforms=row.transforms,
            matches=(),
            audience=None,
            created=now,
            changed=now,
            expires=expires,
            asked=now,
        )

    async def damaged(self, row: OutboxRow, why: str) -> None:
        """The stored body cannot be used: nothing is delivered, sender and administrators are told."""
        core, now = self._core, self._core.clock()
        release = row.kind is OutboxKind.RELEASE
        ident = row.item if release else row.id
        letters = core.post.damaged(ident, row.message, core.fallback_people(row.message), now)
        if not release:
            reply = Reply.of(
                554, "5.3.0", "The stored message is damaged and cannot be delivered; please send it again"
            )
            refusals = [Refusal(recipient, reply) for recipient in row.recipients]
            back = core.post.undeliverable(f"{row.id}-dsn{row.attempts}", row.message, refusals, None, now)
            letters += [back] if back is not None else []
        async with core.staged(letters, row.item) as staged:

            async def work(connection: AsyncConnection) -> None:
                await self._close(connection, row, OutboxState.DAMAGED, why)
                if release:
                    item = await rows.place_of(connection, row.item)
                    expires = max(item.expires, now + DAMAGE_GRACE)
                    await rows.move(connection, item, Event.DAMAGE, now, GATEWAY, why, expires=expires)
                await core.send(connection, staged, now)

            await core.database.write(work)
        core.wake.set()

    async def _close(self, connection: AsyncConnection, row: OutboxRow, state: OutboxState, why: str) -> None:
        if (await connection.execute(mine(row).values(state=state, owner=None, last_reply=why))).rowcount != 1:
            raise LostClaim(row.id)

    async def _bounce(
        self, row: OutboxRow, refusals: Sequence[Refusal], now: datetime, *, attach: bool
    ) -> Letter | None:
        if not refusals or not row.message.reverse_path:
            return None
        original = await self._core.original(row.message) if attach else None
        return self._core.post.undeliverable(f"{row.id}-dsn{row.attempts}", row.message, refusals, original, now)


def mine(row: OutboxRow) -> Update:
    """An update of the row as long as this very claim holds."""
    return update(outbox).where(
        outbox.c.id == row.id,
        outbox.c.owner == row.owner,
        outbox.c.attempts == row.attempts,
        outbox.c.state == OutboxState.WAITING,
    )


class LostClaim(StoreError):
    """The claim ran out and another process has the row."""

    def __init__(self, ident: str) -> None:
        super().__init__(f"the claim on outbox row {ident} was lost; its result is not recorded")


def _blamed(transforms: Sequence[Transform], error: TransformError) -> Transform:
    """The transform that the error names (``transform``); when it names none, the encryption, else the first."""
    named = getattr(error, "transform", None)
    return min(transforms, key=lambda t: (t != named, t.kind is not TransformKind.ENCRYPT))


def order_for_failure(transform: Transform, error: TransformError) -> HoldOrder:
    """The hold order for a transform that cannot be made: queue, reason, and what the sender is told to do."""
    queue = QUEUES.get(transform.kind, "transform")
    reason = f"A change that the policy asks for ({transform.kind}) could not be made ({error.code}): {error.detail}"
    tell = ""
    if error.code == "no-certificate":
        reason = (
            "It has to be encrypted on its way out, and there is no certificate for a recipient. It can leave once the "
            f"certificate is in its folder, and is held again without one. ({error.detail})"
        )
        tell = (
            "Ask the recipient for an S/MIME certificate and give it to IT, who then release the message; or send it "
            "in another secure way."
        )
    return HoldOrder(transform.rule, queue, (), None, reason, tell)


def _given_up(reply: Reply) -> Reply:
    return Reply.of(554, "5.4.7", f"Gave up after many attempts; the last answer was: {reply}")


def _words(result: Sorted) -> str:
    parts = [f"accepted: {', '.join(r.address for r in result.accepted)}"] if result.accepted else []
    parts += [f"{r.recipient.address}: {r.reply}" for r in (*result.refused, *result.again)]
    return "; ".join(parts)[:2000]
