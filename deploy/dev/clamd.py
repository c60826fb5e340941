"""Starts a real clamd for tests and for the demonstration: in a folder of its own, with the configuration that we ship.

Uses the machine's signature database when there is one, else the tiny one in ``deploy/signatures``. Refuses to touch
any clamd but the one that it started. Not part of the product; in production clamd is a service of its own.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
SHIPPED = DEPLOY / "clamd.conf"
TINY_DATABASE = DEPLOY / "signatures"
SYSTEM_DATABASE = Path("/var/lib/clamav")
START_TIMEOUT = 120.0
"""Seconds until PONG; the official database takes clamd half a minute to load."""
STOP_TIMEOUT = 10.0

_UNWANTED = ("LocalSocketGroup", "PidFile", "LogRotate", "LogFileMaxSize", "TCPSocket", "TCPAddr")
"""Directives of an installed clamd that a private one must not share."""


class ClamdNotStartedError(RuntimeError):
    """clamd is not installed, or ended or stayed silent while starting. The text says which and shows its output."""


def clamd_program() -> str | None:
    """Path of the clamd program, None when it is not installed."""
    return shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin:/usr/local/sbin")


def signature_database() -> Path:
    """The machine's database if it has any official file (``*.cvd``, ``*.cld``), else our tiny one."""
    try:
        official = any(entry.suffix in (".cvd", ".cld") for entry in SYSTEM_DATABASE.iterdir())
    except OSError:
        official = False
    return SYSTEM_DATABASE if official else TINY_DATABASE


def render_clamd_conf(
    socket_path: Path,
    database: Path,
    log: Path,
    tcp_port: int = 0,
    changes: Mapping[str, str] | None = None,
) -> str:
    """The shipped configuration with other places, the current user, and ``changes`` (directive -> value).

    ``tcp_port`` other than 0 adds a listener on 127.0.0.1. Every other line stays as shipped, so that what is tested
    is what is installed.
    """
    places = {
        "LocalSocket": str(socket_path),
        "LocalSocketMode": "600",
        "User": pwd.getpwuid(os.geteuid()).pw_name,
        "DatabaseDirectory": str(database),
        "LogFile": str(log),
        "TemporaryDirectory": str(log.parent),
        **({"TCPSocket": str(tcp_port), "TCPAddr": "127.0.0.1"} if tcp_port else {}),
        **(changes or {}),
    }
    kept = []
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        directive = line.split(" ", 1)[0]
        if directive not in places and directive not in _UNWANTED:
            kept.append(line)
    return "\n".join([*kept, "", *(f"{name} {value}" for name, value in places.items()), ""])


@contextmanager
def running_clamd(
    directory: Path,
    *,
    database: Path | None = None,
    tcp_port: int = 0,
    changes: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """Run clamd in ``directory`` (made when missing) until the block is left; gives the path of its unix socket.

    The block starts when clamd has answered PONG. Its pid is in ``clamd.pid``, its output in ``clamd.log``. Raises
    ClamdNotStartedError. Ends only the process that it started: SIGTERM, and SIGKILL after ten seconds.
    """
    process = start_clamd(directory, database=database, tcp_port=tcp_port, changes=changes)
    try:
        yield directory / "clamd.sock"
    finally:
        stop_clamd(process)


def start_clamd(
    directory: Path,
    *,
    database: Path | None = None,
    tcp_port: int = 0,
    changes: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """As :func:`running_clamd`, for whoever ends it through :func:`stop_clamd`. Returns after the first PONG."""
    program = clamd_program()
    if program is None:
        raise ClamdNotStartedError("clamd is not installed (Debian package clamav-daemon)")
    directory = directory.resolve()  # clamd takes absolute paths only
    directory.mkdir(parents=True, exist_ok=True)
    path, config, log = directory / "clamd.sock", directory / "clamd.conf", directory / "clamd.log"
    if len(os.fsencode(path)) > 107:
        raise ClamdNotStartedError(f"{path} is too long for a unix socket (107 octets at most)")
    path.unlink(missing_ok=True)
    text = render_clamd_conf(path, database or signature_database(), log, tcp_port, changes)
    config.write_text(text, encoding="utf-8")
    with (directory / "clamd.out").open("wb") as output:
        process = subprocess.Popen(
            [program, "--foreground", f"--config-file={config}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        (directory / "clamd.pid").write_text(f"{process.pid}\n", encoding="ascii")
        _wait_for_pong(process, path, directory / "clamd.out")
    except BaseException:
        stop_clamd(process)
        raise
    return process


def stop_clamd(process: "subprocess.Popen[bytes]") -> None:
    """End the clamd that :func:`start_clamd` started, stopped ones too. Does nothing when it has ended already."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_pong(process: "subprocess.Popen[bytes]", path: Path, output: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = output.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise ClamdNotStartedError(f"clamd ended with status {process.returncode}: {said}")
        if _answers(path):
            return
        time.sleep(0.02)
    raise ClamdNotStartedError(f"clamd did not answer within {START_TIMEOUT:.0f} s")


def _answers(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)
        client.connect(str(path))
        client.sendall(b"zPING\0")
        return client.recv(16) == b"PONG\0"
    return False
