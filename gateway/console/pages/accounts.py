"""The console's people, for administrators: who has a local account, who is logged in, which programs speak for whom.

Refuses to make accounts, to set passwords and to make links that do: whoever could would log in as an approver, and one
person would be two. The commands do that (``civicgate users``), which take a login on the machine. Refuses also to let
administrators disable themselves, or take their own second factor away here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts.people import Account
from gateway.accounts.tokens import Token
from gateway.console.context import Page, Refused, Services, Viewer, Who, roles_of
from gateway.console.pages import words
from gateway.console.pages.showing import Flash, field, show
from gateway.console.pages.words import Shown, When, harmless
from gateway.console.render import redirect
from gateway.errors import OperatorError
from gateway.model.envelope import fold

ACTIVE, DISABLED = Shown("Active", "good"), Shown("Disabled", "bad")
EMPTY, FOREIGN = Shown("No password yet", "warn"), Shown("No account here", "note")
RECORD = 100
"""Lines of the record that are shown, the newest."""
DONE = {
    "disabled": "Disabled. Sessions and API tokens stopped at once.",
    "enabled": "Enabled. The old password works again; sessions do not come back.",
    "totp-reset": "The second factor is gone, and all sessions are ended.",
    "sessions-ended": "All sessions are ended.",
    "token-revoked": "The token is revoked.",
}

_NOBODY = "Nobody of this address has an account here, or was ever logged in."


@dataclass(frozen=True, slots=True)
class Row:
    """One person."""

    address: str
    name: str
    to: str
    """The address as a part of a path."""
    roles: tuple[str, ...]
    admin: bool
    state: Shown
    second: bool
    local: bool
    last_login: When | None
    sessions: int
    known: bool
    """The directory knows the person."""


async def index(request: Request, viewer: Viewer, services: Services) -> Response:
    """All of them."""
    accounts = {account.address: account for account in await services.accounts.people.list()}
    sessions = await services.accounts.sessions.counts()
    people = sorted({*accounts, *sessions, *(token.address for token in await services.accounts.tokens.list())})
    rows = [_row(services, address, accounts.get(address), sessions.get(address, 0)) for address in people]
    return await show(request, viewer, services, "accounts.html", rows=rows)


def _row(services: Services, address: str, account: Account | None, sessions: int) -> Row:
    person, roles = services.directory.person(address), roles_of(services.directory, address)
    state = FOREIGN if account is None else DISABLED if account.disabled else ACTIVE if account.has_password else EMPTY
    return Row(
        address=address,
        name=person.name if person else "",
        to=quote(address, safe="@"),
        roles=tuple(sorted(roles)),
        admin=bool(account and account.admin) or services.settings.console.admin_role in roles,
        state=state,
        second=bool(account and account.has_totp),
        local=account is not None,
        last_login=words.when(account.last_login, services.clock()) if account and account.last_login else None,
        sessions=sessions,
        known=person is not None,
    )


def _address(request: Request) -> str:
    """Whom the path names. Raises Refused: nobody's tokens and sessions are everybody's."""
    address = fold(request.path_params["address"])
    if "@" not in address:
        raise Refused(404, "No such account", _NOBODY)
    return address


async def one(request: Request, viewer: Viewer, services: Services) -> Response:
    """One of them. Raises Refused."""
    return await _one(request, viewer, services)


async def _one(request: Request, viewer: Viewer, services: Services, flash: Flash | None = None) -> Response:
    address, now = _address(request), services.clock()
    account = await services.accounts.people.find(address)
    sessions, tokens = await services.accounts.sessions.list(address), await services.accounts.tokens.list(address)
    record = await services.accounts.history(address)
    if account is None and not (sessions or tokens or record):
        raise Refused(404, "No such account", _NOBODY)
    done = DONE.get(request.query_params.get("done", ""))
    return await show(
        request,
        viewer,
        services,
        "person_account.html",
        status=409 if flash else 200,
        flash=flash or (Flash("good", done) if done else None),
        row=_row(services, address, account, len(sessions)),
        account=account,
        changed=words.when(account.password_changed, now) if account and account.password_changed else None,
        created=words.when(account.created, now) if account else None,
        sessions=[
            (one, words.browser(one.agent), words.when(one.created, now), words.when(one.seen, now)) for one in sessions
        ],
        tokens=[_token(token, services) for token in tokens],
        own=fold(viewer.address) == address,
        record=[
            (words.when(entry.at, now), words.account_event(entry.event), harmless(entry.actor),
             harmless(entry.os_user), harmless(entry.comment))
            for entry in reversed(record[-RECORD:])
        ],
        more=max(0, len(record) - RECORD),
    )  # fmt: skip


def _token(token: Token, services: Services) -> tuple[Token, When, When | None]:
    now = services.clock()
    return token, words.when(token.expires, now, end=True), words.when(token.used, now) if token.used else None


async def act(request: Request, viewer: Viewer, services: Services) -> Response:
    """Disable, enable, reset the second factor, end sessions, revoke a token."""
    address, action = _address(request), await field(request, "action")
    if action not in _ACTIONS:
        raise Refused(400, "Bad request", "The form says nothing that this page knows.")
    try:
        if fold(viewer.address) == address and action in ("disable", "reset-totp"):
            raise OperatorError("This is your own account. Another administrator can do that, or the command.")
        done = await _ACTIONS[action](services, viewer, address, await field(request, "token"))
    except OperatorError as error:
        return await _one(request, viewer, services, Flash("bad", error.detail))
    return redirect(request, f"/accounts/{quote(address, safe='@')}", done=done)


async def _disable(services: Services, viewer: Viewer, address: str, _: str) -> str:
    await services.accounts.people.disable(address, viewer.actor)
    return "disabled"


async def _enable(services: Services, viewer: Viewer, address: str, _: str) -> str:
    await services.accounts.people.enable(address, viewer.actor)
    return "enabled"


async def _reset_totp(services: Services, viewer: Viewer, address: str, _: str) -> str:
    await services.accounts.people.reset_totp(address, viewer.actor)
    return "totp-reset"


async def _end_sessions(services: Services, viewer: Viewer, address: str, _: str) -> str:
    but = viewer.session if fold(viewer.address) == address else ""
    await services.accounts.sessions.end_all(address, viewer.actor, but=but)
    return "sessions-ended"


async def _revoke(services: Services, viewer: Viewer, address: str, token: str) -> str:
    await services.accounts.tokens.revoke(token, viewer.actor, address)
    return "token-revoked"


_ACTIONS: dict[str, Callable[[Services, Viewer, str, str], Awaitable[str]]] = {
    "disable": _disable,
    "enable": _enable,
    "reset-totp": _reset_totp,
    "end-sessions": _end_sessions,
    "revoke-token": _revoke,
}

ROUTES = (
    Page("GET", "/accounts", index, Who.ADMIN),
    Page("GET", "/accounts/{address:path}", one, Who.ADMIN),
    Page("POST", "/accounts/{address:path}", act, Who.ADMIN),
)
