"""The console as one ASGI application: takes a request apart, finds the page, sees to who may call it, answers.

Refuses, in this order: a foreign Host, too large a request, an unknown path or method, a person who is not logged in or
not allowed, and a POST without the token of its own session or from another site. Handlers need not think of any of it.
"""

import time
import traceback
from dataclasses import dataclass, replace
from re import Pattern
from typing import Any

from jinja2 import TemplateError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from gateway.accounts.core import same
from gateway.accounts.tokens import Scope as TokenScope
from gateway.console import security
from gateway.console.context import Page, Refused, Services, Viewer, Who, viewer_of
from gateway.console.render import redirect, render
from gateway.console.routes import ROUTES
from gateway.console.security import Gate, HeaderFields, TooLargeError, TooSlowError
from gateway.console.sessions import arrive, greet, person, viewer_for
from gateway.errors import OperatorError, StoreError
from gateway.metrics import CONSOLE_REQUESTS, CONSOLE_SECONDS

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
MAX_FIELDS = 2000
"""Fields of a form: a bulk decision names many items."""
_TITLES = {400: "Bad request", 404: "Not found", 413: "Too large", 503: "Not available", 500: "Something went wrong"}


@dataclass(frozen=True, slots=True)
class _Row:
    """One path with its pages by method."""

    pattern: Pattern[str]
    convertors: dict[str, Any]
    pages: dict[str, Page]


class Console:
    """The application. ``install`` replaces settings, rules and directory between two requests."""

    def __init__(self, services: Services, pages: tuple[Page, ...] = ROUTES) -> None:
        self._rows = _table(pages)
        self.install(services)

    def install(self, services: Services) -> None:
        """Answer with these from the next request on."""
        self.services = services
        self._gate = Gate(services.settings.console)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            raise RuntimeError(f"the console speaks HTTP only, not {scope['type']}")
        services, gate, begun = self.services, self._gate, time.perf_counter()
        request = Request(scope, security.bounded(receive, services.settings.console.max_request))
        request.state.services = services
        request.state.page = ""
        try:
            response = await self._answer(request, services, gate)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the person reads a page
            response = _failure(request, services, error)
        if "{token}" in request.state.page:
            response.headers["referrer-policy"] = security.NO_PATH
        seconds = time.perf_counter() - begun
        page = request.state.page or "none"
        CONSOLE_REQUESTS.labels(page, str(response.status_code)).inc()
        CONSOLE_SECONDS.observe(seconds)
        if services.log is not None:
            viewer, path = viewer_of(request), request.state.page or scope["path"][:200]  # no links
            services.log.debug(
                "console", method=request.method[:20], path=path, status=response.status_code,
                person=viewer.address, client=viewer.client, ms=round(seconds * 1000, 1),
            )  # fmt: skip
        await response(scope, receive, security.guarded(send, services.settings.console))

    async def _answer(self, request: Request, services: Services, gate: Gate) -> Response:
        headers = security.scope_headers(request.scope)
        page = self._page(request, services, headers)
        if page.path != "/health" and not gate.knows(headers.one("host")):
            raise Refused(421, "Wrong address", "This console is not reached under that name. See console.base_url.")
        client = gate.client(request.scope["client"][0] if request.scope.get("client") else "", headers)
        if page.bare:
            viewer = Viewer("", client=client)
        elif page.who in (Who.READ, Who.DECIDE):
            viewer = await _program(services, headers, page.who, client)
        else:
            request.state.arrival = await arrive(request)
            viewer = viewer_for(request.state.arrival, services, client)
        request.state.viewer = viewer
        if not viewer.program:
            if page.method not in security.SAFE:
                await _check_form(request, gate, headers, viewer)
            if page.who is not Who.ANYONE and not viewer.known:
                back = request.state.path if page.method == "GET" and request.state.path != "/" else ""
                return redirect(request, "/login", next=back + _query(request) if back else "")
        if page.who is Who.ADMIN and not viewer.is_admin:
            raise Refused(403, "Not allowed", "This page is for administrators of the console.")
        response = await page.handler(request, viewer, services)
        if page.who is Who.ANYONE and not page.bare:
            greet(request, response)
        return response

    def _page(self, request: Request, services: Services, headers: HeaderFields) -> Page:
        """Which page is asked for. Raises Refused."""
        most = services.settings.console.max_request
        target = len(request.scope.get("raw_path") or b"") + len(request.scope["query_string"])
        size = security.declared_size(headers)
        path = security.inner_path(request.scope["path"], services.settings.console.path_prefix)
        request.state.path = path or "/"
        if target > security.MAX_PATH or headers.octets > security.MAX_HEADERS:
            raise Refused(431, "Too large", "The address or the header of this request is too long.")
        if size is None:
            raise Refused(400, "Bad request", "The Content-Length is no number.")
        if size > most:
            raise TooLargeError
        if path is None:
            raise Refused(404, "Not found", "There is no such page.")
        methods: dict[str, Page] = {}
        for row in self._rows:
            found = row.pattern.match(path)
            if found is None:
                continue
            methods = row.pages | methods
            request.state.page = next(iter(row.pages.values())).path  # the log has no one-time link
            page = row.pages.get("GET" if request.method == "HEAD" else request.method)
            if page is not None:
                values = {name: row.convertors[name].convert(text) for name, text in found.groupdict().items()}
                request.scope["path_params"] = values
                request.state.page = page.path
                return page
        if methods:
            known = ", ".join(sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set())))
            raise Refused(405, "Method not allowed", f"This page knows {known}.", allow=known)  # RFC 9110 15.5.6
        raise Refused(404, "Not found", "There is no such page.")


def build(services: Services, pages: tuple[Page, ...] = ROUTES) -> Console:
    """The console on these services, as an ASGI application."""
    return Console(services, pages)


def _table(pages: tuple[Page, ...]) -> list[_Row]:
    rows: dict[str, _Row] = {}
    for page in pages:
        pattern, _, convertors = compile_path(page.path)
        row = rows.setdefault(page.path, _Row(pattern, convertors, {}))
        if page.method in row.pages:
            raise ValueError(f"two pages for {page.method} {page.path}")
        row.pages[page.method] = page
    return list(rows.values())


def _query(request: Request) -> str:
    text = request.scope["query_string"].decode("latin-1")
    return f"?{text}" if text else ""


async def _program(services: Services, headers: HeaderFields, who: Who, client: str) -> Viewer:
    """The person for whom a bearer token speaks. Raises Refused."""
    kind, _, secret = headers.one("authorization").partition(" ")
    found = await services.accounts.tokens.find(secret.strip()) if kind.lower() == "bearer" else None
    if found is None:
        raise Refused(
            401, "Not authorized", "This needs a token: Authorization: Bearer civicgate_… (civicgate tokens add)."
        )
    if who is Who.DECIDE and found.scope is not TokenScope.DECIDE:
        raise Refused(403, "Not allowed", "This token may read only; deciding needs the scope decide.")
    account = await services.accounts.people.find(found.address)
    if account is None and services.directory.person(found.address) is None:
        raise Refused(401, "Not authorized", "This token speaks for somebody who has left the directory.")
    viewer = person(services, found.address, admin=account is not None and account.admin)
    return replace(viewer, session=found.id, client=client, program=True)


async def _check_form(request: Request, gate: Gate, headers: HeaderFields, viewer: Viewer) -> None:
    """A form of ours, sent by one of our pages to the person who was shown it. Raises Refused, TooLargeError."""
    if not gate.same_origin(headers, headers.one("host")):
        raise Refused(403, "Not from here", "Another site made your browser send this. Nothing was done.")
    kind = headers.one("content-type").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        raise Refused(415, "Not a form", "This page reads forms only.")
    token = (await _form(request)).get("csrf", "")
    if not isinstance(token, str) or not viewer.csrf or not same(token, viewer.csrf):
        raise Refused(
            403,
            "The form is too old",
            "You were logged out, or logged in anew, since it was shown. Nothing was done. Go back, reload the page "
            "and try again.",
        )


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=0, max_fields=MAX_FIELDS)
    except (HTTPException, MultiPartException) as error:
        raise Refused(400, "Bad request", "The form cannot be read.") from error


def _failure(request: Request, services: Services, error: Exception) -> Response:
    """The answer for what went wrong: words for the person, the rest in the log."""
    status, title, text = _reason(error, services)
    if request.state.path.startswith("/api/"):
        body = {"type": "about:blank", "title": title, "status": status, "detail": text}
        response: Response = JSONResponse(body, status, media_type="application/problem+json")
    else:
        response = _page(request, status, title, text, services)
    if isinstance(error, Refused):
        response.headers.update(error.headers)
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if status in (408, 413, 431):
        response.headers["connection"] = "close"
    return response


def _page(request: Request, status: int, title: str, text: str, services: Services) -> Response:
    """The error page; words alone, should its template be at fault."""
    try:
        return render(request, "error.html", status, title=title, text=text)
    except TemplateError:
        if services.log is not None:
            services.log.error("console: the error page failed", problem=traceback.format_exc())
        return PlainTextResponse(f"{title}. {text}\n", status)


def _reason(error: Exception, services: Services) -> tuple[int, str, str]:
    if isinstance(error, Refused):
        return error.status, error.title, error.text
    if isinstance(error, TooLargeError):
        return 413, "Too large", "This request is larger than the console reads."
    if isinstance(error, TooSlowError):
        return 408, "Too slow", "The rest of this request did not come in time."
    if isinstance(error, OperatorError):
        return 409, "This cannot be done", error.detail
    if isinstance(error, StoreError):
        if services.log is not None:
            services.log.error("console: the store does not answer", problem=error.detail)
        return 503, "Not available", "The gateway's store does not answer. Please try again in a minute."
    if services.log is not None:
        services.log.error("console: a page failed", problem="".join(traceback.format_exception(error)))
    return 500, "Something went wrong", "This page has a fault; it was logged. Nothing was half-done."
