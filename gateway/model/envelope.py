"""The envelope of one transaction (RFC 5321 section 2.3.1), enriched with what the directory knows of its parties.

Refuses nothing: syntax is checked by ``wire``; a value here is already well-formed.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

CITY_WIDE = "@city-wide"
"""Stands in ``Recipient.lists`` after the id of a list that reaches the entire city; no id can be written so."""

_LONGEST_LABEL = 63
"""Letters of a label in the DNS (RFC 1035 section 2.3.4); what is longer names nothing and would take long."""


class Direction(StrEnum):
    """Which way a message goes for one recipient, seen from the city."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"


class ListenerDirection(StrEnum):
    """What a listener says of its clients; ``auto`` decides by network and trusted login."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Client:
    """Who speaks to us: the peer, or whom a trusted peer speaks for (XCLIENT, XFORWARD, PROXY)."""

    address: str
    """IP address as text, ``""`` when unknown (unix socket)."""
    port: int = 0
    name: str = ""
    """Verified host name if a trusted peer gave one, else ``""``."""
    helo: str = ""
    login: str = ""
    """SASL login that a trusted peer vouches for, else ``""``."""
    protocol: str = "ESMTP"
    tls: str = ""
    """TLS version and cipher for the trace field, ``""`` in clear."""
    inside: bool = False
    """True when mail from this client is the city's own (decides the direction)."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The reverse-path and what the directory says of it. An empty address is the null reverse-path."""

    address: str
    """As given, case kept; compare through :func:`fold`."""
    marks: frozenset[str] = frozenset()
    """Directory marks, e.g. ``contractor``."""
    department: str = ""
    lists: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with its RCPT parameters, verbatim."""

    address: str
    direction: Direction
    parameters: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Ids of the directory's lists that this address *is* (not: that it is a member of)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Everything known before the first octet of the message."""

    transaction: str
    """Our id: unique, stable through hold and release, shown in replies and logs."""
    client: Client
    sender: Sender
    recipients: tuple[Recipient, ...] = ()
    parameters: tuple[str, ...] = ()
    """MAIL parameters, verbatim and in order (SIZE=, BODY=, SMTPUTF8, RET=, ENVID= …)."""
    declared_size: int | None = None
    """Octets from SIZE= (RFC 1870), None when the client did not say."""


@dataclass(frozen=True, slots=True)
class ExceptionRecord:
    """An approved, expiring exception to a rule: who, to whom, until when, why, by whom.

    ``kind`` is what a rule's ``unless: {exception: KIND}`` names.
    """

    id: str
    kind: str
    sender: str
    """Address, ``@domain`` or ``*``."""
    recipient: str
    """Address, ``@domain`` or ``*``."""
    reason: str
    approver: str
    created: datetime
    expires: datetime
    uses_left: int | None = None
    """None: any number until it expires. 0: used up."""
    max_size: int | None = None
    """Octets that the approver allowed at most, None: no bound of its own."""


def fold(address: str) -> str:
    """The form in which addresses are compared: lower case throughout, composed letters, the domain as in the DNS.

    RFC 5321 section 2.4 lets a host tell local-parts apart by case; no city does, and treating them apart would let
    a change of case slip past a rule. So would a domain beyond ASCII, which is written in two ways (:func:`a_labels`).
    """
    folded = address.lower()
    if folded.isascii():
        return folded
    local, at, domain = unicodedata.normalize("NFC", folded).rpartition("@")
    return local + at + a_labels(domain) if at else domain


def a_labels(domain: str) -> str:
    """A domain as the DNS has it, lower case, each label beyond ASCII as its A-label (RFC 5890 section 2.3.2.1).

    «bücher.example» and «xn--bcher-kva.example» are one name. Nothing is mapped but case: what a mapping would make
    another name of is refused where addresses are read (:mod:`gateway.wire.command`).
    """
    domain = domain.lower()
    if domain.isascii():
        return domain
    return ".".join(
        label if label.isascii() or len(label) > _LONGEST_LABEL else "xn--" + label.encode("punycode").decode("ascii")
        for label in domain.split(".")
    )


def domain_of(address: str) -> str:
    """The domain of an address, as :func:`fold` has it; ``""`` for the null path and for a bare postmaster."""
    return a_labels(address.rpartition("@")[2]) if "@" in address else ""
