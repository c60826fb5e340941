"""The forms of an item's page turned into orders for the desk. Refuses one that is not filled in; the desk the rest."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request

from gateway.console.context import Services, Viewer
from gateway.console.pages import numbers
from gateway.console.pages.showing import field, fields
from gateway.errors import OperatorError
from gateway.hold import Outcome
from gateway.hold.allowing import Allowance
from gateway.hold.decide import Order, Reading

_WANTED = {
    "reject": "Write the reason: the sender reads it.",
    "allow": "Write the reason: it becomes the reason of the exception.",
    "comment": "Write the comment first.",
}
_JUDGES = frozenset({"approve", "reject", "some", "allow"})
"""Decisions, which are for exactly the message that was shown."""
_LONGEST = 2000


class Wrong(Exception):
    """Something is missing in the form; ``text`` says what, beside the field."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Said:
    """A form, read."""

    request: Request
    services: Services
    reading: Reading
    order: Order


async def decide(request: Request, viewer: Viewer, services: Services, reading: Reading, action: str) -> str:
    """Do it; returns the key of the word to show. Raises Wrong, OperatorError, StoreError."""
    comment, digest = (await field(request, "comment"))[:_LONGEST], await field(request, "digest")
    order = Order(reading.item.id, viewer.address, comment=comment, os_user=viewer.origin, digest=digest)
    if action in _JUDGES and not digest:
        raise OperatorError("The form does not say which message was looked at. Reload the page and decide there.")
    if not comment and action in _WANTED:
        raise Wrong(_WANTED[action])
    return await ACTIONS[action](Said(request, services, reading, order))


async def _approve(said: Said) -> str:
    return word(await said.services.hold.desk.approve(said.order))


async def _reject(said: Said) -> str:
    outcome = await said.services.hold.desk.reject(said.order)
    return "rejected" if outcome.changed else "again"


async def _some(said: Said) -> str:
    chosen = await fields(said.request, "recipient")
    known = {recipient.address for recipient in said.reading.item.recipients}
    if not chosen or not set(chosen) <= known:
        raise OperatorError("Choose the recipients who shall get it.")
    outcome = await said.services.hold.desk.release_some(said.order, chosen)
    return "partly" if outcome.changed else "again"


async def _allow(said: Said) -> str:
    outcome = await said.services.hold.desk.release_and_allow(said.order, await _allowance(said))
    return "allowed" if outcome.changed else "again"


async def _withdraw(said: Said) -> str:
    await said.services.hold.desk.withdraw(said.order)
    return "withdrawn"


async def _attest(said: Said) -> str:
    if await field(said.request, "confirmed") != "1":
        raise OperatorError("Tick the box to confirm.")
    await said.services.hold.desk.attest(said.order)
    return "attested"


async def _comment(said: Said) -> str:
    await said.services.hold.desk.comment(said.order)
    return "commented"


ACTIONS: dict[str, Callable[[Said], Awaitable[str]]] = {
    "approve": _approve,
    "reject": _reject,
    "some": _some,
    "allow": _allow,
    "withdraw": _withdraw,
    "attest": _attest,
    "comment": _comment,
}


def word(outcome: Outcome) -> str:
    """The key of what an approval did."""
    if not outcome.changed:
        return "again"
    return "approved-more" if outcome.missing else "approved"


async def _allowance(said: Said) -> Allowance:
    request = said.request
    days, size = await field(request, "days"), await field(request, "size")
    scope, once = await field(request, "scope"), await field(request, "once") == "1"
    count, most = numbers.whole(days, numbers.MOST_DAYS), numbers.octets(size) if size else None
    if count is None:
        raise OperatorError("Choose until when it shall be allowed.")
    if size and most is None:
        raise OperatorError("Write the largest size like 80 MB, or leave it empty.")
    expires = said.services.clock() + timedelta(days=count)
    return Allowance(expires, (scope,) if scope else (), most, once)
