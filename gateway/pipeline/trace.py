"""The trace block that the gateway puts on top of every message (RFC 5321 section 4.4), and what it reads of others'.

Refuses loops: a message with more ``Received`` fields than the setting allows has been here before.
"""

import mmap
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from gateway.model.envelope import Client

_BLANK = re.compile(rb"\r?\n\r?\n")
_FIELDS = re.compile(
    rb"^(received|message-id|auto-submitted)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_TOKEN = re.compile(r"[^A-Za-z0-9.:_/+-]")
_MAX_HEADER = 1_048_576


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the gateway itself needs of the header, whatever the rules ask."""

    hops: int
    message_id: str
    """As it stands, without line ends, at most 250 characters; for the log."""
    automatic: bool
    """True when Auto-Submitted says so (RFC 3834): never answered by a notice."""


def header_facts(buffer: bytes | mmap.mmap) -> HeaderFacts:
    """Look through the header block once. Never raises, whatever the octets."""
    blank = _BLANK.search(buffer[:_MAX_HEADER])
    block = buffer[: blank.end()] if blank else buffer[:_MAX_HEADER]
    hops, message_id, automatic = 0, "", False
    for match in _FIELDS.finditer(block):
        name = match[1][:1] + match[1][1:2]
        if name in (b"Re", b"re", b"RE", b"rE"):
            hops += 1
        elif match[1][:1] in b"mM":
            message_id = message_id or " ".join(match[2].decode("utf-8", "replace").split())[:250]
        else:
            automatic = not match[2].strip().lower().startswith(b"no")
    return HeaderFacts(hops, message_id, automatic)


def _atom(text: str) -> str:
    """Free text made safe inside a Received field."""
    return _TOKEN.sub("_", text)[:255]


def received_field(hostname: str, transaction: str, client: Client, recipients: tuple[str, ...], now: float) -> bytes:
    """Our one ``Received:`` field, CRLF ended. ``for`` only with a single recipient: a Bcc must not show."""
    helo = _atom(client.helo) or "unknown"
    address = f"IPv6:{client.address}" if ":" in client.address else client.address
    origin = f"{_atom(client.name) or 'unknown'} [{address or 'unknown'}]"
    protocol = _protocol(client)
    tls = f"\r\n\t(using {_atom(client.tls.replace(' ', '/'))})" if client.tls else ""
    to = f"\r\n\tfor <{recipients[0]}>" if len(recipients) == 1 and _safe(recipients[0]) else ""
    return (
        f"Received: from {helo} ({origin}){tls}\r\n"
        f"\tby {hostname} (Civicgate) with {protocol} id {transaction}{to};\r\n"
        f"\t{_date(now)}\r\n"
    ).encode()


def _safe(address: str) -> bool:
    return len(address) <= 320 and address.isprintable() and "<" not in address and ">" not in address


def _protocol(client: Client) -> str:
    """The word of RFC 3848: ESMTP, with S for TLS and A for a login."""
    if client.protocol.upper() == "SMTP" and not client.tls:
        return "SMTP"
    return "ESMTP" + ("S" if client.tls else "") + ("A" if client.login else "")


class _Date:
    """The RFC 5322 date of the current second, formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._text = second, format_datetime(datetime.fromtimestamp(second, UTC))
        return self._text


_date = _Date()

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class TransactionIds:
    """Ids that sort by time and never meet: milliseconds, process, counter, in Crockford's base 32."""

    def __init__(self, process: int, clock: Callable[[], float] = time.time) -> None:
        self._process = process
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        """A new id: 9 characters of time, 5 of process, 4 of counter."""
        self._last = (self._last + 1) & 0xFFFFF
        return _base32(int(self._clock() * 1000), 9) + _base32(self._process, 5) + _base32(self._last, 4)


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))
