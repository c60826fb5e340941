"""Where clamd listens: the setting ``clamd.address`` as a value. Refuses what no socket can be opened on."""

import os
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.errors import ConfigError

UNIX_PATH_MAX = 107
"""Octets of a unix socket's path (unix(7): sun_path, one kept for the end)."""


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A unix socket: open files can be handed over."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A TCP port: the octets have to travel."""

    host: str
    port: int
    numeric: bool
    """True when ``host`` is an IP address, so that no name has to be looked up."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_place(text: str) -> UnixPlace | TcpPlace:
    """``unix:PATH`` or ``HOST:PORT`` (an IPv6 address in brackets). Raises ConfigError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ConfigError(f"clamd.address: «{text}» names no socket; write unix:PATH")
        if len(os.fsencode(path)) > UNIX_PATH_MAX:
            raise ConfigError(f"clamd.address: {path} is longer than the {UNIX_PATH_MAX} octets of a socket's path")
        return UnixPlace(path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ConfigError(f"clamd.address: «{text}» is neither unix:PATH nor HOST:PORT")
    try:
        ip_address(host)
    except ValueError:
        return TcpPlace(host, int(port), numeric=False)
    return TcpPlace(host, int(port), numeric=True)
