"""One's own API tokens: made, shown once, revoked.

Refuses to make one without the present password, or for people of an identity provider without a login of the last
minutes: a token outlives the session, so an open browser is not enough. The commands (``civicgate tokens``) make those
for others.
"""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.tokens import Scope
from gateway.console.account import own_session, prove
from gateway.console.context import Page, Refused, Services, Viewer
from gateway.console.login import fields
from gateway.console.pages import numbers, words
from gateway.console.pages.showing import show
from gateway.console.render import redirect
from gateway.errors import OperatorError

FRESH = timedelta(minutes=15)
"""How long after a login through an identity provider a token may be made."""
MOST = 20
"""Tokens of one person at a time."""
SPANS = ((7, "7 days"), (30, "30 days"), (90, "90 days"), (180, "180 days"), (366, "1 year"))
SCOPES = ((Scope.READ, "read: see what you see"), (Scope.DECIDE, "decide: also approve, reject and comment as you"))


async def form(
    request: Request, viewer: Viewer, services: Services, problem: str = "", status: int = 200, **typed: str
) -> Response:
    """Where one is made."""
    given = {"name": "", "scope": "", "days": "90"} | typed
    return await show(
        request, viewer, services, "token.html", status=status, problem=problem, typed=given, spans=SPANS,
        scopes=SCOPES, local=viewer.local, stale=_stale(request, viewer, services),
        minutes=FRESH // timedelta(minutes=1),
    )  # fmt: skip


async def add(request: Request, viewer: Viewer, services: Services) -> Response:
    """Make one, and show it, once."""
    session, typed = own_session(request), await fields(request, "name", "scope", "days", "password")
    kept = {name: typed[name][:100] for name in ("name", "scope", "days")}
    if viewer.local and (problem := await prove(services, viewer, session, typed["password"])):
        return await form(request, viewer, services, problem, 403, **kept)
    if _stale(request, viewer, services):
        return await form(request, viewer, services, "Your login is too long ago: log out, and in again.", 403, **kept)
    days = numbers.whole(typed["days"], numbers.MOST_DAYS)
    try:
        if days is None or typed["scope"] not in list(Scope):
            raise OperatorError("Choose what it may do, and for how long.")
        if len(await services.accounts.tokens.list(session.address)) >= MOST:
            raise OperatorError(f"You have {MOST} tokens. Revoke one that is not needed any more.")
        until = services.clock() + timedelta(days=days)
        secret, made = await services.accounts.tokens.add(
            typed["name"], session.address, Scope(typed["scope"]), until, viewer.actor
        )
    except OperatorError as error:
        return await form(request, viewer, services, error.detail, 400, **kept)
    until_said = words.when(made.expires, services.clock())
    return await show(request, viewer, services, "token_made.html", secret=secret, token=made, until=until_said)


async def revoke(request: Request, viewer: Viewer, services: Services) -> Response:
    """End one of one's own."""
    ident = (await fields(request, "token"))["token"]
    try:
        await services.accounts.tokens.revoke(ident, viewer.actor, own_session(request).address)
    except OperatorError as error:
        raise Refused(404, "Not found", "You have no such token; it may be revoked already.") from error
    return redirect(request, "/account", said="revoked")


def _stale(request: Request, viewer: Viewer, services: Services) -> bool:
    """Whether an identity provider's login is too long ago to prove anything; local accounts give the password."""
    return not viewer.local and services.clock() - own_session(request).created > FRESH


ROUTES: tuple[Page, ...] = (
    Page("GET", "/account/tokens", form),
    Page("POST", "/account/tokens", add),
    Page("POST", "/account/tokens/revoke", revoke),
)
