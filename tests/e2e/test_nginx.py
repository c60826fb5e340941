"""The lines of ``docs/console.md`` in a real nginx: TLS, under a path of its own, in front of a real gateway's console.

The document's server is run as it stands there but for the address it listens on and its files, and in the other ways
that the document names: with the prefix taken off, and on another port. Clients reach it at the name that the document
has, as through a port that is forwarded.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import sync_playwright

from tests.browser.chrome import ARGUMENTS, CHROMIUM
from tests.e2e.letters import CLERK, EVERYONE, letter, mark
from tests.e2e.running import CityGateway, Nursery, Sink, answers, running_city, until
from tests.ports import free_port, free_ports

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [pytest.mark.real, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]

ROOT = Path(__file__).parents[2]
HOST = "mail.city.example"
PUBLIC = f"https://{HOST}/civicgate"
PASSWORD = "three wooden bridges"
ADMIN, MANAGER, HERALD = "it-director@city.example", "manager@city.example", "communications@city.example"
ODD = "a/'\"&b?c#d%2e+@city.example"
RULES = {"all-city-approval": (ROOT / "rules" / "lists" / "all-city-approval.yaml").read_text("utf-8")}
ATTEMPTS = 1
WAYS = ("passed-on", "taken-off")
"""What the proxy does with the prefix."""


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    ports: dict[str, int]
    """Way to port; ``other-port`` is the one that clients type, ``appending`` adds to a client's X-Forwarded-For."""
    folder: Path

    @property
    def log(self) -> str:
        """The access log."""
        return (self.folder / "access.log").read_text("utf-8")

    @property
    def trusted(self) -> ssl.SSLContext:
        """Believes its certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "cert.pem"))


class Forwarded(httpx2.BaseTransport):
    """Takes every request to one port of this machine, whatever its URL says, from one of the machine's addresses."""

    def __init__(self, proxy: Proxy, way: str, source: str) -> None:
        self._inner = httpx2.HTTPTransport(verify=proxy.trusted, trust_env=False, local_address=source)
        self._port = proxy.ports[way]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The name in the URL stays in Host and in TLS."""
        where = request.url.copy_with(host="127.0.0.1", port=self._port)
        extensions = {**request.extensions, "sni_hostname": request.url.host}
        return self._inner.handle_request(
            httpx2.Request(request.method, where, headers=request.headers, stream=request.stream, extensions=extensions)
        )

    def close(self) -> None:
        """Its connections."""
        self._inner.close()


class Browser(httpx2.Client):
    """Fills in forms as a browser does, with its Origin."""

    def submit(self, path: str, origin: str = f"https://{HOST}", /, **fields: str) -> httpx2.Response:
        """Open a page, send its form to itself."""
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(path).text)
        assert token is not None
        return self.post(path, data={"csrf": token[1], **fields}, headers={"origin": origin})

    def log_in(self, address: str, password: str = PASSWORD, origin: str = f"https://{HOST}") -> httpx2.Response:
        """Through the form."""
        return self.submit("/civicgate/login", origin, address=address, password=password)


def browser(proxy: Proxy, way: str = WAYS[0], source: str = "127.0.0.1", **options: Any) -> Browser:
    """A new one, at the documented name."""
    base = options.pop("base_url", f"https://{HOST}")
    return Browser(base_url=base, transport=Forwarded(proxy, way, source), timeout=30, **options)


def _document(folder: Path, console: int) -> tuple[str, str]:
    """The document's map and its server, with this test's files and the console's port."""
    text = (ROOT / "docs" / "console.md").read_text("utf-8").split("## Behind a proxy")[1]
    lines = text[text.index("    map ") : text.index("\nwith `base_url")].splitlines()
    found = "\n".join(line.removeprefix("    ") for line in lines)
    for theirs, ours in {
        "/etc/ssl/mail.city.example.pem": f"{folder}/cert.pem",
        "/etc/ssl/private/mail.city.example.key": f"{folder}/key.pem",
        "/var/log/nginx/access.log": f"{folder}/access.log",
        "http://127.0.0.1:8480;": f"http://127.0.0.1:{console};",
    }.items():
        assert found.count(theirs) == 1, theirs
        found = found.replace(theirs, ours)
    kept, _, server = found.partition("server {")
    return kept, "server {" + server


def _changed(server: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert server.count(old) == 1, old
        server = server.replace(old, new)
    return server


@pytest.fixture(scope="module")
def console_port() -> int:
    """Where the gateway's console listens."""
    return free_port()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, console_port: int) -> Iterator[Proxy]:
    """The documented server as it stands, with the prefix taken off, on another port, and as many people's nginx is."""
    folder = tmp_path_factory.mktemp("nginx")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={HOST}", "-days", "2",
         "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    ports = dict(zip((*WAYS, "other-port", "appending"), free_ports(4), strict=True))
    listens = {way: ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;") for way, port in ports.items()}
    kept, server = _document(folder, console_port)
    servers = [
        _changed(server, listens["passed-on"]),
        _changed(server, listens["taken-off"], (f":{console_port};", f":{console_port}/;")),
        _changed(server, listens["other-port"], ("Host $host; ", "Host $host:$server_port; ")),
        _changed(server, listens["appending"], ("For $remote_addr;", "For $proxy_add_x_forwarded_for;")),
    ]
    temporary = "".join(f"{n}_temp_path {folder}/{n};\n" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\n"
        f"error_log {folder}/error.log;\nevents {{}}\nhttp {{\n{temporary}{kept}\n{chr(10).join(servers)}}}\n",
        "utf-8",
    )
    process = subprocess.Popen([str(NGINX), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"])
    try:
        until(lambda: process.poll() is not None or all(answers(f"127.0.0.1:{port}") for port in ports.values()), 20)
        assert process.poll() is None, (folder / "error.log").read_text("utf-8")
        yield Proxy(ports, folder)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def town(
    tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink, console_port: int, proxy: Proxy
) -> Iterator[CityGateway]:
    """A gateway that holds mail to everybody, its console's address and base_url those of the document."""
    folder = tmp_path_factory.mktemp("town")
    console = {
        "enabled": True, "address": f"127.0.0.1:{console_port}", "base_url": PUBLIC, "login_attempts": ATTEMPTS,
        "trusted_proxies": ["127.0.0.1/32"],  # the other addresses of the loopback are clients here
    }  # fmt: skip
    with running_city(folder / "g", nursery, sink.port, RULES, workers=1, console=console) as gateway:
        for address in (ADMIN, ODD):
            made = gateway.cli("users", "add", address, "--link", *(("--admin",) if address == ADMIN else ()))
            if address == ADMIN:
                with browser(proxy) as one:
                    until(lambda: one.get("/civicgate/health").status_code == 200, 30, gateway.log)
                    link = re.findall(rf"^{re.escape(PUBLIC)}/setup/\S+$", made, re.MULTILINE)[0]
                    done = one.submit(link, password=PASSWORD, again=PASSWORD)
                    assert done.headers["location"] == "/civicgate/login?said=password"
        yield gateway


def _links(text: str) -> set[str]:
    return {link.replace("&amp;", "&") for link in re.findall(r'(?:href|action|src)="([^"#]+)"', text)}


@pytest.mark.parametrize("way", WAYS)
def test_every_address_stays_under_the_prefix(town: CityGateway, proxy: Proxy, way: str) -> None:
    """From the address without its slash through the login to every page: links, forms, files and redirects."""
    with browser(proxy, way) as one:
        assert one.get("/civicgate").headers["location"] == "/civicgate/"
        assert one.get("/civicgate/").headers["location"] == "/civicgate/login"
        assert one.get("/civicgate/held?order=size").headers["location"].startswith("/civicgate/login?next=%2Fheld")
        assert one.log_in(ADMIN).headers["location"] == "/civicgate/"
        seen, left = set[str](), {"/civicgate/"}
        while left and len(seen) < 60:
            path = left.pop()
            seen.add(path)
            page = one.get(path)
            assert page.status_code in (200, 303), (path, page.status_code)
            found = _links(page.text) | ({page.headers["location"]} if page.status_code == 303 else set())
            astray = {link for link in found if not link.startswith(("/civicgate/", f"{PUBLIC}/", "?"))}
            assert astray == set(), path
            left |= {link for link in found if link.startswith("/") and not re.search("/(logout|end)", link)} - seen
        pages = {path.partition("?")[0].removeprefix("/civicgate") for path in seen}
        assert {"/", "/held", "/mine", "/exceptions", "/lists", "/rules", "/system", "/accounts", "/account"} <= pages
        assert any(path.startswith("/static/") for path in pages)
        assert any(path.startswith("/accounts/a%2F") for path in pages)


@pytest.mark.parametrize("way", WAYS)
def test_cookies_and_headers_are_those_of_https_under_a_path(town: CityGateway, proxy: Proxy, way: str) -> None:
    """Cookies: Secure, HttpOnly, of the prefix alone. HSTS, CSP and the others: once, on pages and on refusals."""
    with browser(proxy, way) as one:
        first = one.get("/civicgate/login")
        done = one.log_in(ADMIN)
        for row in (*first.headers.get_list("set-cookie"), *done.headers.get_list("set-cookie")):
            name, flags = row.partition("=")[0], {part.strip().lower() for part in row.split(";")[1:]}
            assert name in ("__Secure-civicgate", "__Secure-civicgate-visit", "__Secure-civicgate-mark")
            assert {"secure", "httponly", "samesite=lax", "path=/civicgate"} <= flags
        assert one.get("/").request.headers.get("cookie") is None
        for answer in (first, done, one.get("/civicgate/"), one.get("/civicgate/nowhere")):
            for name, value in {
                "strict-transport-security": "max-age=31536000", "x-frame-options": "DENY",
                "x-content-type-options": "nosniff", "cache-control": "no-store",
            }.items():  # fmt: skip
                assert answer.headers.get_list(name) == [value]
            (policy,) = answer.headers.get_list("content-security-policy")
            assert policy.startswith("default-src 'none'; ")
        missing = one.get("/civicgate/nowhere")
        assert (missing.status_code, "There is no such page." in missing.text) == (404, True)
        assert one.get("/elsewhere").status_code == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"https://{HOST}", 303),
        ("https://evil.example", 403),
        (f"http://{HOST}", 403),
        (f"https://{HOST}:8443", 403),
        (f"https://{HOST}.evil.example", 403),
        ("null", 403),
    ],
    ids=["own", "other-site", "other-scheme", "other-port", "other-ending", "null"],
)
def test_forms_come_from_the_public_origin(town: CityGateway, proxy: Proxy, origin: str, status: int) -> None:
    """The Origin that a browser sends is the public one; a right token under another Origin logs nobody in."""
    with browser(proxy) as one:
        done = one.log_in(ADMIN, origin=origin)
        assert done.status_code == status
        assert one.get("/civicgate/account").status_code == (200 if status == 303 else 303)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1"], ids=["other", "address"])
def test_another_host_is_refused(town: CityGateway, proxy: Proxy, host: str) -> None:
    """Any name is nginx's only server's, which hands it on; the console does not answer under it."""
    with browser(proxy) as one:
        assert one.get("/civicgate/login", headers={"host": host}).status_code == 421


def test_throttling_counts_the_client_and_not_what_it_says(town: CityGateway, proxy: Proxy) -> None:
    """Wrong passwords of one machine are one machine's, with another X-Forwarded-For each time; others go on."""
    with browser(proxy, source="127.0.0.12") as one, browser(proxy, source="127.0.0.13") as other:
        for number in range(10 * ATTEMPTS):
            one.headers["x-forwarded-for"] = f"203.0.113.{number}, 198.51.100.{number}"
            assert one.log_in(f"somebody-{number}@city.example", "wrong").status_code == 403
        one.headers["x-forwarded-for"] = "203.0.113.200"
        assert one.log_in("somebody@city.example", "wrong").status_code == 429
        assert other.log_in(ADMIN).status_code == 303
        lines = [line for line in town.log.splitlines() if " login " in line and "somebody" in line]
        assert len(lines) == 10 * ATTEMPTS + 1
        assert all("client=127.0.0.12" in line for line in lines)
        with browser(proxy, "appending", "127.0.0.14", headers={"x-forwarded-for": "203.0.113.9, 127.0.0.12"}) as third:
            assert third.log_in("nobody@city.example", "wrong").status_code == 403
            until(lambda: "client=127.0.0.14" in town.log, 10)
        assert "203.0.113." not in town.log
        assert "198.51.100." not in town.log
        assert "127.0.0.13" in other.get("/civicgate/account").text


def test_one_connection_serves_many_requests(town: CityGateway, proxy: Proxy) -> None:
    """HTTP/1.1: pages, a refusal and a 404 on one connection, each answer of its own length."""
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.ports["passed-on"], timeout=30)
    with contextlib.closing(connection):
        raw = socket.create_connection(("127.0.0.1", proxy.ports["passed-on"]), 30)
        connection.sock = own = proxy.trusted.wrap_socket(raw, server_hostname=HOST)
        for path, status in (("login", 200), ("nowhere", 404), ("held", 303), ("health", 200), ("login", 200)):
            connection.request("GET", f"/civicgate/{path}", headers={"Host": HOST})
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.version) == (status, 11)
        assert connection.sock is own


def test_a_body_beyond_the_limit_is_refused(town: CityGateway, proxy: Proxy) -> None:
    """More than console.max_request: 413, and the next request is answered."""
    with browser(proxy) as one:
        assert one.post("/civicgate/login", data={"csrf": "x" * 1_200_000}).status_code == 413
        assert one.get("/civicgate/login").status_code == 200


def _held(town: CityGateway, sink: Sink) -> tuple[str, dict[str, str], dict[str, str]]:
    """Send a letter to everybody; its mark, and each approver's one-time link and link to the message."""
    word = mark("nginx")
    assert town.send(CLERK, [EVERYONE], letter(word, to=EVERYONE, subject=word)).startswith("250")
    tokens, items = {}, {}
    for person in (MANAGER, HERALD):
        got = sink.wait_to(person, word.encode(), seconds=30).content
        text = got.replace(b"=\r\n", b"").replace(b"=3D", b"=").decode("utf-8", "replace")
        tokens[person] = re.findall(rf"{re.escape(PUBLIC)}/decide/[\w-]+", text)[0]
        items[person] = re.findall(rf"{re.escape(PUBLIC)}/items/[\w.-]+", text)[0]
    return word, tokens, items


@pytest.mark.parametrize("way", WAYS)
def test_a_decision_is_made_through_the_letters_links(town: CityGateway, proxy: Proxy, sink: Sink, way: str) -> None:
    """Both approvers follow their link and approve, the mail is delivered; the proxy's log has no link."""
    word, tokens, _ = _held(town, sink)
    with browser(proxy, way) as one:
        for person in (MANAGER, HERALD):
            assert one.get(tokens[person]).headers.get_list("referrer-policy") == ["strict-origin"]
            assert one.submit(tokens[person], action="approve").status_code == 200
    sink.wait_to(EVERYONE, word.encode())
    assert "/civicgate/login" in proxy.log
    assert [link for link in ("decide/", "setup/", *tokens.values()) if link in proxy.log] == []


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: no real browser goes through nginx")
def test_a_real_browser_decides_through_it(town: CityGateway, proxy: Proxy, sink: Sink) -> None:
    """Chromium: password by link, decision by link, login, decision on the message's page; no link in the log."""
    word, tokens, items = _held(town, sink)
    made = town.cli("users", "add", HERALD, "--link")
    (setup,) = re.findall(rf"^{re.escape(PUBLIC)}/setup/\S+$", made, re.MULTILINE)
    there = [f"--host-resolver-rules=MAP {HOST} 127.0.0.1:{proxy.ports['passed-on']}"]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS + there)
        page = chromium.new_page(ignore_https_errors=True)
        page.set_default_timeout(30_000)
        page.goto(setup)
        page.fill("#password", PASSWORD)
        page.fill("#again", PASSWORD)
        page.click("main button[type=submit]")
        page.goto(tokens[MANAGER] + "?choice=approve")
        page.click("button[value=approve]")
        assert "Another person has to approve" in page.inner_text("main")
        page.goto(items[HERALD])
        page.fill("#address", HERALD)
        page.fill("#password", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(items[HERALD])
        assert {c["name"]: (c["secure"], c["path"]) for c in page.context.cookies()} == {
            "__Secure-civicgate": (True, "/civicgate"), "__Secure-civicgate-mark": (True, "/civicgate"),
        }  # fmt: skip
        page.click("button[value=approve]")
        assert "on its way" in page.inner_text("[role=status]")
        chromium.close()
    sink.wait_to(EVERYONE, word.encode())
    assert f"{PUBLIC}/login" in proxy.log, "browsers say where they come from"
    secrets = [setup, *tokens.values()]
    assert [link for link in secrets if link.rpartition("/")[2] in proxy.log] == []


def test_on_another_port_as_the_comment_says(town: CityGateway, proxy: Proxy) -> None:
    """``$host:$server_port`` and a base_url with the port: login, redirects and Origin with the port, and no other."""
    public = f"https://{HOST}:{proxy.ports['other-port']}"
    town.configure(console={"base_url": f"{public}/civicgate"})
    os.kill(town.pid, signal.SIGHUP)
    try:
        with browser(proxy, "other-port", base_url=public) as one:
            until(lambda: one.get("/civicgate/login").status_code == 200, 20, town.log)
            assert one.get("/civicgate").headers["location"] == "/civicgate/"
            assert one.log_in(ADMIN, origin=f"https://{HOST}:1").status_code == 403
            assert one.log_in(ADMIN, origin=public).headers["location"] == "/civicgate/"
            assert one.get("/civicgate/account").status_code == 200
    finally:
        town.configure(console={"base_url": PUBLIC})
        os.kill(town.pid, signal.SIGHUP)
        with browser(proxy) as one:
            until(lambda: one.get("/civicgate/login").status_code == 200, 20, town.log)
