"""How the gateway is: its neighbours, the store, the outbox, the disks, and what it did in the last days.

Refuses to wait for a neighbour that does not answer: after a few seconds it counts as not reached.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.console.context import Health, Page, Refused, Services, Viewer
from gateway.console.pages import charts, counts, words
from gateway.console.pages.asked import oversees
from gateway.console.pages.showing import show
from gateway.errors import CivicgateError
from gateway.hold import QueueFacts, State, figures

PATIENCE = 4.0
"""Seconds for each neighbour."""
DAYS = 14
_BOUNDS = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))
_BOUND_NAMES = ("under 1 min", "1–10 min", "10–60 min", "1–6 h", "over 6 h")
_DELIVERED, _STOPPED = (State.RELEASED,), (State.REJECTED, State.REFUSED)


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system."""

    name: str
    path: str
    free: str
    used: float
    """Percent."""
    kind: str


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of held mail."""

    name: str
    count: int
    oldest: str


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The page. Raises Refused for who neither administers nor holds a role."""
    if not oversees(viewer):
        raise Refused(403, "Not allowed", "This page is for administrators and holders of a role.")
    names = list(services.neighbours)
    asked = (ask(services.neighbours[name]) for name in names)
    found = asyncio.gather(*asked)
    facts, days, ages = await _figures(services)
    counted = await asyncio.to_thread(counts.read, services.settings.metrics.directory)
    disks = await asyncio.to_thread(_disks, services)
    now = services.clock()
    return await show(
        request,
        viewer,
        services,
        "system.html",
        neighbours=list(zip(names, await found, strict=True)),
        queues=_queues(facts),
        facts=facts,
        held=sum(facts.held.values()),
        oldest=words.stretch(timedelta(seconds=facts.oldest_outbox)) or "less than a minute",
        traffic=_traffic(days),
        outbox=_outbox(ages),
        disks=disks,
        counted=counted,
        reload=words.when(datetime.fromtimestamp(counted.reloaded, UTC), now) if counted.reloaded else None,
        read=words.when(services.started, now),
        rules=len(services.rules.active),
        digest=services.rules.digest,
        version=__version__,
        next_hop=str(services.settings.next_hop.address),
    )


async def ask(neighbour: Callable[[], Awaitable[Health]]) -> Health:
    """How a neighbour is; never raises and never waits long."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await neighbour()
    except TimeoutError:
        return Health(up=False, text=f"no answer within {PATIENCE:.0f} seconds")
    except (CivicgateError, OSError) as error:
        return Health(up=False, text=str(error))


async def _figures(services: Services) -> tuple[QueueFacts, tuple[figures.Day, ...], tuple[int, ...]]:
    core = services.hold.core
    facts = await services.hold.queue_facts()
    return facts, await figures.days(core, DAYS), await figures.outbox_ages(core, _BOUNDS)


def _queues(facts: QueueFacts) -> list[Queue]:
    return [
        Queue(name, count, words.stretch(timedelta(seconds=facts.oldest_held[name])) or "less than a minute")
        for name, count in sorted(facts.held.items())
    ]


def _traffic(days: tuple[figures.Day, ...]) -> tuple[charts.Chart, charts.Chart]:
    begun = [charts.Column(f"{d.begins:%d %b}", ((d.held, "a", f"{d.begins:%d %b}: {d.held} held"),)) for d in days]
    ended = []
    for day in days:
        good = sum(day.ended.get(state, 0) for state in _DELIVERED)
        bad = sum(day.ended.get(state, 0) for state in _STOPPED)
        rest = sum(day.ended.values()) - good - bad
        on = f"{day.begins:%d %b}"
        amounts = ((good, "b", f"{on}: {good} delivered"), (bad, "c", f"{on}: {bad} rejected"))
        ended.append(charts.Column(on, (*amounts, (rest, "d", f"{on}: {rest} expired, returned or withdrawn"))))
    total = sum(day.held for day in days)
    over = sum(sum(day.ended.values()) for day in days)
    return (
        charts.columns(begun, f"Messages held in the last {DAYS} days: {total} in all.", every=4),
        charts.columns(ended, f"Held messages that came to an end in the last {DAYS} days: {over} in all.", every=4),
    )


def _outbox(ages: tuple[int, ...]) -> charts.Chart:
    found = [
        charts.Column(name, ((number, "a" if place < 3 else "c", f"{number} waiting {name}"),))
        for place, (name, number) in enumerate(zip(_BOUND_NAMES, ages, strict=True))
    ]
    return charts.columns(found, f"Messages in the outbox by how long they wait: {sum(ages)} in all.")


def _disks(services: Services) -> list[Disk]:
    settings, found = services.settings, []
    for name, path in (("Store", settings.store.directory), ("Spool", settings.spool.directory)):
        disk = _disk(name, path)
        if disk is not None:
            found.append(disk)
    return found


def _disk(name: str, path: Path) -> Disk | None:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    used = charts.share(usage.total - usage.free, usage.total)
    kind = "c" if used > 95 else "d" if used > 85 else "a"
    return Disk(name, str(path), words.size(usage.free), used, kind)


ROUTES = (Page("GET", "/system", index),)
