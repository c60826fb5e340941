"""``civicgate health``: does the gateway answer? For a container's health check and for a quick look."""

import argparse
import contextlib
import smtplib
import sys
from typing import Any

from gateway.settings import Settings

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def register(commands: Any) -> None:
    """Add the sub-command."""
    commands.add_parser("health", help="say whether the gateway answers EHLO; exit code 0 when it does")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Say EHLO to the first listener that speaks plain SMTP first."""
    listener = next((one for one in settings.listeners if one.tls != "implicit" and not one.proxy_protocol), None)
    if listener is None:
        print("No listener can be asked: all of them want TLS or a PROXY header first.", file=sys.stderr)
        return 1
    host = _ANYWHERE.get(listener.address.host, listener.address.host)
    try:
        with smtplib.SMTP(host, listener.address.port, "health.civicgate.invalid", timeout=5) as client:
            code, _ = client.ehlo()
            with contextlib.suppress(smtplib.SMTPException):
                client.quit()
    except (OSError, smtplib.SMTPException) as error:
        print(f"{listener.address} does not answer: {error}", file=sys.stderr)
        return 1
    print(f"{listener.address} answers {code}")
    return 0 if code == 250 else 1
