"""What end-to-end and fault tests stand on: gateways as real processes, and the mail server behind them in a thread.

Everything listens on free loopback ports, writes below the test's own folder, and is ended by its pid.
"""

import asyncio
import contextlib
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML

from tests import pace
from tests.ports import free_ports, is_free
from tests.serving import MailServer, Received

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "rules"
T = TypeVar("T")
DIRECTORY = ROOT / "config" / "directory.yaml"


def until(look: Callable[[], T], seconds: float = 15.0, what: str = "") -> T:
    """Call ``look`` until it gives something true. Raises AssertionError after so many :func:`pace.seconds`."""
    deadline = time.monotonic() + pace.seconds(seconds)
    while not (found := look()):
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.02)
    return found


# --- the mail server behind ----------------------------------------------------------------------------------------


class Sink:
    """A :class:`MailServer` in a thread of its own, for tests that block."""

    def __init__(self, **options: Any) -> None:
        self.server = MailServer(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Sink":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.__aenter__(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._loop.set_exception_handler(lambda *_: None)  # sessions that are cut off now are no news
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.server.__aexit__()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def all(self) -> list[Received]:
        """Everything that has arrived so far."""
        return list(self.server.received)

    def having(self, *octets: bytes) -> list[Received]:
        """What has arrived with all of these octets in it."""
        return [one for one in self.all() if all(piece in one.content for piece in octets)]

    def wait(self, *octets: bytes, count: int = 1, seconds: float = 15.0) -> list[Received]:
        """As :meth:`having`, once there are so many."""
        return until(
            lambda: found if len(found := self.having(*octets)) >= count else [],
            seconds,
            f"{octets!r} did not arrive {count} times",
        )

    def to(self, address: str, *octets: bytes) -> list[Received]:
        """What has arrived for one recipient with these octets in it."""
        return [one for one in self.having(*octets) if any(f"<{address}>" in rcpt for rcpt in one.rcpts)]

    def wait_to(self, address: str, *octets: bytes, seconds: float = 15.0) -> Received:
        """The first such message, once it is there."""
        return until(lambda: self.to(address, *octets), seconds, f"nothing like that arrived for {address}")[0]


# --- the gateway ---------------------------------------------------------------------------------------------------


class Nursery:
    """The process that forks commands (:mod:`tests.e2e.nursery`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ready = False

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._ready:
            assert "ready" in json.loads(self._process.stdout.readline())
            self._ready = True
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(self, arguments: Sequence[str], log: Path) -> int:
        """Fork ``civicgate ARGUMENTS``; its pid."""
        return int(self.ask(run=list(arguments), log=str(log))["pid"])

    def code(self, pid: int) -> int | None:
        """The exit code of what was started; None while it runs."""
        code = self.ask(wait=pid)["code"]
        return None if code is None else int(code)

    def wait(self, pid: int, seconds: float = 20.0) -> int:
        """The exit code, once there is one."""
        codes: list[int] = []

        def ended() -> bool:
            code = self.code(pid)
            if code is not None:
                codes.append(code)
            return bool(codes)

        until(ended, seconds, f"process {pid} did not end")
        return codes[0]

    def close(self) -> None:
        """End it, and with it everything that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@dataclass
class CityGateway:
    """One gateway of real processes in ``folder``: parent, observer, workers."""

    folder: Path
    nursery: Nursery
    port: int
    metrics_port: int
    values: dict[str, Any]
    pid: int = 0
    more_ports: list[int] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / "gateway.yaml"

    @property
    def log_file(self) -> Path:
        """Its standard error."""
        return self.folder / "gateway.log"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    @property
    def certificates(self) -> Path:
        """Folder of recipients' certificates."""
        return self.folder / "certificates"

    @property
    def store(self) -> Path:
        """Folder of held mail and outbox."""
        return self.folder / "store"

    def configure(self, **changes: Any) -> None:
        """Write the settings, with changes to slices."""
        for name, change in changes.items():
            self.values[name] = {**self.values.get(name, {}), **change} if isinstance(change, dict) else change
        with self.config.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(self.values, file)

    def start(self) -> "CityGateway":
        """Start and wait until it answers."""
        self.pid = self.nursery.start(["--config", str(self.config), "run"], self.log_file)
        self.wait_until_up()
        return self

    def wait_until_up(self, seconds: float = 90.0) -> None:
        """Until every listener answers. Raises AssertionError with the log when one does not."""
        deadline = time.monotonic() + pace.seconds(seconds)
        while not (greets(self.port) and all(answers(where) for where in self.beside)):
            assert self.nursery.code(self.pid) is None, f"the gateway ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the gateway does not answer:\n{self.log}"
            time.sleep(0.02)

    @property
    def beside(self) -> list[str]:
        """Addresses of the milter listeners, which a worker opens after those for SMTP."""
        return [listener["address"] for listener in self.values.get("milter", {}).get("listeners", [])]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Signal the parent; the exit code."""
        pid, self.pid = self.pid, 0
        os.kill(pid, number)
        return self.nursery.wait(pid, seconds)

    def kill_all(self) -> None:
        """SIGKILL to every process of it at the same time."""
        pid, self.pid = self.pid, 0
        os.killpg(pid, signal.SIGKILL)
        self.nursery.wait(pid)
        # the parent is gone; a worker that was writing to the disk dies a moment later, and its socket with it
        until(lambda: is_free(self.port) and is_free(self.metrics_port), 20, "a killed process still listens")

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                self.kill_all()

    def children(self) -> list[int]:
        """The parent's direct children: the observer and the workers."""
        return children_of(self.pid)

    def workers(self) -> list[int]:
        """Those of them that listen for mail."""
        return [pid for pid in self.children() if listens(pid, self.port)]

    def cli(self, *arguments: str, code: int = 0) -> str:
        """Run ``civicgate ARGUMENTS`` on this gateway's settings; what it printed."""
        out = self.folder / f"cli-{time.monotonic_ns()}.out"
        pid = self.nursery.start(["--config", str(self.config), *arguments], out)
        assert self.nursery.wait(pid, 30) == code, f"{arguments}: {out.read_text('utf-8')}"
        return out.read_text("utf-8")

    def held(self, state: str = "") -> list[dict[str, Any]]:
        """Held items."""
        found: list[dict[str, Any]] = json.loads(
            self.cli("hold", "list", "--json", *(("--state", state) if state else ()))
        )
        return found

    def held_of(self, transaction: str, state: str = "all") -> list[dict[str, Any]]:
        """Held items of one transaction."""
        return [item for item in self.held(state) if item["transaction"] == transaction]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics: ``name{labels}`` to value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        rows = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def connect(self, port: int = 0) -> smtplib.SMTP:
        """A client that has said EHLO."""
        client = smtplib.SMTP("127.0.0.1", port or self.port, local_hostname="desk.city.example", timeout=60)
        client.ehlo()
        return client

    def send(self, sender: str, recipients: Sequence[str], content: bytes | str, parameters: Sequence[str] = ()) -> str:
        """One message with a connection of its own; the last reply as one line of text."""
        with contextlib.closing(self.connect()) as client:
            return transact(client, sender, recipients, content, parameters)

    def line_of(self, needle: str, seconds: float = 5.0) -> str:
        """The log's line about a message, once it is there."""
        return until(
            lambda: next((line for line in self.log.splitlines() if needle in line and " message " in line), ""),
            seconds,
            f"no log line with {needle}:\n{self.log[-3000:]}",
        )


def transact(
    client: smtplib.SMTP,
    sender: str,
    recipients: Sequence[str],
    content: bytes | str,
    parameters: Sequence[str] = (),
) -> str:
    """One transaction; the last reply, lines joined by spaces."""
    code, text = client.mail(sender, tuple(parameters))
    if code >= 400:
        return said(code, text)
    for recipient in recipients:
        code, text = client.rcpt(recipient)
        if code >= 400:
            return said(code, text)
    octets = content if isinstance(content, bytes) else content.encode()
    code, text = client.docmd("DATA")
    if code != 354:
        return said(code, text)
    client.send(dotted(octets))
    code, text = client.getreply()
    return said(code, text)


def dotted(content: bytes) -> bytes:
    """The content as DATA sends it; LF alone becomes CRLF only when there is no CRLF in it at all."""
    if b"\r\n" not in content:
        content = content.replace(b"\n", b"\r\n")
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    content = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if content.startswith(b".") else b"") + content + b".\r\n"


def said(code: int, text: bytes) -> str:
    """A reply as one line."""
    return f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"


def transaction_of(reply: str) -> str:
    """The id in «250 … as ID» or «… (ID)»."""
    return reply.rpartition("(")[2].rstrip(")") if reply.endswith(")") else reply.rpartition(" as ")[2].strip()


def own_octets(received: bytes) -> bytes:
    """What arrived without the gateway's trace block on top."""
    assert received.startswith(b"Received: from ")
    end = 0
    while (line_end := received.find(b"\r\n", end)) >= 0:
        end = line_end + 2
        if received[end : end + 1] not in (b" ", b"\t"):
            break
    return received[end:]


def greets(port: int) -> bool:
    """Whether an SMTP server greets there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
            probe.settimeout(2.0)
            return probe.recv(4).startswith(b"220")
    except OSError:
        return False


def answers(address: str) -> bool:
    """Whether a server takes connections there: «127.0.0.1:port» or «unix:path»."""
    kind, _, rest = address.rpartition(":")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(rest if kind == "unix" else (kind, int(rest)))
        except OSError:
            return False
        return True


def children_of(pid: int) -> list[int]:
    """Direct child processes."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    except OSError:
        return []
    return [int(word) for word in listed.split()]


def listens(pid: int, port: int) -> bool:
    """Whether this process has a socket that listens on the port."""
    wanted = set()
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
            wanted.add(f"socket:[{words[9]}]")
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    except OSError:
        return False
    return False


def city_gateway(
    folder: Path,
    nursery: Nursery,
    next_hop: int,
    rules: Path | Mapping[str, str] = RULES,
    **changes: Any,
) -> CityGateway:
    """A gateway with the default rules and directory (or others), not yet started."""
    port, metrics = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(rules, Path):
        (folder / "rules" / "types").mkdir(parents=True)
        for name, text in rules.items():
            (folder / "rules" / f"{name}.yaml").write_text(text, "utf-8")
        rules = folder / "rules"
    (folder / "certificates").mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "workers": 2,
        "listeners": [{"name": "proxy", "address": f"127.0.0.1:{port}"}],
        "smtp": {"hostname": "gateway.city.example", "drain_timeout": "5 s"},
        "next_hop": {"address": f"127.0.0.1:{next_hop}"},
        "spool": {"directory": str(folder / "spool")},
        "store": {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")},
        "clamd": {"address": f"unix:{folder}/clamd.sock", "config_file": None},
        "encryption": {"certificates": str(folder / "certificates")},
        "outbox": {"poll_interval": "200 ms", "retry_first": "300 ms"},
        "notices": {"templates": str(ROOT / "config" / "templates")},
        "metrics": {"address": f"127.0.0.1:{metrics}", "directory": str(folder / "metrics")},
        "policy": {"rules": str(rules), "directory": str(DIRECTORY)},
        "console": {"enabled": False},
    }
    gateway = CityGateway(folder, nursery, port, metrics, values)
    gateway.configure(**changes)
    return gateway


@contextlib.contextmanager
def running_city(
    folder: Path, nursery: Nursery, next_hop: int, rules: Path | Mapping[str, str] = RULES, **changes: Any
) -> Iterator[CityGateway]:
    """As :func:`city_gateway`, started, and ended with the block."""
    gateway = city_gateway(folder, nursery, next_hop, rules, **changes)
    try:
        yield gateway.start()
    finally:
        gateway.end()
