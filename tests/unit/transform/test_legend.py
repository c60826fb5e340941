"""Legends and banners: where they go, in which encoding, and that everything else stays."""

import base64
import quopri
import time
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mime import parse, text
from gateway.mime.legends import legend_present
from gateway.mime.quoting import fold_words, html_text
from gateway.model.verdict import Transform, TransformKind
from gateway.transform import plan
from tests.unit.transform.making import LEGEND_LINES, apply, join, legend, read

PLAIN = "Dear Ann,\r\n\r\nPrice = 5 £ – naïve.\r\n\r\nRegards,\r\nBob\r\n"
HTML = (
    "<!DOCTYPE html>\r\n<html><head><title><body></title><!-- <body> --><style>body{}</style></head>\r\n"
    '<body class="a>b" bgcolor=white><p>Dear Ann, Price = 5</p></body></html>\r\n'
)
WORDS = fold_words(" ".join(LEGEND_LINES))
BANNER = Transform(TransformKind.BANNER, "banner-rule", id="outside", lines=("Mail from outside: be careful.",))


def encoded(body: bytes, encoding: str) -> bytes:
    """A body in a transfer encoding, CRLF."""
    if encoding == "base64":
        return base64.encodebytes(body).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        return quopri.encodestring(body.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return body


def leaf(media: str, body: str, charset: str, encoding: str) -> bytes:
    """One entity. A charset ``utf-8-bom`` is UTF-8 with a byte order mark."""
    codec = "utf-8-sig" if charset == "utf-8-bom" else charset
    octets = body.encode(codec, "xmlcharrefreplace" if "html" in media else "replace")
    name = charset.removesuffix("-bom")
    head = f"Content-Type: {media}; charset={name}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + encoded(octets, encoding)


def shown(message: bytes, media: str) -> str:
    """The one text part of a media type that is no attachment, decoded by Python."""
    part = next(p for p in read(message).walk() if p.get_content_type() == media and not p.get_filename())
    content = part.get_content()
    assert isinstance(content, str)
    return content


def count(content: str, html: bool) -> int:
    """How often the legend stands there."""
    return fold_words(html_text(content) if html else content).count(WORDS.strip())


def unedited(message: bytes, *transforms: Transform) -> bytes:
    """What the edits leave, taken out of the result again."""
    planned = plan(message, transforms)
    result, at, shift, kept = join(message, planned), 0, 0, b""
    for edit in planned.edits.edits:
        kept += result[at + shift : edit.start + shift] + message[edit.start : edit.end]
        at, shift = edit.end, shift + edit.delta
    return kept + result[at + shift :]


CHARSETS = ("us-ascii", "utf-8", "utf-8-bom", "iso-8859-1", "windows-1252", "iso-8859-15", "iso-2022-jp", "gb18030")
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037")
ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64")


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [*((charset, encoding) for charset in CHARSETS for encoding in ENCODINGS), *((wide, "base64") for wide in WIDE)],
)
@pytest.mark.parametrize("media", ["text/plain", "text/html"])
def test_every_charset_and_encoding_shows_it_once_on_top(media: str, charset: str, encoding: str) -> None:
    """Whatever charset and transfer encoding, Python's parser reads the legend once, first, and the body after it."""
    body = PLAIN if media == "text/plain" else HTML
    if charset in ("us-ascii", "iso-2022-jp", "gb18030") or encoding == "7bit":
        body = body.replace("£", "GBP").replace("–", "-").replace("ï", "i")
    message = b"Subject: a\r\nMIME-Version: 1.0\r\n" + leaf(media, body, charset, encoding)
    result = apply(message, legend())
    content = shown(result, media)
    before = shown(message, media)
    assert count(content, media == "text/html") == 1
    if media == "text/plain":
        assert content.lstrip("\ufeff").startswith(LEGEND_LINES[0])
        assert content.replace("\r\n", "\n").endswith("\n\n" + before.lstrip("\ufeff").replace("\r\n", "\n"))
    else:
        top = before.index(" bgcolor=white>") + len(" bgcolor=white>")
        assert content.startswith(before[:top] + '<div class="civicgate-legend"')
        assert content.endswith(before[top:])
    assert unedited(message, legend()) == message
    assert not plan(result, (legend(),)).edits


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("charset", ["", "us-ascii", "utf-8"])
def test_a_legend_beyond_ascii_changes_what_the_part_declares(charset: str, encoding: str) -> None:
    """Non-ASCII text in a part without a charset for it: the part becomes UTF-8, and 7bit becomes quoted-printable."""
    lines = ("MENSAJE CONFIDENCIAL DE LA CIUDAD DE PEÑA – “NO DIVULGAR”", "SEGÚN LA LEY.")
    kind = f"Content-Type: text/plain; charset={charset}; format=flowed\r\n" if charset else ""
    coding = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding != "7bit" else ""
    body = b"a = b \r\nlong \r\n.\r\nend\t\r\n"
    message = f"Subject: a\r\n{kind}{coding}\r\n".encode() + encoded(body, encoding)
    result = apply(message, legend(*lines))
    content = shown(result, "text/plain").replace("\r\n", "\n")
    assert content == "\n".join(lines) + "\n\n" + body.decode().replace("\r\n", "\n")
    assert result.isascii() or encoding == "8bit"
    assert read(result).get_content_charset() == "utf-8"


def test_a_charset_without_the_letters_gets_the_nearest_ascii() -> None:
    """A charset that lacks a character gets plain quotes, dashes and letters, never a changed declaration."""
    message = b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nna\xefve\r\n"
    planned = plan(message, (legend("SECRET – “Ñ” ŁÓDŹ"),))
    assert join(message, planned).endswith(b'SECRET - "N" LODZ\r\n\r\nna\xefve\r\n')
    assert any("charset lacks" in note for note in planned.notes)


def test_undeclared_latin_1_is_not_relabelled() -> None:
    """Eight-bit octets that are not UTF-8 and declare nothing would be broken by a new label: ASCII is written."""
    message = b"Subject: a\r\n\r\nna\xefve\r\n"
    assert apply(message, legend("GEHEIM – Ü")) == b"Subject: a\r\n\r\nGEHEIM - U\r\n\r\nna\xefve\r\n"


def test_html_beyond_ascii_is_entities_and_escaped() -> None:
    """In HTML all is ASCII: other letters become entities, and markup in the text is escaped."""
    message = b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>x</p>"
    result = apply(message, legend('<script>alert("Ñ")</script>'))
    assert result.isascii()
    assert b"&lt;script&gt;alert(&quot;&#209;&quot;)&lt;/script&gt;" in result


def mixed() -> bytes:
    """Text and HTML with a picture, a text attachment, a nested message: all that must stay."""
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("Body text\n")
    message.add_alternative("<html><body><p>Body</p><img src='cid:a'></body></html>", subtype="html")
    html = list(message.iter_parts())[1]
    assert isinstance(html, EmailMessage)
    html.add_related(b"\x89PNG123", "image", "png", cid="<a>")
    message.add_attachment("attached text\n", filename="a.txt")
    message.add_attachment("<p>attached page</p>", subtype="html", filename="a.html")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("inner text\n")
    message.add_attachment(inner)
    return message.as_bytes().replace(b"\n", b"\r\n")


def test_both_alternatives_get_it_and_nothing_else_does() -> None:
    """In mixed(alternative(plain, related(html, picture)), files …) both bodies show it; the rest stays."""
    message = mixed()
    result = apply(message, legend(), BANNER)
    assert unedited(message, legend(), BANNER) == message
    old, new = parse(message), parse(result)
    for before, after in zip(old.walk(), new.walk(), strict=True):
        content, _ = text(result, after, 10_000)
        if before.path in ("1.1", "1.2.1"):
            assert count(content, before.media_type == "text/html") == 1
            assert "be careful" in content
        elif not before.is_multipart:
            old_octets = message[before.header.start : before.body.end]
            assert old_octets == result[after.header.start : after.body.end], before.path
    assert [p.path for p in old.walk()] == [p.path for p in new.walk()]


def test_the_legend_stands_above_the_banner() -> None:
    """Order is fixed whatever order the rules ask in: the legend is the very top."""
    message = b"Subject: a\r\n\r\nbody\r\n"
    assert apply(message, BANNER, legend()) == apply(message, legend(), BANNER)
    rows = apply(message, BANNER, legend()).split(b"\r\n")
    assert rows[2].decode() == LEGEND_LINES[0]
    assert rows[6].decode() == BANNER.lines[0]


@pytest.mark.parametrize(
    "body",
    [
        "Own\r\n\r\nOn Jan 2, 2026, Ann wrote:\r\n> " + "\r\n> ".join(LEGEND_LINES) + "\r\n> text\r\n",
        "\r\n".join(LEGEND_LINES) + "\r\n\r\nOwn\r\n",
        "Own\r\n-----Original Message-----\r\n" + " ".join(LEGEND_LINES).lower() + "\r\n",
    ],
)
def test_once_in_a_thread(body: str) -> None:
    """Where the legend stands already, quoted or not, nothing is put."""
    message = b"Subject: a\r\n\r\n" + body.encode()
    planned = plan(message, (legend(),))
    assert not planned.edits
    assert planned.notes == ("legend: already in the message",)


def test_once_in_a_thread_html() -> None:
    """A reply's quoted HTML holds the legend as our own markup put it: nothing is put again."""
    first = apply(b"Content-Type: text/html\r\n\r\n<p>x</p>\r\n", legend())
    quoted = first.partition(b"\r\n\r\n")[2]
    reply = b"Content-Type: text/html\r\n\r\n<p>Thanks</p><blockquote type=cite>" + quoted + b"</blockquote>"
    assert not plan(reply, (legend(),)).edits


def test_a_near_legend_does_not_count() -> None:
    """Half of the legend is not the legend."""
    message = b"Subject: a\r\n\r\n" + LEGEND_LINES[0].encode() + b"\r\nbody\r\n"
    assert legend_present(apply(message, legend()).decode(), LEGEND_LINES)
    assert plan(message, (legend(),)).edits


@pytest.mark.parametrize(
    "message",
    [
        b'Content-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n',
        b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nfile\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-odd\r\n\r\nabc\r\n",
        b"Content-Type: application/pkcs7-mime\r\n\r\nAAAA\r\n",
    ],
)
def test_without_a_body_a_header_says_it(message: bytes) -> None:
    """No text body, an unknown encoding, a sealed body: the body stays, a header field carries the legend, once."""
    planned = plan(message, (legend(),))
    result = join(message, planned)
    assert result.endswith(message)
    assert fold_words(read(result)["X-Civicgate-Legend"]).strip() == WORDS.strip()
    assert any("X-Civicgate-Legend added instead" in note for note in planned.notes)
    assert not plan(result, (legend(),)).edits


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"X\r\n"),
        (b"\r\n", b"X\r\n"),
        (b"Subject: a\r\n\r\n", b"X\r\n"),
        (b"Subject: a\r\n", b"X\r\n"),
        (b"Subject: a", b"X\r\n"),
        (b"Hello\r\n", b"X\r\n\r\nHello\r\n"),
        (b"Subject: a\n\nHello\n", b"X\n\nHello\n"),
    ],
)
def test_empty_and_broken_bodies(message: bytes, expected: bytes) -> None:
    """An empty body, a message without header or without empty line: the legend is read as body, never as header."""
    result = apply(message, legend("X"))
    parsed = parse(result)
    assert result[parsed.root.body.start :] == expected
    assert not parsed.defects or parsed.defects[0].code.value == "missing-separator"


def test_a_part_without_header_or_body() -> None:
    """The empty first part of a multipart takes the legend as its body, and the delimiter stays a delimiter."""
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n--b--\r\n"
    result = apply(message, legend("X"))
    assert [p.path for p in parse(result).walk()] == ["", "1"]
    assert shown(result, "text/plain").strip() == "X"


@settings(max_examples=150, deadline=None)
@given(
    body=st.lists(
        st.sampled_from(("\r\n", "<body>", "</p>", "<!--", "=", " ", "=41", "> ", "\ufeff"))
        | st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=20),
        max_size=12,
    ).map("".join),
    encoding=st.sampled_from(("8bit", "quoted-printable", "base64")),
    width=st.integers(1, 80),
    html=st.booleans(),
)
def test_any_body_stays_octet_for_octet(body: str, encoding: str, width: int, html: bool) -> None:
    """However a body is encoded, all octets outside the edits stay; decoded it is the old one with the legend in it."""
    octets = body.encode()
    if encoding == "base64":
        letters = base64.b64encode(octets)
        coded = b"\r\n".join(letters[at : at + width] for at in range(0, len(letters), width))
    else:
        coded = encoded(octets, encoding)
    kind = "html" if html else "plain"
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    message = head.encode() + coded
    result = apply(message, legend())
    assert unedited(message, legend()) == message
    before = parse(message).root
    old, _ = text(message, before, 100_000)
    new, _ = text(result, parse(result).root, 100_000)
    assert legend_present(html_text(new) if html else new, LEGEND_LINES)
    at = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    assert any(new.endswith(old[cut:]) and new.startswith(old[:cut]) for cut in range(at + 1))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text('\r\n <>=-:;abBody/multipart"', max_size=300).map(str.encode))
def test_hostile_messages_never_raise(message: bytes) -> None:
    """Any octets at all: a plan comes back, and what it leaves is what was there."""
    assert unedited(message, legend(), BANNER) == message


def test_long_and_flowed_lines() -> None:
    """A line too long for SMTP is wrapped; in format=flowed none ends in a space, and odd starts are stuffed."""
    message = b"Content-Type: text/plain; format=flowed\r\n\r\nbody\r\n"
    result = apply(message, legend("From here " + "word " * 300, ">x"))
    body = result.partition(b"\r\n\r\n")[2]
    rows = body.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert rows[0].startswith(b" From here")
    assert rows[-1] == b" >x"
    assert all(len(row) < 998 and not row.endswith(b" ") for row in rows)


@pytest.mark.parametrize(
    "shape", ["<body " * 50_000, "<!--" * 60_000, "<body '" * 40_000, "<style>" * 40_000, "=\r\n" * 90_000]
)
@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
def test_hostile_shapes_take_linear_time(shape: str, encoding: str) -> None:
    """Shapes that make careless parsers quadratic are planned in well under a second."""
    head = f"Content-Type: text/html\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    message = head + encoded(shape.encode(), encoding if encoding == "base64" else "7bit")
    before = time.process_time()
    assert plan(message, (legend(),)).edits
    assert time.process_time() - before < 1.0


def test_a_header_without_its_empty_line() -> None:
    """Text that would need a new declaration in a header that has no end of its own is written in ASCII below it."""
    result = apply(b"Subject: a\r\n\tfolded\r\n(no field)\r\n", legend("GEHEIM – É"))
    assert result == b"Subject: a\r\n\tfolded\r\n\r\nGEHEIM - E\r\n\r\n(no field)\r\n"
