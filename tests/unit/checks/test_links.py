"""Links: words that name another host than the target, hosts made to deceive, and what is left alone."""

import time
from collections.abc import Iterable
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.hosts import deceptions, host_of, near_miss, registrable, skeleton, target_of
from gateway.checks.links import MAX_LINKS, Links, named_host
from gateway.checks.passive import Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.checks.tags import tags_of
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Finding, Questions
from gateway.settings import InspectionSettings

from .reading.making import docx, pdf, with_files, zipped

DOMAINS = ("city.example", "*.city.example")
WRAPPERS = ("safelinks.protection.outlook.com", "urldefense.com", "urldefense.proofpoint.com", "list-manage.com")
SAFE = "https://nam02.safelinks.protection.outlook.com/?url="


def of_html(html: str) -> list[tuple[str, str]]:
    """Kinds and hosts that are found in a document."""
    links = Links(DOMAINS, WRAPPERS)
    data = html.encode()
    links.read_html(data, tags_of(data), "1")
    return [(f.kind, f.value) for f in links.findings()]


@pytest.mark.parametrize(
    ("html", "host"),
    [
        ('<a href="https://evil.test/?id=1">https://www.bank.example/</a>', "evil.test"),
        ("<A\nHREF = 'https://evil.test'>www.bank.example</A>", "evil.test"),
        ('<a href=https://evil.test title=">">example.org</a>', "evil.test"),
        ('<a title=">" href="https://evil.test/">Pay at <b>http://bank.example</b>/7</a>', "evil.test"),
        ('<a href="https://evil.test">www.ba<wbr>nk.ex<b></b>ample</a>', "evil.test"),
        ('<a href="https://evil.test">www&#46;bank&period;example</a>', "evil.test"),
        ('<a href="ht\ntps://evil.test">www.bank.example</a>', "evil.test"),
        ('<a href="https:\\\\evil.test\\x">www.bank.example</a>', "evil.test"),
        ('<a href="//evil.test">www.bank.example</a>', "evil.test"),
        ('<a href="&#104;ttps://evil.test">www.bank.example</a>', "evil.test"),
        ('<a href="https://evil%2etest/">www.bank.example</a>', "evil.test"),
        ('<a href="https://evil。test/">www.bank.example</a>', "evil.test"),
        ('<a href="https://evil.test">ｗｗｗ．bank.example</a>', "evil.test"),
        ('<a href="mailto:pay@evil.test?subject=x">pay@bank.example</a>', "evil.test"),
        ('<a href="https://evil.test">pay@bank.example</a>', "evil.test"),
        ('<base href="https://evil.test/"><a href="pay">https://bank.example</a>', "evil.test"),
        ('<map><area href="https://evil.test" alt="www.bank.example"></map>', "evil.test"),
        (f'<a href="{SAFE}https%3A%2F%2Fevil.test%2F&amp;data=1">www.bank.example</a>', "evil.test"),
        (f'<a href="{SAFE}{SAFE.replace(":", "%3A")}https%253A%252F%252Fevil.test">www.bank.example</a>', "evil.test"),
        ('<a href="https://urldefense.com/v3/__https://evil.test/x__;!!a">www.bank.example</a>', "evil.test"),
        (
            '<a href="https://urldefense.proofpoint.com/v2/url?u=https-3A__evil.test_x">www.bank.example</a>',
            "evil.test",
        ),
        ('<a href="https://shop.github.io/">https://city.github.io/</a>', "shop.github.io"),
    ],
    ids=[
        *("plain", "spaced", "bare", "quoted", "parted", "references", "newline", "backslash", "relative", "encoded"),
        *("escaped", "dots", "wide", "mailto", "address", "base", "area", "wrapped", "twice", "v3", "v2", "suffix"),
    ],
)
def test_words_that_name_another_host(html: str, host: str) -> None:
    """However the link is written, its words name one host and it goes to another."""
    assert of_html(html) == [("text-mismatch", host)]


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://login.bank.example/">www.bank.example</a>',
        '<a href="https://bank.example">Sign in at the bank</a>',
        '<a href="https://files.elsewhere.example/7">invoice.pdf</a>',
        '<a href="https://elsewhere.example/">agenda.zip</a>',
        '<a href="https://elsewhere.example/">St. Louis, e.g. version 2.0.1</a>',
        '<a href="https://evil.test/">www.bank.exam…</a> <a href="https://evil.test/">www.bank.exam...</a>',
        '<a href="mailto:clerk@bank.example">clerk@mail.bank.example</a>',
        f'<a href="{SAFE}https%3A%2F%2Fwww.bank.example%2F&amp;data=1">bank.example</a>',
        '<a href="https://us1.list-manage.com/track?u=1">www.bank.example</a>',
        '<a href="tel:+19205550100">(920) 555-0100</a> <a href="#top">www.bank.example</a> <a name=x>bank.example</a>',
        '<a href="https://www.bank.co.uk/">bank.co.uk</a>',
        '<img src="https://evil.test/x.png" alt="www.bank.example">',
    ],
    ids=[
        *("same-domain", "words", "file", "ending", "sentence", "cut", "mailto", "wrapped", "opaque", "other"),
        *("suffix", "picture"),
    ],
)
def test_honest_links(html: str) -> None:
    """Links that say where they go, say nothing, or are wrapped by somebody known."""
    assert of_html(html) == []


@pytest.mark.parametrize(
    ("host", "kinds"),
    [
        ("c1ty.example", ["look-alike"]),
        ("xn--ity-3ed.example", ["mixed-script", "look-alike"]),
        ("xn--80a.example", []),
        ("cıty.example", ["look-alike"]),
        ("cítÿ.example", ["look-alike"]),
        ("ｃity.example", []),
        ("ctiy.example", ["look-alike"]),
        ("cty.example", ["look-alike"]),
        ("citty.example", ["look-alike"]),
        ("city-example.test", ["look-alike"]),
        ("cityexample.test", ["look-alike"]),
        ("ci-ty.example", ["look-alike"]),
        ("portal.city.example.evil.test", ["look-alike"]),
        ("city-example-login.evil.test", ["look-alike"]),
        ("city.test", ["other-tld"]),
        ("forms.city.example", []),
        ("city.example", []),
        ("cities.example", []),
        ("kitty.example", []),
        ("county.example", []),
        ("127.0.0.1", ["ip-address"]),
        ("2130706433", ["ip-address"]),
        ("0x7f.0.0.1", ["ip-address"]),
        ("0177.1", ["ip-address"]),
        ("[::1]", ["ip-address"]),
        ("яндекс.рф", []),
        ("раyраl.test", ["mixed-script"]),
        ("東京tokyo.test", []),
    ],
)
def test_hosts_that_deceive(host: str, kinds: list[str]) -> None:
    """What looks like the city's own, mixes alphabets or hides an address; neighbours and foreigners are left alone."""
    assert list(deceptions(host_of(host), DOMAINS)) == kinds


def test_short_names_have_no_near_misses() -> None:
    """Of a name of three letters nearly everything is one slip away."""
    assert deceptions("abd.test", ("abc.test",)) == ()
    assert deceptions("ab.test", ("abc.test",)) == ()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://city.example@evil.test/x", ("evil.test", "web", True)),
        ("https://a:b@evil.test:8443", ("evil.test", "web", True)),
        ("HTTP://EVIL.TEST.", ("evil.test", "web", False)),
        ("mailto:a@b.test", ("b.test", "mailto", False)),
        (" javascript:go()", ("", "script", False)),
        ("java\tscript:go()", ("", "script", False)),
        ("data:text/html;base64,AA", ("", "script", False)),
        ("data:image/png;base64,AA", ("", "", False)),
        ("cid:x@y", ("", "", False)),
        ("/path", ("", "", False)),
        ("https://", ("", "web", False)),
        ("https://[::1]:80/", ("[::1]", "web", False)),
    ],
    ids=["user", "password", "capitals", "mailto", "script", "tab", "page", "picture", "cid", "path", "none", "six"],
)  # fmt: skip
def test_targets(url: str, target: tuple[str, str, bool]) -> None:
    """The host is what a browser makes of the reference."""
    assert tuple(target_of(url)) == target


def test_forms_scripts_and_refreshes() -> None:
    """A form that sends elsewhere, a link that runs a script, a page that leads on; not a form of the city's."""
    assert of_html('<form action="https://evil.test/p">') == [("form", "evil.test")]
    assert of_html('<form action="https://forms.city.example/p">') == []
    assert of_html('<a href="javascript:go()">x</a>') == [("script", "")]
    assert of_html('<meta http-equiv="Refresh" content="0; URL=https://c1ty.example/">') == [
        ("look-alike", "c1ty.example")
    ]


def test_findings_show_hosts_alone() -> None:
    """What stands behind a host, or before it, may be somebody's name or key: it is kept nowhere."""
    links = Links(DOMAINS, ())
    data = b'<a href="https://user:secret@evil.test/path?token=hidden#part">https://www.bank.example/private?x=own</a>'
    links.read_html(data, tags_of(data), "1")
    rows = list(links.findings())
    assert {f.kind for f in rows} == {"user-info", "text-mismatch"}
    for word in ("secret", "user:", "path", "token", "hidden", "private", "own"):
        assert word not in "".join(f.evidence + f.value for f in rows).replace("goes", "")


def test_findings_are_bounded() -> None:
    """Each kind and host once; beyond a hundred of a kind the last one carries the count of the rest."""
    links = Links(DOMAINS, ())
    data = b"".join(b'<a href="https://e%d.test/">www.bank.example</a>' % (n // 2) for n in range(600))
    links.read_html(data, tags_of(data), "1")
    rows = list(links.findings())
    assert len(rows) == MAX_LINKS
    assert sum(f.count for f in rows) == 600


def mail(name: str, data: bytes) -> bytes:
    """A message with one attachment."""
    message = EmailMessage(policy=SMTP)
    message.set_content("See the attachment.")
    message.add_attachment(data, "application", "octet-stream", filename=name)
    return message.as_bytes()


def ask(message: bytes, envelope: Envelope) -> Iterable[Finding]:
    """The link check alone, with readers."""
    questions = Questions(frozenset({Check.LINK}), domains=DOMAINS, wrappers=WRAPPERS)
    return inspect(message, envelope, questions, None, InspectionSettings(), Means(readers=open_reader))


def test_plain_text_of_every_encoding(envelope: Envelope) -> None:
    """Links of plain bodies are found behind each transfer encoding; without one nothing is decoded."""
    for encoding, body in (
        ("7bit", b"See https://c1ty.example/x?y=1."),
        ("quoted-printable", b"See https://c1ty=2Eexam=\r\nple/x"),
        ("base64", b"U2VlIGh0dHBzOi8vYzF0eS5leGFtcGxlL3g="),
    ):
        head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        assert [(f.check, f.kind, f.value) for f in ask(head + body, envelope)] == [
            (Check.LINK, "look-alike", "c1ty.example")
        ]
    assert list(ask(b"Content-Type: text/plain\r\n\r\nsee c1ty.example: no link", envelope)) == []
    event = b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nURL:https://c1ty.example/\r\nEND:VCALENDAR\r\n"
    assert [f.value for f in ask(event, envelope)] == ["c1ty.example"]


def test_links_in_files(envelope: Envelope) -> None:
    """HTML that is an attachment, in an archive, in a message attached; hyperlinks of Word; links of PDF."""
    page = b'<html><a href="https://c1ty.example/">Portal</a></html>'
    relations = (
        b'<Relationships><Relationship Id="r1" Type="http://x/relationships/hyperlink" '
        b'Target="https://c1ty.example/?a=1&amp;b=2" TargetMode="External"/></Relationships>'
    )
    word = with_files(docx("Portal"), {"word/_rels/document2.xml.rels": relations})
    inner = b"Subject: x\r\nContent-Type: text/html\r\n\r\n" + page
    for name, data in (
        ("page.html", page), ("page.bin", page), ("pages.zip", zipped({"a/page.htm": page})), ("letter.docx", word),
        ("letter.eml", inner), ("letter.pdf", pdf(["Portal"], link="https://c1ty.example/")),
    ):  # fmt: skip
        found = {(f.kind, f.value) for f in ask(mail(name, data), envelope)}
        assert ("look-alike", "c1ty.example") in found, name


def test_time_is_linear() -> None:
    """A hundred thousand beginnings of links, and tags without an end, cost no more than their octets."""
    words = [
        (b"<a href=//x.test>." + piece * (1900 // len(piece))) * 400 for piece in (b"a", b"a.", b"@", b"&amp;", b"//")
    ]
    for data in (
        b"<a href=" * 100_000,
        b'<a href="' * 100_000,
        b"<a href='x" + b"=" * 800_000,
        b"https://" * 100_000,
        *words,
    ):
        started = time.process_time()
        links = Links(DOMAINS, WRAPPERS)
        links.read_html(data, tags_of(data), "1")
        links.read_text(data, "1")
        list(links.findings())
        assert time.process_time() - started < 2, data[:12]


@given(st.text(max_size=200))
def test_anything_is_survived(text: str) -> None:
    """No reference and no words raise."""
    target_of(text)
    named_host(text)
    deceptions(host_of(text), DOMAINS)
    of_html(f'<a href="{text}">{text}</a>')


def test_small_questions() -> None:
    """Names registered, slips, glances."""
    assert registrable("a.b.ci.madison.wi.us") == "madison.wi.us"
    assert registrable("x.city.github.io") == "city.github.io"
    assert skeleton("modern") == skeleton("modem")
    assert not near_miss("city", "city")
    assert not near_miss("city", "citadel")
    assert not near_miss("cary", "city")
