"""``civicgate health``: does the gateway answer? For a container's health check and for a quick look."""

import argparse
import contextlib
import smtplib
import sys
from typing import Any

from gateway.cli.columns import print_json
from gateway.settings import Settings

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def register(commands: Any) -> None:
    """Add the sub-command."""
    sub = commands.add_parser("health", help="say whether the gateway answers EHLO; exit code 0 when it does")
    sub.add_argument("--json", action="store_true", help="output for programs")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Say EHLO to the first listener that speaks plain SMTP first."""
    listener = next((one for one in settings.listeners if one.tls != "implicit" and not one.proxy_protocol), None)
    if listener is None:
        text = "No listener can be asked: all of them want TLS or a PROXY header first."
        return _say(args, text, address="", healthy=False)
    address = str(listener.address)
    host = _ANYWHERE.get(listener.address.host, listener.address.host)
    try:
        with smtplib.SMTP(host, listener.address.port, "health.civicgate.invalid", timeout=5) as client:
            code, _ = client.ehlo()
            with contextlib.suppress(smtplib.SMTPException):
                client.quit()
    except (OSError, smtplib.SMTPException) as error:
        return _say(args, f"{address} does not answer: {error}", address=address, healthy=False)
    return _say(args, f"{address} answers {code}", address=address, healthy=code == 250)


def _say(args: argparse.Namespace, text: str, *, address: str, healthy: bool) -> int:
    if args.json:
        print_json({"healthy": healthy, "address": address, "text": text})
    else:
        print(text, file=sys.stdout if healthy else sys.stderr)
    return 0 if healthy else 1
