"""Login through a real OpenID Connect provider (oidc-provider, run by Node.js): the good way, and every bad one."""

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from gateway.console.provider import Provider, ProviderError, UntrustedError
from gateway.settings import OidcSettings
from tests.ports import free_port
from tests.unit.console.serving import CLERK, DORA, TESTER, Browser, Served, serving

NODE = Path("tests/node").resolve()
SECRET = "a-secret-of-the-tests"
ROLES = {"mail-admins": ["it-director"], "staff": ["reader"]}
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("node") is None or not (NODE / "node_modules" / "oidc-provider").is_dir(),
        reason="needs Node.js and «npm ci» in tests/node (deploy/setup does both)",
    ),
]


@dataclass(frozen=True)
class Real:
    """The provider that runs, and the port on which it expects the console."""

    issuer: str
    console_port: int


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    """Start it, wait until it says so, end it by its id."""
    port, console = free_port(), free_port()
    own = f"http://127.0.0.1:{console}"
    process = subprocess.Popen(
        ["node", str(NODE / "provider.mjs"), str(port), own + "/login/oidc/callback", own + "/login"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    errors: list[str] = []
    threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True).start()
    try:
        deadline = time.monotonic() + 60
        while (process.stdout.readline() if process.stdout else "").strip() != "ready":
            assert process.poll() is None, errors
            assert time.monotonic() < deadline, errors
        yield Real(f"http://127.0.0.1:{port}", console)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def _settings(folder: Path, real: Real, **changes: Any) -> dict[str, Any]:
    (folder / "secret").write_text(SECRET + "\n")
    oidc = {
        "issuer": real.issuer, "client_id": "civicgate", "client_secret_file": str(folder / "secret"),
        "name": "City ID", "roles_claim": "groups", "roles": ROLES, "scopes": ["openid", "email", "profile"],
    }  # fmt: skip
    return {"address": f"127.0.0.1:{real.console_port}", "oidc": oidc | changes}


@pytest.fixture
async def city(tmp_path: Path, fresh_store: Path, real: Real) -> AsyncIterator[Served]:
    """A console with this provider."""
    async with serving(tmp_path, fresh_store, **_settings(tmp_path, real)) as one:
        yield one


def _provider(served: Served) -> Provider:
    provider = served.services.provider
    assert provider is not None
    return provider


async def _at_provider(browser: Browser, start: httpx2.Response, person: str, *, cancel: bool = False) -> str:
    """Log in as ``person`` at the provider's own pages; the address that it sends the browser back to."""
    page = start
    for _ in range(12):
        if page.is_redirect:
            to = str(page.url.join(page.headers["location"]))
            if "/login/oidc/callback" in to:
                return to
            page = await browser.get(to)
            continue
        if cancel:
            found = re.search(r'href="([^"]*/abort)"', page.text)
            assert found is not None
            page = await browser.get(str(page.url.join(found[1])))
            continue
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert action is not None, page.text[:1000]
        prompt = re.search(r'name="prompt" value="(\w+)"', page.text)
        assert prompt is not None
        form = {"prompt": prompt[1], **({"login": person, "password": "any"} if prompt[1] == "login" else {})}
        page = await browser.post(str(page.url.join(action[1])), data=form)
    raise AssertionError("the provider never sent the browser back")


async def _way(browser: Browser, person: str, then: str = "/account") -> str:
    """From the login page to the address that the provider sends the browser back to."""
    page = await browser.get("/login", params={"next": then})
    assert "Log in with City ID" in page.text
    return await _at_provider(browser, await browser.get("/login/oidc", params={"next": then}), person)


async def test_a_person_of_the_directory_logs_in_and_out(city: Served) -> None:
    """Code, PKCE, nonce, state; roles from directory and claims; logout leads to the provider's own."""
    async with city.browser() as browser:
        start = await browser.get("/login/oidc")
        asked = parse_qs(urlsplit(start.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        assert {"nonce", "state", "code_challenge"} <= set(asked)
        back = await _way(browser, "boss")
        done = await browser.get(back)
        assert (done.status_code, done.headers["location"]) == (303, "/account")
        page = (await browser.get("/account")).text
        assert "Dora Director" in page
        assert "communications-specialist, director, it-director, reader" in page
        assert "administrator" in page, "it-director, by the claim"
        assert "Change password" not in page
        for path in ("/account/password", "/account/totp"):
            assert (await browser.get(path)).status_code == 403
        out = await browser.submit("/logout", "/account")
        link = re.search(r'href="([^"]+/session/end[^"]+)"', out.text)
        assert link is not None
        address = link[1].replace("&amp;", "&")
        assert parse_qs(urlsplit(address).query)["client_id"] == ["civicgate"]
        assert "id_token_hint" in address
        asks = await browser.get(address)
        assert "Do you want to sign-out" in asks.text or asks.status_code == 200
        assert (await browser.get("/account")).status_code == 303
    assert await city.events(DORA) == ["logged-in", "logged-out"]


async def test_an_alias_and_claims_at_the_userinfo_endpoint(city: Served) -> None:
    """The ID token of this person holds no address: it is asked for, and the alias is the person of the directory."""
    async with city.browser() as browser:
        await browser.get(await _way(browser, "alias"))
        page = (await browser.get("/account")).text
        assert "Chris Clerk" in page
        assert CLERK in page


async def test_people_who_are_not_let_in(city: Served) -> None:
    """An address not verified, not said to be, unknown to the directory, missing, or two in one: 403, no session."""
    for person in ("unverified", "silent", "stranger", "nameless", "crooked", "nobody"):
        async with city.browser() as browser:
            answer = await browser.get(await _way(browser, person))
            assert answer.status_code == 403, person
            assert "You were not logged in" in answer.text
            assert "civicgate" not in browser.cookies
    assert (await city.rows())["session"] == 0


async def test_a_disabled_account_is_not_let_in_by_the_provider_either(city: Served) -> None:
    """Disabling ends all ways in."""
    await city.account(CLERK)
    await city.accounts.people.disable(CLERK, TESTER)
    async with city.browser() as browser:
        assert (await browser.get(await _way(browser, "clerk"))).status_code == 403


async def test_whoever_is_unknown_is_let_in_when_a_setting_says_so(
    tmp_path: Path, fresh_store: Path, real: Real
) -> None:
    """known_people_only: false; such people have the roles of their claims alone, and the provider's name."""
    values = _settings(tmp_path, real, known_people_only=False, roles={"mail-admins": ["reader"]})
    async with serving(tmp_path, fresh_store, **values) as city, city.browser() as browser:
        await browser.get(await _way(browser, "stranger"))
        page = (await browser.get("/account")).text
        assert "Eve" in page
        assert "eve@elsewhere.example" in page
        assert "reader" in page


async def test_the_answer_belongs_to_the_browser_that_asked(city: Served) -> None:
    """Wrong, foreign, missing and late state; another issuer; an answer used twice: 403 each time, no session."""
    async with city.browser() as browser, city.browser() as victim:
        back = await _way(browser, "clerk")
        parts = httpx2.URL(back)
        await victim.get("/login/oidc")  # has a visit of its own
        state = parts.params["state"]
        for wrong in (
            parts.copy_set_param("state", state[:-1] + ("0" if state[-1] != "0" else "1")),
            parts.copy_set_param("state", "x" + state),
            parts.copy_set_param("state", ""),
            parts.copy_remove_param("state"),
            parts.copy_set_param("iss", "https://evil.example"),
            parts.copy_remove_param("code"),
        ):
            assert (await browser.get(wrong)).status_code == 403, wrong
        assert (await victim.get(back)).status_code == 403, "login CSRF: the attacker's answer in the victim's browser"
        assert (await city.rows())["session"] == 0
        city.clock.move(minutes=11)
        assert (await browser.get(back)).status_code == 403, "too late"
        city.clock.move(minutes=-11)
        assert (await browser.get(back)).status_code == 303
        assert (await browser.get(back)).status_code == 403, "used"
        assert (await browser.get("/account")).status_code == 200


async def test_login_rotates_the_session(city: Served) -> None:
    """Session fixation by this way, too: what the browser had before is ended."""
    await city.account(DORA)
    async with city.browser() as browser:
        await browser.log_in(DORA)
        before = browser.cookies["civicgate"]
        page = await browser.get("/login/oidc")
        await browser.get(await _at_provider(browser, page, "clerk"))
        assert browser.cookies["civicgate"] != before
        assert await city.accounts.sessions.find(before) is None
        assert CLERK in (await browser.get("/account")).text


async def test_cancelling_at_the_provider_is_said(city: Served) -> None:
    """The provider's own words, as text."""
    async with city.browser() as browser:
        back = await _at_provider(browser, await browser.get("/login/oidc"), "", cancel=True)
        answer = await browser.get(back)
        assert answer.status_code == 403
        assert "End-User aborted interaction" in answer.text


async def test_nonce_verifier_and_code_are_checked(city: Served) -> None:
    """A real code with another nonce, another PKCE verifier, or used before: not believed."""
    provider = _provider(city)
    back = city.url + "/login/oidc/callback"
    async with city.browser() as browser:

        async def code() -> str:
            start = await browser.get(await provider.login_address(back, "s", "the nonce", "v" * 64))
            return parse_qs(urlsplit(await _at_provider(browser, start, "clerk")).query)["code"][0]

        with pytest.raises(UntrustedError, match="nonce"):
            await provider.identity(await code(), back, "another nonce", "v" * 64)
        with pytest.raises(UntrustedError, match="invalid_grant"):
            await provider.identity(await code(), back, "the nonce", "w" * 64)
        good = await code()
        found = await provider.identity(good, back, "the nonce", "v" * 64)
        assert (found.address, found.roles) == (CLERK, frozenset({"reader"}))
        with pytest.raises(UntrustedError, match="invalid_grant"):
            await provider.identity(good, back, "the nonce", "v" * 64)
        wrong = Provider(provider.settings, "not the secret")
        with pytest.raises(UntrustedError, match="invalid_client"):
            await wrong.identity(await code(), back, "the nonce", "v" * 64)


async def test_only_tokens_that_the_provider_signed_for_us_are_good(city: Served) -> None:
    """No signature, another key, a shared secret made of the public key, another issuer or client, over: refused."""
    provider = _provider(city)
    metadata = await provider._metadata()
    own = RSAKey.generate_key(2048)
    public = (await provider._document(metadata["jwks_uri"]))["keys"][0]
    now = int(time.time())
    claims: dict[str, Any] = {"iss": provider.settings.issuer, "sub": "clerk", "aud": "civicgate", "nonce": "n"}
    claims |= {"iat": now, "exp": now + 60}
    kid = {"kid": public["kid"]}

    async def refused(text: str, why: str) -> None:
        with pytest.raises(Exception, match=why):
            await provider._claims(metadata, {"id_token": text}, "n")

    forged = jwt.encode({"alg": "RS256", **kid}, claims, own)
    await refused(forged, "bad_signature")
    body = forged.split(".")[1]
    await refused(f"eyJhbGciOiJub25lIn0.{body}.", "lgorithm")
    shared = OctKey.import_key(public["n"])
    await refused(jwt.encode({"alg": "HS256", **kid}, claims, shared), "lgorithm")
    known = {"keys": [own.as_dict(private=False) | {"kid": "own", "use": "sig"}]}
    provider._documents[metadata["jwks_uri"]] = (time.monotonic(), known)
    for change, why in (
        ({"iss": "https://evil.example"}, "iss"), ({"aud": "another"}, "aud"), ({"exp": now - 3600}, "expired"),
        ({"nonce": "x"}, "nonce"), ({"iat": now + 3600}, "iat|future"),
        ({"aud": ["civicgate", "b"], "azp": "b"}, "azp"),
    ):  # fmt: skip
        await refused(jwt.encode({"alg": "RS256", "kid": "own"}, claims | change, own), why)
    for missing in ("exp", "sub", "nonce", "aud"):
        less = {name: value for name, value in claims.items() if name != missing}
        await refused(jwt.encode({"alg": "RS256", "kid": "own"}, less, own), missing)
    good = jwt.encode({"alg": "RS256", "kid": "own"}, claims, own)
    assert (await provider._claims(metadata, {"id_token": good}, "n"))["sub"] == "clerk"


async def test_new_keys_of_the_provider_are_found(city: Served) -> None:
    """A token signed with a key that was not there an hour ago: the key set is asked for again, once."""
    provider = _provider(city)
    metadata = await provider._metadata()
    stale = {"keys": [RSAKey.generate_key(2048).as_dict(private=False) | {"kid": "old"}]}
    provider._documents[metadata["jwks_uri"]] = (time.monotonic(), stale)
    async with city.browser() as browser:
        assert (await browser.get(await _way(browser, "clerk"))).status_code == 303


async def test_a_provider_that_is_away_or_another_one(city: Served, real: Real) -> None:
    """502 with words for the person and a reason in the log; a local account still lets in."""
    gone = OidcSettings(issuer=f"http://127.0.0.1:{free_port()}", client_id="civicgate", name="City ID")
    city.console.install(replace(city.services, provider=Provider(gone)))
    async with city.browser() as browser:
        answer = await browser.get("/login/oidc")
        assert (answer.status_code, "does not answer" in answer.text) == (502, True)
    other = Provider(OidcSettings(issuer=real.issuer + "/", client_id="civicgate"))
    with pytest.raises(ProviderError, match="its document says"):
        await other.login_address("x", "s", "n", "v" * 64)
    await city.account(CLERK)
    async with city.browser() as browser:
        assert (await browser.log_in(CLERK)).status_code == 303


async def test_without_a_provider_there_is_no_such_page(served: Served) -> None:
    """Nothing set: no button, no page."""
    async with served.browser() as browser:
        assert (await browser.get("/login/oidc")).status_code == 404
        assert (await browser.get("/login/oidc/callback?code=x&state=y")).status_code == 404
        assert "oidc" not in (await browser.get("/login")).text
