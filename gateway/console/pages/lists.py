"""Distribution lists and who approves what goes to them: asked of the rules and the directory as they are now.

Refuses to guess: the answer is the engine's own, for a message with nothing in it but its envelope.
"""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Services, Viewer
from gateway.console.pages.showing import show
from gateway.directory import Directory, MailingList
from gateway.hold.approval import Question, Resolver
from gateway.model.envelope import Client, Direction, Envelope, Recipient
from gateway.model.finding import Check, Findings
from gateway.model.verdict import Disposition, HoldOrder
from gateway.policy.engine import decide


@dataclass(frozen=True, slots=True)
class Named:
    """A person as pages show one."""

    name: str
    address: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One approval that would be needed."""

    role: str
    people: tuple[Named, ...]
    fallback: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One list."""

    list: MailingList
    owners: tuple[Named, ...]
    outcome: str
    """What becomes of a message to it."""
    rules: tuple[str, ...]
    places: tuple[Place, ...]
    count: int
    """How many different people must approve."""


def named(directory: Directory, address: str, why: str = "") -> Named:
    """Name and address of whom the address reaches."""
    person = directory.person(address)
    return Named(person.name if person else "", person.address if person else address, why)


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """All lists; for the sender that is asked about, by default who looks."""
    sender = request.query_params.get("sender", "").strip()[:254] or viewer.address
    rows = [_row(services, entry, sender) for entry in services.directory.lists]
    known = services.directory.person(sender)
    return await show(
        request,
        viewer,
        services,
        "lists.html",
        rows=rows,
        sender=sender,
        sender_name=known.name if known else "",
        departments=_departments(services),
        roles=_roles(services),
    )


def _row(services: Services, entry: MailingList, sender: str) -> Row:
    orders, outcome = _orders(services, entry, sender)
    asked = Question(orders, sender, (sender,), (entry.id,))
    needs = Resolver(
        asked, services.directory, services.settings.hold.fallback_role, services.clock()
    ).needs()  # fmt: skip
    places = tuple(
        Place(slot.role, _people(services.directory, slot.people, dict(slot.why)), slot.fallback)
        for slot in needs.slots
    )
    owners = tuple(named(services.directory, owner) for owner in entry.owners)
    rules = tuple(dict.fromkeys(order.rule for order in orders))
    return Row(entry, owners, outcome, rules, places if orders else (), needs.count if orders else 0)


def _people(directory: Directory, people: frozenset[str], why: dict[str, str]) -> tuple[Named, ...]:
    return tuple(named(directory, person, why.get(person, "")) for person in sorted(people))


def _orders(services: Services, entry: MailingList, sender: str) -> tuple[tuple[HoldOrder, ...], str]:
    """What the rules ask for a message from this sender to the list, as far as the envelope tells."""
    directory, network = services.directory, services.settings.network
    address = entry.addresses[0] if entry.addresses else ""
    inside = network.is_internal(sender)
    direction = Direction.INTERNAL if inside else Direction.INBOUND
    recipient = Recipient(address, direction, lists=directory.lists_of(address))
    envelope = Envelope("preview", Client("", inside=inside), directory.sender(sender), (recipient,))
    findings = replace(Findings(size=1000), known=frozenset(Check))
    verdict = decide(envelope, findings, services.rules, services.clock())
    group = verdict.groups[0]
    if group.disposition is Disposition.HOLD:
        return group.holds, "held"
    return (), "passes" if group.disposition is Disposition.PASS else "refused"


def _departments(services: Services) -> list[tuple[str, Named | None, tuple[Named, ...]]]:
    directory, now = services.directory, services.clock()
    found = []
    for department in sorted(directory.departments.values(), key=lambda d: d.name):
        director = named(directory, department.director) if department.director else None
        deputies = directory.deputies(department.director, now) if department.director else ()
        found.append((department.name, director, tuple(named(directory, address) for address in deputies)))
    return found


def _roles(services: Services) -> list[tuple[str, list[tuple[Named, tuple[Named, ...]]]]]:
    directory, now = services.directory, services.clock()
    return [
        (
            role,
            [
                (named(directory, holder), tuple(named(directory, a) for a in directory.deputies(holder, now)))
                for holder in holders
            ],
        )
        for role, holders in sorted(directory.roles.items())
    ]


ROUTES = (Page("GET", "/lists", index),)
