"""The HTTP API for ticket systems and scripts: held items, decisions, exceptions, queue facts, as JSON.

Refuses everything without a bearer token, and what the token's person could not do on the pages: a program decides as
its person does, sees subjects where the person would, and never content. Errors are problem+json (RFC 9457).
"""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.console.api_schema import document
from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.pages import numbers
from gateway.console.pages.asked import SORTS, Filter, find, oversees
from gateway.console.pages.exceptions import kinds
from gateway.console.pages.item import comment_of, reading_of
from gateway.errors import OperatorError
from gateway.hold import HeldItem, Outcome, Slot, State
from gateway.hold.access import may_read
from gateway.hold.decide import Order, Reading, Rest
from gateway.hold.values import list_ids
from gateway.model.envelope import ExceptionRecord

PAGE, MOST = 50, 200
Model = TypeVar("Model", bound=BaseModel)


class Decide(BaseModel):
    """The body of a decision."""

    model_config = ConfigDict(extra="forbid")
    verdict: str = Field(pattern="^(approve|reject)$")
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    comment: str = Field(default="", max_length=2000)
    role: str = Field(default="", max_length=100)
    recipients: tuple[str, ...] = Field(default=(), max_length=10_000)
    rest: Rest = Rest.HOLD


class Word(BaseModel):
    """The body of a comment."""

    model_config = ConfigDict(extra="forbid")
    comment: str = Field(min_length=1, max_length=2000)


class NewException(BaseModel):
    """The body of a new exception."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    sender: str = Field(max_length=320)
    recipient: str = Field(default="*", max_length=320)
    reason: str = Field(min_length=1, max_length=2000)
    expires: datetime
    uses_left: int | None = Field(default=None, ge=1, le=numbers.MOST_USES)
    max_size: int | None = Field(default=None, ge=1, le=numbers.MOST_SIZE)


def answer(value: object, status: int = 200, **headers: str) -> Response:
    """JSON; times as RFC 3339 in UTC."""
    data = orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS)
    return Response(data, status, {name.replace("_", "-"): text for name, text in headers.items()}, "application/json")


async def openapi(request: Request, viewer: Viewer, services: Services) -> Response:
    """The description of all this."""
    return answer(document(services.settings.console.url))


async def items(request: Request, viewer: Viewer, services: Services) -> Response:
    """One page of held items."""
    query = request.query_params
    known = {"q", "subject", "state", "queue", "rule", "sort", "mine", "after", "limit"}
    if unknown := sorted(set(query) - known):
        raise Refused(400, "Unknown parameter", f"{', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    wanted = Filter(
        q=(query.get("subject") or query.get("q", ""))[:200],
        within="subject" if query.get("subject") else "",
        state=_one_of(query.get("state", "open"), {*map(str, State), "open", "all"}, "state"),
        queue=query.get("queue", ""),
        rule=query.get("rule", ""),
        sort=_one_of(query.get("sort", "created"), SORTS, "sort"),
        mine=query.get("mine") in ("1", "true"),
        after=query.get("after", ""),
    )
    try:
        found = await find(services, viewer, wanted, _limit(query.get("limit", str(PAGE))))
    except OperatorError as error:
        raise Refused(400, "Unknown value", error.detail) from error
    shown = [item_json(services, viewer, item, services.hold.core.slots(item)) for item in found.items]
    return answer({"items": shown, "next": found.next or None})


async def item(request: Request, viewer: Viewer, services: Services) -> Response:
    """One item, with who is asked and what was said."""
    return answer(await _whole(services, viewer, await reading_of(request, viewer, services)))


async def history(request: Request, viewer: Viewer, services: Services) -> Response:
    """Everything that happened to an item."""
    reading = await reading_of(request, viewer, services)
    permission = may_read(viewer.address, reading.item, reading.slots, services.directory)
    names = ("seq", "at", "actor", "event", "hash")
    rows = [
        {name: getattr(entry, name) for name in names}
        | {"origin": entry.os_user, "comment": comment_of(entry.event, entry.comment, permission)}
        for entry in await services.hold.history(reading.item.id)
    ]
    return answer({"events": rows})


async def decide(request: Request, viewer: Viewer, services: Services) -> Response:
    """Approve or reject; saying the same again changes nothing and is no error."""
    reading, said = await reading_of(request, viewer, services), await _body(request, Decide)
    order = Order(reading.item.id, viewer.address, said.role, said.comment, viewer.origin, said.digest)
    desk = services.hold.desk
    if said.verdict == "reject":
        outcome = await desk.reject(order)
    elif said.recipients:
        outcome = await desk.release_some(order, said.recipients, said.rest)
    else:
        outcome = await desk.approve(order)
    return answer(await _outcome(services, viewer, outcome))


async def comment(request: Request, viewer: Viewer, services: Services) -> Response:
    """A word without a decision."""
    reading, said = await reading_of(request, viewer, services), await _body(request, Word)
    order = Order(reading.item.id, viewer.address, comment=said.comment, os_user=viewer.origin)
    return answer(await _outcome(services, viewer, await services.hold.desk.comment(order)))


async def withdraw(request: Request, viewer: Viewer, services: Services) -> Response:
    """The sender takes a message back."""
    reading = await reading_of(request, viewer, services)
    outcome = await services.hold.desk.withdraw(Order(reading.item.id, viewer.address, os_user=viewer.origin))
    return answer(await _outcome(services, viewer, outcome))


async def queues(request: Request, viewer: Viewer, services: Services) -> Response:
    """Counts and ages."""
    _overseer(viewer)
    facts = await services.hold.queue_facts()
    held = [
        {"queue": name, "held": count, "oldest_seconds": round(facts.oldest_held[name], 1)}
        for name, count in sorted(facts.held.items())
    ]
    outbox = {"waiting": facts.outbox, "oldest_seconds": round(facts.oldest_outbox, 1)}
    return answer({"queues": held, "outbox": outbox, "damaged": facts.damaged})


async def exceptions(request: Request, viewer: Viewer, services: Services) -> Response:
    """Exceptions in force, or all."""
    _overseer(viewer)
    everything = request.query_params.get("all") in ("1", "true")
    listed = await services.hold.exceptions.list(everything=everything)
    return answer({"exceptions": [_exception(record, state) for record, state in listed]})


async def add_exception(request: Request, viewer: Viewer, services: Services) -> Response:
    """Grant one."""
    _administrator(viewer)
    said = await _body(request, NewException)
    if said.kind not in kinds(services.rules):
        raise Refused(422, "Unknown kind", f"No rule knows an exception of the kind «{said.kind[:100]}».")
    if said.expires.tzinfo is None:
        raise Refused(422, "No time zone", "expires needs a time zone, for example 2026-12-31T17:00:00Z.")
    now = services.clock().astimezone(UTC)
    if said.expires > now + timedelta(days=numbers.MOST_DAYS):
        raise Refused(422, "Too long", f"An exception lasts {numbers.MOST_DAYS} days at most: expires is too far away.")
    record = ExceptionRecord(
        id=f"x{secrets.token_hex(5)}",
        kind=said.kind,
        sender=said.sender,
        recipient=said.recipient,
        reason=said.reason,
        approver=viewer.address,
        created=now,
        expires=said.expires,
        uses_left=said.uses_left,
        max_size=said.max_size,
    )
    added = await services.hold.exceptions.add(record, viewer.origin)
    return answer(_exception(added, "active"), 201)


async def revoke_exception(request: Request, viewer: Viewer, services: Services) -> Response:
    """End one now; ending it again is no error."""
    _administrator(viewer)
    ident = request.path_params["exception"]
    listed = {record.id: (record, state) for record, state in await services.hold.exceptions.list(everything=True)}
    if ident not in listed:
        raise Refused(404, "No such exception", "There is no exception of this id.")
    record, state = listed[ident]
    if state != "revoked":
        await services.hold.exceptions.revoke(ident, viewer.address, origin=viewer.origin)
    return answer(_exception(record, "revoked"))


def _one_of(value: str, known: Any, name: str) -> str:
    if value not in known:
        raise Refused(400, "Unknown value", f"{name} is one of {', '.join(sorted(known))}.")
    return value


def _limit(text: str) -> int:
    found = numbers.whole(text, MOST)
    if found is None:
        raise Refused(400, "Unknown value", f"limit is a number from 1 to {MOST}.")
    return found


def _overseer(viewer: Viewer) -> None:
    if not oversees(viewer):
        raise Refused(403, "Not allowed", "This is for administrators and holders of a role.")


def _administrator(viewer: Viewer) -> None:
    if not viewer.is_admin:
        raise Refused(403, "Not allowed", "This is for administrators.")


async def _body(request: Request, model: type[Model]) -> Model:
    """The request's JSON. Raises Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "Not JSON", "Send Content-Type: application/json.")
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in found[:10])
        raise Refused(422, "The body does not fit", text) from error


def item_json(services: Services, viewer: Viewer, found: HeldItem, slots: tuple[Slot, ...]) -> dict[str, Any]:
    """An item's metadata; the subject where the gate lets the person in, else null."""
    facts = found.message
    allowed = may_read(viewer.address, found, slots, services.directory)
    return {
        "id": found.id,
        "state": found.state,
        "queue": found.queue,
        "round": found.round,
        "sender": facts.reverse_path,
        "recipients": [recipient.address for recipient in found.recipients],
        "lists": list(list_ids(found.recipients)),
        "people": found.audience,
        "subject": facts.subject if allowed else None,
        "size": facts.size,
        "digest": facts.sha256,
        "message_id": facts.message_id,
        "rules": list(dict.fromkeys(order.rule for order in found.orders)),
        "reasons": list(dict.fromkeys(order.reason for order in found.orders)),
        "clauses": list(dict.fromkeys(clause for match in found.matches for clause in match.source)),
        "received": facts.received,
        "changed": found.changed,
        "expires": found.expires,
        "url": f"{services.settings.console.url}/items/{found.id}",
    }


async def _whole(services: Services, viewer: Viewer, reading: Reading) -> dict[str, Any]:
    needs = reading.missing() if reading.item.state is State.HELD else ()
    said = await services.hold.decisions(reading.item.id)
    permission = may_read(viewer.address, reading.item, reading.slots, services.directory)
    return item_json(services, viewer, reading.item, reading.slots) | {
        "needs": _needs(needs),
        "decisions": [
            {
                "person": d.person,
                "verdict": d.verdict,
                "roles": list(d.roles),
                "comment": d.comment if permission else None,
                "round": d.round,
                "at": d.at,
            }
            for d in said
        ],
    }


async def _outcome(services: Services, viewer: Viewer, outcome: Outcome) -> dict[str, Any]:
    shown = item_json(services, viewer, outcome.item, services.hold.core.slots(outcome.item))
    return {"changed": outcome.changed, "text": outcome.text, "needs": _needs(outcome.missing), "item": shown}


def _needs(slots: tuple[Slot, ...]) -> list[dict[str, Any]]:
    return [{"role": slot.role, "people": sorted(slot.people), "fallback": slot.fallback} for slot in slots]


def _exception(record: ExceptionRecord, state: str) -> dict[str, Any]:
    names = (
        "id", "kind", "sender", "recipient", "reason", "approver", "created", "expires", "uses_left", "max_size",
    )  # fmt: skip
    return {name: getattr(record, name) for name in names} | {"state": state}


ROUTES = (
    Page("GET", "/api/v1/openapi.json", openapi, Who.ANYONE, bare=True),
    Page("GET", "/api/v1/items", items, Who.READ),
    Page("GET", "/api/v1/items/{item}", item, Who.READ),
    Page("GET", "/api/v1/items/{item}/history", history, Who.READ),
    Page("POST", "/api/v1/items/{item}/decisions", decide, Who.DECIDE),
    Page("POST", "/api/v1/items/{item}/comments", comment, Who.DECIDE),
    Page("POST", "/api/v1/items/{item}/withdrawal", withdraw, Who.DECIDE),
    Page("GET", "/api/v1/queues", queues, Who.READ),
    Page("GET", "/api/v1/exceptions", exceptions, Who.READ),
    Page("POST", "/api/v1/exceptions", add_exception, Who.DECIDE),
    Page("DELETE", "/api/v1/exceptions/{exception}", revoke_exception, Who.DECIDE),
)
