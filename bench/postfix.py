"""A private Postfix: own configuration, queue and data folder, loopback only. Needs root, as Postfix's master does.

One instance has all the listeners that are measured; only one of them is busy at a time, so that its processes' CPU is
that listener's. Refuses to touch the machine's own instance.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import NotMeasuredError
from bench.servers import CannotStartError, free_ports, program, wait_for_greeting

DRAIN_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class Postfix:
    """Where it listens: through its queue, and one port for each ``smtpd_proxy_filter``."""

    relay: int
    proxies: tuple[int, ...]
    pid: int
    queue: Path

    def wait_until_empty(self) -> None:
        """Until everything that was accepted has been delivered. Raises NotMeasuredError."""
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while any(any((self.queue / name).iterdir()) for name in ("incoming", "active")):
            if time.monotonic() > deadline:
                raise NotMeasuredError("the queue did not become empty")
            time.sleep(0.005)


def main_cf(folder: Path, next_hop: int) -> str:
    """Postfix's defaults where they matter for speed; no size limit, no name lookups, a log file of its own."""
    return f"""compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = postfix.city.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
default_transport = smtp:[127.0.0.1]:{next_hop}
message_size_limit = 0
mailbox_size_limit = 0
"""


def master_cf(relay: int, proxies: tuple[tuple[int, int], ...]) -> str:
    """Services out of a chroot; ``proxies`` are (port, port of the proxy filter)."""
    filters = "\n".join(
        f"127.0.0.1:{port} inet n - n - - smtpd\n  -o smtpd_proxy_filter=127.0.0.1:{to}" for port, to in proxies
    )
    return f"""127.0.0.1:{relay} inet n - n - - smtpd
{filters}
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
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextmanager
def postfix(folder: Path, next_hop: int, filters: tuple[int, ...], settings: str = "") -> Iterator[Postfix]:
    """Run it: a relay to ``next_hop`` through the queue, and before-queue proxies to each of ``filters``.

    ``settings``: further lines of main.cf.
    """
    command = program("postfix", "postfix")
    if os.geteuid() != 0:
        raise CannotStartError("Postfix is started as root only")
    config, queue = folder / "config", folder / "queue"
    for path in (folder, config, queue, folder / "data"):
        path.mkdir()
    subprocess.run(["chown", "postfix", str(folder / "data")], check=True)
    relay, *ports = free_ports(1 + len(filters))
    (config / "main.cf").write_text(main_cf(folder, next_hop) + settings, encoding="utf-8")
    proxies = tuple(zip(ports, filters, strict=True))
    (config / "master.cf").write_text(master_cf(relay, proxies), encoding="utf-8")
    started = subprocess.run(
        [command, "-c", str(config), "start"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    log = folder / "maillog"
    try:
        wait_for_greeting(relay, lambda: started.returncode != 0, log)
        pid = int((queue / "pid" / "master.pid").read_text(encoding="ascii"))
        yield Postfix(relay, tuple(ports), pid, queue)
    finally:
        subprocess.run(
            [command, "-c", str(config), "stop"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
