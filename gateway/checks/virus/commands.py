"""clamd's commands for people at the command line: PING, VERSION, STATS, RELOAD, through the ``clamd`` package.

Blocking: call them from a thread or a command, never from the event loop, and never for scanning (the package sends
1 KB at a time with ``send``). Adds what the package lacks: a deadline on connecting, and IPv6.
"""

import socket
import warnings
from typing import Any, Protocol

from gateway.checks.virus.place import TcpPlace, UnixPlace
from gateway.errors import ControlError


class Commands(Protocol):
    """What the package's classes offer and we use; each returns clamd's reply as text."""

    def ping(self) -> str:
        """``PONG``."""

    def version(self) -> str:
        """Program and database."""

    def stats(self) -> str:
        """Queue and memory, several lines."""

    def reload(self) -> str:
        """``RELOADING``."""


def ask(place: UnixPlace | TcpPlace, command: str, timeout: float) -> str:
    """Send one of ``ping``, ``version``, ``stats``, ``reload``; ``timeout`` in seconds for each step.

    Raises ControlError (``unavailable`` when there is no connection, ``protocol`` when the reply is an error).
    """
    if command not in ("ping", "version", "stats", "reload"):
        raise ValueError(f"no such command: {command}")
    package = _package()
    try:
        return str(getattr(_client(package, place, timeout), command)()).strip()
    except (package.ConnectionError, OSError) as error:
        raise ControlError("unavailable", f"clamd at {place}: {error}") from error
    except (package.ClamdError, UnicodeDecodeError) as error:
        raise ControlError("protocol", f"clamd at {place} answers an error to {command}: {error}") from error


def _package() -> Any:
    """The package, imported on first use: it looks for its version through pkg_resources, slow and deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import clamd  # noqa: PLC0415 - see above
    return clamd


def _client(package: Any, place: UnixPlace | TcpPlace, timeout: float) -> Commands:
    """The package's client for the place, connecting with a deadline."""
    if isinstance(place, UnixPlace):
        client = package.ClamdUnixSocket(place.path, timeout)
    else:
        client = package.ClamdNetworkSocket(place.host, place.port, timeout)

    def connect() -> None:
        client.clamd_socket = _connected(place, timeout)

    client._init_socket = connect  # noqa: SLF001 - the package has no other way to set a deadline on connecting
    result: Commands = client
    return result


def _connected(place: UnixPlace | TcpPlace, timeout: float) -> socket.socket:
    if isinstance(place, TcpPlace):
        return socket.create_connection((place.host, place.port), timeout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(place.path)
    except OSError:
        sock.close()
        raise
    return sock
