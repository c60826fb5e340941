"""Header values, address lists, HTML as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mime import Mailbox, addresses, decode_words, html_to_text, parse, part_addresses, part_field, raw_value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?gr=C3=BC=C3=9Fe_dich?=", "grüße dich"),
        ("=?UTF-8?B?Z3LDvMOf?=", "grüß"),
        ("=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        ("=?utf-8?b?w4M=?=x=?utf-8?b?w4M=?=", "ÃxÃ"),
        ("=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),
        ("=?utf-8?q?=E2=82?= =?utf-8?q?=AC?=", "€"),
        ("=?iso-8859-1*de?q?=FC?=", "ü"),
        ("=?klingon?q?a=FC?=", "aü"),
        ("=?utf-8?b?Z3LDvMO?=", "gr\u00fc\ufffd"),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("=?utf-8?q?two words?=", "two words"),
        ("=?utf-7?q?+AGE-?=", "+AGE-"),
        ("=?utf-8?b?w6lB!Q!?=", "éA"),
    ],
)
def test_encoded_words(value: str, expected: str) -> None:
    """RFC 2047, and what senders make of it: split characters, missing padding, spaces inside."""
    assert decode_words(value) == expected


@pytest.mark.parametrize(
    "value",
    ["=?utf-8?q?pay_the=0Abudget?=", "=?utf-8?b?cGF5IHRoZQ0KYnVkZ2V0?=", "pay the\rbudget"],
    ids=["quoted-printable", "base64", "bare CR"],
)
def test_a_line_end_in_a_value_is_a_space(value: str) -> None:
    """Readers show it on one line, so that a rule's expression has to find «the budget» in it."""
    data = f"Subject: {value}\r\n\r\n".encode()
    assert part_field(data, parse(data).root, "subject") == "pay the budget"


def test_field_values_are_unfolded_and_one_line() -> None:
    """Folds vanish, their white space stays; the first field of a name is the value."""
    data = b"Subject: one\r\n two\r\n\t=?utf-8?q?=C3=BC?=\r\nsubject: other\r\nX:\r\n\r\n"
    root = parse(data).root
    assert part_field(data, root, "Subject") == "one two\tü"
    assert part_field(data, root, "x") == ""
    assert part_field(data, root, "absent") is None
    assert raw_value(data, root.fields[0]) == "one two\t=?utf-8?q?=C3=BC?="


M = Mailbox


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("j@x.example", [M("", "j@x.example")]),
        ("<j@x.example>", [M("", "j@x.example")]),
        ("Jane  Doe <j@x>", [M("Jane Doe", "j@x")]),
        ('"Doe, Jane" <j@x>, b@y', [M("Doe, Jane", "j@x"), M("", "b@y")]),
        ('"Jane \\"J\\" Doe" <j@x>', [M('Jane "J" Doe', "j@x")]),
        ("=?utf-8?q?Doe=2C_J=C3=A4ne?= <j@x>", [M("Doe, Jäne", "j@x")]),
        ('"=?utf-8?q?J=C3=A4ne?=" <j@x>', [M("Jäne", "j@x")]),
        ("=?utf-8?q?J=C3=A4?= =?utf-8?q?ne?= D <j@x>, k@y", [M("Jäne D", "j@x"), M("", "k@y")]),
        ("j@x (Jane (the boss) Doe)", [M("Jane (the boss) Doe", "j@x")]),
        ("Jane (comment) Doe <j(c)@x>", [M("Jane Doe", "j@x")]),
        ("Team: a@b, C <c@d>; e@f", [M("", "a@b"), M("C", "c@d"), M("", "e@f")]),
        ("undisclosed-recipients:;", []),
        ("", []),
        (" , ,", []),
        ("<@r1,@r2:j@x>", [M("", "j@x")]),
        ('"j d"@x', [M("", '"j d"@x')]),
        ("j @ x", [M("", "j@x")]),
        ("j . d @ city . example", [M("j . . example", "d@city"), M("", "j.d@city.example")]),
        ("j@x. Bye", [M("Bye", "j@x."), M("", "j@x.Bye")]),
        ("Dr. j@x", [M("Dr.", "j@x"), M("", "Dr.j@x")]),
        ("j@[IPv6:2001:db8::1]", [M("", "j@[IPv6:2001:db8::1]")]),
        ("Jane j@x", [M("Jane", "j@x")]),
        ("ceo@city.example <evil@x>", [M("ceo@city.example", "evil@x")]),
        ("<a@b> <c@d>", [M("", "a@b"), M("", "c@d")]),
        ("<a@b, c@d>", [M("", "a@b"), M("", "c@d")]),
        ("Jane <j@x", [M("Jane", "j@x")]),
        ('"open <a@b>, c@d', [M('"open', "a@b"), M("", "c@d")]),
        ("(open a@b, c@d", [M("open", "a@b"), M("", "c@d")]),
        ("a@b; c@d", [M("", "a@b"), M("", "c@d")]),
        ("Just Words", [M("Just Words", "")]),
        ("Jörg <jörg@bücher.example>", [M("Jörg", "jörg@bücher.example")]),
        ("<>", []),
    ],
)
def test_address_lists(value: str, expected: list[Mailbox]) -> None:
    """Names, groups, comments, routes, encoded words; broken lists give every address that some reader might see."""
    assert list(addresses(value)) == expected


def test_addresses_of_repeated_fields_add_up() -> None:
    """Two From fields: both count."""
    data = b"From: a@b\r\nFROM: =?utf-8?q?X=2CY?= <c@d>\r\n\r\n"
    assert part_addresses(data, parse(data).root, "From") == (M("", "a@b"), M("X,Y", "c@d"))


@given(st.lists(st.from_regex(r"[a-z0-9.+_-]{1,10}@[a-z0-9-]{1,10}\.example", fullmatch=True), min_size=1, max_size=5))
def test_plain_lists_come_back_whole(items: list[str]) -> None:
    """A list of plain addresses is that list."""
    assert [mailbox.address for mailbox in addresses(", ".join(items))] == items


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("plain", "plain"),
        ("<p>Hello <b>wor</b>ld</p>", "Hello world"),
        ("12<b>3</b>-45-<i class='x'>67</i>89", "123-45-6789"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("<div>a</div><div><br></div><div>b</div>", "a\n\nb"),
        ("<td>1</td><td>2</td>", "1 2"),
        ("a &amp; b &lt;c&gt; &#65;&#x42; &eacute;&nbsp;!", "a & b <c> AB é !"),
        ("&#0000000000065;", "A"),
        ("x\n  y\t z", "x y z"),
        ("<style>p{}</style><script>if(a<b)</script>seen", "seen"),
        ("<STYLE>never closed", "never closed"),
        ("<span style='display:none'>hidden</span>", "hidden"),
        ("<!-- gone -->seen", "seen"),
        ("<!-->seen<!-- -->", "seen"),
        ("<!-- never closed", "never closed"),
        ("<!--[if mso]>for Outlook<![endif]-->", "for Outlook"),
        ("<![if !mso]>for others<![endif]>", "for others"),
        ("<!DOCTYPE html><?xml v?>x", "x"),
        ('<img alt="a picture" src="x.png">', "a picture"),
        ('<a title="x>y" href="z">link</a>', "x>y\nlink"),
        ("<input value=typed>", "typed"),
        ("a < b and c > d", "a < b and c > d"),
        ("I </3 you", "I </3 you"),
        ("text <a href='never closed", "text <a href='never closed"),
        ('<p class="a>b', "b"),
        ("<p don't>x</p>", "x"),
    ],
)
def test_html_as_text(markup: str, expected: str) -> None:
    """Tags vanish without a gap, blocks break lines, hidden text is text, broken markup is shown."""
    assert html_to_text(markup) == expected


def test_huge_character_number_is_a_replacement() -> None:
    """``html.unescape`` raises on thousands of digits; here they are U+FFFD."""
    assert html_to_text("a&#" + "9" * 5000 + ";b") == "a\ufffdb"
