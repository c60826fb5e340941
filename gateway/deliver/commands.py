"""The commands of a transaction as octets: MAIL, RCPT, XFORWARD, fitted to what the server offers.

Refuses, with a reply of our own and without asking the server: a path beyond ASCII without SMTPUTF8, a parameter whose
extension the server does not offer (555 5.5.4), and anything that would end the command line early.

A parameter passes verbatim when the server offers its extension. SIZE, BODY and AUTH are dropped when it does not: the
mail is the same without them (RFC 1870 section 4, RFC 6152 leaves eight-bit content to the sender's courage, RFC 4954
section 5). All others change what the sender asked for, so that they are refused instead; a front that offers only
what the next hop offers never meets this.
"""

from functools import lru_cache

from gateway.deliver.capabilities import Capabilities
from gateway.model.envelope import Client
from gateway.model.reply import Reply

UNKNOWN_PARAMETER = Reply.of(555, "5.5.4", "The mail server behind this gateway does not know that parameter")
NOT_ASCII = Reply.of(553, "5.6.7", "An address with characters beyond ASCII needs SMTPUTF8")
BAD_PATH = Reply.of(553, "5.1.3", "That is not a mail address as RFC 5321 writes it")

_EXTENSION = {
    "BODY": "8BITMIME",
    "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN",
    "BY": "DELIVERBY",
    "HOLDFOR": "FUTURERELEASE", "HOLDUNTIL": "FUTURERELEASE",
}  # fmt: skip
"""Parameter -> keyword of its extension, where the two differ."""
_DROPPED = frozenset({"SIZE", "BODY", "AUTH"})

_MAX_COMMAND = 510
"""Octets of an XFORWARD command without CRLF (Postfix's XFORWARD_README, note 2)."""
_MAX_VALUE = 255
_UNAVAILABLE = "[UNAVAILABLE]"
_SPECIAL = str.maketrans(dict.fromkeys(' <>()\\";@', "?"))
_XTEXT = {c: chr(c) if 33 <= c <= 126 and c not in b"+=" else f"+{c:02X}" for c in range(128)}


def mail(address: str, parameters: tuple[str, ...], offered: Capabilities) -> bytes | Reply:
    """``MAIL FROM`` with its CRLF, or the reply that refuses it here."""
    if not address.isascii() and not (offered.smtputf8 and "SMTPUTF8" in map(str.upper, parameters)):
        return NOT_ASCII
    return _command("MAIL FROM:<", address, parameters, offered)


def rcpt(address: str, parameters: tuple[str, ...], offered: Capabilities, *, utf8: bool) -> bytes | Reply:
    """``RCPT TO`` with its CRLF, or the reply that refuses it here. ``utf8``: MAIL said SMTPUTF8."""
    if not address.isascii() and not (utf8 and offered.smtputf8):
        return NOT_ASCII
    return _command("RCPT TO:<", address, parameters, offered)


def _command(head: str, address: str, parameters: tuple[str, ...], offered: Capabilities) -> bytes | Reply:
    line = f"{head}{address}>"
    for parameter in parameters:
        keyword = parameter.partition("=")[0].upper()
        if keyword == "BODY" and parameter[5:].upper() == "BINARYMIME":
            return UNKNOWN_PARAMETER  # RFC 3030 section 3: needs BDAT all the way, and we send DATA
        if _EXTENSION.get(keyword, keyword) in offered.keywords:
            line = f"{line} {parameter}"
        elif keyword not in _DROPPED:
            return UNKNOWN_PARAMETER
    if "\n" in line or "\r" in line or "\0" in line:
        return BAD_PATH
    try:
        return f"{line}\r\n".encode()
    except UnicodeEncodeError:  # octets that were no UTF-8 (RFC 6531 section 3.3)
        return NOT_ASCII


def xforward(client: Client, offered: frozenset[str], ident: str = "") -> tuple[bytes, ...]:
    """XFORWARD commands for the offered attributes, in as few lines as fit; none when nothing is offered.

    Not allowed inside a transaction and forgotten by the server at its end, so that they precede every MAIL; they may
    be pipelined with it (Postfix's XFORWARD_README).
    """
    made = _about(client, offered)
    if "IDENT" not in offered:
        return made
    item = b" IDENT=" + _xtext(ident).encode("ascii")
    if made and len(made[-1]) - 2 + len(item) <= _MAX_COMMAND:
        return (*made[:-1], made[-1][:-2] + item + b"\r\n")
    return (*made, b"XFORWARD" + item + b"\r\n")


@lru_cache(maxsize=1024)  # a client sends more than one message, and this is a tenth of the cost of relaying one
def _about(client: Client, offered: frozenset[str]) -> tuple[bytes, ...]:
    """The commands without IDENT, which alone differs from message to message."""
    values = {
        "NAME": client.name,
        "ADDR": f"IPV6:{client.address}" if ":" in client.address else client.address,
        "PORT": str(client.port or ""),
        "PROTO": client.protocol[:64],
        "HELO": client.helo,
        "SOURCE": "REMOTE" if client.address else "LOCAL",
    }
    commands: list[bytes] = []
    line = "XFORWARD"
    for name, value in values.items():
        if name not in offered:
            continue
        item = f" {name}={_xtext(value)}"
        if len(line) + len(item) > _MAX_COMMAND:
            commands.append(f"{line}\r\n".encode("ascii"))
            line = "XFORWARD"
        line += item
    if line != "XFORWARD":
        commands.append(f"{line}\r\n".encode("ascii"))
    return tuple(commands)


def _xtext(value: str) -> str:
    """RFC 3461 section 4; what cannot be said truthfully in 255 printable octets is unavailable."""
    if not value or not value.isascii() or not value.isprintable():
        return _UNAVAILABLE
    encoded = value.translate(_SPECIAL).translate(_XTEXT)
    return encoded if len(encoded) <= _MAX_VALUE else _UNAVAILABLE
