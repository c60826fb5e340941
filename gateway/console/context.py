"""What a page of the console is given: who looks, and what there is to look at; and how a page says what it is.

Refuses to hold anything that changes: a reload replaces the whole of :class:`Services` for the requests that follow.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Accounts
from gateway.console.provider import Provider
from gateway.directory import Directory
from gateway.hold import Hold
from gateway.policy import RuleSet
from gateway.settings import Settings
from gateway.store.events import Actor


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Who(StrEnum):
    """Who may call a page; the skeleton sees to it before the page's handler runs."""

    ANYONE = "anyone"
    """No login needed; the viewer may be :data:`NOBODY` but for the CSRF token, which always works."""
    PERSON = "person"
    """Somebody who is logged in; others are sent to the login page and come back."""
    ADMIN = "admin"
    """A logged-in administrator; others get 403."""
    READ = "read"
    """A program with a bearer token (no cookies, so no CSRF) whose scope is read or decide; others get 401 or 403."""
    DECIDE = "decide"
    """The same, with the scope decide."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page."""

    address: str
    """As the directory writes it, ``""`` when nobody is logged in."""
    name: str = ""
    roles: frozenset[str] = frozenset()
    """From the directory and, with OIDC, from claims; ``director`` for whoever directs a department."""
    is_admin: bool = False
    session: str = ""
    """Public id of the session; of the API token, when it is a program."""
    csrf: str = ""
    """What a form must send back in the field ``csrf``."""
    client: str = ""
    """The address of the machine, as the last trusted proxy tells it."""
    local: bool = False
    """Logged in with a local account (which has a password and perhaps a second factor)."""
    program: bool = False
    """An API token speaks for the person."""

    @property
    def known(self) -> bool:
        """Somebody is logged in."""
        return bool(self.address)

    @property
    def origin(self) -> str:
        """What stands beside the person in events, where a command's login would stand."""
        way = f"api token {self.session}" if self.program else "console"
        return f"{way} from {self.client}" if self.client else way

    @property
    def actor(self) -> Actor:
        """For events."""
        return Actor(self.address, self.origin)


NOBODY = Viewer("")


@dataclass(frozen=True, slots=True)
class Health:
    """How a neighbour is."""

    up: bool
    text: str
    """One line for people."""


@dataclass(frozen=True, slots=True)
class Services:
    """All that pages work with, as of the last reload."""

    settings: Settings
    hold: Hold
    accounts: Accounts
    directory: Directory
    rules: RuleSet
    clock: Callable[[], datetime] = utc_now
    neighbours: Mapping[str, Callable[[], Awaitable[Health]]] = field(default_factory=dict)
    """Name («clamd», «next hop», «store») -> asks it now, within a few seconds."""
    provider: Provider | None = None
    """The identity provider, when one is set."""
    log: Any = None
    started: datetime = field(default_factory=utc_now)
    """When settings, rules and directory were read."""


Handler = Callable[[Request, Viewer, Services], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """One row of the table of pages."""

    method: str
    """GET (HEAD is answered too), POST, DELETE … A GET changes nothing."""
    path: str
    """Below the prefix, with Starlette's placeholders: ``/items/{id}``."""
    handler: Handler
    who: Who = Who.PERSON
    bare: bool = False
    """Neither cookies nor the database are looked at: files, the health check."""


class Refused(Exception):
    """Ends a request with an error page (for the API: problem+json, RFC 9457). ``text`` is for the person."""

    def __init__(self, status: int, title: str, text: str = "", **headers: str) -> None:
        """``headers``: further header fields of the answer."""
        super().__init__(title)
        self.status, self.title, self.text, self.headers = status, title, text, headers


def services_of(request: Request) -> Services:
    """The services of this request."""
    found: Services = request.state.services
    return found


def viewer_of(request: Request) -> Viewer:
    """Who made this request; :data:`NOBODY` before that is known."""
    found: Viewer = getattr(request.state, "viewer", NOBODY)
    return found


def roles_of(directory: Directory, address: str) -> frozenset[str]:
    """The roles that the directory gives to whom the address reaches; ``director`` for a department's director."""
    return directory.roles_of(address)
