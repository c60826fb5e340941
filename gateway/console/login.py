"""Logging in and out with a local account: password, second factor, the one-time link that sets a password.

Refuses to say which half of a login was wrong, to send anybody to another site afterwards, and to keep a session's
secret over a step: whoever planted one knows nothing of the next.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Method, Session, Stage, Visit
from gateway.accounts.door import Answer, Outcome
from gateway.console.context import Page, Refused, Services, Viewer, Who, roles_of, services_of
from gateway.console.render import local_path, redirect, render
from gateway.console.sessions import arrival_of, give, give_mark, mark_of, take_away
from gateway.directory import Directory
from gateway.errors import OperatorError
from gateway.metrics import LOGINS
from gateway.settings import ConsoleSettings
from gateway.store.events import Actor

_WRONG = "Address and password do not fit together, or the account is not active."
_WRONG_CODE = "The code is not right, or was used already. Wait for the next one."


async def login_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """The form; whoever is logged in already goes on."""
    then = local_path(request.query_params.get("next", "/"))
    session = arrival_of(request).session
    if viewer.known:
        return redirect(request, then)
    if session is not None:
        return _on(request, session.stage, then)
    return _form(request, then, said=request.query_params.get("said", ""))


async def login(request: Request, viewer: Viewer, services: Services) -> Response:
    """Address and password."""
    typed = await fields(request, "address", "password", "next")
    then = local_path(typed["next"] or "/")
    person = services.directory.person(typed["address"].strip())
    address = person.address if person else typed["address"].strip()
    visit = visit_of(request, viewer, Method.PASSWORD)
    second = must_have_second(services.settings.console, services.directory, address)
    known = {"old": arrival_of(request).secret, "mark": mark_of(request)}
    answer = await services.accounts.door.password(address, typed["password"], visit, second=second, **known)
    report(services, "password", answer.outcome, address, viewer.client)
    if answer.outcome is not Outcome.OK:
        return _again(request, answer, _form, then, typed["address"], wrong=_WRONG)
    response = give(_on(request, answer.stage, then), request, answer.secret)
    return await give_mark(response, request, address) if answer.stage is Stage.FULL else response


def _form(
    request: Request, then: str, address: str = "", *, problem: str = "", said: str = "", status: int = 200
) -> Response:
    settings = services_of(request).settings.console
    provider = settings.oidc.name if settings.oidc.issuer else ""
    values = {"next": then, "address": address[:254], "problem": problem, "provider": provider}
    return render(request, "login.html", status, out=said == "out", changed=said == "password", **values)


def _again(
    request: Request, answer: Answer, form: Callable[..., Response], then: str, *more: str, wrong: str
) -> Response:
    """The form once more, with what was wrong."""
    if answer.outcome is Outcome.THROTTLED:
        seconds = int(answer.wait) + 1
        text = f"Too many attempts. Please wait {seconds} s and try again."
        response: Response = form(request, then, *more, problem=text, status=429)
        response.headers["retry-after"] = str(seconds)
        return response
    return form(request, then, *more, problem=wrong, status=403)


def _on(request: Request, stage: Stage, then: str) -> Response:
    """The next page of a login."""
    if stage is Stage.FULL:
        return redirect(request, then)
    path = "/login/code" if stage is Stage.CODE else "/account/totp"
    return redirect(request, path, next="" if then == "/" else then)


async def code_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """Where the second factor is typed."""
    then = local_path(request.query_params.get("next", "/"))
    if _half(request) is None:
        return redirect(request, then if viewer.known else "/login")
    return _code_form(request, then)


async def code(request: Request, viewer: Viewer, services: Services) -> Response:
    """The app's code, or a recovery code."""
    typed = await fields(request, "code", "next")
    then, session = local_path(typed["next"] or "/"), _half(request)
    if session is None:
        return redirect(request, "/login")
    plain = typed["code"].replace(" ", "")
    recovery = not (plain.isdigit() and len(plain) <= 8)
    answer = await services.accounts.door.code(
        arrival_of(request).secret, session, plain, is_recovery=recovery, mark=mark_of(request)
    )
    report(services, "recovery" if recovery else "code", answer.outcome, session.address, viewer.client)
    if answer.outcome is not Outcome.OK:
        return _again(request, answer, _code_form, then, wrong=_WRONG_CODE)
    return await give_mark(give(redirect(request, then), request, answer.secret), request, session.address)


def _half(request: Request) -> Session | None:
    session = arrival_of(request).session
    return session if session is not None and session.stage is Stage.CODE else None


def _code_form(request: Request, then: str, *, problem: str = "", status: int = 200) -> Response:
    return render(request, "code.html", status, next=then, problem=problem)


async def logout(request: Request, viewer: Viewer, services: Services) -> Response:
    """End this session, at whatever stage."""
    arrival = arrival_of(request)
    link = ""
    if arrival.session is not None:
        session = arrival.session
        await services.accounts.sessions.end(session.address, session.id, Actor(session.address, viewer.origin))
        if session.method is Method.OIDC and services.provider is not None:
            link = await services.provider.sign_off(session.hint, services.settings.console.url + "/login")
    if link:
        return take_away(render(request, "out.html", provider=services.settings.console.oidc.name, link=link), request)
    return take_away(redirect(request, "/login", said="out"), request)


async def setup_form(request: Request, viewer: Viewer, services: Services) -> Response:
    """Where a one-time link leads. Looking changes nothing: scanners that follow links use none up."""
    address = await services.accounts.people.by_link(request.path_params["token"])
    if not address:
        raise Refused(404, "This link is over", "It was used already, or is older than a day. Ask for another one.")
    return _setup_form(request, services, address)


def _setup_form(request: Request, services: Services, address: str, problem: str = "") -> Response:
    shortest = services.settings.console.password_length
    values = {"address": address, "problem": problem, "shortest": shortest}
    return render(request, "setup.html", 400 if problem else 200, **values)


async def setup(request: Request, viewer: Viewer, services: Services) -> Response:
    """Set the password through the link."""
    token = request.path_params["token"]
    typed = await fields(request, "password", "again")
    try:
        if typed["password"] != typed["again"]:
            raise OperatorError("The two passwords are not the same.")
        await services.accounts.people.use_link(token, typed["password"], viewer.origin)
    except OperatorError as error:
        address = await services.accounts.people.by_link(token)
        if not address:
            raise
        return _setup_form(request, services, address, error.detail)
    return take_away(redirect(request, "/login", said="password"), request)


def must_have_second(settings: ConsoleSettings, directory: Directory, address: str) -> bool:
    """Whether a setting demands a second factor of a local account."""
    wanted = frozenset(settings.totp_roles)
    return "*" in wanted or bool(wanted & roles_of(directory, address))


def visit_of(request: Request, viewer: Viewer, method: Method) -> Visit:
    """From where this login comes."""
    return Visit(method, viewer.client, request.headers.get("user-agent", ""))


async def fields(request: Request, *names: str) -> dict[str, str]:
    """These fields of the form, ``""`` for those that are not there."""
    form = await request.form()
    return {name: value if isinstance(value := form.get(name, ""), str) else "" for name in names}


def report(services: Services, method: str, outcome: Outcome, address: str, client: str) -> None:
    """Count an attempt, and log it; what was typed as a password never."""
    LOGINS.labels(method, outcome).inc()
    if services.log is not None:
        say = services.log.info if outcome is Outcome.OK else services.log.warning
        say("login", method=method, outcome=str(outcome), person=address[:254], client=client)


ROUTES: tuple[Page, ...] = (
    Page("GET", "/login", login_form, Who.ANYONE),
    Page("POST", "/login", login, Who.ANYONE),
    Page("GET", "/login/code", code_form, Who.ANYONE),
    Page("POST", "/login/code", code, Who.ANYONE),
    Page("POST", "/logout", logout, Who.ANYONE),
    Page("GET", "/setup/{token}", setup_form, Who.ANYONE),
    Page("POST", "/setup/{token}", setup, Who.ANYONE),
)
