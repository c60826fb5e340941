"""One-time links from letters: the page shows what is asked, the button answers it. No login is needed.

Refuses to do anything on GET or HEAD, which mail scanners and browsers send on their own; the answer is a POST, spends
the link, and counts for the person, item, round and digest for which the link was made and for nothing else. Content
of the message is not shown here: that takes a login.
"""

from starlette.requests import Request
from starlette.responses import Response

from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.pages import words
from gateway.console.pages.deciding import word
from gateway.console.pages.lists import named
from gateway.console.pages.rows import row
from gateway.console.pages.showing import DONE, Flash, clauses, field
from gateway.console.render import render
from gateway.errors import OperatorError
from gateway.hold.decide import Order, Reading
from gateway.hold.links import Link, LinkRefused, Problem, Purpose
from gateway.model.verdict import Mode

_STATUS = {Problem.UNKNOWN: 404}
_TITLES = {
    Problem.UNKNOWN: "This link is not known",
    Problem.USED: "This link was used",
    Problem.EXPIRED: "This link has ended",
    Problem.OVER: "Nothing is left to decide",
    Problem.CHANGED: "The message has changed",
    Problem.PURPOSE: "This link is for something else",
}


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """What is asked. Changes nothing."""
    link, reading = await _follow(request, services)
    return await _show(request, services, link, reading)


async def _follow(request: Request, services: Services) -> tuple[Link, Reading]:
    try:
        return await services.hold.desk.follow(request.path_params["token"])
    except LinkRefused as error:
        title, status = _TITLES.get(error.problem, "This link does not work"), _STATUS.get(error.problem, 410)
        raise Refused(status, title, f"{error.detail} You can log in to see how the message stands.") from error


async def _show(
    request: Request, services: Services, link: Link, reading: Reading, wrong: str = "", flash: Flash | None = None
) -> Response:
    item = reading.item
    asked = Viewer(link.person)
    titles = {rule.id: rule.title for rule in services.rules.rules}
    texts = await clauses(services)
    sources = dict.fromkeys(clause for match in item.matches if match.mode is Mode.ENFORCE for clause in match.source)
    attest = link.purpose is Purpose.ATTEST
    return render(
        request,
        "attest.html" if attest else "decide.html",
        409 if wrong or flash else 200,
        alone=True,
        broad=True,
        choice="reject" if wrong or request.query_params.get("choice") == "reject" else "approve",
        flash=flash,
        wrong=wrong,
        typed=await field(request, "comment") if wrong else "",
        token=request.path_params["token"],
        person=named(services.directory, link.person),
        row=row(services, asked, item, reading.slots, titles, services.clock()),
        item=item,
        reasons=tuple(dict.fromkeys(order.reason for order in item.orders if order.reason)),
        clauses=[(clause, texts.get(clause, "")) for clause in sources],
        recipients=[words.harmless(recipient.address) for recipient in item.recipients[:20]],
        more=max(0, len(item.recipients) - 20),
        attestations=item.attestations,
        until=words.when(link.expires, services.clock(), end=True),
    )


async def act(request: Request, viewer: Viewer, services: Services) -> Response:
    """The answer."""
    link, reading = await _follow(request, services)
    action, comment = await field(request, "action"), (await field(request, "comment"))[:2000]
    allowed = ("attest", "withdraw") if link.purpose is Purpose.ATTEST else ("approve", "reject")
    if action not in allowed:
        raise Refused(400, "Bad request", "The form says nothing that this page knows.")
    if action == "reject" and not comment:
        return await _show(request, services, link, reading, wrong="Write the reason: the sender reads it.")
    if action == "attest" and await field(request, "confirmed") != "1":
        return await _show(request, services, link, reading, flash=Flash("bad", "Tick the box to confirm."))
    origin = f"one-time link from {viewer.client}" if viewer.client else "one-time link"
    order = Order(comment=comment, os_user=origin, link=request.path_params["token"])
    try:
        key = await _done(services, action, order)
    except LinkRefused as error:
        raise Refused(410, _TITLES.get(error.problem, "This link does not work"), error.detail) from error
    except OperatorError as error:
        return await _show(request, services, link, reading, flash=Flash("bad", error.detail))
    return render(request, "decided.html", alone=True, flash=DONE[key], item=reading.item)


async def _done(services: Services, action: str, order: Order) -> str:
    desk = services.hold.desk
    match action:
        case "approve":
            return word(await desk.approve(order))
        case "reject":
            await desk.reject(order)
            return "rejected"
        case "withdraw":
            await desk.withdraw(order)
            return "withdrawn"
        case _:
            await desk.attest(order)
            return "attested"


ROUTES = (
    Page("GET", "/decide/{token}", index, Who.ANYONE),
    Page("POST", "/decide/{token}", act, Who.ANYONE),
)
