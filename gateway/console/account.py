"""What people see of their own account: sessions, password, second factor.

Refuses to change a password, or to take a second factor away, without the present password; identity providers keep
passwords and second factors of those who log in through them, so this console shows them neither.
"""

import io

import segno
from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Session, Stage, totp
from gateway.accounts.core import derived
from gateway.accounts.door import Outcome
from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.login import fields, must_have_second, report
from gateway.console.render import local_path, redirect, render
from gateway.console.sessions import arrival_of, give, take_away
from gateway.errors import OperatorError
from gateway.store.events import Actor

_SAID = {
    "ended": "The session was ended.",
    "others": "All other sessions were ended.",
    "password": "The password was changed. Your other sessions were ended.",
    "totp": "The second factor was taken away.",
}


async def overview(request: Request, viewer: Viewer, services: Services) -> Response:
    """Who I am here, and where I am logged in."""
    session = _session(request)
    sessions = await services.accounts.sessions.list(session.address)
    account = await services.accounts.people.find(session.address)
    said = _SAID.get(request.query_params.get("said", ""), "")
    return render(request, "account.html", sessions=sessions, account=account, said=said, local=viewer.local)


async def end_session(request: Request, viewer: Viewer, services: Services) -> Response:
    """End one of my sessions: this one, or another."""
    session = _session(request)
    ident = (await fields(request, "session"))["session"]
    if not await services.accounts.sessions.end(session.address, ident, viewer.actor):
        raise Refused(404, "Not found", "You have no such session; it may have ended by itself.")
    if ident == session.id:
        return take_away(redirect(request, "/login", said="out"), request)
    return redirect(request, "/account", said="ended")


async def end_others(request: Request, viewer: Viewer, services: Services) -> Response:
    """End all my sessions but this one."""
    session = _session(request)
    await services.accounts.sessions.end_all(session.address, viewer.actor, but=session.id)
    return redirect(request, "/account", said="others")


async def password_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """Where the password is changed."""
    _local(viewer)
    return _password_form(request, services)


def _password_form(request: Request, services: Services, problem: str = "", status: int = 200) -> Response:
    shortest = services.settings.console.password_length
    return render(request, "password.html", status, problem=problem, shortest=shortest)


async def password(request: Request, viewer: Viewer, services: Services) -> Response:
    """Change it; this session gets a new secret, the others end."""
    _local(viewer)
    session = _session(request)
    typed = await fields(request, "old", "password", "again")
    problem = await _prove(services, viewer, session, typed["old"])
    if problem:
        return _password_form(request, services, problem, 403)
    if typed["password"] != typed["again"]:
        return _password_form(request, services, "The two passwords are not the same.", 400)
    try:
        await services.accounts.people.set_password(session.address, typed["password"], viewer.actor, keep=session.id)
    except OperatorError as error:
        return _password_form(request, services, error.detail, 400)
    secret = await services.accounts.sessions.promote(arrival_of(request).secret, Stage.FULL)
    if secret is None:
        return take_away(redirect(request, "/login"), request)
    return give(redirect(request, "/account", said="password"), request, secret)


async def totp_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """Where a second factor is set up: the picture for the app, and a field for its first code."""
    session = _enrolling(request, viewer)
    account = await services.accounts.people.find(session.address)
    if account is not None and account.has_totp:
        must = must_have_second(services.settings.console, services.directory, session.address)
        return render(request, "totp_off.html", problem="", must=must)
    return _totp_form(request)


def _totp_form(request: Request, problem: str = "") -> Response:
    secret = _secret(request)
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    then = local_path(request.query_params.get("next", "/"))
    return render(request, "totp.html", 400 if problem else 200, secret=groups, problem=problem, next=then)


async def totp_picture(request: Request, viewer: Viewer, services: Services) -> Response:
    """The QR code, for the person who is setting up and nobody else."""
    session = _enrolling(request, viewer)
    account = await services.accounts.people.find(session.address)
    if account is not None and account.has_totp:
        raise Refused(404, "Not found", "There is a second factor already.")
    issuer = f"Civicgate {services.settings.notices.city_name}"
    code = segno.make_qr(totp.address_of(_secret(request), session.address, issuer), error="m")
    picture = io.BytesIO()
    code.save(picture, kind="svg", scale=6, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None)
    return Response(picture.getvalue(), media_type="image/svg+xml")


async def totp_on(request: Request, viewer: Viewer, services: Services) -> Response:
    """Take the second factor when its first code is right; show the recovery codes, once."""
    session = _enrolling(request, viewer)
    account = await services.accounts.people.find(session.address)
    if account is None or account.has_totp:
        raise Refused(409, "This cannot be done", "There is a second factor already. Take it away first.")
    typed = await fields(request, "code", "next")
    actor = Actor(session.address, viewer.origin)
    try:
        codes = await services.accounts.people.enrol(session.address, _secret(request), typed["code"], actor)
    except OperatorError as error:
        return _totp_form(request, error.detail)
    secret = await services.accounts.sessions.promote(arrival_of(request).secret, Stage.FULL)
    then = local_path(typed["next"] or "/")
    response = render(request, "recovery.html", codes=codes, next=then)
    return take_away(redirect(request, "/login"), request) if secret is None else give(response, request, secret)


async def totp_off(request: Request, viewer: Viewer, services: Services) -> Response:
    """Take the second factor away: needs the password; all sessions end."""
    _local(viewer)
    session = _session(request)
    problem = await _prove(services, viewer, session, (await fields(request, "password"))["password"])
    if problem:
        must = must_have_second(services.settings.console, services.directory, session.address)
        return render(request, "totp_off.html", 403, problem=problem, must=must)
    await services.accounts.people.reset_totp(session.address, viewer.actor)
    return take_away(redirect(request, "/login", said="out"), request)


async def _prove(services: Services, viewer: Viewer, session: Session, password: str) -> str:
    """Whether it is the person's password: what is wrong, ``""`` when nothing is."""
    answer = await services.accounts.door.confirm(session, password, viewer.client)
    report(services, "password", answer.outcome, session.address, viewer.client)
    if answer.outcome is Outcome.THROTTLED:
        return f"Too many attempts. Please wait {int(answer.wait) + 1} s and try again."
    return "" if answer.outcome is Outcome.OK else "This is not your password."


def _session(request: Request) -> Session:
    """The session of somebody who is logged in."""
    session = arrival_of(request).session
    if session is None:
        raise Refused(403, "Not allowed", "This page is for people.")
    return session


def _local(viewer: Viewer) -> None:
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
    Page("POST", "/account/totp/off", totp_off),
)
