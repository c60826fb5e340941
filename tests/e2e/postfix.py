"""A private Postfix in a folder of its own: its own queue, its own ports on the loopback, ended by its own command.

Refuses to touch the machine's Postfix: nothing of /etc/postfix or /var/spool/postfix is read or written.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.running import greets, until

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = {name}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = check_client_access static:OK, reject
smtpd_recipient_restrictions =
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_authorized_xforward_hosts = 127.0.0.0/8
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_delay_reject = yes
smtpd_timeout = 60s
smtp_send_xforward_command = yes
smtp_dns_support_level = disabled
smtp_tls_security_level = none
smtputf8_enable = yes
message_size_limit = 200000000
mailbox_size_limit = 0
queue_minfree = 0
maximal_backoff_time = 2s
minimal_backoff_time = 1s
queue_run_delay = 1s
bounce_queue_lifetime = 0
local_header_rewrite_clients =
smtp_line_length_limit = 100000000
header_size_limit = 10000000
"""
_SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """One running instance."""

    folder: Path

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self.folder / "maillog"
        return path.read_text("utf-8", "replace") if path.exists() else ""


def installed() -> bool:
    """Whether Postfix is here and may be started."""
    return shutil.which("postfix", path="/usr/sbin:/usr/bin") is not None and os.geteuid() == 0


@contextmanager
def running_postfix(
    name: str, services: Mapping[int, str], main: Mapping[str, str] | None = None, *, chroot: bool = False
) -> Iterator[Postfix]:
    """Run Postfix with smtpd on each port of ``services`` (port to further options), until the block is left.

    ``chroot``: smtpd and cleanup see their queue directory alone, as Debian has it.
    """
    with open_folder() as folder:
        yield from _running(folder, name, services, main, "y" if chroot else "n")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder into which other users can see, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="civicgate-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _running(
    folder: Path, name: str, services: Mapping[int, str], main: Mapping[str, str] | None, chroot: str
) -> Iterator[Postfix]:
    for sub in ("etc", "queue", "data"):
        (folder / sub).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    rows = (row.partition("=") for row in _MAIN.format(folder=folder, name=name).splitlines())
    # each name once: postlogd would warn of a second one, to itself, and wait for itself when the others warn, too
    values = {key.strip(): value.strip() for key, _, value in rows} | dict(main or {})
    (folder / "etc" / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in values.items()), "utf-8")
    listeners = "".join(f"127.0.0.1:{port} inet n - {chroot} - - smtpd {rest}\n" for port, rest in services.items())
    others = _SERVICES.replace("cleanup unix n - n", f"cleanup unix n - {chroot}")
    (folder / "etc" / "master.cf").write_text(listeners + others, "utf-8")
    os.utime(
        folder / "etc" / "main.cf", (0, 0)
    )  # each program of Postfix waits two seconds before it reads a newer one
    _postfix(folder, "start")
    try:
        for port in services:
            until(lambda port=port: greets(port), 20, f"Postfix does not answer on {port}")  # type: ignore[misc]
        yield Postfix(folder)
    finally:
        _postfix(folder, "stop")


def _postfix(folder: Path, command: str) -> None:
    done = subprocess.run(
        ["/usr/sbin/postfix", "-c", str(folder / "etc"), command],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    log = folder / "maillog"
    assert done.returncode == 0, f"postfix {command}: {done.stderr} {log.read_text() if log.exists() else ''}"
