"""What a mail server tells a milter of its client: address, names, login, TLS; as events and, in any order, as macros.

What was told about one message is forgotten with it. Refuses to hand on what no text may hold: octets that are no
UTF-8 and control characters become «?».
"""

from functools import lru_cache
from ipaddress import ip_address

from gateway.errors import ClientError
from gateway.model.envelope import Client
from gateway.model.reply import Reply
from gateway.wire.command import PathArgument, parse_path
from gateway.wire.milter import Event, MilterError, Peer, Step, macros_for, read_macros

_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"})
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})
"""What the store keeps for a later delivery; others are the server's own affair."""
_NO_PATH = Reply.of(501, "5.5.4", "That is not a mail address as RFC 5321 writes it")

_OF_A_MESSAGE = (Step.END_OF_BODY, Step.RCPT, Step.MAIL)
_NEWEST_FIRST = (*_OF_A_MESSAGE, Step.HELO, Step.CONNECT)
_HEARD = frozenset(_NEWEST_FIRST)
"""With other steps servers repeat what they told with these: with each header field, for one."""
_HERE = ("localhost", "localhost.localdomain")
_LONGEST = 255
_NOBODY = Peer("", "", 0)


class Hearsay:
    """One connection's."""

    __slots__ = ("_helo", "_peer", "_read", "_told", "_used")

    def __init__(self) -> None:
        self._told: dict[Step, Event] = {}
        """Macros by step, as they came: most are never asked for."""
        self._read: dict[Step, dict[str, str]] = {}
        """Those that were."""
        self._peer = _NOBODY
        self._helo = ""
        self._used: Step | None = None
        """The step whose macros a message has begun with: they are not the next one's."""

    def connect(self, peer: Peer) -> None:
        """A client has connected to the server."""
        self._peer = peer

    def helo(self, name: str) -> None:
        """It has said its name; perhaps again, once TLS has begun."""
        self._helo = name

    def macros(self, event: Event) -> None:
        """Macros that go with a step; what was told for it before is no longer true. Raises MilterError."""
        step = macros_for(event)
        if step is None or step not in _HEARD:
            return
        if event.data.count(0) % 2 or (event.data[1:] and event.data[-1]):
            raise MilterError("a macro without a value")
        self._told[step] = event
        self._read.pop(step, None)
        if step is self._used:
            self._used = None

    def macro(self, name: str) -> str:
        """The newest value of a macro: servers send some with one step, some with another."""
        for step in _NEWEST_FIRST:
            event = self._told.get(step)
            if event is None:
                continue
            read = self._read.get(step)
            if read is None:
                read = self._read[step] = read_macros(event)
            if value := read.get(name):
                return _printable(value)
        return ""

    @property
    def local(self) -> bool:
        """Whether the client is a program on the server's own machine, without an address."""
        return self._peer.local and not _address(self.macro("client_addr"))

    @property
    def by_smtp(self) -> bool:
        """Whether the client came by TCP: Postfix's cleanup, for mail that did not, speaks of 127.0.0.1 port 0."""
        return self._peer.port > 0

    def is_server(self, domain: str) -> bool:
        """Whether a domain is the mail server's own host name, whose mailboxes are its affair."""
        return domain.lower() in {self.macro("j").lower(), self.macro("daemon_name").lower(), *_HERE}

    def client(self) -> Client:
        """The client as far as it is known, not yet said to be inside or outside."""
        peer = self._peer
        name = self.macro("client_name") or _printable(peer.name)
        tls = " ".join(word for word in (self.macro("tls_version"), self.macro("cipher")) if word)
        return Client(
            address=_address(self.macro("client_addr")) or _address(peer.address),
            port=peer.port,
            name="" if name.startswith("[") or name == "unknown" else name,
            helo=_printable(self._helo),
            login=self.macro("auth_authen"),
            protocol="ESMTP",
            tls=tls,
        )

    def forget_message(self, but: Step | None = None) -> None:
        """The message is over: the next one's login and name in the server's queue are its own.

        ``but``: the step with which that one begins; what was told for it since the last one began is kept.
        """
        for step in _OF_A_MESSAGE:
            if step in self._told and (step is not but or step is self._used):
                del self._told[step]
                self._read.pop(step, None)
        self._used = but

    def forget(self) -> None:
        """The client is gone, another one may follow on the same connection."""
        self._told.clear()
        self._read.clear()
        self._peer, self._helo = _NOBODY, ""


def reverse_path(event: Event) -> PathArgument:
    """The address of MAIL with the parameters that we keep. Raises ClientError, MilterError."""
    return _path(event, "FROM:", _MAIL_PARAMETERS)


def forward_path(event: Event) -> PathArgument:
    """The same of RCPT. Raises ClientError, MilterError."""
    path = _path(event, "TO:", _RCPT_PARAMETERS)
    if not path.address:
        raise ClientError("no recipient", _NO_PATH)
    return path


def _path(event: Event, keyword: str, known: frozenset[str]) -> PathArgument:
    words = event.strings()
    if not words:
        raise MilterError(f"{event.step.name} without an address")
    address = words[0] if words[0].startswith("<") else f"<{words[0]}>"
    kept = [word for word in words[1:] if _is_kept(word, known)]
    path = parse_path(f"{keyword}{' '.join((address, *kept))}", keyword)
    if path is None:
        raise ClientError("no path", _NO_PATH)
    return path


def _is_kept(word: str, known: frozenset[str]) -> bool:
    name, _, value = word.partition("=")
    name = name.upper()
    return name in known and (name != "SIZE" or (value.isascii() and value.isdigit() and len(value) <= 20))


@lru_cache(maxsize=1024)
def _address(text: str) -> str:
    """An IP address without Sendmail's ``IPv6:`` in front; ``""`` for «unknown», «local» and other words."""
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    try:
        return str(ip_address(bare)) if bare else ""
    except ValueError:
        return ""


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text[:_LONGEST]
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])
