"""The console of a real gateway: a process of its own that follows reloads, comes back, and ends with the others."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.letters import CLERK, MAYOR, letter, mark
from tests.e2e.running import CityGateway, Nursery, Sink, city_gateway, running_city, until
from tests.ports import free_ports

PASSWORD = "three wooden bridges"
ADMIN = "it-director@city.example"


@pytest.fixture(scope="module")
def port() -> int:
    """Where the console listens."""
    (found,) = free_ports(1)
    return found


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink, port: int) -> Iterator[CityGateway]:
    """A gateway with one worker, no rules and a console. The tests follow its life; the last one ends it."""
    folder = tmp_path_factory.mktemp("town")
    console = {"enabled": True, "address": f"127.0.0.1:{port}"}
    with running_city(folder / "g", nursery, sink.port, {}, workers=1, console=console) as gateway:
        until(lambda: _status(port) == 200, 30, gateway.log)
        yield gateway


def _status(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as page:
            return int(page.status)
    except OSError:
        return 0


def _log_in(port: int, address: str) -> httpx2.Response:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get("/login").text)
        assert token is not None
        browser.post("/login", data={"csrf": token[1], "address": address, "password": PASSWORD})
        return browser.get("/account")


def _own(gateway: CityGateway) -> int:
    """The process that listens on the console's port: the newest child that logged it."""
    (pid,) = [child for child in gateway.children() if _listens(child, gateway.values["console"]["address"])]
    return pid


def _listens(pid: int, address: str) -> bool:
    wanted = f"0100007F:{int(address.rpartition(':')[2]):04X}"
    inodes = {
        row.split()[9]
        for row in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
        if row.split()[1] == wanted and row.split()[3] == "0A"
    }
    links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    return any(f"socket:[{inode}]" in links for inode in inodes)


def test_the_first_administrator_is_made_by_a_command(town: CityGateway, port: int) -> None:
    """`users add` beside the running gateway, the password on standard input; the account logs in and is one."""
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "--config", str(town.config), "users", "add", ADMIN, "--admin", "--json"],
        input=PASSWORD + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(made.stdout)["state"] == "active"
    page = _log_in(port, ADMIN)
    assert page.status_code == 200
    assert "administrator" in page.text
    assert "password" not in made.stdout.replace("password_changed", "").replace("has_password", "")


def test_it_is_counted(town: CityGateway) -> None:
    """Requests and logins are in the metrics of all processes."""
    _log_in(int(town.values["console"]["address"].rpartition(":")[2]), CLERK)
    found = until(
        lambda: {n: v for n, v in town.metrics().items() if n.startswith(("civicgate_console", "civicgate_logins"))}
    )
    assert found['civicgate_logins_total{method="password",outcome="ok"}'] == 1
    assert found['civicgate_logins_total{method="password",outcome="failed"}'] == 1
    assert found['civicgate_console_requests_total{page="/login",status="303"}'] == 1
    assert found["civicgate_console_seconds_count"] > 5


def test_a_reload_reaches_it(town: CityGateway, port: int) -> None:
    """SIGHUP: the city's new name is on the next page, without a restart; a broken file changes nothing."""
    town.configure(notices={"city_name": "City of Reloading"})
    os.kill(town.pid, signal.SIGHUP)
    page = f"http://127.0.0.1:{port}/login"
    until(lambda: "City of Reloading" in httpx2.get(page).text, 20, town.log)
    good = town.config.read_text("utf-8")
    town.config.write_text("console: {enabled: perhaps}\n", "utf-8")
    os.kill(town.pid, signal.SIGHUP)
    until(lambda: "reload refused" in town.log, 20)
    assert "City of Reloading" in httpx2.get(page).text
    town.config.write_text(good, "utf-8")


def test_it_comes_back_when_it_dies_and_mail_does_not_notice(town: CityGateway, port: int) -> None:
    """Killed: mail passes meanwhile, the parent starts another, sessions are still there."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get("/login").text)
        assert token is not None
        browser.post("/login", data={"csrf": token[1], "address": ADMIN, "password": PASSWORD})
        os.kill(_own(town), signal.SIGKILL)
        assert town.send(CLERK, [MAYOR], letter(mark("meanwhile"))).startswith("250")
        until(lambda: _status(port) == 200, 30, town.log)
        assert browser.get("/account").status_code == 200


def test_it_ends_gracefully_with_the_gateway(town: CityGateway, port: int) -> None:
    """SIGTERM ends it with the others, at once although a client keeps its connection open; the port is free."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as browser:
        browser.get("/login")
        began = time.monotonic()
        assert town.stop() == 0
        assert time.monotonic() - began < 15
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    assert "console" in town.log
    assert "Traceback" not in town.log


def test_a_taken_port_is_said_before_the_start(tmp_path: Path, nursery: Nursery, sink: Sink) -> None:
    """Exit code 1 and the address; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = city_gateway(tmp_path / "g", nursery, sink.port, {}, console={"enabled": True, "address": address})
        assert f"cannot listen on {address}" in gateway.cli("run", code=1)


def test_it_speaks_https_itself(tmp_path: Path, nursery: Nursery, sink: Sink, port: int) -> None:
    """With a certificate: TLS, Secure cookies with __Host-, HSTS."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    console = {
        "enabled": True, "address": f"127.0.0.1:{port}", "base_url": f"https://localhost:{port}",
        "tls_certificate": str(certificate), "tls_key": str(key),
    }  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(certificate))
    with (
        running_city(tmp_path / "g", nursery, sink.port, {}, workers=1, console=console) as gateway,
        httpx2.Client(verify=trusted, timeout=30) as browser,
    ):

        def page() -> httpx2.Response | None:
            try:
                return browser.get(f"https://localhost:{port}/login")
            except httpx2.HTTPError:
                return None

        answer = until(page, 30, gateway.log)
        assert answer is not None
        assert answer.headers["set-cookie"].startswith("__Host-civicgate-visit=")
        assert "; Secure" in answer.headers["set-cookie"]
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
