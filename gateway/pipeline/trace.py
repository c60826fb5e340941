"""The trace block that the gateway puts on top of every message (RFC 5321 section 4.4), and what it reads of others'.

Refuses loops: a message with more ``Received`` fields than the setting allows has been here before.
"""

import mmap
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import islice

from gateway.hold.values import is_automatic
from gateway.mime import addresses, field_value, parse, raw_value
from gateway.model.envelope import Client

_BLANK = re.compile(rb"\r?\n\r?\n")
_FIELDS = re.compile(
    rb"^(received|message-id)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_TOLD = re.compile(
    rb"^(?:from|sender|subject|auto-submitted|precedence|list-id)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?",
    re.IGNORECASE | re.MULTILINE,
)
"""The fields that are told to approvers or decide about notices."""
_PROOF = re.compile(
    rb"^x-civicgate-release-proof[ \t]*:([^\n]{0,998}(?:\n[ \t][^\n]{0,998}){0,9})", re.IGNORECASE | re.MULTILINE
)
_PASSAGE = re.compile(
    rb"^x-civicgate-passage[ \t]*:([^\n]{0,998}(?:\n[ \t][^\n]{0,998}){0,9})", re.IGNORECASE | re.MULTILINE
)
_MOST_TOLD = 500
_TOKEN = re.compile(r"[^A-Za-z0-9.:_/+-]")
_MAX_HEADER = 1_048_576


class HeaderFacts:
    """What the gateway itself needs of the header, whatever the rules ask."""

    __slots__ = ("_block", "_rest", "hops", "message_id")

    def __init__(self, block: bytes, hops: int, message_id: str) -> None:
        self._block = block
        self._rest: tuple[str, tuple[str, ...], bool] | None = None
        self.hops = hops
        self.message_id = message_id
        """As it stands, without line ends, at most 250 characters; for the log."""

    @property
    def subject(self) -> str:
        """Decoded; for approvers, never for the log."""
        return self._read()[0]

    @property
    def authors(self) -> tuple[str, ...]:
        """Addresses of From and Sender."""
        return self._read()[1]

    @property
    def automatic(self) -> bool:
        """True for auto-submitted and list mail, which is never answered by a notice (RFC 3834)."""
        return self._read()[2]

    @property
    def proof(self) -> str:
        """The mark of an earlier release that the message claims, unfolded; ``""`` for none. Not believed here."""
        found = _PROOF.search(self._block)
        return " ".join(found[1].decode("ascii", "replace").split()) if found else ""

    @property
    def passage(self) -> str:
        """The mark of a copy of ours that the message claims, unfolded; ``""`` for none. Not believed here."""
        found = _PASSAGE.search(self._block)
        return " ".join(found[1].decode("ascii", "replace").split()) or "-" if found else ""

    def _read(self) -> tuple[str, tuple[str, ...], bool]:
        """Only mail that goes to the store needs these: parsed when first asked for."""
        if self._rest is None:
            fields: dict[str, str] = {}
            authors: list[str] = []
            # these fields alone: a hundred thousand others would hold up the loop, or hide who wrote the message
            found = islice(_TOLD.finditer(self._block), _MOST_TOLD)
            block = b"".join(match[0] for match in found) + b"\r\n"
            for field in parse(block).root.fields:
                name = field.name.lower()
                if name in ("from", "sender"):
                    authors += [mailbox.address for mailbox in addresses(raw_value(block, field))]
                else:
                    fields.setdefault(name, field_value(block, field))
            self._rest = fields.get("subject", ""), tuple(authors), is_automatic(fields)
        return self._rest


def header_facts(buffer: bytes | mmap.mmap) -> HeaderFacts:
    """Look through the header block once. Never raises, whatever the octets."""
    start = buffer[:_MAX_HEADER]
    if start.startswith((b"\r\n", b"\n")):  # no header at all: what follows is the body
        return HeaderFacts(b"", 0, "")
    blank = _BLANK.search(start)
    block = start[: blank.end()] if blank else start
    hops, message_id = 0, ""
    for match in _FIELDS.finditer(block):
        if match[1][:1] in b"rR":
            hops += 1
        elif not message_id:
            message_id = " ".join(match[2].decode("utf-8", "replace").split())[:250]
    return HeaderFacts(block, hops, message_id)


def has_message_id(buffer: bytes | mmap.mmap) -> bool:
    """Whether the header has a Message-ID field, whatever stands in it. Never raises, whatever the octets."""
    start = buffer[:_MAX_HEADER]
    if start.startswith((b"\r\n", b"\n")):
        return False
    blank = _BLANK.search(start)
    return any(match[1][:1] in b"mM" for match in _FIELDS.finditer(start[: blank.end()] if blank else start))


def _atom(text: str) -> str:
    """Free text made safe inside a Received field."""
    if text.isalnum() and text.isascii():
        return text[:255]
    return _TOKEN.sub("_", text)[:255]


def received_field(hostname: str, transaction: str, client: Client, recipients: tuple[str, ...], now: float) -> bytes:
    """Our one ``Received:`` field, CRLF ended. ``for`` only with a single recipient: a Bcc must not show."""
    helo = _atom(client.helo) or "unknown"
    address = _atom(client.address) or "unknown"
    origin = f"{_atom(client.name) or 'unknown'} [{'IPv6:' if ':' in address else ''}{address}]"
    protocol = _protocol(client)
    tls = f"\r\n\t(using {_atom(client.tls.replace(' ', '/'))})" if client.tls else ""
    to = f"\r\n\tfor <{recipients[0]}>" if len(recipients) == 1 and _safe(recipients[0]) else ""
    return (
        f"Received: from {helo} ({origin}){tls}\r\n"
        f"\tby {hostname} (Civicgate) with {protocol} id {transaction}{to};\r\n"
        f"\t{_date(now)}\r\n"
    ).encode()


def on_top(trace: bytes, chunks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """A message with the trace block before its first octet."""
    yield trace
    yield from chunks


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
        self._process = _base32(process, 5)
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        """A new id: 9 characters of time, 5 of process, 4 of counter."""
        self._last = (self._last + 1) & 0xFFFFF
        return _base32(int(self._clock() * 1000), 9) + self._process + _base32(self._last, 4)


_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def _base32(number: int, width: int) -> str:
    text = ""
    for _ in range(width + 1 >> 1):
        text = _PAIRS[number & 1023] + text
        number >>= 10
    return text[-width:]
