"""Paths, parameters and attributes of SMTP commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientError
from gateway.wire.command import PathArgument, decode_xtext, parse_attributes, parse_path


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("FROM:<>", "", ()),
        ("from: <a@b.example>", "a@b.example", ()),
        ("FROM:<a@b.example> SIZE=5 BODY=8BITMIME", "a@b.example", ("SIZE=5", "BODY=8BITMIME")),
        ("FROM:<@x.example,@y.example:a@b.example>", "a@b.example", ()),
        ('FROM:<"a b>"@c.example>', '"a b>"@c.example', ()),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]", ()),
        ("FROM:<Postmaster>", "Postmaster", ()),
    ],
)
def test_paths(argument: str, address: str, parameters: tuple[str, ...]) -> None:
    """RFC 5321 section 4.1.2: what is a path, and what it carries."""
    assert parse_path(argument, "FROM:") == PathArgument(address, parameters)


@pytest.mark.parametrize(
    "argument",
    ["FROM:a@b", "FROM:<a@b", "FROM:<a@b>x", "FROM:<a b@c>", "FROM:<a@b\n>", "FROM:<a@b> =5", "FROM:<a@b> A=1 A=2",
     "FROM:<a>", "FROM:<a@>", "FROM:<@b>", "FROM:<a@b@c>", f"FROM:<{'a' * 300}@b.example>"],
)  # fmt: skip
def test_refused_paths(argument: str) -> None:
    """What could be read in two ways is refused."""
    with pytest.raises(ClientError) as refusal:
        parse_path(argument, "FROM:")
    assert refusal.value.reply.code in (501, 553)


@given(st.text(max_size=60))
def test_no_path_carries_what_could_end_a_command(text: str) -> None:
    """Whatever is parsed holds no white space outside quotes, no control character, no angle bracket to smuggle by."""
    try:
        path = parse_path(f"FROM:{text}", "FROM:")
    except ClientError:
        return
    assert path is not None
    assert not any(ord(c) < 32 or ord(c) == 127 for c in path.address)
    assert '"' in path.address or not any(c in path.address for c in "<> ")


def test_attributes() -> None:
    """XCLIENT and XFORWARD attributes are decoded from xtext; unavailable is empty; unknown is refused."""
    assert parse_attributes("NAME=a+2Bb addr=[UNAVAILABLE]", frozenset({"NAME", "ADDR"})) == {"NAME": "a+b", "ADDR": ""}
    with pytest.raises(ClientError):
        parse_attributes("COLOUR=blue", frozenset({"NAME"}))


def test_xtext_cannot_bring_control_characters() -> None:
    """A decoded line end would forge a log line or a header field."""
    assert decode_xtext("a+0D+0Ab") == "a??b"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"everyone"@city.example', "everyone@city.example"),
        ('"ever\\yone"@city.example', "everyone@city.example"),
        ('"a\\ b"@city.example', '"a b"@city.example'),
        ('"a\\"b\\\\"@city.example', '"a\\"b\\\\"@city.example'),
        ('"a..b"@city.example', '"a..b"@city.example'),
        ('""@city.example', '""@city.example'),
        ('"jürg"@bürger.example', "jürg@bürger.example"),
    ],
)
def test_needless_quoting_goes(written: str, meant: str) -> None:
    """One mailbox has one form, so that no rule is passed by quoting its address (RFC 5321 section 4.1.2)."""
    assert parse_path(f"TO:<{written}>", "TO:") == PathArgument(meant, ())


@pytest.mark.parametrize(
    "address",
    [
        "a@city.example.", "a@city..example", "a@.city.example", "a@city.example%x", "a@city!x.example",
        "a@\uff43ity.example", "a@ci\u00adty.example", "a@ci\u200bty.example", "a@city\u3002example",
        "a@ci\ufe0fty.example", "a@ci\u0301\u034fty.example", "a\udcff@city.example", '"a\udcff"@city.example',
        "a@ci\udcffty.example", "a\x9b1m@city.example", "a@city\x85.example",
    ],
)  # fmt: skip
def test_domains_that_arrive_under_another_name_are_refused(address: str) -> None:
    """A trailing dot, a character that IDNA maps away, an octet no UTF-8: each once passed by the list rules."""
    with pytest.raises(ClientError):
        parse_path(f"TO:<{address}>", "TO:")


def test_attributes_cannot_bring_control_characters_unencoded() -> None:
    """Also without xtext."""
    assert parse_attributes("HELO=a\x1b[31mb\udcff", frozenset({"HELO"})) == {"HELO": "a?[31mb?"}
