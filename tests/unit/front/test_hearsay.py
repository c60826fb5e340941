"""What a mail server tells of its client, as macros in any order and of any kind."""

import pytest

from gateway.errors import ClientError
from gateway.front.agreement import EDITS, Agreement, agree
from gateway.front.hearsay import Hearsay, forward_path, reverse_path
from gateway.model.envelope import Client
from gateway.wire import milter as wire
from gateway.wire.milter import ALL_ACTIONS, ALL_STEPS, Event, Options, Peer, Protocol, Step

# What the versions of the protocol knew (libmilter's mfdef.h): 2 before Sendmail 8.14, 3 and 4 with Postfix's setting.
STEPS_OF = {2: 0x7F, 3: 0x17F, 4: 0x37F, 6: ALL_STEPS}


def _told(step: Step, macros: dict[str, str]) -> Event:
    """A packet of macros."""
    words = (word for macro in macros.items() for word in macro)
    return Event(Step.MACROS, step.value + b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words))


@pytest.mark.parametrize("version", list(STEPS_OF))
@pytest.mark.parametrize("content", [True, False], ids=["rules", "no-rules"])
def test_old_servers_are_asked_for_nothing_that_they_do_not_know(version: int, content: bool) -> None:
    """Version and steps are no more than the server's, and every step whose silence it does not know is answered."""
    agreed = agree(Options(version, 0x3F, STEPS_OF[version]), content=content, senders=False)
    assert agreed.version == version
    assert agreed.protocol & ~STEPS_OF[version] == 0
    assert agreed.can_edit == content
    assert agreed.content == content
    if version < 6:
        assert not agreed.skips
        assert not agreed.leading_space
        assert agreed.quiet == frozenset()
    assert len(agreed.encode()) == 17


@pytest.mark.parametrize("offered", list(Protocol), ids=lambda flag: flag.name)
def test_each_offer_by_itself(offered: Protocol) -> None:
    """A server that offers one flag alone gets that one, or none; a step is quiet only if its silence was offered."""
    agreed = agree(Options(6, ALL_ACTIONS, int(offered)), content=True, senders=False)
    assert agreed.protocol in (0, int(offered))
    assert len(agreed.quiet) == (offered.name or "").startswith("SILENT_") * bool(agreed.protocol)
    assert agreed.skips == (offered is Protocol.SKIP)
    assert agreed.leading_space == (offered is Protocol.LEADING_SPACE)


@pytest.mark.parametrize("senders", [True, False])
def test_mail_is_answered_where_a_sender_may_be_refused(senders: bool) -> None:
    """And only there: each answer is a wait for the server."""
    agreed = agree(Options(6, ALL_ACTIONS, ALL_STEPS), content=True, senders=senders)
    assert (Step.MAIL in agreed.quiet) is not senders
    assert bool(agreed.protocol & Protocol.SILENT_MAIL) is not senders
    assert not agreed.protocol & Protocol.SILENT_RCPT


@pytest.mark.parametrize("missing", [0x01, 0x02, 0x08, 0x10], ids=["add-header", "body", "recipient", "header"])
def test_each_change_must_be_granted(missing: int) -> None:
    """Without one of the changes that a verdict may ask for, none is begun."""
    assert not agree(Options(6, ALL_ACTIONS & ~missing, ALL_STEPS), content=True, senders=False).can_edit
    assert not Agreement().can_edit
    assert EDITS == 0x1B


def told(*steps: tuple[Step, dict[str, str]], peer: Peer | None = None) -> Client:
    """Who the client is after these macros."""
    hearsay = Hearsay()
    if peer is not None:
        hearsay.connect(peer)
    for step, macros in steps:
        hearsay.macros(_told(step, macros))
    return hearsay.client()


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("IPv6:2001:db8::1", "2001:db8::1"),
        ("IPV6:::1", "::1"),
        ("unknown", "198.51.100.7"),
        ("local", "198.51.100.7"),
        ("0", "198.51.100.7"),
        ("203.0.113.9\t", "198.51.100.7"),
        ("", "198.51.100.7"),
    ],
    ids=["ipv4", "ipv6", "sendmails-ipv6", "upper-case", "unknown", "local", "zero", "with-tab", "empty"],
)
def test_a_clients_address_is_an_address_or_the_peers(said: str, address: str) -> None:
    """Sendmail's ``IPv6:`` made a client of the city a stranger; words for «none» are no address."""
    assert told((Step.CONNECT, {"client_addr": said}), peer=Peer("x", "198.51.100.7", 25)).address == address


def test_odd_octets_do_not_get_into_texts() -> None:
    """A HELO with octets beyond UTF-8 could be stored nowhere: each hold of such a client's mail failed with 451."""
    hearsay = Hearsay()
    hearsay.connect(Peer("na\udcffme\n", "", 0))
    hearsay.helo("desk\udcff\r\nlog: forged" + "x" * 5000)
    hearsay.macros(_told(Step.MAIL, {"auth_authen": "cl\udce9rk", "i": "4X\tY", "tls_version": "TLSv1\x7f"}))
    client = hearsay.client()
    for text in (client.name, client.helo, client.login, client.tls, hearsay.macro("i")):
        assert text.isprintable()
        assert text.encode("utf-8")
        assert len(text) <= 255
    assert client.helo.startswith("desk???log: forged")


@pytest.mark.parametrize("step", [Step.MAIL, Step.RCPT, Step.DATA, Step.END_OF_BODY], ids=lambda step: step.name)
def test_a_login_is_one_messages(step: Step) -> None:
    """What a server told with one message was believed for the next one, if it said nothing with that."""
    hearsay = Hearsay()
    hearsay.macros(_told(step, {"auth_authen": "clerk", "i": "4XYZ"}))
    hearsay.forget_message()
    assert hearsay.client().login == ""
    assert hearsay.macro("i") == ""


def test_what_was_told_of_the_connection_stays() -> None:
    """Macros of CONNECT and HELO hold for all messages, those that come before MAIL for that message."""
    hearsay = Hearsay()
    hearsay.macros(_told(Step.CONNECT, {"client_addr": "203.0.113.9"}))
    hearsay.macros(_told(Step.HELO, {"tls_version": "TLSv1.3", "cipher": "AES"}))
    hearsay.macros(_told(Step.RCPT, {"auth_authen": "of the one before"}))
    hearsay.macros(_told(Step.MAIL, {"auth_authen": "clerk"}))
    hearsay.forget_message(Step.MAIL)
    assert hearsay.client() == Client("203.0.113.9", login="clerk", tls="TLSv1.3 AES")
    hearsay.forget_message(Step.MAIL)
    assert hearsay.client().login == "", "a MAIL without an ABORT before it, and without macros of its own"
    hearsay.macros(_told(Step.MAIL, {"auth_authen": "mayor"}))
    hearsay.forget_message(Step.MAIL)
    assert hearsay.client().login == "mayor"
    hearsay.forget()
    assert hearsay.client() == Client("")


def test_a_client_on_a_unix_socket_is_local() -> None:
    """Until a macro names another: then it is a proxy that speaks for somebody."""
    hearsay = Hearsay()
    found = [hearsay.local]
    hearsay.connect(wire.read_peer(Event(Step.CONNECT, b"localhost\0L\0\0/run/x\0")))
    found.append(hearsay.local)
    hearsay.macros(_told(Step.CONNECT, {"client_addr": "203.0.113.9"}))
    assert [*found, hearsay.local] == [False, True, False]


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"<a@city.example>\0SIZE=100\0BODY=8BITMIME\0AUTH=<>\0", ("SIZE=100", "BODY=8BITMIME")),
        (b"a@city.example\0", ()),
        (b"<a@city.example>\0SIZE=many\0RET=HDRS\0", ("RET=HDRS",)),
        ("<a@city.example>\0SIZE=²\0".encode(), ()),
        (b"<a@city.example>\0SIZE\0", ()),
    ],
    ids=["servers-own-left-out", "no-brackets", "size-is-no-number", "size-is-an-odd-digit", "size-without-value"],
)
def test_parameters_of_mail(data: bytes, kept: tuple[str, ...]) -> None:
    """A SIZE that is no number is nobody's: it is left out, and made no 451 of."""
    path = reverse_path(Event(Step.MAIL, data))
    assert path.address == "a@city.example"
    assert path.parameters == kept


@pytest.mark.parametrize(
    "data",
    [b"<>\0", b"\0", b"<a b@city.example>\0", b"<\xff@city.example>\0"],
    ids=["null", "empty", "space", "odd-octets"],
)
def test_nobody_is_no_recipient(data: bytes) -> None:
    """Refused in words, not with a lost connection."""
    with pytest.raises(ClientError):
        forward_path(Event(Step.RCPT, data))
