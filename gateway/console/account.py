"""What people see of their own account: sessions, password, second factor, recovery codes.

Refuses to change a password, to set up, replace or take away a second factor, and to make recovery codes without the
present password: whoever finds an open browser must not become its owner. Identity providers keep passwords and second
factors of those who log in through them, so this console shows them neither.
"""

import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps

import segno
from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Session, Stage, totp
from gateway.accounts.core import derived
from gateway.accounts.door import Outcome
from gateway.console.context import Handler, Page, Refused, Services, Viewer, Who
from gateway.console.login import fields, must_have_second, report
from gateway.console.pages import words
from gateway.console.pages.showing import show
from gateway.console.render import local_path, redirect, render
from gateway.console.sessions import arrival_of, give, give_mark, take_away
from gateway.errors import OperatorError
from gateway.store.events import Actor

_SAID = {
    "ended": "The session was ended.",
    "others": "All other sessions were ended.",
    "password": "The password was changed. Your other sessions were ended.",
    "revoked": "The token was revoked. Programs that use it are refused from now on.",
}


async def overview(request: Request, viewer: Viewer, services: Services) -> Response:
    """Who I am here, and where I am logged in."""
    session, now = own_session(request), services.clock()
    account = await services.accounts.people.find(session.address)
    return await show(
        request,
        viewer,
        services,
        "account.html",
        sessions=[(one, words.browser(one.agent), words.when(one.created, now), words.when(one.seen, now))
                  for one in await services.accounts.sessions.list(session.address)],
        tokens=[(one, words.when(one.expires, now, end=True), words.when(one.used, now) if one.used else None)
                for one in await services.accounts.tokens.list(session.address)],
        account=account,
        changed=words.when(account.password_changed, now) if account and account.password_changed else None,
        must=must_have_second(services.settings.console, services.directory, session.address),
        said=_SAID.get(request.query_params.get("said", ""), ""),
        local=viewer.local,
    )  # fmt: skip


async def end_session(request: Request, viewer: Viewer, services: Services) -> Response:
    """End one of my sessions: this one, or another."""
    session = own_session(request)
    ident = (await fields(request, "session"))["session"]
    if not await services.accounts.sessions.end(session.address, ident, viewer.actor):
        raise Refused(404, "Not found", "You have no such session; it may have ended by itself.")
    if ident == session.id:
        return take_away(redirect(request, "/login", said="out"), request)
    return redirect(request, "/account", said="ended")


async def end_others(request: Request, viewer: Viewer, services: Services) -> Response:
    """End all my sessions but this one."""
    session = own_session(request)
    await services.accounts.sessions.end_all(session.address, viewer.actor, but=session.id)
    return redirect(request, "/account", said="others")


Form = Callable[..., Awaitable[Response]]
"""A page's handler that shows a form, and can be told besides what was wrong with it, and the status."""


def confirmed(form: Form, name: str = "password") -> Callable[[Handler], Handler]:
    """A change that only the owner of a local account makes: with the present password in the field ``name``.

    The form comes again, and nothing is changed, when it is not the password.
    """

    def around(change: Handler) -> Handler:
        @wraps(change)
        async def handler(request: Request, viewer: Viewer, services: Services) -> Response:
            local_only(viewer)
            typed = (await fields(request, name))[name]
            if problem := await prove(services, viewer, own_session(request), typed):
                return await form(request, viewer, services, problem, 403)
            return await change(request, viewer, services)

        return handler

    return around


async def password_form(
    request: Request, viewer: Viewer, services: Services, problem: str = "", status: int = 200
) -> Response:
    """Where the password is changed."""
    local_only(viewer)
    shortest = services.settings.console.password_length
    return await show(request, viewer, services, "password.html", status=status, problem=problem, shortest=shortest)


@confirmed(password_form, "old")
async def password(request: Request, viewer: Viewer, services: Services) -> Response:
    """Change it; this session gets a new secret, the others end."""
    session, typed = own_session(request), await fields(request, "password", "again")
    try:
        if typed["password"] != typed["again"]:
            raise OperatorError("The two passwords are not the same.")
        await services.accounts.people.set_password(session.address, typed["password"], viewer.actor, keep=session.id)
    except OperatorError as error:
        return await password_form(request, viewer, services, error.detail, 400)
    secret = await services.accounts.sessions.promote(arrival_of(request).secret, Stage.FULL)
    if secret is None:
        return take_away(redirect(request, "/login"), request)
    response = give(redirect(request, "/account", said="password"), request, secret)
    return await give_mark(response, request, session.address)


async def totp_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """Where a second factor is set up or, with ``?new=1``, replaced: a picture for the app, a field for its code."""
    session = _enrolling(request, viewer)
    account = await services.accounts.people.find(session.address)
    if account is not None and account.has_totp and request.query_params.get("new") != "1":
        return redirect(request, "/account")
    return await _totp_form(request, viewer, services)


async def _totp_form(
    request: Request, viewer: Viewer, services: Services, problem: str = "", status: int = 200
) -> Response:
    secret = _secret(request)
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    then = local_path(request.query_params.get("next", "/"))
    account = await services.accounts.people.find(own_session(request).address)
    return await show(
        request, viewer, services, "totp.html", status=status, secret=groups, problem=problem, next=then,
        new=account is not None and account.has_totp,
    )  # fmt: skip


async def totp_picture(request: Request, viewer: Viewer, services: Services) -> Response:
    """The QR code, for the person who is setting up and nobody else."""
    session = _enrolling(request, viewer)
    issuer = f"Civicgate {services.settings.notices.city_name}"
    code = segno.make_qr(totp.address_of(_secret(request), session.address, issuer), error="m")
    picture = io.BytesIO()
    code.save(picture, kind="svg", scale=6, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None)
    return Response(picture.getvalue(), media_type="image/svg+xml")


async def totp_on(request: Request, viewer: Viewer, services: Services) -> Response:
    """Take the second factor when its first code is right; show the recovery codes, once.

    Whoever is logged in already proves the password besides; in the middle of a login it was just given.
    """
    session = _enrolling(request, viewer)
    typed = await fields(request, "code", "next", "password")
    actor = Actor(session.address, viewer.origin)
    account = await services.accounts.people.find(session.address)
    if account is None or (account.has_totp and session.stage is not Stage.FULL):
        raise Refused(409, "This cannot be done", "There is a second factor already, or the account is gone.")
    if session.stage is Stage.FULL:
        problem = await prove(services, viewer, session, typed["password"])
        if problem:
            return await _totp_form(request, viewer, services, problem, 403)
    try:
        codes = await services.accounts.people.enrol(session.address, _secret(request), typed["code"], actor)
    except OperatorError as error:
        return await _totp_form(request, viewer, services, error.detail, 400)
    await services.accounts.sessions.end_all(session.address, actor, but=session.id)
    secret = await services.accounts.sessions.promote(arrival_of(request).secret, Stage.FULL)
    if secret is None:
        return take_away(redirect(request, "/login"), request)
    then = local_path(typed["next"] or "/")
    title = "Your second factor is set up"
    request.state.viewer = replace(viewer, csrf=derived(secret, "csrf"))  # the forms of this page are the new session's
    response = render(request, "recovery.html", codes=codes, next=then, title=title)
    return await give_mark(give(response, request, secret), request, session.address)


async def recovery_form(
    request: Request, viewer: Viewer, services: Services, problem: str = "", status: int = 200
) -> Response:
    """Where new recovery codes are made."""
    local_only(viewer)
    account = await services.accounts.people.find(own_session(request).address)
    if account is None or not account.has_totp:
        raise Refused(409, "This cannot be done", "Recovery codes go with a second factor. Set one up first.")
    left = account.recovery_codes
    return await show(request, viewer, services, "codes.html", status=status, problem=problem, left=left)


@confirmed(recovery_form)
async def recovery(request: Request, viewer: Viewer, services: Services) -> Response:
    """Make new ones, and show them, once; the old ones are worth nothing from now on."""
    codes = await services.accounts.people.new_codes(own_session(request).address, viewer.actor)
    return render(request, "recovery.html", codes=codes, next="/account", title="Your new recovery codes")


async def totp_off_form(
    request: Request, viewer: Viewer, services: Services, problem: str = "", status: int = 200
) -> Response:
    """Where the second factor is taken away."""
    local_only(viewer)
    must = must_have_second(services.settings.console, services.directory, own_session(request).address)
    return await show(request, viewer, services, "totp_off.html", status=status, problem=problem, must=must)


@confirmed(totp_off_form)
async def totp_off(request: Request, viewer: Viewer, services: Services) -> Response:
    """Take the second factor away; all sessions end."""
    await services.accounts.people.reset_totp(own_session(request).address, viewer.actor)
    return take_away(redirect(request, "/login", said="out"), request)


async def prove(services: Services, viewer: Viewer, session: Session, password: str) -> str:
    """Whether it is the person's password: what is wrong, ``""`` when nothing is."""
    answer = await services.accounts.door.confirm(session, password)
    report(services, "password", answer.outcome, session.address, viewer.client)
    if answer.outcome is Outcome.THROTTLED:
        return f"Too many attempts. Please wait {int(answer.wait) + 1} s and try again."
    return "" if answer.outcome is Outcome.OK else "This is not your password."


def own_session(request: Request) -> Session:
    """The session of somebody who is logged in."""
    session = arrival_of(request).session
    if session is None:
        raise Refused(403, "Not allowed", "This page is for people.")
    return session


def local_only(viewer: Viewer) -> None:
    """Refuse people of an identity provider."""
    if not viewer.local:
        raise Refused(403, "Not here", "Your password and second factor are kept by your identity provider.")


def _enrolling(request: Request, viewer: Viewer) -> Session:
    """The session of somebody who may set up a second factor: logged in, or logged in but for that. Raises Refused."""
    session = arrival_of(request).session
    if session is None or (not viewer.local and session.stage is not Stage.ENROL):
        raise Refused(403, "Not allowed", "Log in with a local account first.")
    return session


def _secret(request: Request) -> str:
    """The secret that is being set up: this session's own, so that nothing is kept of those who give up."""
    return totp.from_digest(derived(arrival_of(request).secret, "totp"))


ROUTES: tuple[Page, ...] = (
    Page("GET", "/account", overview),
    Page("POST", "/account/sessions/end", end_session),
    Page("POST", "/account/sessions/end-others", end_others),
    Page("GET", "/account/password", password_form),
    Page("POST", "/account/password", password),
    Page("GET", "/account/totp", totp_form, Who.ANYONE),
    Page("POST", "/account/totp", totp_on, Who.ANYONE),
    Page("GET", "/account/totp/picture.svg", totp_picture, Who.ANYONE),
    Page("GET", "/account/totp/off", totp_off_form),
    Page("POST", "/account/totp/off", totp_off),
    Page("GET", "/account/recovery", recovery_form),
    Page("POST", "/account/recovery", recovery),
)
