"""What the sender of a held message can do: confirm what a rule asks, and take the message back.

Refuses everybody else: it is the reverse-path that sends, not a name in ``From``.
"""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import OperatorError
from gateway.hold import ending, index, links, rows
from gateway.hold.asking import asking, deadline
from gateway.hold.core import Core
from gateway.hold.links import Purpose
from gateway.hold.reading import (
    TRIES,
    Order,
    Outcome,
    Reading,
    begin,
    busy,
    check_digest,
    check_in_time,
    sender,
    unchanged,
)
from gateway.hold.rows import Moved
from gateway.hold.states import Event, State
from gateway.store.events import Actor

WITHDRAWABLE = (State.ATTESTING, State.HELD, State.DAMAGED)


async def withdraw(core: Core, asked: Order) -> Outcome:
    """Take it back: nothing is delivered, approvers are told. Raises OperatorError."""
    for _ in range(TRIES):
        order, reading = await begin(core, asked, Purpose.ATTEST)
        person, item = sender(core, reading, order), reading.item
        check_digest(item, order.digest)
        if item.state is State.WITHDRAWN:
            return Outcome(
                item, changed=False, missing=(), text=f"{item.id} was withdrawn before; nothing was changed."
            )
        if item.state not in WITHDRAWABLE:
            when = f"{item.changed:%Y-%m-%d %H:%M} UTC"
            raise OperatorError(f"{item.id} cannot be withdrawn: it is {item.state} since {when}.")
        how = ending.End(Event.WITHDRAW, Actor(person, order.os_user), order.comment, link=order.link)
        try:
            await ending.end(core, reading, how)
        except Moved:
            continue
        after = replace(item, state=State.WITHDRAWN)
        return Outcome(after, changed=True, missing=(), text=f"{item.id} is withdrawn; it is delivered to nobody.")
    raise busy(asked.item)


async def attest(core: Core, asked: Order) -> Outcome:
    """Confirm it: the approvers are asked now, and their time begins. Raises OperatorError."""
    for _ in range(TRIES):
        order, reading = await begin(core, asked, Purpose.ATTEST)
        person, item = sender(core, reading, order), reading.item
        check_digest(item, order.digest)
        if item.asked is not None and item.attestations:
            text = f"{item.id} was confirmed before; nothing was changed."
            return Outcome(item, changed=False, missing=reading.missing(), text=text)
        if item.state is not State.ATTESTING:
            raise OperatorError(f"{item.id} does not wait for its sender's confirmation: it is {item.state}.")
        check_in_time(item, core.clock())
        try:
            return await _attested(core, reading, Actor(person, order.os_user), order.link)
        except Moved:
            continue
    raise busy(asked.item)


async def _attested(core: Core, reading: Reading, actor: Actor, link: str) -> Outcome:
    item, now = reading.item, core.clock()
    after = replace(
        item, state=State.HELD, changed=now, asked=now, expires=deadline(core, item, now), version=item.version + 1
    )
    asks = asking(core, after, now)
    letters = [letter for letter in asks.letters if not letter.to_sender]  # who confirms knows that it waits
    async with core.staged(letters, item.id) as staged:

        async def work(connection: AsyncConnection) -> None:
            await unchanged(connection, reading)
            if link:
                await links.spend(connection, link, now)
            changes = {"expires": after.expires, **index.columns(after, core.settings.remind_after)}
            await rows.move(connection, item, Event.ATTEST, now, actor, " ".join(item.attestations), **changes)
            await links.spend_all(connection, item, actor.name, now)
            await core.send(connection, staged, now)

        await core.database.write(work)
    core.wake.set()
    asks.alarm()
    text = f"{item.id} is confirmed; its approvers are asked now."
    return Outcome(after, changed=True, missing=asks.needs.missing({}), text=text)
