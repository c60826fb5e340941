"""What waits for a person, and held mail by filters: the store's questions in the pages' words."""

from dataclasses import dataclass

from gateway.console.context import Services, Viewer
from gateway.hold import HeldItem, State
from gateway.hold.access import is_sender
from gateway.hold.approval import identity
from gateway.hold.states import OPEN

SORTS = frozenset({"created", "-created", "expires", "-expires", "size", "-size"})


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for."""

    q: str = ""
    state: str = "open"
    """``open``, ``all`` or a state."""
    queue: str = ""
    rule: str = ""
    sort: str = "expires"
    """A column's name, ``-`` before it turns the order."""
    mine: bool = False
    """Only what waits for the viewer."""
    after: str = ""
    """Where the page before ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """One page of items."""

    items: tuple[HeldItem, ...]
    next: str
    """Where the next page begins, ``""`` when there is none."""


def oversees(viewer: Viewer) -> bool:
    """Administrators and holders of a role see every item's metadata; others see what they have to do with."""
    return viewer.is_admin or bool(viewer.roles)


async def waiting(services: Services, viewer: Viewer, most: int) -> tuple[tuple[HeldItem, ...], int]:
    """Items that this person can decide and has not decided, the most urgent first; and how many. Raises StoreError."""
    found = []
    person = identity(services.directory, viewer.address)
    for item in await services.hold.list(states=[State.HELD]):
        reading = await services.hold.desk.read(item.id)
        if any(person in slot.people for slot in reading.missing()) and item.expires > services.clock():
            found.append(item)
    return tuple(sorted(found, key=lambda item: item.expires))[:most], len(found)


async def waiting_count(services: Services, viewer: Viewer) -> int:
    """How many they are. Raises StoreError."""
    return (await waiting(services, viewer, 0))[1] if viewer.known else 0


async def own(services: Services, viewer: Viewer, most: int) -> tuple[HeldItem, ...]:
    """What this person sent, the newest first. Raises StoreError."""
    person = identity(services.directory, viewer.address)
    found = await services.hold.list(states=list(State))
    return tuple(item for item in reversed(found) if is_sender(person, item, services.directory))[:most]


async def find(services: Services, viewer: Viewer, wanted: Filter, most: int) -> Found:
    """One page. Raises StoreError."""
    states = OPEN if wanted.state == "open" else set(State) if wanted.state == "all" else {State(wanted.state)}
    items = await services.hold.list(queue=wanted.queue, states=list(states))
    return Found(items[:most], "")
