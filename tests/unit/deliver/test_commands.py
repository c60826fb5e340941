"""Claims of gateway.deliver.commands and gateway.deliver.capabilities."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deliver.capabilities import Capabilities
from gateway.deliver.commands import BAD_PATH, NOT_ASCII, UNKNOWN_PARAMETER, mail, rcpt, xforward
from gateway.model.envelope import Client
from gateway.model.reply import Reply


def _offered(*lines: str) -> Capabilities:
    return Capabilities.of(Reply(250, "", ("hop.example", *lines)))


ALL = _offered("SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "MT-PRIORITY", "DELIVERBY")
XFORWARD = frozenset(["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"])


def test_capabilities() -> None:
    """Keywords are read in any case, with their parameters."""
    offered = _offered("pipelining", "SIZE 52428800", "auth PLAIN LOGIN", "AUTH=CRAM-MD5", "XFORWARD NAME addr", "X")
    assert offered.pipelining
    assert offered.size == 52428800
    assert offered.offers("AUTH")
    assert offered.xforward == {"NAME", "ADDR"}
    assert not any((offered.smtputf8, offered.eightbitmime, offered.dsn, offered.chunking, offered.starttls))


@pytest.mark.parametrize("line", ["SIZE", "SIZE 0", "SIZE -1", "SIZE many", "SIZE ٣", "SIZE " + "9" * 5000])
def test_no_size_limit(line: str) -> None:
    """SIZE without a usable number is no limit (RFC 1870 section 4: 0 means none), and no error."""
    offered = _offered(line)
    assert offered.size is None
    assert offered.offers("SIZE")


def test_parameters_verbatim() -> None:
    """What the next hop offers passes verbatim and in order, unknown extensions too."""
    given_ = ("size=5", "BODY=8BITMIME", "RET=HDRS", "ENVID=a+2Bb", "MT-PRIORITY=3", "BY=120;R")
    assert mail("a@b.c", given_, ALL) == f"MAIL FROM:<a@b.c> {' '.join(given_)}\r\n".encode()
    assert mail("", (), ALL) == b"MAIL FROM:<>\r\n"
    assert rcpt("a@b.c", ("NOTIFY=NEVER", "ORCPT=rfc822;x@y"), ALL, utf8=False) == (
        b"RCPT TO:<a@b.c> NOTIFY=NEVER ORCPT=rfc822;x@y\r\n"
    )


@pytest.mark.parametrize("parameter", ["SIZE=5", "BODY=8BITMIME", "body=7bit", "AUTH=<>"])
def test_dropped(parameter: str) -> None:
    """Parameters that only advise are dropped when not offered."""
    assert mail("a@b.c", (parameter,), _offered()) == b"MAIL FROM:<a@b.c>\r\n"


@pytest.mark.parametrize(
    "parameter", ["SMTPUTF8", "RET=FULL", "ENVID=x", "REQUIRETLS", "HOLDFOR=5", "XYZZY", "BODY=BINARYMIME"]
)
def test_refused_here(parameter: str) -> None:
    """Parameters that ask for something are refused when not offered; BINARYMIME always, for DATA cannot carry it."""
    assert mail("a@b.c", (parameter,), _offered("8BITMIME", "BINARYMIME", "CHUNKING")) == UNKNOWN_PARAMETER
    assert str(UNKNOWN_PARAMETER).startswith("555 5.5.4 ")


def test_non_ascii_needs_smtputf8() -> None:
    """A path beyond ASCII goes out only with SMTPUTF8 said and offered, and never as octets that are no UTF-8."""
    assert mail("ä@b.c", (), ALL) == NOT_ASCII
    assert mail("ä@b.c", ("SMTPUTF8",), _offered()) == NOT_ASCII
    assert mail("ä@b.c", ("smtputf8",), ALL) == "MAIL FROM:<ä@b.c> smtputf8\r\n".encode()
    assert mail("\udce4@b.c", ("SMTPUTF8",), ALL) == NOT_ASCII
    assert rcpt("ä@b.c", (), ALL, utf8=False) == NOT_ASCII
    assert rcpt("ä@b.c", (), _offered(), utf8=True) == NOT_ASCII
    assert rcpt("ä@b.c", (), ALL, utf8=True) == "RCPT TO:<ä@b.c>\r\n".encode()


@given(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=2).map(tuple))
def test_one_line(address: str, parameters: tuple[str, ...]) -> None:
    """No address and no parameter makes a second command line."""
    for made in (mail(address, parameters, ALL), rcpt(address, parameters, ALL, utf8=True)):
        if isinstance(made, bytes):
            assert made.count(b"\n") == made.count(b"\r") == 1
            assert made.endswith(b"\r\n")


def test_no_injection() -> None:
    """A line end in a path is refused, in a parameter too."""
    assert mail("a@b.c>\r\nRCPT TO:<x@y", (), ALL) == BAD_PATH
    assert rcpt("a@b.c", ("NOTIFY=NEVER\nDATA",), ALL, utf8=False) == BAD_PATH


def test_xforward() -> None:
    """All attributes in one command, xtext, [UNAVAILABLE] for what is not known, IPv6 marked."""
    client = Client("2001:db8::1", 4711, "", "h+o", protocol="SMTP")
    assert xforward(client, XFORWARD, "T1") == (
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=4711 PROTO=SMTP HELO=h+2Bo SOURCE=REMOTE IDENT=T1\r\n",
    )


def test_xforward_offered_only() -> None:
    """Attributes that are not offered are not sent; none offered, no command."""
    client = Client("192.0.2.1", 0)
    assert xforward(client, frozenset({"ADDR", "PORT"})) == (b"XFORWARD ADDR=192.0.2.1 PORT=[UNAVAILABLE]\r\n",)
    assert xforward(client, frozenset()) == ()
    assert xforward(client, frozenset({"LATER"})) == ()


def test_xforward_local() -> None:
    """Mail that comes from no network is local."""
    assert xforward(Client(""), frozenset({"SOURCE"})) == (b"XFORWARD SOURCE=LOCAL\r\n",)


@given(
    st.builds(
        Client, st.text(max_size=50), st.integers(0, 65535), st.text(max_size=300), st.text(max_size=300), st.just("")
    ),
    st.text(max_size=300),
)
def test_xforward_any(client: Client, ident: str) -> None:
    """Whatever a client calls itself: printable octets, at most 512 a command, each attribute once."""
    made = xforward(client, XFORWARD, ident)
    assert all(len(command) <= 512 and command.isascii() for command in made)
    items = [item for command in made for item in command.removesuffix(b"\r\n").split(b" ")[1:]]
    assert all(re.fullmatch(rb"[A-Z]+=[!-~]{1,255}", item) for item in items)
    assert sorted(item.partition(b"=")[0].decode() for item in items) == sorted(XFORWARD)
