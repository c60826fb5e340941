"""Counts for charts: what was held and what became of it, day by day; how long the outbox's rows have waited.

Refuses to read rows: everything is counted by the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, case, func, select, type_coerce

from gateway.hold.core import Core
from gateway.hold.states import OPEN, State
from gateway.hold.values import OutboxState
from gateway.store.tables import EPOCH, held, outbox

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC)."""

    begins: datetime
    held: int
    """Items that began to wait on it."""
    ended: Mapping[State, int]
    """Items that came to their present end on it, by that end."""


async def days(core: Core, count: int) -> tuple[Day, ...]:
    """The last ``count`` days, today last. Raises StoreError."""
    today = (core.clock() - EPOCH) // DAY
    first = today - count + 1
    since = EPOCH + first * DAY
    begun = _day_of(held.c.created)
    ended = _day_of(held.c.changed)
    over = sorted(set(State) - OPEN)
    by_begin = select(begun, func.count()).where(held.c.created >= since).group_by(begun)
    by_end: Select[Any] = (
        select(ended, held.c.state, func.count())
        .where(held.c.state.in_(over), held.c.changed >= since)
        .group_by(ended, held.c.state)
    )
    async with core.database.read() as connection:
        starts = {row[0]: row[1] for row in (await connection.execute(by_begin)).all()}
        ends = (await connection.execute(by_end)).all()
    found = []
    for day in range(first, today + 1):
        states = {State(state): number for on, state, number in ends if on == day}
        found.append(Day(EPOCH + day * DAY, starts.get(day, 0), states))
    return tuple(found)


async def outbox_ages(core: Core, bounds: Sequence[timedelta]) -> tuple[int, ...]:
    """How many waiting rows are younger than each bound and not than the one before; the last number is the rest.

    ``bounds`` ascend. Raises StoreError.
    """
    now = core.clock()
    rank = case(*((outbox.c.created > now - bound, place) for place, bound in enumerate(bounds)), else_=len(bounds))
    query = select(rank, func.count()).where(outbox.c.state == OutboxState.WAITING).group_by(rank)
    async with core.database.read() as connection:
        found = {row[0]: row[1] for row in (await connection.execute(query)).all()}
    return tuple(found.get(place, 0) for place in range(len(bounds) + 1))


def _day_of(column: Any) -> ColumnElement[int]:
    return type_coerce(column, BigInteger) // (DAY // timedelta(microseconds=1))
