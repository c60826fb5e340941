"""What a hostile client, site or proxy sends to the console, over real HTTP: refused, with the headers in place."""

import asyncio
import contextlib
import json
import re
import socket
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.accounts.tokens import Scope
from gateway.console import security
from gateway.console.context import Page, Refused, Services, Viewer, Who
from gateway.console.routes import ROUTES
from gateway.console.security import Gate, HeaderFields
from gateway.records.log import logger
from gateway.settings import ConsoleSettings, LogSettings
from tests.unit.console.serving import CLERK, DORA, IDA, PASSWORD, TESTER, Served, csrf_of, serving


async def _speak(request: Request, viewer: Viewer, services: Services) -> Response:
    return PlainTextResponse(f"{viewer.address} {viewer.program} {viewer.origin.partition(' from')[0]}")


async def _fault(request: Request, viewer: Viewer, services: Services) -> Response:
    raise RuntimeError("a fault of ours with a secret in it")


async def _refuse(request: Request, viewer: Viewer, services: Services) -> Response:
    raise Refused(418, "A teapot", "Short and stout.")


PAGES = (
    Page("GET", "/api/v1/t", _speak, Who.READ),
    Page("POST", "/api/v1/t", _speak, Who.DECIDE),
    Page("GET", "/t/admin", _speak, Who.ADMIN),
    Page("GET", "/t/fault", _fault, Who.ANYONE),
    Page("GET", "/t/refuse", _refuse, Who.ANYONE),
    Page("POST", "/t/post", _speak, Who.PERSON),
)


@pytest.fixture
async def open_console(tmp_path: Path, fresh_store: Path) -> Any:
    """A console with a few more pages that do what tests need."""
    async with serving(tmp_path, fresh_store, pages=PAGES) as one:
        yield one


HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


async def test_every_answer_carries_the_headers(open_console: Served) -> None:
    """Pages, redirects, files, refusals and faults of every kind: a strict CSP, nosniff, no framing, no caching."""
    async with open_console.browser() as browser:
        tag = (await browser.get("/static/console.css")).headers["etag"]
        answers = {
            "page": await browser.get("/login"),
            "head": await browser.head("/login"),
            "redirect": await browser.get("/account"),
            "file": await browser.get("/static/console.css"),
            "unchanged": await browser.get("/static/console.css", headers={"if-none-match": tag}),
            "no page": await browser.get("/nowhere"),
            "no file": await browser.get("/static/nothing.css"),
            "no method": await browser.request("DELETE", "/login"),
            "odd method": await browser.request("BREW", "/login"),
            "no token": await browser.post("/login", data={"address": CLERK, "password": PASSWORD}),
            "too large": await browser.post("/login", content=b"x" * 1_000_001),
            "too long": await browser.get("/login?" + "x" * 3000),
            "foreign host": await browser.get("/login", headers={"host": "evil.example"}),
            "refused": await browser.get("/t/refuse"),
            "fault": await browser.get("/t/fault"),
            "api": await browser.get("/api/v1/t"),
            "health": await browser.get("/health"),
        }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses == {
        "page": 200, "head": 200, "redirect": 303, "file": 200, "unchanged": 304, "no page": 404, "no file": 404,
        "no method": 405, "odd method": 405, "no token": 403, "too large": 413, "too long": 431, "foreign host": 421,
        "refused": 418, "fault": 500, "api": 401, "health": 200,
    }  # fmt: skip
    for name, answer in answers.items():
        assert {key: answer.headers.get(key) for key in HEADERS} == HEADERS, name
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'"), name
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "form-action 'self'" in policy
        assert "unsafe" not in policy
        assert "camera=()" in answer.headers["permissions-policy"]
        assert "strict-transport-security" not in answer.headers, "this console is reached by http"
        assert "server" not in answer.headers
        cached = name in ("file", "unchanged")
        assert (answer.headers["cache-control"] == "no-store") is not cached, name
    assert "secret" not in answers["fault"].text
    assert any("a fault of ours" in values.get("problem", "") for _, _, values in open_console.log.lines)


async def test_one_time_links_tell_no_other_page_their_address(served: Served) -> None:
    """Their pages send no path as Referer, which a proxy would log beside the files that they load; errors neither."""
    await served.accounts.people.add(CLERK, TESTER)
    secret, _ = await served.accounts.people.make_link(CLERK, TESTER)
    async with served.browser() as browser:
        pages = [await browser.get(path) for path in (f"/setup/{secret}", "/setup/none", "/decide/none")]
    assert [(page.status_code, page.headers["referrer-policy"]) for page in pages] == [
        (status, "strict-origin") for status in (200, 404, 404)
    ]


async def test_no_page_needs_script_or_style_inside(served: Served) -> None:
    """What the policy would block is not there: script, style element or attribute, handler, foreign address."""
    await served.account()
    async with served.browser() as browser:
        pages = [(await browser.get("/login")).text, (await browser.get("/nowhere")).text]
        await browser.log_in(CLERK)
        pages += [(await browser.get(path)).text for path in ("/account", "/account/password", "/account/totp")]
    for text in pages:
        assert re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:|https?://(?!127\.0\.0\.1)", text) is None


async def test_a_post_that_another_site_sends_does_nothing(served: Served) -> None:
    """Even with the right token (it might have leaked): the browser says where the request comes from."""
    await served.account()
    origins = ("https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1.evil.example", served.url + ".x")
    async with served.browser() as browser:
        await browser.log_in(CLERK)
        token = await browser.token("/account")
        for headers in (
            *({"origin": origin} for origin in origins),
            *({"sec-fetch-site": site} for site in ("cross-site", "same-site", "odd")),
        ):
            answer = await browser.post("/logout", data={"csrf": token}, headers=headers)
            assert answer.status_code == 403, headers
        assert (await browser.get("/account")).status_code == 200, "still logged in"


async def test_a_post_of_our_own_page_passes(served: Served) -> None:
    """What browsers send along with our own forms is accepted."""
    await served.account()
    async with served.browser() as browser:
        token = await browser.token("/login")
        own = {"origin": served.url, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        answer = await browser.post("/login", data={"csrf": token, "address": CLERK, "password": PASSWORD}, headers=own)
        assert answer.status_code == 303


async def test_a_post_needs_the_token_of_its_own_session(open_console: Served) -> None:
    """None, an invented one, another session's, that of the visit before login: refused, whatever the page."""
    await open_console.account()
    await open_console.account(DORA)
    async with open_console.browser() as browser, open_console.browser() as other:
        before = await browser.token("/login")
        await browser.log_in(CLERK)
        await other.log_in(DORA)
        foreign = await other.token("/account")
        for fields in ({"x": "y"}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": foreign}, {"csrf": before}):
            for path in ("/t/post", "/logout", "/account/sessions/end-others", "/account/password", "/login"):
                assert (await browser.post(path, data=fields)).status_code == 403, (fields, path)
        own = await browser.token("/account")
        assert (await browser.post("/t/post", data={"csrf": own})).text == f"{CLERK} False console"
        for kind in ("application/json", "text/plain", "application/octet-stream", ""):
            answer = await browser.post("/t/post", content=f"csrf={own}", headers={"content-type": kind})
            assert answer.status_code == 415
        assert (await browser.get("/account")).status_code == 200


async def test_the_login_form_is_bound_to_its_browser(served: Served) -> None:
    """Login CSRF: a token that the attacker was given logs nobody else in."""
    await served.account(DORA)
    async with served.browser() as attacker, served.browser() as victim:
        token = await attacker.token("/login")
        form = {"csrf": token, "address": DORA, "password": PASSWORD}
        assert (await victim.post("/login", data=form)).status_code == 403
        await victim.get("/login")
        assert (await victim.post("/login", data=form)).status_code == 403
        assert "civicgate" not in victim.cookies


async def test_get_changes_nothing(served: Served) -> None:
    """Every page, asked for by GET and HEAD, by a stranger and by an administrator: not a row more or less anywhere."""
    await served.account(IDA, admin=True)
    link, _ = await served.accounts.people.make_link(IDA, TESTER)
    pages = [page for page in ROUTES if page.method == "GET" and page.who not in (Who.READ, Who.DECIDE)]
    paths = [re.sub(r"{[^}]+}", link, page.path) for page in pages]
    async with served.browser() as stranger, served.browser() as admin:
        await admin.log_in(IDA)
        before = await served.rows()
        for path in paths:
            for browser in (stranger, admin):
                assert (await browser.get(path)).status_code < 500, path
                assert (await browser.head(path)).status_code < 500, path
        assert await served.rows() == before
        assert (await admin.get("/account")).status_code == 200


def _flags(answer: Any) -> dict[str, set[str]]:
    return {
        row.partition("=")[0]: {part.strip().lower() for part in row.split(";")[1:]}
        for row in answer.headers.get_list("set-cookie")
    }


@pytest.mark.parametrize(
    ("base_url", "names", "path", "secure"),
    [
        ("", ("civicgate", "civicgate-visit"), "/", False),
        ("https://mail.city.example", ("__Host-civicgate", "__Host-civicgate-visit"), "/", True),
        ("https://mail.city.example/gate/way", ("__Secure-civicgate", "__Secure-civicgate-visit"), "/gate/way", True),
    ],
    ids=["http", "https", "prefix"],
)  # fmt: skip
async def test_cookies_have_their_flags(
    tmp_path: Path, fresh_store: Path, base_url: str, names: tuple[str, str], path: str, secure: bool
) -> None:
    """HttpOnly, SameSite=Lax, no Domain, no lifetime; behind https Secure, a prefixed name, and HSTS."""
    async with serving(tmp_path, fresh_store, base_url=base_url) as served:
        await served.account()
        headers = {"host": "mail.city.example"} if base_url else {}
        async with served.browser(headers=headers) as browser:
            page = await browser.get("/login")
            wanted = {"httponly", "samesite=lax", f"path={path}"} | ({"secure"} if secure else set())
            assert _flags(page) == {names[1]: wanted}
            assert ("strict-transport-security" in page.headers) is secure
            visit = re.search(rf"{re.escape(names[1])}=([^;]+)", page.headers["set-cookie"])
            assert visit is not None
            form = {"csrf": csrf_of(page.text), "address": CLERK, "password": PASSWORD}
            done = await browser.post("/login", data=form, headers={"cookie": f"{names[1]}={visit[1]}"})
            assert done.status_code == 303
            assert _flags(done)[names[0]] == wanted
            assert _flags(done)[f"{names[0]}-mark"] - wanted == {"max-age=15552000"}
            assert done.headers["location"] == (path if path != "/" else "") + "/"


async def test_behind_a_prefix_with_and_without_it(tmp_path: Path, fresh_store: Path) -> None:
    """A proxy may pass the prefix on or take it off; every address in the pages has it."""
    async with (
        serving(tmp_path, fresh_store, base_url="https://mail.city.example/gate") as served,
        served.browser(headers={"host": "mail.city.example"}) as browser,
    ):
        for path in ("/gate/login", "/login"):
            text = (await browser.get(path)).text
            found = re.findall(r'(?:href|action|src)="([^"#]+)"', text)
            assert found
            assert [address for address in found if not address.startswith("/gate/")] == []
        assert (await browser.get("/gate")).headers["location"] == "/gate/login"
        assert (await browser.get("/gateway/login")).status_code == 404
        assert (await browser.get("/gate/account")).headers["location"] == "/gate/login?next=%2Faccount"


_PATHS = """
/static/../app.py  /static/%2e%2e/app.py  /static/..%2fapp.py  /static/%2e%2e%2f%2e%2e%2fsettings.py
/static/....//app.py  /static/%00  /static/console.css%00.svg  /static//etc/passwd  /static/%5c..%5capp.py
/static/  /static  //static/console.css  /static/console.css/  /./static/console.css  /static/base.html
"""


async def test_files_beside_the_static_ones_are_not_served(served: Served) -> None:
    """Path traversal: octets are sent exactly as written here, no client tidies them up."""
    for path in _PATHS.split():
        answer = await _raw(
            served, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nConnection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert b"import" not in answer
        assert b"root:" not in answer


async def _raw(served: Served, request: str | bytes) -> bytes:
    """What comes back for these very octets, until the other side closes or breaks the connection."""
    octets = request.encode("latin-1") if isinstance(request, str) else request

    def ask() -> bytes:
        got = b""
        with socket.create_connection(("127.0.0.1", served.port), timeout=15) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(octets)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    got += piece
        return got

    return await asyncio.to_thread(ask)


async def test_only_our_own_host_names_are_answered(served: Served) -> None:
    """DNS rebinding and poisoned links: any other Host is 421, and is not in the answer."""

    async def ask(host: str) -> bytes:
        return await _raw(served, f"GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")

    port = served.port
    foreign = ["evil.example", "127.0.0.1", "127.0.0.1:1", "", "mail.city.example", f"evil.example:{port}"]
    for host in (*foreign, f"127.0.0.1:{port}@evil.example", f"localhost:{port}.evil.example"):
        answer = await ask(host)
        assert answer.split(b"\r\n")[0].split()[1] in (b"421", b"400"), host
        assert b"evil" not in answer
    for host in (f"LOCALHOST:{port}", f"127.0.0.1:{port}"):
        assert (await ask(host)).startswith(b"HTTP/1.1 200 ")


async def test_two_hosts_or_none_are_refused(served: Served) -> None:
    """Request smuggling's little brother: what two readers could understand in two ways, nobody reads."""
    own = f"Host: 127.0.0.1:{served.port}\r\n"
    for head in (own + "Host: evil.example\r\n", ""):
        answer = await _raw(served, f"GET /login HTTP/1.1\r\n{head}Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
    both = f"POST /login HTTP/1.1\r\n{own}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    both += "Connection: close\r\n\r\n0\r\n\r\n"
    assert b" 200 " not in (await _raw(served, both)).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("octets", "pause", "patience", "whole", "status"),
    [(4, 60.0, 0.5, 60.0, 408), (4000, 0.05, 60.0, 1.0, 408), (4, 0.05, 60.0, 60.0, 403)],
    ids=["silent", "trickling", "slow-but-whole"],
)
async def test_a_body_must_come_in_time(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    octets: int,
    pause: float,
    patience: float,
    whole: float,
    status: int,
) -> None:
    """Nothing for too long, or an octet now and then without end: 408, and the connection is free; slow is no sin."""
    monkeypatch.setattr(security, "PATIENCE", patience)
    monkeypatch.setattr(security, "WHOLE", whole)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {octets}\r\n"
    writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n".encode())

    async def send() -> None:
        for _ in range(octets):
            writer.write(b"x")
            await asyncio.sleep(pause)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        sending.cancel()
        writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_forwarded_host_and_proto_change_nothing(served: Served) -> None:
    """Only console.base_url says what people type: X-Forwarded-Host, -Proto and -Prefix are not read."""
    async with served.browser() as browser:
        given = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-prefix": "/evil"}
        answer = await browser.get("/account", headers=given | {"forwarded": "host=evil.example"})
        assert answer.headers["location"] == "/login?next=%2Faccount"
        assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.7, 127.0.0.1"], "198.51.100.7"),
        ("127.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["nonsense\r\nlog line"], "127.0.0.1"),
        ("::ffff:127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
    ],
    ids=["stranger", "proxy", "spoofed", "two-proxies", "two-fields", "nonsense", "mapped", "none", "port", "v6-port"],
)
def test_the_client_s_address_is_what_the_last_trusted_proxy_saw(peer: str, forwarded: list[str], client: str) -> None:
    """X-Forwarded-For of strangers counts for nothing; what they put in front of a proxy's word neither."""
    raw = [(b"X-Forwarded-For", value.encode()) for value in forwarded]
    assert Gate(ConsoleSettings()).client(peer, HeaderFields(raw)) == client


async def test_oversized_requests_end_early(served: Served) -> None:
    """A declared size is refused before the body is read, an undeclared one when the limit is passed; headers, too."""
    head = (
        f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    )
    answer = await _raw(served, head + "Content-Length: 999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    for size in ("-1", "1e3", "0x10", "9" * 40):
        assert (await _raw(served, head + f"Content-Length: {size}\r\nConnection: close\r\n\r\n")).split()[1] in (
            b"400",
            b"413",
        )
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer = await _raw(served, (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunk * 17)
    assert answer.startswith(b"HTTP/1.1 413 ")
    async with served.browser() as browser:
        assert (await browser.get("/login", headers={"x-long": "y" * 17_000})).status_code == 431
        many = {"csrf": await browser.token("/login"), **{f"f{n}": "x" for n in range(2001)}}
        assert (await browser.post("/login", data=many)).status_code == 400
        files = {"file": ("x.txt", b"x")}
        assert (
            await browser.post("/login", data={"csrf": await browser.token("/login")}, files=files)
        ).status_code == 400
    far = f"GET /login HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nX: " + "y" * 200_000
    assert (await _raw(served, far)).startswith(b"HTTP/1.1 4")


async def test_a_body_that_never_comes_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A declared body of which nothing follows: 408, and the connection is closed."""
    monkeypatch.setattr(security, "PATIENCE", 0.2)
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 50\r\n"
    answer = await _raw(served, head + "Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf=")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_what_strangers_write_makes_no_line_of_the_log(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log injection through name, path and headers: one line an event, control characters escaped."""
    written = StringIO()
    monkeypatch.setattr("sys.stderr", written)
    log = logger(LogSettings(level="debug"))
    served.console.install(replace(served.services, log=log))
    async with served.browser() as browser:
        evil = "x@y\r\n2026-01-01T00:00:00Z info login person=admin\x1b[31m"
        await browser.log_in(evil, "p" * 12)
        await browser.get("/nowhere%0d%0a2026-01-01T00:00:00Z%20error%20forged", headers={"user-agent": "a\x1b[2J"})
        await browser.get("/login", headers={"x-forwarded-for": "1.2.3.4\tforged"})
        await browser.get("/setup/" + "s" * 43)
    assert "s" * 43 not in written.getvalue(), "neither is a link's secret"
    lines = written.getvalue().split("\n")[:-1]
    assert len(lines) >= 4
    assert all(
        re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) (console|login) ", line)
        for line in lines
    )
    assert "\x1b" not in written.getvalue()
    assert "\r" not in written.getvalue()
    assert "p" * 12 not in written.getvalue(), "a password is never logged"


async def test_what_was_typed_comes_back_as_text(served: Served) -> None:
    """XSS through the login form: shown again, escaped."""
    async with served.browser() as browser:
        evil = '"><script>alert(1)</script>@x'
        page = await browser.log_in(evil, "wrong, surely", next='/"><b>')
        assert "<script" not in page.text
        assert "&#34;&gt;&lt;script&gt;" in page.text
        assert '"><b>' not in page.text


async def test_tokens_speak_for_their_person_within_their_scope(open_console: Served) -> None:
    """Bearer authentication: right scope passes, wrong one 403, anything else 401; cookies count for nothing here."""
    await open_console.account()
    later = open_console.clock().replace(year=open_console.clock().year + 1)
    read, reader = await open_console.accounts.tokens.add("tickets", CLERK, Scope.READ, later, TESTER)
    decide, made = await open_console.accounts.tokens.add("desk", CLERK, Scope.DECIDE, later, TESTER)
    async with open_console.browser() as browser:

        async def ask(method: str, token: str) -> Any:
            return await browser.request(method, "/api/v1/t", headers={"authorization": f"Bearer {token}"})

        assert (await ask("GET", read)).text == f"{CLERK} True api token {reader.id}"
        assert (await ask("POST", read)).status_code == 403
        assert (await ask("POST", decide)).status_code == 200
        for wrong in ("x", read[:-1] + "_", "civicgate_" + "A" * 43, made.id, f"{read} {decide}"):
            refused = await ask("GET", wrong)
            assert refused.status_code == 401, wrong
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["content-type"] == "application/problem+json"
            assert json.loads(refused.text)["status"] == 401
        await browser.log_in(CLERK)
        assert (await browser.get("/api/v1/t")).status_code == 401, "a browser's session is no token"
        assert (await browser.get("/account", headers={"authorization": f"Bearer {read}"})).status_code == 200
        browser.cookies.clear()
        assert (await browser.get("/account", headers={"authorization": f"Bearer {read}"})).status_code == 303
        await open_console.accounts.tokens.revoke(made.id, TESTER)
        assert (await ask("POST", decide)).status_code == 401
        await open_console.accounts.people.disable(CLERK, TESTER)
        assert (await ask("GET", read)).status_code == 401, "its person is disabled"
        await open_console.accounts.people.enable(CLERK, TESTER)
        open_console.clock.move(days=366)
        assert (await ask("GET", read)).status_code == 401, "it is over"


async def test_administrators_are_by_role_or_by_account(open_console: Served) -> None:
    """The role in the directory, or the account's flag; nobody else."""
    await open_console.account(IDA)
    await open_console.account(CLERK)
    await open_console.account(DORA, admin=True)
    seen = {}
    for address in (IDA, CLERK, DORA):
        async with open_console.browser() as browser:
            await browser.log_in(address)
            seen[address] = (await browser.get("/t/admin")).status_code
    assert seen == {IDA: 200, CLERK: 403, DORA: 200}


async def test_a_store_that_is_away_is_said(served: Served) -> None:
    """Neither a traceback nor an open door: 503, also for the health check."""
    await served.services.hold.close()
    async with served.browser() as browser:
        assert (await browser.get("/health")).status_code == 503
        assert (await browser.get("/account", headers={"cookie": "civicgate=" + "A" * 43})).status_code == 503
        assert (await browser.get("/static/console.css")).status_code == 200
