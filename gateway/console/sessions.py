"""Cookies and who they stand for. Refuses to let a secret of one login serve another: each step brings a new one.

Three cookies. The *session* is random and lives in the database. The *visit* is random and lives nowhere: before the
login it is what CSRF tokens and the state of an OpenID Connect login are derived from, so that strangers fill no table.
The *mark* stays in a browser after a login: by it the person's own attempts are told from those of strangers.

SameSite is Lax, not Strict: the links in mails, and the identity provider that sends the browser back, come from
another site by a plain GET, and a Strict cookie would not be there; everything that changes something is a POST, for
which Lax does the same as Strict.
"""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import Method, Session, Stage
from gateway.accounts.core import derived, new_secret
from gateway.accounts.door import MARK_LIFE
from gateway.console.context import Services, Viewer, roles_of, services_of
from gateway.model.envelope import fold
from gateway.settings import ConsoleSettings

_FIELD = 43
"""Characters of a secret."""


@dataclass(frozen=True, slots=True)
class Jar:
    """The names and attributes of our cookies."""

    session: str
    visit: str
    mark: str
    path: str
    secure: bool

    @classmethod
    def of(cls, settings: ConsoleSettings) -> "Jar":
        """``__Host-`` (no other host, no other path can set it) where it is allowed: https, at the root of the host."""
        prefix = settings.path_prefix
        kind = ("__Secure-" if prefix else "__Host-") if settings.secure else ""
        return cls(
            f"{kind}civicgate", f"{kind}civicgate-visit", f"{kind}civicgate-mark", prefix or "/", settings.secure
        )

    def put(self, response: Response, name: str, value: str, life: int | None = None) -> None:
        """Give a cookie that ends with the browser (the database ends it earlier), or after ``life`` seconds."""
        response.set_cookie(name, value, life, path=self.path, secure=self.secure, httponly=True, samesite="lax")

    def drop(self, response: Response, name: str) -> None:
        """Take a cookie away."""
        response.delete_cookie(name, path=self.path, secure=self.secure, httponly=True, samesite="lax")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the cookies of a request say."""

    jar: Jar
    visit: str
    fresh: bool
    """The visit was made just now: the answer must bring it along."""
    secret: str = ""
    session: Session | None = None

    @property
    def csrf(self) -> str:
        """The token for forms: of the session when there is one, else of the visit."""
        return derived(self.secret if self.session else self.visit, "csrf")


async def arrive(request: Request) -> Arrival:
    """Read the cookies. Raises StoreError."""
    services = services_of(request)
    jar = Jar.of(services.settings.console)
    secret, visit = request.cookies.get(jar.session, ""), request.cookies.get(jar.visit, "")
    session = await services.accounts.sessions.find(secret) if len(secret) == _FIELD else None
    if session is not None and await _gone(services, session):
        session = None
    fresh = len(visit) != _FIELD
    return Arrival(jar, new_secret() if fresh else visit, fresh, secret if session else "", session)


async def _gone(services: Services, session: Session) -> bool:
    """Somebody of the identity provider's who has left the directory meanwhile, where only its people come in."""
    if session.method is not Method.OIDC or not services.settings.console.oidc.known_people_only:
        return False
    if services.directory.person(session.address) is not None:
        return False
    return await services.accounts.people.find(session.address) is None


def arrival_of(request: Request) -> Arrival:
    """What :func:`arrive` found for this request."""
    found: Arrival = request.state.arrival
    return found


def greet(request: Request, response: Response) -> None:
    """Let a stranger's browser keep the visit that the forms on this page are bound to."""
    arrival = arrival_of(request)
    given = any(name == b"set-cookie" for name, _ in response.raw_headers)
    if arrival.fresh and arrival.session is None and not given:
        arrival.jar.put(response, arrival.jar.visit, arrival.visit)


def give(response: Response, request: Request, secret: str) -> Response:
    """Let the browser keep a session; what it had before login is worth nothing any more."""
    jar = arrival_of(request).jar
    jar.put(response, jar.session, secret)
    jar.drop(response, jar.visit)
    return response


def mark_of(request: Request) -> str:
    """By what this browser is known, as it says."""
    return request.cookies.get(arrival_of(request).jar.mark, "")[:200]


async def give_mark(response: Response, request: Request, address: str) -> Response:
    """Let the browser be known from now on as one of this person's. Raises StoreError."""
    mark, jar = await services_of(request).accounts.door.mark(address), arrival_of(request).jar
    if mark:
        jar.put(response, jar.mark, mark, int(MARK_LIFE.total_seconds()))
    return response


def take_away(response: Response, request: Request) -> Response:
    """Take the session's cookie away."""
    jar = arrival_of(request).jar
    jar.drop(response, jar.session)
    return response


def viewer_for(arrival: Arrival, services: Services, client: str) -> Viewer:
    """Who that is; nobody before the login is complete."""
    session = arrival.session
    if session is None or session.stage is not Stage.FULL:
        return Viewer("", csrf=arrival.csrf, client=client)
    found = person(services, session.address, session.name, session.roles, admin=session.admin)
    local = session.method is Method.PASSWORD
    return replace(found, session=session.id, csrf=arrival.csrf, client=client, local=local)


def person(
    services: Services, address: str, name: str = "", claimed: frozenset[str] = frozenset(), *, admin: bool = False
) -> Viewer:
    """The viewer of an address: name and roles from the directory, ``claimed`` roles on top."""
    found = services.directory.person(address)
    roles = roles_of(services.directory, address) | claimed
    return Viewer(
        found.address if found else fold(address),
        found.name if found else name,
        roles,
        admin or services.settings.console.admin_role in roles,
    )
