"""Starts what is measured, each in a folder of its own, on loopback ports that are free, and ends just that.

Every function is a context manager. Raises CannotStartError, in words, when a server is missing or does not come up.
"""

import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import Meter
from deploy.dev.clamd import TINY_DATABASE as SIGNATURES
from deploy.dev.clamd import ClamdNotStartedError, start_clamd, stop_clamd

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "rules"
START_TIMEOUT = 40.0
STOP_TIMEOUT = 40.0
QUIET = 0.4
"""Seconds."""
QUIET_TIMEOUT = 15.0


class CannotStartError(Exception):
    """A server is not there."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens and the process that all of its processes descend from."""

    port: int
    pid: int


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def program(name: str, package: str) -> str:
    """Its path. Raises CannotStartError with the Debian package that brings it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise CannotStartError(f"{name} is not installed (Debian package {package})")
    return path


@contextmanager
def sink(_: Path) -> Iterator[Server]:
    """smtp-sink: takes every message and forgets it."""
    port = free_ports(1)[0]
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [program("smtp-sink", "postfix"), *as_nobody, "-m", "2000", f"127.0.0.1:{port}", "1000"]
    with _process(command, None, port) as server:
        yield server


@contextmanager
def taker(_: Path) -> Iterator[Server]:
    """The same, but no session waits for another (:mod:`bench.taker`)."""
    port = free_ports(1)[0]
    with _process([sys.executable, "-m", "bench.taker", str(port)], None, port) as server:
        yield server


@contextmanager
def clamd(folder: Path) -> Iterator[tuple[Path, int]]:
    """Clamd as shipped, but with its cache off and a tiny database; the path of its socket and its pid."""
    try:
        # amavisd-new asks it as another user.
        changes = {"DisableCache": "yes", "LocalSocketMode": "666"}
        process = start_clamd(folder, database=SIGNATURES, changes=changes)
    except ClamdNotStartedError as error:
        raise CannotStartError(str(error)) from error
    try:
        yield folder / "clamd.sock", process.pid
    finally:
        stop_clamd(process)


@contextmanager
def gateway(
    folder: Path, next_hop: int, *, workers: int, rules: Path | None = None, clamd_socket: Path | None = None
) -> Iterator[Server]:
    """This gateway as it is shipped, but for places, ports and the number of workers. ``rules`` None: no rules."""
    folder.mkdir()
    if rules is None:
        rules = folder / "rules"
        (rules / "types").mkdir(parents=True)
    port, metrics = free_ports(2)
    config = folder / "gateway.yaml"
    settings = gateway_settings(folder, (port, metrics, next_hop), workers, rules, clamd_socket)
    config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "gateway", "--config", str(config), "run"]
    with _process(command, folder / "log", port) as server:
        yield server


def gateway_settings(
    folder: Path, ports: tuple[int, int, int], workers: int, rules: Path, clamd_socket: Path | None
) -> dict[str, Any]:
    """The settings file as plain data. ``ports``: listener, metrics, next hop."""
    port, metrics, next_hop = ports
    return {
        "workers": workers,
        "console": {"enabled": False},
        "listeners": [{"name": "bench", "address": f"127.0.0.1:{port}"}],
        "milter": {"listeners": [{"name": "beside", "address": f"unix:{folder / 'milter.sock'}", "mode": "0666"}]},
        "smtp": {"hostname": "gateway.city.example", "drain_timeout": "2 s"},
        "next_hop": {"address": f"127.0.0.1:{next_hop}"},
        "spool": {"directory": str(folder / "spool")},
        "store": {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")},
        "encryption": {"certificates": str(folder / "certificates")},
        "metrics": {"address": f"127.0.0.1:{metrics}", "directory": str(folder / "metrics")},
        "policy": {"rules": str(rules), "directory": str(ROOT / "config/directory.yaml")},
        "clamd": {
            "address": f"unix:{clamd_socket or folder / 'none.sock'}",
            "config_file": str(clamd_socket.with_name("clamd.conf")) if clamd_socket else None,
        },
    }


def rules_without_clamd(folder: Path) -> Path:
    """A copy of the default rules in which the virus rules are off."""
    copy = folder / "rules-without-clamd"
    shutil.copytree(RULES, copy)
    for path in sorted((copy / "virus").glob("*.yaml")):
        path.write_text(switched_off(path.read_text(encoding="utf-8")), encoding="utf-8")
    return copy


def switched_off(rule: str) -> str:
    """A rule's text with ``mode: off``, whatever its mode was."""
    lines = [line for line in rule.splitlines() if not line.startswith("mode:")]
    return "\n".join([*lines, 'mode: "off"', ""])


# --- amavisd-new ----------------------------------------------------------------------------------------------------

_AMAVIS_SKIPPED = ("05-node_id", "50-user")
"""Files of Debian's configuration that ask for this machine's name, or are the administrator's own."""


@contextmanager
def amavis(folder: Path, next_hop: int, clamd_socket: Path) -> Iterator[Server]:
    """amavisd-new in Debian's configuration as a proxy before the queue, the same clamd, no spam checks."""
    path = program("amavisd", "amavisd-new")
    if os.geteuid() != 0:
        raise CannotStartError("amavisd-new is started as root only")
    folder.mkdir()
    for name in ("tmp", "db"):
        (folder / name).mkdir()
    for owned in (folder, folder / "tmp", folder / "db"):
        shutil.chown(owned, "amavis", "amavis")
    port = free_ports(1)[0]
    config = folder.with_name("amavisd.conf")  # it refuses one in a folder that it may write to
    config.write_text(amavis_conf(folder, port, next_hop, clamd_socket), encoding="utf-8")
    debian = sorted(p for p in Path("/etc/amavis/conf.d").iterdir() if p.name not in _AMAVIS_SKIPPED)
    options = [argument for file in (*debian, config) for argument in ("-c", str(file))]
    with _process([path, *options, "foreground"], folder / "log", port) as server:
        yield server


def amavis_conf(folder: Path, port: int, next_hop: int, clamd_socket: Path) -> str:
    """What differs from Debian's configuration. Four processes: two a core, as its README.performance advises."""
    return f"""use strict;
$myhostname = 'amavis.city.example'; $mydomain = 'city.example';
$daemon_user = 'amavis'; $daemon_group = 'amavis';
$MYHOME = '{folder}'; $TEMPBASE = '{folder}/tmp'; $ENV{{TMPDIR}} = $TEMPBASE; $db_home = '{folder}/db';
$lock_file = '{folder}/amavisd.lock'; $pid_file = '{folder}/amavisd.pid'; $QUARANTINEDIR = undef;
$enable_db = 0; $enable_zmq = 0; $do_syslog = 0; $logfile = '{folder}/amavisd.log'; $log_level = 0;
$unix_socketname = undef; $inet_socket_bind = '127.0.0.1'; $inet_socket_port = {port};
$forward_method = 'smtp:[127.0.0.1]:{next_hop}'; $notify_method = $forward_method;
$max_servers = 4; $max_requests = 100;
@bypass_virus_checks_maps = (0); @bypass_spam_checks_maps = (1);
$final_virus_destiny = D_REJECT; $virus_quarantine_to = undef; $warnvirusrecip = 0;
@av_scanners = (['ClamAV-clamd', \\&ask_daemon, ["CONTSCAN {{}}\\n", '{clamd_socket}'],
  qr/\\bOK$/m, qr/\\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
@av_scanners_backup = ();
1;
"""


# --- A process ------------------------------------------------------------------------------------------------------


@contextmanager
def _process(command: list[str], log: Path | None, port: int) -> Iterator[Server]:
    """Start it, wait until it greets, end it at last."""
    with (log or Path(os.devnull)).open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log else subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_for_greeting(port, lambda: process.poll() is not None, log)
        wait_until_quiet(process.pid)
        yield Server(port, process.pid)
    finally:
        stop(process)


def wait_for_greeting(port: int, ended: Any, log: Path | None) -> None:
    """Until EHLO is answered. Raises CannotStartError with the log's last lines."""
    deadline = time.monotonic() + START_TIMEOUT
    while not greets(port):
        if ended() or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:] if log and log.exists() else []
            raise CannotStartError(" | ".join(["it ended" if ended() else "no greeting", *said]))
        time.sleep(0.1)


def wait_until_quiet(pid: int) -> None:
    """Until the process and its descendants have nothing to do: one may greet while its siblings still start."""
    deadline = time.monotonic() + QUIET_TIMEOUT
    while time.monotonic() < deadline:
        meter = Meter(pid)
        time.sleep(QUIET)
        if meter.stop().cpu <= 0.05 * QUIET:
            return


def greets(port: int) -> bool:
    """Whether a mail server answers EHLO there."""
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="bench.city.example", timeout=5) as smtp:
            return smtp.ehlo()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL when that is not heard in time."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
