"""The durable outbox: claims rows one by one, hands each to a ``Deliver``, and records the answer.

At least once: a crash between the next hop's 250 and our commit delivers that row again, under the same ids. A store
that is away does not: what was said is kept until it can be written. Refuses to deliver a body that is not what was
accepted, or without a transform that it needs.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy import Update, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import CivicgateError, OperatorError, StoreError, TransformError
from gateway.hold import rows, turns
from gateway.hold.core import Core
from gateway.hold.letters import Refusal
from gateway.hold.settle import LostClaim, Settler, Sorted, mine, sort_replies
from gateway.hold.states import Event, State
from gateway.hold.store import Hold
from gateway.hold.values import OutboxKind, OutboxRow, OutboxState
from gateway.metrics import OUTBOX_UNRECORDED
from gateway.model.envelope import Client, Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import Transform
from gateway.settings import OutboxSettings
from gateway.store.bodies import ORPHAN_AGE, Damaged
from gateway.store.database import uninterrupted
from gateway.store.events import GATEWAY
from gateway.store.postgres import alone
from gateway.store.tables import outbox

RELEASED = "X-Civicgate-Released"
"""Trace field on released mail: the held item's id."""
ATTACH_FOR = 30.0
"""Seconds for which a report waits for the original that goes with it: a body that cannot be had stops no others."""
COMPLAIN = 60.0
"""Seconds before the same problem is logged again."""
SETTLE_FIRST, SETTLE_LONGEST = 0.1, 0.5
"""Seconds between two tries to write what the next hop has said."""
PASSING = frozenset({"crashed", "timeout", "unavailable"})
"""Codes of a failed change that may be the moment's and not the message's: for some attempts it is tried again."""
PASSING_ATTEMPTS = 3
_log = structlog.get_logger()
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt: everything that a delivery needs. It goes straight to the next hop and is not inspected again."""

    id: str
    """Stable over attempts."""
    transaction: str
    kind: OutboxKind
    client: Client
    reverse_path: str
    parameters: tuple[str, ...]
    """MAIL parameters, verbatim. A transform changes the size: a SIZE= among them is of the message as received."""
    recipients: tuple[Recipient, ...]
    transforms: tuple[Transform, ...]
    """To be applied now."""
    trace: tuple[tuple[str, str], ...]
    """Header fields to put on top, below Received."""
    message_id: str
    """Message-ID for a message that has none; the same at every attempt, of every node."""
    received: datetime
    size: int
    attempt: int
    """From 1."""
    core: Core
    body: str
    sha256: str
    prove: Callable[[int, str], Awaitable[tuple[str, str]]] | None = None
    """For released mail: size and SHA-256 (hex) of the content as it leaves -> one more header field for ``trace``."""
    mark: Callable[[str, tuple[str, ...], int, str], Awaitable[tuple[str, str]]] | None = None
    """Where the next hop asks us: reverse-path, recipients, size, SHA-256 -> the field that lets it pass, once."""

    async def copy(self, write: Callable[[bytes], object]) -> None:
        """Pass the body as received to ``write`` (called in a thread), e.g. a spool writer's.

        The digest is known at its end: use what was written only after this returns. Raises Damaged, StoreError.
        """
        await self.core.bodies.get(self.body, self.sha256, write)


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What the next hop said."""

    replies: tuple[Reply, ...]
    """To each RCPT, in order. When MAIL was refused: that reply, for each."""
    final: Reply | None = None
    """To the end of data; None when no recipient was accepted."""


class Deliver(Protocol):
    """Delivers one message. Wired by the composition root."""

    async def __call__(self, delivery: Delivery) -> DeliveryResult:
        """Copy the body, transform it, hand it to the next hop.

        Raises NextHopError (tried again), TransformError (held), whatever :meth:`Delivery.copy` raised.
        """


class Outbox:
    """One process's share of the work on the outbox."""

    def __init__(
        self, hold: Hold, deliver: Deliver, settings: OutboxSettings, owner: str = "", *, asked: bool = False
    ) -> None:
        """``asked``: the next hop asks us about its mail (``milter.next_hop_asks``)."""
        self._asked = asked
        self._hold, self._core, self._deliver, self._settings = hold, hold.core, deliver, settings
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._settler = Settler(hold.core, settings)
        self._not_freed: dict[str, tuple[OutboxRow, datetime]] = {}
        """Claims that the store would not take back, and when their rows are to be tried again."""
        self._complained: dict[str, float] = {}
        self._active: set[str] = set()
        """Rows that are being delivered."""
        self._unsure = False
        """A claim got no answer: it may be ours without our knowing which."""

    async def run(self) -> None:
        """Work until cancelled; then stop the deliveries under way and give their claims back.

        A failure of the store is logged and waited out: the loop ends by cancellation only.
        """
        tasks: set[asyncio.Task[None]] = set()
        await self._sweep()
        sweeping = asyncio.create_task(self._sweep_hourly())
        try:
            while True:
                self._core.wake.clear()
                desk = self._hold.desk
                for work in (self._free_late, desk.expire, desk.remind, partial(self._fill, tasks)):
                    try:
                        await work()
                    except CivicgateError as error:
                        self._complain(error.detail)
                    except Exception as error:  # noqa: BLE001 - mail that is ours must go on leaving
                        _log.error("outbox-crashed", error=repr(error))
                await self._pause(tasks)
        finally:
            for task in (sweeping, *tasks):
                task.cancel()
            await asyncio.gather(sweeping, *tasks, return_exceptions=True)
            await self._free_all()

    def _complain(self, problem: str) -> None:
        """Once a minute for each problem: a row that cannot be read is met at every look, and would flood the log."""
        now = time.monotonic()
        if now - self._complained.get(problem, -COMPLAIN) >= COMPLAIN:
            self._complained = {text: at for text, at in self._complained.items() if now - at < COMPLAIN}
            self._complained[problem] = now
            _log.error("outbox-store-failed", error=problem)

    async def _free_all(self) -> None:
        """Free also the row that was claimed at the very moment of the stop."""
        all_mine = update(outbox).where(outbox.c.owner == self._owner, outbox.c.state == OutboxState.WAITING)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(all_mine.values(owner=None, claimed_until=None))

        with contextlib.suppress(StoreError):
            await self._core.database.write(work, alone=False)

    async def _sweep(self) -> None:
        """Bodies that a crash, or a store that was away, has left behind go; and links that nobody asks about."""
        try:
            swept = await self._hold.sweep()
            await turns.forget_links(self._core)
        except (StoreError, OSError) as error:
            _log.error("store-not-swept", error=str(error))
        else:
            _log.info("store-swept", files=swept)

    async def _sweep_hourly(self) -> None:
        while True:
            await asyncio.sleep(ORPHAN_AGE * _random.uniform(1.0, 1.25))  # nodes do not come in step
            await self._sweep()

    async def drain(self) -> int:
        """Deliver all that is due now, then return how many attempts were made. For tests and the command line."""
        count = 0
        while (row := await self.claim()) is not None:
            await self._attempt(row)
            count += 1
        return count

    async def _fill(self, tasks: set[asyncio.Task[None]]) -> None:
        while len(tasks) < self._settings.concurrency and (row := await self.claim()) is not None:
            self._active.add(row.id)
            task = asyncio.create_task(self._attempt(row))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _pause(self, tasks: set[asyncio.Task[None]]) -> None:
        """Until a fresh row, a free place when all were taken, or the poll interval."""
        full = len(tasks) >= self._settings.concurrency
        wake = asyncio.create_task(self._core.wake.wait())
        try:
            waits = {wake, *tasks} if full else {wake}
            await asyncio.wait(waits, timeout=self._settings.poll_interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()

    async def claim(self) -> OutboxRow | None:
        """Take the next due row, None when nothing is due. An approved item's release begins with its first claim."""
        now = self._core.clock()
        if not await self._is_due(now):
            return None  # a look that takes no lock
        until = now + timedelta(seconds=self._settings.claim_timeout)

        async def work(connection: AsyncConnection) -> OutboxRow | None:
            row = await rows.claim(connection, self._owner, now, until)
            if row is not None and row.kind is OutboxKind.RELEASE:
                await alone(connection)
                try:
                    item = await rows.item_by_id(connection, row.item)
                except (StoreError, OperatorError) as error:  # else it would stop every claim after it
                    await rows.aside(connection, row.id, now, str(error))
                    return None
                if item.state is State.APPROVED:
                    await rows.move(connection, item, Event.START, now, GATEWAY)
            return row

        try:
            return await self._core.database.write(work, alone=False)  # claimers pass each other
        except StoreError:
            self._unsure = True
            raise

    async def _is_due(self, now: datetime) -> bool:
        due = select(outbox.c.id).where(rows.due(outbox, now))
        async with self._core.database.read() as connection:
            return (await connection.execute(due.limit(1))).first() is not None

    async def _attempt(self, row: OutboxRow) -> None:
        beat = asyncio.create_task(self._keep(row))
        self._active.add(row.id)
        try:
            await self._deliver_and_settle(row)
        except asyncio.CancelledError:
            await self._give_back(row, 0.0)
            raise
        except StoreError as error:
            _log.error("outbox-row-not-settled", row=row.id, error=error.detail)
            await self._give_back(row, self._delay(row))
        finally:
            self._active.discard(row.id)
            beat.cancel()

    async def _deliver_and_settle(self, row: OutboxRow) -> None:
        delay = self._delay(row)
        try:
            result = await self._deliver(self._delivery(row))
        except TransformError as error:
            _log.warning("outbox-transform-failed", row=row.id, code=error.code)
            if error.code in PASSING and row.attempts < PASSING_ATTEMPTS:
                settling = self._settler.answered(row, _all_again(row, error), delay)
            else:
                settling = self._settler.failed_transform(row, error)
        except Damaged as error:
            _log.error("outbox-body-damaged", row=row.id, error=error.detail)
            settling = self._settler.damaged(row, error.detail)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - one row's surprise is one more failed attempt
            log = _log.warning if isinstance(error, CivicgateError) else _log.error
            log("outbox-attempt-failed", row=row.id, attempt=row.attempts, error=repr(error))
            settling = self._settler.answered(row, _all_again(row, error), delay)
        else:
            found = sort_replies(row.recipients, result.replies, result.final)
            counts = {"accepted": len(found.accepted), "refused": len(found.refused), "again": len(found.again)}
            _log.info("outbox-attempt", row=row.id, kind=row.kind, attempt=row.attempts, **counts)
            if found.accepted or found.refused:
                await self._settled(row, found, delay)
                return
            settling = self._settler.answered(row, found, delay)
        await uninterrupted(settling)  # a stop must not forget what the next hop has just said

    async def _settled(self, row: OutboxRow, found: Sorted, delay: float) -> None:
        """Write what the next hop has said, however long the store stays away: forgotten, it would be sent again.

        Meanwhile the claim is renewed whenever that can be done. Raises LostClaim when another process has the row.
        """
        written, wait, until = False, SETTLE_FIRST, time.monotonic() + ATTACH_FOR

        async def settle() -> None:
            nonlocal written
            await self._settler.answered(row, found, delay, attach=time.monotonic() < until)
            written = True

        try:
            while not written:
                try:
                    await uninterrupted(settle())
                except LostClaim:
                    raise
                except StoreError as error:
                    _log.error("outbox-outcome-waits", row=row.id, error=error.detail)
                    await asyncio.sleep(wait * _random.uniform(0.5, 1.0))
                    wait = min(2 * wait, SETTLE_LONGEST)
        except LostClaim:
            if not await self._is_recorded(row):
                _unrecorded(row, found, "claim")
                raise
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError):  # at the stop, once more
                if not written:
                    await uninterrupted(settle())
            if not written:
                _unrecorded(row, found, "stop")
            raise

    async def _is_recorded(self, row: OutboxRow) -> bool:
        """Whether it was this very attempt that settled the row: its commit had got no answer. Raises StoreError."""
        same = select(outbox.c.id).where(outbox.c.id == row.id, outbox.c.attempts == row.attempts)
        async with self._core.database.read() as connection:
            found = await connection.execute(same.where(outbox.c.state != OutboxState.WAITING))
            return found.first() is not None

    def _delivery(self, row: OutboxRow) -> Delivery:
        facts = row.message
        return Delivery(
            id=row.id,
            transaction=facts.id,
            kind=row.kind,
            client=facts.client,
            reverse_path=facts.reverse_path,
            parameters=facts.parameters,
            recipients=row.recipients,
            transforms=row.transforms,
            trace=((RELEASED, row.item),) if row.kind is OutboxKind.RELEASE else (),
            message_id=f"<{facts.id}@{self._core.post.domain}>",
            received=facts.received,
            size=facts.size,
            attempt=row.attempts,
            core=self._core,
            body=facts.body,
            sha256=facts.sha256,
            prove=partial(self._hold.prover.field, row.item) if row.kind is OutboxKind.RELEASE else None,
            mark=self._hold.passages.field if self._asked else None,
        )

    def _delay(self, row: OutboxRow) -> float:
        """Seconds to the next attempt: doubling, a quarter up or down so that retries do not come in step, capped."""
        doubled = self._settings.retry_first * 2.0 ** min(row.attempts - 1, 30)
        return float(min(doubled, self._settings.retry_longest / 1.25)) * _random.uniform(0.75, 1.25)

    async def _keep(self, row: OutboxRow) -> None:
        """Renew the claim while the delivery runs, so that a slow next hop does not look like a dead process."""
        while True:
            await asyncio.sleep(self._settings.claim_timeout / 3)
            until = self._core.clock() + timedelta(seconds=self._settings.claim_timeout)
            with contextlib.suppress(StoreError):
                await self._change(row, claimed_until=until)

    async def _give_back(self, row: OutboxRow, delay: float) -> None:
        """Free the claim; what fails in the store often fails here too, and is made up for later."""
        then = self._core.clock() + timedelta(seconds=delay)
        try:
            await self._change(row, owner=None, claimed_until=None, next_attempt=then)
        except StoreError:
            self._not_freed[row.id] = row, then

    async def _free_late(self) -> None:
        """Rather than wait out claim_timeout. A row that was claimed anew stays as it is. Raises StoreError."""
        if self._unsure:
            busy = sorted({*self._active, *self._not_freed})
            lost = update(outbox).where(outbox.c.owner == self._owner, outbox.c.state == OutboxState.WAITING)
            await self._write_one(lost.where(outbox.c.id.not_in(busy)).values(owner=None, claimed_until=None))
            self._unsure = False
        for id_, (row, then) in tuple(self._not_freed.items()):
            await self._change(row, owner=None, claimed_until=None, next_attempt=then)
            del self._not_freed[id_]

    async def _change(self, row: OutboxRow, **changes: object) -> None:
        await self._write_one(mine(row).values(**changes))

    async def _write_one(self, statement: Update) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._core.database.write(work, alone=False)


def _unrecorded(row: OutboxRow, found: Sorted, why: str) -> None:
    """It will be delivered once more: people who look for a duplicate find out here where it comes from."""
    if found.accepted:
        OUTBOX_UNRECORDED.labels(why).inc()
        _log.error("outbox-outcome-lost", row=row.id, kind=row.kind, why=why, accepted=len(found.accepted))


def _all_again(row: OutboxRow, error: Exception) -> Sorted:
    reply = error.reply if isinstance(error, CivicgateError) else Reply.of(451, "4.4.1", "The next hop does not answer")
    return Sorted((), (), tuple(Refusal(recipient, reply) for recipient in row.recipients))
