"""The identity provider, by OpenID Connect: discovery, the code for an ID token (PKCE), the token's validation.

Refuses an ID token that another issuer made, that was made for another client or another login (nonce), that is over,
or whose signature is not one of the provider's own public keys: no «none», no shared-secret signatures.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from gateway.errors import CivicgateError
from gateway.settings import OidcSettings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
KEPT = 3600.0
"""Seconds for which discovery document and keys are kept."""
LEEWAY = 60
"""Seconds by which the provider's clock may be off."""
_LARGEST = 1_000_000


class ProviderError(CivicgateError):
    """The provider does not answer, or answers what cannot be used. The detail is for the log."""


class UntrustedError(CivicgateError):
    """The login itself is not to be believed: a false token, a code that was used, a person without a good address."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is."""

    address: str
    name: str
    roles: frozenset[str]
    token: str
    """The ID token, for logging out."""


@dataclass
class Provider:
    """One provider. Its documents are asked for when they are first needed, and again after an hour."""

    settings: OidcSettings
    secret: str = ""
    _documents: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    _trusted: ssl.SSLContext | None = None

    async def login_address(self, back: str, state: str, nonce: str, verifier: str) -> str:
        """Where the browser is sent to log in. Raises ProviderError."""
        metadata = await self._metadata()
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                str(metadata["authorization_endpoint"]),
                state=state, nonce=nonce, code_verifier=verifier, redirect_uri=back,
            )  # fmt: skip
        return str(address)

    async def identity(self, code: str, back: str, nonce: str, verifier: str) -> Identity:
        """Exchange the code, check what comes, say who it is. Raises ProviderError, UntrustedError."""
        metadata = await self._metadata()
        try:
            async with self._client() as client:
                tokens: Mapping[str, Any] = await client.fetch_token(
                    str(metadata["token_endpoint"]),
                    grant_type="authorization_code", code=code, code_verifier=verifier, redirect_uri=back,
                )  # fmt: skip
                claims = await self._claims(metadata, tokens, nonce)
                if self.settings.address_claim not in claims and "userinfo_endpoint" in metadata:
                    claims = await self._more(client, str(metadata["userinfo_endpoint"]), claims)
        except httpx2.HTTPError as error:
            raise ProviderError(f"the identity provider does not answer: {error!r}") from error
        except (AuthlibBaseError, JoseError, ValueError, TypeError, KeyError) as error:
            raise UntrustedError(f"the login is not to be believed: {error}") from error
        return _identity(self.settings, claims, str(tokens["id_token"]))

    async def sign_off(self, hint: str, back: str) -> str:
        """Where the browser logs out at the provider as well; ``""`` when the provider has no such page."""
        try:
            end = str((await self._metadata()).get("end_session_endpoint", ""))
        except ProviderError:
            return ""
        more = {"id_token_hint": hint, "client_id": self.settings.client_id, "post_logout_redirect_uri": back}
        return str(httpx2.URL(end).copy_merge_params(more)) if end.startswith(("https://", "http://")) else ""

    def _client(self) -> AsyncOAuth2Client:
        settings = self.settings
        return AsyncOAuth2Client(
            client_id=settings.client_id, client_secret=self.secret or None, scope=" ".join(settings.scopes),
            token_endpoint_auth_method="client_secret_basic" if self.secret else "none", code_challenge_method="S256",
            timeout=settings.timeout, verify=self._trust(), follow_redirects=False,
        )  # fmt: skip

    def _trust(self) -> ssl.SSLContext:
        """Whom connections trust. Read once: it keeps everybody waiting for some tens of milliseconds."""
        if self._trusted is None:
            file = self.settings.ca_file
            self._trusted = httpx2.create_ssl_context() if file is None else ssl.create_default_context(cafile=file)
        return self._trusted

    async def _metadata(self) -> dict[str, Any]:
        found = await self._document(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self.settings.issuer:
            says = str(found.get("issuer"))[:200]
            raise ProviderError(f"console.oidc.issuer is {self.settings.issuer}, but its document says {says}")
        if not {"authorization_endpoint", "token_endpoint", "jwks_uri"} <= set(found):
            raise ProviderError("the identity provider's discovery document lacks an endpoint")
        return found

    async def _document(self, address: str, *, fresh: bool = False) -> dict[str, Any]:
        """A JSON document of the provider. Raises ProviderError."""
        at, known = self._documents.get(address, (0.0, {}))
        if known and not fresh and time.monotonic() - at < KEPT:
            return known
        try:
            async with self._client() as client:
                answer = await client.request("GET", address, withhold_token=True)
            answer.raise_for_status()
            if len(answer.content) > _LARGEST or not isinstance(found := answer.json(), dict):
                raise ValueError("no document that fits")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
            raise ProviderError(f"{address} cannot be read: {error!r}") from error
        self._documents[address] = time.monotonic(), found
        return found

    async def _claims(self, metadata: Mapping[str, Any], tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of a good ID token (OpenID Connect Core section 3.1.3.7)."""
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        registry = JWSRegistry(algorithms=[name for name in ALGORITHMS if name in offered], strict_check_header=False)
        keys = str(metadata["jwks_uri"])
        text = str(tokens["id_token"])
        try:
            token = jwt.decode(text, KeySet.import_key_set(_keys(await self._document(keys))), registry=registry)
        except InvalidKeyIdError:  # the provider changed its keys within the hour
            fresh = await self._document(keys, fresh=True)
            token = jwt.decode(text, KeySet.import_key_set(_keys(fresh)), registry=registry)
        params = {"nonce": nonce, "client_id": self.settings.client_id, "access_token": tokens.get("access_token")}
        options = {
            "iss": {"essential": True, "value": self.settings.issuer},
            "aud": {"essential": True, "value": self.settings.client_id},
        }
        claims = CodeIDToken(token.claims, token.header, options, params)
        claims.validate(leeway=LEEWAY)
        return dict(token.claims)

    async def _more(self, client: AsyncOAuth2Client, address: str, claims: dict[str, Any]) -> dict[str, Any]:
        """What the userinfo endpoint says of the same person (section 5.3.2); the ID token's claims stay."""
        answer = await client.get(address)
        answer.raise_for_status()
        more = answer.json()
        if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
            raise ValueError("userinfo is about somebody else")
        return more | claims


def _keys(document: Mapping[str, Any]) -> Any:
    """Without keys for encryption and shared secrets."""
    rows = document.get("keys")
    if not isinstance(rows, list):
        raise ValueError("the provider's key set is none")
    return {"keys": [row for row in rows if row.get("kty") in ("RSA", "EC", "OKP") and row.get("use", "sig") == "sig"]}


def _identity(settings: OidcSettings, claims: Mapping[str, Any], token: str) -> Identity:
    """Raises UntrustedError for a person without an address, or with one that nobody verified."""
    address = claims.get(settings.address_claim)
    if not isinstance(address, str) or address.count("@") != 1 or not address.isprintable() or " " in address:
        raise UntrustedError(f"the claim {settings.address_claim} holds no address")
    if settings.verified_claim and claims.get(settings.verified_claim) not in (True, "true", "1"):
        raise UntrustedError(f"the address {address} is not verified ({settings.verified_claim})")
    found: Any = claims if settings.roles_claim else []
    for part in settings.roles_claim.split(".") if settings.roles_claim else ():
        found = found.get(part, []) if isinstance(found, Mapping) else []
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    roles = {role for value in values for role in settings.roles.get(str(value), ())}
    name = claims.get("name")
    return Identity(address, name if isinstance(name, str) else "", frozenset(roles), token)
