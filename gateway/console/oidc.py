"""Logging in through the identity provider: there and back.

Refuses an answer that this browser did not ask for (state), that took too long, that comes from another issuer, and
people whom the directory does not know. Nothing is written down between there and back: state, nonce and PKCE verifier
are derived from the visit's secret, which only this browser has, and which ends with the login.
"""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.accounts import Method, Stage, Visit
from gateway.accounts.core import derived, same
from gateway.accounts.door import Outcome
from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.login import report
from gateway.console.provider import Identity, Provider, ProviderError, UntrustedError
from gateway.console.render import local_path, redirect
from gateway.console.sessions import arrival_of, give
from gateway.model.envelope import fold
from gateway.store.events import Actor

MINUTES = 10
"""How long somebody may take at the provider."""
_NOT = "You were not logged in"


@dataclass(frozen=True, slots=True)
class Trip:
    """One login on its way: what it is bound to."""

    visit: str
    note: str
    """When it began, something random, where to go afterwards."""

    @classmethod
    def begin(cls, visit: str, then: str, now: datetime) -> "Trip":
        """A new one."""
        return cls(visit, f"{int(now.timestamp())} {secrets.token_hex(16)} {quote(then)}")

    @classmethod
    def back(cls, visit: str, state: str, now: datetime) -> "Trip | None":
        """The one that this browser began, not long ago; None for any other state."""
        text, _, mac = state.partition(".")
        try:
            note = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            begun = int(note.partition(" ")[0])
        except ValueError:
            return None
        if not same(mac, derived(visit, f"state {note}")) or not 0 <= now.timestamp() - begun + 5 <= MINUTES * 60 + 5:
            return None
        return cls(visit, note)

    @property
    def state(self) -> str:
        """What the provider gives back to us."""
        text = base64.urlsafe_b64encode(self.note.encode()).decode().rstrip("=")
        return f"{text}.{derived(self.visit, f'state {self.note}')}"

    @property
    def nonce(self) -> str:
        """What the ID token must hold."""
        return derived(self.visit, f"nonce {self.note}")

    @property
    def verifier(self) -> str:
        """PKCE (RFC 7636): 64 characters of the 43 to 128."""
        return derived(self.visit, f"verifier {self.note}")

    @property
    def then(self) -> str:
        """Where to go afterwards."""
        return local_path(unquote(self.note.split(" ")[2]))


async def there(request: Request, viewer: Viewer, services: Services) -> Response:
    """Send the browser to the provider. Changes nothing: who was led here is asked there."""
    provider = _provider(services)
    arrival = arrival_of(request)
    trip = Trip.begin(arrival.visit, local_path(request.query_params.get("next", "/")), services.clock())
    try:
        address = await provider.login_address(_back(services), trip.state, trip.nonce, trip.verifier)
    except ProviderError as error:
        raise _unreachable(services, error) from error
    response = RedirectResponse(address, 303)
    arrival.jar.put(response, arrival.jar.visit, arrival.visit)
    return response


async def back(request: Request, viewer: Viewer, services: Services) -> Response:
    """The provider's answer. A GET that logs in, as the protocol has it: only the browser that began can finish."""
    provider, arrival, given = _provider(services), arrival_of(request), request.query_params
    trip = None if arrival.fresh else Trip.back(arrival.visit, given.get("state", ""), services.clock())
    if trip is None:
        report(services, "oidc", Outcome.FAILED, "", viewer.client)
        raise Refused(403, _NOT, "The answer does not belong to a login that this browser began. Please begin again.")
    if given.get("iss", provider.settings.issuer) != provider.settings.issuer:  # RFC 9207
        report(services, "oidc", Outcome.FAILED, "", viewer.client)
        raise Refused(403, _NOT, "The answer comes from another identity provider.")
    if "error" in given or not given.get("code"):
        report(services, "oidc", Outcome.FAILED, "", viewer.client)
        words = given.get("error_description") or given.get("error") or "nothing"
        raise Refused(403, _NOT, f"The identity provider says: {words[:300]}")
    try:
        found = await provider.identity(given["code"], _back(services), trip.nonce, trip.verifier)
    except ProviderError as error:
        raise _unreachable(services, error) from error
    except UntrustedError as error:
        if services.log is not None:
            services.log.warning("oidc login refused", problem=error.detail[:500], client=viewer.client)
        report(services, "oidc", Outcome.FAILED, "", viewer.client)
        raise Refused(403, _NOT, "The identity provider's answer could not be used. The log says why.") from error
    return await _enter(request, viewer, services, found, trip.then)


async def _enter(request: Request, viewer: Viewer, services: Services, found: Identity, then: str) -> Response:
    """Start the session of a person whom the provider vouches for. Raises Refused."""
    person = services.directory.person(found.address)
    address = fold(person.address if person else found.address)
    account = await services.accounts.people.find(address)
    known = person is not None or account is not None or not services.settings.console.oidc.known_people_only
    if not known or (account is not None and account.disabled is not None):
        report(services, "oidc", Outcome.FAILED, address, viewer.client)
        raise Refused(403, _NOT, "You have no access to this console. IT can add you to the directory.")
    visit = Visit(
        Method.OIDC, viewer.client, request.headers.get("user-agent", ""), found.name, found.roles, found.token
    )
    arrival = arrival_of(request)
    if arrival.session is not None:
        old = arrival.session
        await services.accounts.sessions.end(old.address, old.id, Actor(old.address, viewer.origin))
    secret = await services.accounts.sessions.start(address, Stage.FULL, visit)
    report(services, "oidc", Outcome.OK, address, viewer.client)
    return give(redirect(request, then), request, secret)


def _provider(services: Services) -> Provider:
    if services.provider is None:
        raise Refused(404, "Not found", "No identity provider is set (console.oidc).")
    return services.provider


def _back(services: Services) -> str:
    return services.settings.console.url + "/login/oidc/callback"


def _unreachable(services: Services, error: ProviderError) -> Refused:
    if services.log is not None:
        services.log.error("the identity provider cannot be used", problem=error.detail[:500])
    return Refused(502, _NOT, "The identity provider does not answer. Please try again in a minute.")


ROUTES: tuple[Page, ...] = (
    Page("GET", "/login/oidc", there, Who.ANYONE),
    Page("GET", "/login/oidc/callback", back, Who.ANYONE),
)
