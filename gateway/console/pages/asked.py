"""What waits for a person, and held mail by filters: the store's lists in the pages' words.

Refuses to search subjects that the viewer may not read: such a search looks at what waits for the viewer alone.
"""

from dataclasses import dataclass

from gateway.console.context import Services, Viewer
from gateway.hold import HeldItem, State
from gateway.hold.listing import Page, Sort, Wanted

SORTS = frozenset({"created", "-created", "expires", "-expires", "size", "-size"})


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for."""

    q: str = ""
    within: str = ""
    """``subject``: search subjects; else addresses, ids and Message-IDs."""
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


def oversees(viewer: Viewer) -> bool:
    """Administrators and holders of a role see every item's metadata; others see what they have to do with."""
    return viewer.is_admin or bool(viewer.roles)


async def waiting(services: Services, viewer: Viewer, most: int) -> tuple[tuple[HeldItem, ...], int]:
    """Items that this person can decide and has not decided, the most urgent first; and how many. Raises StoreError."""
    wanted, listing = Wanted(waiting_for=viewer.address), services.hold.listing
    page = await listing.page(wanted, sort=Sort.EXPIRES, most=most)
    return page.items, await listing.count(wanted) if page.next else len(page.items)


async def waiting_count(services: Services, viewer: Viewer) -> int:
    """How many they are. Raises StoreError."""
    return await services.hold.listing.count(Wanted(waiting_for=viewer.address)) if viewer.known else 0


async def own(services: Services, viewer: Viewer, most: int) -> tuple[HeldItem, ...]:
    """What this person sent, the newest first. Raises StoreError."""
    wanted = Wanted(sent_by=viewer.address, states=tuple(State))
    return (await services.hold.listing.page(wanted, descending=True, most=most)).items


async def find(services: Services, viewer: Viewer, wanted: Filter, most: int) -> Page:
    """One page. Raises OperatorError for a place that is none, StoreError."""
    subjects = wanted.within == "subject" and bool(wanted.q)
    mine = wanted.mine or subjects or not oversees(viewer)
    named: dict[str, tuple[State, ...]] = {"open": (), "all": tuple(State)}
    which = Wanted(
        states=named[wanted.state] if wanted.state in named else (State(wanted.state),),
        queue=wanted.queue,
        rule=wanted.rule,
        text="" if subjects else wanted.q,
        subject=wanted.q if subjects else "",
        waiting_for=viewer.address if mine else "",
    )
    sort, descending = Sort(wanted.sort.removeprefix("-")), wanted.sort.startswith("-")
    return await services.hold.listing.page(which, sort=sort, descending=descending, most=most, after=wanted.after)
