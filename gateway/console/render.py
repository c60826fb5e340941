"""Templates to pages, values to addresses. Refuses unknown names in a template, and text that could become markup."""

import functools
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from gateway.console.context import services_of, viewer_of

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


@functools.cache
def environment() -> Environment:
    """Jinja2, escaping everything, for the templates of this package."""
    made = Environment(
        loader=PackageLoader("gateway.console", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["len"] = len
    return made


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of ``static/``."""

    content: bytes
    media_type: str
    tag: str
    """Changes with the content."""


@functools.cache
def assets() -> dict[str, Asset]:
    """All files of ``static/`` by name; nothing else is ever served, so no path leads out of it."""
    found = {}
    for file in files("gateway.console").joinpath("static").iterdir():
        ending = "." + file.name.rpartition(".")[2]
        if file.is_file() and ending in _TYPES:
            content = file.read_bytes()
            found[file.name] = Asset(content, _TYPES[ending], hashlib.sha256(content).hexdigest()[:16])
    return found


def url(request: Request, path: str, **query: object) -> str:
    """An address inside the console, with the prefix: ``url(request, "/items", page=2)``."""
    more = urlencode({name: str(value) for name, value in query.items() if value not in ("", None)})
    return services_of(request).settings.console.path_prefix + path + (f"?{more}" if more else "")


def asset_url(request: Request, name: str) -> str:
    """The address of a file of ``static/``; changes with its content, so that browsers may keep it."""
    return url(request, f"/static/{name}", v=assets()[name].tag)


def render(request: Request, name: str, status: int = 200, **values: object) -> HTMLResponse:
    """The page from one template.

    Besides ``values`` it knows

    ``viewer``, ``csrf`` (for the hidden field), ``path`` (of this page, without prefix), ``url(path, **query)``,
    ``asset(name)``, ``city``, ``settings``, ``now``.
    """
    services, viewer = services_of(request), viewer_of(request)
    text = (
        environment()
        .get_template(name)
        .render(
            viewer=viewer,
            csrf=viewer.csrf,
            path=getattr(request.state, "path", "/"),
            url=functools.partial(url, request),
            asset=functools.partial(asset_url, request),
            city=services.settings.notices.city_name,
            settings=services.settings,
            now=services.clock(),
            **values,
        )
    )
    return HTMLResponse(text, status)


def redirect(request: Request, path: str, **query: object) -> RedirectResponse:
    """See other (303), to a page of ours: the way on after every POST."""
    return RedirectResponse(url(request, path, **query), 303)


def local_path(text: str) -> str:
    """Where to go after login: a path of ours, ``/`` for anything that could lead elsewhere (open redirect)."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and "\\" not in text
    return text if plain and len(text) <= 500 and all(c.isprintable() and c != " " for c in text) else "/"
