"""Mail through Postfix's queue while Postfix asks a milter: this gateway's, rspamd's, and one that only reads.

All on unix sockets, all behind the same Postfix settings. Raises CannotStartError for what is not installed.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.postfix import Postfix, postfix
from bench.servers import ROOT, START_TIMEOUT, CannotStartError, program, stop

TITLES = {
    "queue": "Postfix alone, through its queue",
    "milter-reading": "Postfix, pymilter that only reads",
    "milter": "Postfix, Civicgate as milter, all rules, no clamd",
    "milter-clamd": "Postfix, Civicgate as milter, all rules and clamd",
    "milter-none": "Postfix, Civicgate as milter, no rules",
    "milter-rspamd": "Postfix, rspamd as milter, network modules off",
}
"""Row → what stands in the table."""
_NETWORK = (
    *("rbl", "surbl", "asn", "dkim", "arc", "spf", "dmarc", "mx_check", "fuzzy_check", "dkim_signing", "greylist"),
    *("ratelimit", "replies", "history_redis", "neural", "url_redirector", "rspamd_update", "bimi", "p0f", "dcc"),
)
_RSPAMD = {
    "worker-proxy.inc": """bind_socket = "{socket} mode=0666";
milter = yes;
timeout = 120s;
count = 2;
upstream "local" {{ default = yes; self_scan = yes; }}
""",
    "worker-normal.inc": "enabled = false;\n",
    "worker-controller.inc": "enabled = false;\n",
    "worker-fuzzy.inc": "enabled = false;\n",
    "logging.inc": 'type = "file"; filename = "{folder}/log"; level = "error";\n',
    "options.inc": 'max_message = 200mb; dns {{ nameserver = ["127.0.0.1:1:10"]; timeout = 0.1s; }}\n',
}


@contextmanager
def asking(folder: Path, next_hop: int, socket: Path | None) -> Iterator[Postfix]:
    """A Postfix that asks one milter, or none, and delivers to ``next_hop``."""
    settings = "" if socket is None else f"smtpd_milters = unix:{socket}\nmilter_default_action = tempfail\n"
    with postfix(folder, next_hop, (), settings) as server:
        yield server


@contextmanager
def reading(folder: Path) -> Iterator[tuple[Path, int]]:
    """pymilter; its socket and its pid."""
    python = program("/usr/bin/python3", "python3")
    if subprocess.run([python, "-c", "import Milter"], capture_output=True, check=False).returncode:
        raise CannotStartError("pymilter is not installed (Debian package python3-milter)")
    folder.mkdir()
    socket = folder / "milter.sock"
    with _served([python, str(ROOT / "bench" / "reading_milter.py"), f"unix:{socket}"], folder / "log", socket) as pid:
        yield socket, pid


@contextmanager
def rspamd(folder: Path) -> Iterator[tuple[Path, int]]:
    """Runs rspamd in Debian's configuration as a milter that scans by itself, all that asks the network off."""
    path = program("rspamd", "rspamd")
    if os.geteuid() != 0:
        raise CannotStartError("rspamd is started as root only")
    folder.mkdir()
    local, socket = folder / "local.d", folder / "milter.sock"
    for name in ("local.d", "override.d", "db", "run"):
        (folder / name).mkdir()
    for name, text in _RSPAMD.items():
        (local / name).write_text(text.format(socket=socket, folder=folder), "utf-8")
    for name in _NETWORK:
        (local / f"{name}.conf").write_text("enabled = false;\n", "utf-8")
    for place in (folder, folder / "db", folder / "run"):
        shutil.chown(place, "_rspamd", "_rspamd")
    variables = {"LOCAL_CONFDIR": folder, "DBDIR": folder / "db", "RUNDIR": folder / "run", "LOGDIR": folder}
    options = [word for name, value in variables.items() for word in ("--var", f"{name}={value}")]
    command = [path, "-f", "-u", "_rspamd", "-g", "_rspamd", *options, "-c", "/etc/rspamd/rspamd.conf"]
    with _served(command, folder / "out", socket) as pid:
        yield socket, pid


@contextmanager
def _served(command: list[str], log: Path, socket: Path) -> Iterator[int]:
    """Run it until the block is left; its pid, once the socket is there."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT
    try:
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text("utf-8", "replace").splitlines()[-5:]
                raise CannotStartError(" | ".join(["it did not start", *said]))
            time.sleep(0.1)
        with suppress(OSError):
            socket.chmod(0o666)
        yield process.pid
    finally:
        stop(process)
