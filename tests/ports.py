"""TCP ports for servers that a test starts, and starts again on the same port after killing them.

Below the range from which the kernel takes a port for an outgoing connection (``ip_local_port_range``): a port from
that range, free when it was looked at, may belong to another test's connection a moment later, and then the server
does not start. No port is given twice in one run, not even to another process: many servers start long after.
"""

import random
import socket
from pathlib import Path

from tests import together

LOWEST = 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_chance = random.SystemRandom()  # test processes must not draw the same numbers


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, and that nobody else is given."""
    ports: list[int] = []
    highest = int(EPHEMERAL.read_text("ascii").split()[0])
    while len(ports) < count:
        port = _chance.randrange(LOWEST, max(highest, LOWEST + 1000))
        if _is_new(port) and is_free(port):
            ports.append(port)
    return ports


def _is_new(port: int) -> bool:
    try:
        (together.folder("ports") / str(port)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def free_port() -> int:
    """One of :func:`free_ports`."""
    return free_ports(1)[0]


def is_free(port: int) -> bool:
    """Whether a server may listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
