"""Held mail: filters, search, order, pages, and one decision for several messages.

Refuses to show a person's mail to who has nothing to do with it: administrators and holders of a role see metadata of
all, others only what they sent or are asked about. Subjects are for an item's approvers and its sender.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Refused, Services, Viewer
from gateway.console.pages import words
from gateway.console.pages.asked import SORTS as SORTED
from gateway.console.pages.asked import Filter, find, oversees
from gateway.console.pages.item import known_item
from gateway.console.pages.rows import rows
from gateway.console.pages.showing import Flash, field, show
from gateway.console.pages.showing import fields as form_fields
from gateway.errors import OperatorError
from gateway.hold import State
from gateway.hold.decide import Order

SORTS = (
    ("expires", "Soonest to expire"),
    ("-created", "Newest first"),
    ("created", "Oldest first"),
    ("-size", "Largest first"),
    ("size", "Smallest first"),
)
PAGE = 50
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one of the chosen."""

    id: str
    kind: str
    word: str
    text: str


def filter_of(request: Request) -> Filter:
    """The filters in the address; what they do not know counts as not there."""
    asked = {
        name: request.query_params.get(name, "").strip()[:200]
        for name in ("q", "within", "state", "queue", "rule", "sort")
    }
    states = {*map(str, State), "open", "all"}
    return Filter(
        q=asked["q"],
        within="subject" if asked["within"] == "subject" else "",
        state=asked["state"] if asked["state"] in states else "open",
        queue=asked["queue"],
        rule=asked["rule"],
        sort=asked["sort"] if asked["sort"] in SORTED else "expires",
        mine=request.query_params.get("mine") == "1",
        after=request.query_params.get("after", "")[:300],
    )


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The list."""
    return await _show(request, viewer, services, filter_of(request))


async def _show(
    request: Request, viewer: Viewer, services: Services, wanted: Filter, flash: Flash | None = None
) -> Response:
    try:
        found = await find(services, viewer, wanted, PAGE)
    except OperatorError as error:
        raise Refused(404, "No such page", "This list has changed. Begin at its first page.") from error
    made = rows(services, viewer, found.items)
    by_queue = await services.hold.listing.by_queue() if oversees(viewer) else {row.queue for row in made}
    return await show(
        request,
        viewer,
        services,
        "held.html",
        status=409 if flash else 200,
        flash=flash,
        rows=made,
        filter=wanted,
        link=_link(wanted),
        first=not wanted.after,
        next=found.next,
        shown=words.count_of(len(made), "message") + (" on this page" if found.next or wanted.after else ""),
        states={str(state): words.state(state) for state in State},
        queues=sorted({*by_queue, *([wanted.queue] if wanted.queue else [])}),
        rules=[(rule.id, rule.title) for rule in services.rules.rules if rule.hold is not None],
        sorts=SORTS,
        decidable=any(row.mine for row in made),
        filtered=wanted != Filter(sort=wanted.sort),
        scope=_scope(viewer),
    )


def _scope(viewer: Viewer) -> str:
    if oversees(viewer):
        return (
            "What rules hold until somebody decides. Subjects and content are for those who decide, and for the sender."
        )
    return "Messages that you are asked about. What became of your own is under «My messages»."


def _link(wanted: Filter) -> Callable[..., dict[str, str]]:
    """Query values of this list with some of them changed; a change goes back to the first page."""

    def link(**changes: Any) -> dict[str, str]:
        changed = replace(wanted, **{"after": "", **changes})
        values = {f.name: getattr(changed, f.name) for f in fields(changed)}
        return {name: "1" if value is True else str(value) for name, value in values.items() if value}

    return link


async def decide(request: Request, viewer: Viewer, services: Services) -> Response:
    """One decision for all that were chosen, each by itself."""
    action, comment = await field(request, "action"), (await field(request, "comment"))[:2000]
    chosen = [value.rpartition(":") for value in await form_fields(request, "item")][:MOST_AT_ONCE]
    problem = ""
    if action not in ("approve", "reject"):
        problem = "Choose whether to approve or to reject."
    elif not chosen or not all(ident and digest for ident, _, digest in chosen):
        problem = "Choose the messages first: tick the boxes in front of them."
    elif action == "reject" and not comment:
        problem = "A rejection needs a reason: the senders read it. Nothing was done."
    if problem:
        return await _show(request, viewer, services, filter_of(request), Flash("bad", problem))
    orders = [
        Order(ident, viewer.address, comment=comment, os_user=viewer.origin, digest=digest)
        for ident, _, digest in chosen
    ]
    known = [order for order in orders if await _knows(viewer, services, order.item)]
    results = [
        _result(row.item, row.problem, row.outcome.text if row.outcome else "", changed(row.outcome))
        for row in await services.hold.desk.bulk(action, known)
    ]
    results += [_result(order.item, "There is no such message.", "", False) for order in orders if order not in known]
    good = sum(1 for result in results if result.kind == "good")
    summary = f"{words.count_of(good, 'message')} of {len(results)} {'is' if good == 1 else 'are'} decided."
    return await show(request, viewer, services, "bulk.html", results=results, summary=summary)


async def _knows(viewer: Viewer, services: Services, ident: str) -> bool:
    """Whether the person may know of an item: who may not is told the same as of one that is not there."""
    try:
        await known_item(ident, viewer, services)
    except Refused as refused:
        return refused.status != 404
    return True


def changed(outcome: object) -> bool:
    """Whether a decision did something."""
    return bool(getattr(outcome, "changed", False))


def _result(ident: str, problem: str, text: str, did: bool) -> Result:
    if problem:
        return Result(ident, "bad", "Not done", problem)
    return Result(ident, "good" if did else "note", "Done" if did else "Before", text)


ROUTES = (Page("GET", "/held", index), Page("POST", "/held", decide))
