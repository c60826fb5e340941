"""Exceptions to rules: who may, to whom, until when, why and by whom; granted and revoked here by administrators.

Refuses an exception without an end, and one for a kind that no rule knows. Others than administrators and holders of a
role see only those that are theirs.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.pages import numbers, words
from gateway.console.pages.asked import oversees
from gateway.console.pages.showing import Flash, field, show
from gateway.console.pages.words import Shown, When
from gateway.console.render import redirect
from gateway.errors import OperatorError
from gateway.hold.approval import identity
from gateway.model.envelope import ExceptionRecord
from gateway.policy import RuleSet

STATES = {
    "active": Shown("In force", "good"),
    "used up": Shown("Used up", ""),
    "over": Shown("Over", ""),
    "revoked": Shown("Revoked", "bad"),
}
FIELDS = ("kind", "sender", "recipient", "reason", "days", "uses", "size")
SPANS = ((1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days"), (180, "180 days"), (365, "1 year"))


@dataclass(frozen=True, slots=True)
class Row:
    """One exception."""

    record: ExceptionRecord
    state: Shown
    active: bool
    until: When
    since: When
    uses: str
    size: str


def kinds(rules: RuleSet) -> dict[str, tuple[str, ...]]:
    """Kinds of exceptions that rules know, with the titles of those rules."""
    found: dict[str, tuple[str, ...]] = {}
    for rule in rules.rules:
        for node in rule.exceptions:
            found[node.kind] = (*found.get(node.kind, ()), rule.title)
    return dict(sorted(found.items()))


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """The list, and for administrators the form."""
    return await _show(request, viewer, services)


async def _show(
    request: Request, viewer: Viewer, services: Services, flash: Flash | None = None, form: dict[str, str] | None = None
) -> Response:
    everything = request.query_params.get("all") == "1"
    listed = await services.hold.exceptions.list(everything=everything)
    now = services.clock()
    rows = [
        _row(record, state, now)
        for record, state in reversed(listed)
        if oversees(viewer) or _is(services, viewer, record.sender) or _is(services, viewer, record.approver)
    ]
    return await show(
        request,
        viewer,
        services,
        "exceptions.html",
        status=409 if flash else 200,
        flash=flash,
        rows=rows,
        everything=everything,
        kinds=kinds(services.rules),
        spans=SPANS,
        form=dict.fromkeys(FIELDS, "") | (form or {}),
    )


def _is(services: Services, viewer: Viewer, address: str) -> bool:
    """Whether an address is the viewer's, under whatever of the person's names."""
    return identity(services.directory, address) == identity(services.directory, viewer.address)


def _row(record: ExceptionRecord, state: str, now: datetime) -> Row:
    active = state == "active"
    return Row(
        record,
        STATES.get(state, Shown(state, "")),
        active,
        words.when(record.expires, now, end=active),
        words.when(record.created, now),
        "any number" if record.uses_left is None else words.count_of(record.uses_left, "more use", "more uses"),
        "" if record.max_size is None else f"up to {words.size(record.max_size)}",
    )


async def add(request: Request, viewer: Viewer, services: Services) -> Response:
    """Grant one."""
    form = {name: await field(request, name) for name in FIELDS}
    try:
        await services.hold.exceptions.add(_record(form, viewer, services), viewer.origin)
    except OperatorError as error:
        return await _show(request, viewer, services, Flash("bad", error.detail), form)
    return redirect(request, "/exceptions", done="exception-added")


def _record(form: dict[str, str], viewer: Viewer, services: Services) -> ExceptionRecord:
    if form["kind"] not in kinds(services.rules):
        raise OperatorError("Choose what is allowed: no rule knows an exception of this kind.")
    now = services.clock().astimezone(UTC).replace(microsecond=0)
    return ExceptionRecord(
        id=f"x{secrets.token_hex(5)}",
        kind=form["kind"],
        sender=form["sender"],
        recipient=form["recipient"] or "*",
        reason=form["reason"],
        approver=viewer.address,
        created=now,
        expires=now + timedelta(days=_number(form["days"], "Say how long it lasts: 1 to 366 days.", numbers.MOST_DAYS)),
        uses_left=_number(form["uses"], "The number of messages is 1 to 100000, or empty.", numbers.MOST_USES)
        if form["uses"]
        else None,
        max_size=_size(form["size"]) if form["size"] else None,
    )


def _number(text: str, refusal: str, most: int) -> int:
    found = numbers.whole(text, most)
    if found is None:
        raise OperatorError(refusal)
    return found


def _size(text: str) -> int:
    found = numbers.octets(text)
    if found is None:
        raise OperatorError("Write the largest size like 80 MB.")
    return found


async def revoke(request: Request, viewer: Viewer, services: Services) -> Response:
    """End one now."""
    ident = request.path_params["exception"]
    known = {record.id for record, _ in await services.hold.exceptions.list(everything=True)}
    if ident not in known:
        raise Refused(404, "No such exception", "There is no exception of this id.")
    try:
        comment = await field(request, "comment")
        await services.hold.exceptions.revoke(ident, viewer.address, comment, viewer.origin)
    except OperatorError as error:
        return await _show(request, viewer, services, Flash("note", error.detail))
    return redirect(request, "/exceptions", done="exception-revoked")


ROUTES = (
    Page("GET", "/exceptions", index),
    Page("POST", "/exceptions", add, Who.ADMIN),
    Page("POST", "/exceptions/{exception}/revoke", revoke, Who.ADMIN),
)
