"""``civicgate health``: does the gateway answer? For a container's health check and for a quick look."""

import argparse
import contextlib
import smtplib
import socket
import sys
from typing import Any

from gateway.cli.columns import print_json
from gateway.settings import Endpoint, MilterListenerSettings, Settings
from gateway.wire import milter as wire

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
_SECONDS = 5.0


def register(commands: Any) -> None:
    """Add the sub-command."""
    sub = commands.add_parser("health", help="say whether the gateway answers; exit code 0 when it does")
    sub.add_argument("--json", action="store_true", help="output for programs")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Say EHLO to the first listener that speaks plain SMTP first; without one, begin as a mail server at a milter."""
    listener = next((one for one in settings.listeners if one.tls != "implicit" and not one.proxy_protocol), None)
    if listener is not None:
        return _ehlo(args, listener.address)
    if settings.milter.listeners:
        return _options(args, settings.milter.listeners[0])
    text = "No listener can be asked: all of them want TLS or a PROXY header first."
    return _say(args, text, address="", healthy=False)


def _ehlo(args: argparse.Namespace, where: Endpoint) -> int:
    address = str(where)
    try:
        with smtplib.SMTP(_reached(where), where.port, "health.civicgate.invalid", timeout=_SECONDS) as client:
            code, _ = client.ehlo()
            with contextlib.suppress(smtplib.SMTPException):
                client.quit()
    except (OSError, smtplib.SMTPException) as error:
        return _say(args, f"{address} does not answer: {error}", address=address, healthy=False)
    return _say(args, f"{address} answers {code}", address=address, healthy=code == 250)


def _options(args: argparse.Namespace, listener: MilterListenerSettings) -> int:
    """What a mail server says first, and its answer."""
    address = listener.address
    try:
        with _connected(listener) as asking:
            asking.sendall(wire.options(wire.VERSION, wire.ALL_ACTIONS, wire.ALL_STEPS))
            said = asking.recv(5)
    except OSError as error:
        return _say(args, f"{address} does not answer: {error}", address=address, healthy=False)
    healthy = said[4:] == wire.Answer.OPTIONS.value
    words = "answers as a milter" if healthy else "does not answer as a milter"
    return _say(args, f"{address} {words}", address=address, healthy=healthy)


def _connected(listener: MilterListenerSettings) -> socket.socket:
    if listener.path is None:
        return socket.create_connection((_reached(listener.endpoint), listener.endpoint.port), _SECONDS)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_SECONDS)
    try:
        made.connect(str(listener.path))
    except OSError:
        made.close()
        raise
    return made


def _reached(where: Endpoint) -> str:
    return _ANYWHERE.get(where.host, where.host)


def _say(args: argparse.Namespace, text: str, *, address: str, healthy: bool) -> int:
    if args.json:
        print_json({"healthy": healthy, "address": address, "text": text})
    else:
        print(text, file=sys.stdout if healthy else sys.stderr)
    return 0 if healthy else 1
