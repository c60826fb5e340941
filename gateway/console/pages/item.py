"""One held item: what it is, why it waits, what is in it, who has said what; and the decision.

Refuses content to everybody but whom the gate lets in (:mod:`gateway.hold.access`); each look at content is an event.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Refused, Services, Viewer
from gateway.console.pages import exceptions, opened, words
from gateway.console.pages.asked import oversees
from gateway.console.pages.deciding import ACTIONS, Wrong, decide
from gateway.console.pages.lists import Named, named
from gateway.console.pages.rows import row
from gateway.console.pages.showing import Flash, clauses, field, show
from gateway.console.pages.words import When, harmless
from gateway.console.render import redirect
from gateway.errors import OperatorError, StoreError
from gateway.hold import Damaged, Event, HeldItem, State
from gateway.hold.access import Ground, Permission, may_read
from gateway.hold.allowing import choices
from gateway.hold.decide import Reading
from gateway.hold.states import OPEN
from gateway.model.verdict import Mode, RuleMatch
from gateway.spool import Spool, SpooledMessage
from gateway.store.events import GATEWAY

LARGE = 25_000_000
"""Octets from which on a message is opened when asked for only."""
MOST_RECIPIENTS = 500
SPOKEN = frozenset({"approve", "complete", "reject", "comment", "withdraw", "attest"})
"""Events whose comment is what a person wrote about the message: as sealed as the message."""
SEALED = "(for the approvers and the sender)"


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that matched, as far as the viewer may know."""

    rule: str
    title: str
    acts: bool
    mode: str
    failed: str
    evidence: str
    clauses: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One approval that is needed: who can give it, or who has."""

    role: str
    kind: str
    """``wait`` or ``done``."""
    people: tuple[Named, ...]
    by: Named | None
    fallback: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in words."""

    seq: int
    at: When
    what: str
    who: str
    via: str
    comment: str
    hash: str
    view: bool = False
    """Somebody read."""


async def reading_of(request: Request, viewer: Viewer, services: Services) -> Reading:
    """The item that the address names, for who may know of it. Raises Refused (404), StoreError."""
    return await known_item(request.path_params["item"], viewer, services)


async def known_item(ident: str, viewer: Viewer, services: Services) -> Reading:
    """One item, for who may know of it. Raises Refused (404), StoreError.

    Administrators and holders of a role see every item's metadata, others what they sent or are asked about.
    """
    refused = Refused(
        404, "No such message", "There is no held message of this id that you could see. Look at the list."
    )
    try:
        reading = await services.hold.desk.read(ident)
    except OperatorError as error:
        raise refused from error
    except StoreError as error:
        if not error.detail.startswith(f"held item {ident} "):
            raise
        if services.log is not None:
            services.log.error("console: an item cannot be read", item=ident, problem=error.detail)
        if not oversees(viewer):
            raise refused from error
        raise Refused(
            409,
            "This message is damaged",
            f"What the store says about {ident} cannot be read, so nobody can decide it, and it is not delivered. "
            "IT can look at it on the machine: civicgate hold show, and civicgate hold verify for the whole record.",
        ) from error
    if oversees(viewer):
        return reading
    permission = may_read(viewer.address, reading.item, reading.slots, services.directory)
    if permission or permission.person in reading.needs.people:
        return reading
    raise refused


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The page."""
    return await show_item(request, viewer, services)


async def show_item(
    request: Request, viewer: Viewer, services: Services, wrong: str = "", flash: Flash | None = None
) -> Response:
    """The page; after a form that could not be taken with ``wrong`` beside the comment, or ``flash`` on top."""
    reading = await reading_of(request, viewer, services)
    item = reading.item
    permission = may_read(viewer.address, item, reading.slots, services.directory)
    body = await _content(request, viewer, services, reading, permission)
    titles = {rule.id: rule.title for rule in services.rules.rules}
    made = row(services, viewer, item, reading.slots, titles, services.clock())
    place, sent = _state(services, reading, permission), permission.ground is Ground.SENDER
    asks_sender, scopes = item.state is State.ATTESTING and sent, choices(item)
    return await show(
        request,
        viewer,
        services,
        "item.html",
        status=409 if wrong or flash else 200,
        flash=flash,
        item=item,
        row=made,
        reasons=tuple(dict.fromkeys(order.reason for order in item.orders if order.reason)),
        matches=_matches(item, permission, await clauses(services)),
        changes=tuple(dict.fromkeys(t.kind.replace("-", " ") for t in item.transforms)),
        reason=permission.reason,
        recipients=_recipients(item),
        client=_client(item),
        message_id=harmless(item.message.message_id),
        history=folded(await entries(services, item.id, permission)),
        slots=place if item.state in (State.HELD, State.ATTESTING) else (),
        why_not=_why_not(viewer, reading, permission),
        can_withdraw=sent and item.state in (State.HELD, State.ATTESTING),
        attestations=item.attestations if asks_sender else (),
        can_comment=bool(permission) and not sent and item.state in OPEN,
        allowed=_kinds(item) if made.mine and scopes else (),
        allow_size=words.size(item.message.size * 5 // 4).replace("bytes", "B"),
        scopes=[_scope(choice) for choice in scopes],
        spans=exceptions.SPANS,
        typed=await field(request, "comment") if wrong else "",
        wrong=wrong,
        **body,
    )


async def _content(
    request: Request, viewer: Viewer, services: Services, reading: Reading, permission: Permission
) -> dict[str, Any]:
    """The opened message, or why there is none to see."""
    item, nothing = reading.item, {"opened": None, "large": False, "gone": ""}
    if not permission:
        return nothing
    if not item.message.body or item.state is State.DAMAGED:
        why = "is damaged and cannot be shown" if item.state is State.DAMAGED else "is not kept any more"
        return nothing | {"gone": f"The content {why}: {words.state(item.state).text}"}
    if item.message.size > LARGE and request.query_params.get("open") != "1":
        return nothing | {"large": True}
    try:
        message = await look(viewer, services, item, "the text")
    except (OperatorError, Damaged) as error:
        return nothing | {"gone": f"The content cannot be shown: {error.detail}"}
    try:
        return nothing | {"opened": await asyncio.to_thread(opened.read, message)}
    finally:
        message.close()


async def look(viewer: Viewer, services: Services, item: HeldItem, what: str) -> SpooledMessage:
    """The message itself, the look recorded; the caller closes it. Raises OperatorError, Damaged, StoreError.

    ``what``: which content. All that the console gives to anybody comes through here, and so through the gate.
    """
    allowed = await services.hold.desk.view(item.id, viewer.address, viewer.origin, what)
    return await opened.fetch(services.hold, Spool(services.settings.spool), allowed)


def _matches(item: HeldItem, permission: Permission, texts: dict[str, str]) -> list[Match]:
    def one(match: RuleMatch) -> Match:
        known = tuple((clause, texts.get(clause, "")) for clause in match.source)
        mode = "counts only" if match.mode is Mode.MONITOR else str(match.mode)
        evidence = harmless(match.why) if permission else ""
        return Match(
            match.rule, match.title, match.mode is Mode.ENFORCE, mode, match.failed_control, evidence, known
        )  # fmt: skip

    return [one(match) for match in sorted(item.matches, key=lambda m: m.mode is not Mode.ENFORCE)]


def _state(services: Services, reading: Reading, permission: Permission) -> tuple[Place, ...]:
    """Each approval that is needed: given by whom, or open to whom."""
    directory = services.directory
    missing = {slot.role for slot in reading.missing()}
    given = list(reading.counting)
    places = []
    for slot in reading.slots:
        people = tuple(named(directory, person, dict(slot.why).get(person, "")) for person in sorted(slot.people))
        by = next((d for d in given if slot.role in d.roles and slot.role not in missing), None)
        if (by is not None and len(by.roles) == 1) or by is not None:
            given.remove(by)
        places.append(
            Place(
                slot.role, "done" if by else "wait", people, named(directory, by.person) if by else None, slot.fallback
            )
        )
    return tuple(places)


def _why_not(viewer: Viewer, reading: Reading, permission: Permission) -> str:
    """Why this viewer has no form to decide with."""
    if reading.item.state is not State.HELD:
        return ""
    if permission.ground is Ground.SENDER:
        return "You sent this message, so others decide it."
    if any(decision.person == permission.person for decision in reading.said):
        return "You have decided. It waits for others now."
    return "You are not asked for this message."


def _recipients(item: HeldItem) -> list[dict[str, str]]:
    shown = [
        {
            "address": harmless(recipient.address),
            "value": recipient.address,
            "direction": str(recipient.direction),
            "lists": ", ".join(name for name in recipient.lists if not name.startswith("@")),
        }
        for recipient in item.recipients[:MOST_RECIPIENTS]
    ]
    left = len(item.recipients) - len(shown)
    return shown + ([{"address": f"and {left} more", "value": "", "direction": "", "lists": ""}] if left else [])


def _client(item: HeldItem) -> str:
    client = item.message.client
    parts = [client.name or client.helo, f"[{client.address}]" if client.address else "", client.protocol]
    parts += [f"logged in as {client.login}" if client.login else "", client.tls or "without TLS"]
    return harmless(", ".join(part for part in parts if part))


def _kinds(item: HeldItem) -> tuple[str, ...]:
    """Exceptions that would have kept the rules of this item from acting."""
    return tuple(dict.fromkeys(kind for order in item.orders for kind in order.exceptions))


def _scope(choice: str) -> tuple[str, str]:
    """A choice of :func:`choices` as the form has it: value and words."""
    named = {"": "the same recipients", "*": "anybody"}
    return choice, named.get(choice) or f"anybody at {harmless(choice[1:])}"


def comment_of(event: str, comment: str, permission: Permission) -> str | None:
    """What the record says beside an event; None for who may not read what people wrote about the message."""
    return None if comment and event in SPOKEN and not permission else comment


async def entries(services: Services, ident: str, permission: Permission) -> list[Entry]:
    """The item's events, oldest first. Raises StoreError."""
    now = services.clock()
    made = []
    for entry in await services.hold.history(ident):
        known = services.directory.person(entry.actor) if "@" in entry.actor else None
        who = "" if entry.actor == GATEWAY.name else known.name if known else harmless(entry.actor)
        at = words.when(entry.at, now)
        said = comment_of(entry.event, entry.comment, permission)
        what, via = words.event(entry.event), harmless(entry.os_user)
        comment = SEALED if said is None else harmless(said)
        view = entry.event == Event.VIEW
        if view and comment:
            what, comment = f"{what}: {comment}", ""
        made.append(Entry(entry.seq, at, what, who, via, comment, entry.hash, view))
    return made


def folded(found: list[Entry]) -> list[Entry]:
    """For the item's page: what somebody read several times in a row is one line; the record has each."""
    made: list[Entry] = []
    for entry in found:
        last = made[-1] if made else None
        if last is not None and entry.view and last.view and (entry.who, entry.via) == (last.who, last.via):
            what = last.what if entry.what in last.what else f"{last.what}, {entry.what.partition(': ')[2]}"
            made[-1] = replace(entry, what=what)
        else:
            made.append(entry)
    return made


async def history(request: Request, viewer: Viewer, services: Services) -> Response:
    """The whole record of one item."""
    reading = await reading_of(request, viewer, services)
    permission = may_read(viewer.address, reading.item, reading.slots, services.directory)
    found = await entries(services, reading.item.id, permission)
    return await show(request, viewer, services, "history.html", id=reading.item.id, entries=found)


async def act(request: Request, viewer: Viewer, services: Services) -> Response:
    """A decision, a comment, or the sender's own word."""
    reading = await reading_of(request, viewer, services)
    action = await field(request, "action")
    if action not in ACTIONS:
        raise Refused(400, "Bad request", "The form says nothing that this page knows.")
    try:
        done = await decide(request, viewer, services, reading, action)
    except Wrong as error:
        return await show_item(request, viewer, services, wrong=error.text)
    except OperatorError as error:
        return await show_item(request, viewer, services, flash=Flash("bad", error.detail))
    return redirect(request, f"/items/{reading.item.id}", done=done)


ROUTES = (
    Page("GET", "/items/{item}", index),
    Page("POST", "/items/{item}", act),
    Page("GET", "/items/{item}/history", history),
)
