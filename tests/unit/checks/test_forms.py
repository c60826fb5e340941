"""Texts that their reader sees as one and that stand in pieces in the source."""

import base64
import binascii
from collections.abc import Callable

import pytest

from gateway.checks.forms import rtf_to_text
from gateway.checks.parts import reads_as_text
from gateway.mime.hypertext import html_to_text, visible_text
from gateway.model.finding import Check, Confidence, Finding

Inspect = Callable[..., tuple[Finding, ...]]

HEAD = b"From: a@city.example\r\nTo: b@elsewhere.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
SSN = b"SSN 536-90-4399"
SPLIT = b"<p>SSN 536<b>-90</b>-4399</p>"
NESTED = b"From: c@d.example\r\nSubject: y\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + SPLIT


def part(kind: bytes, body: bytes, more: bytes = b"") -> bytes:
    """A message whose second part is this one."""
    return (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: "
        + kind + b"\r\n" + more + b"\r\n" + body + b"\r\n--b--\r\n"
    )  # fmt: skip


def html(body: bytes) -> bytes:
    """A message in HTML."""
    return HEAD + b"Content-Type: text/html\r\n\r\n" + body


@pytest.mark.parametrize(
    "message",
    [
        part(b"text/calendar", b"BEGIN:VCALENDAR\r\nDESCRIPTION:SSN 536-9\r\n 0-4399\r\nEND:VCALENDAR"),
        part(b"text/calendar", b"BEGIN:VCALENDAR\r\nDESCRIPTION:her SSN\\n536-90-4399\\nx\r\nEND:VCALENDAR"),
        part(b"application/octet-stream; name=a.ics", b"BEGIN:VCALENDAR\r\nDESCRIPTION:SSN 536-9\r\n\t0-4399"),
        part(b"text/vcard", b"BEGIN:VCARD\r\nNOTE:SSN 536-9\r\n 0-4399\r\nEND:VCARD"),
        part(b"application/rtf; name=a.rtf", b"{\\rtf1 SSN 536{\\b -90}\\_4399}"),
        part(b"application/rtf; name=a.rtf", b"{\\rtf1 SSN 536\\'2d90\\'2d4399}"),
        part(b"application/octet-stream; name=a.html", SPLIT),
        part(b"text/plain; name=a.htm", SPLIT),
        part(b"text/x-amp-html", SPLIT),
        part(b"text/enriched", b"SSN 536<bold>-90</bold>-4399"),
        part(b"html", SPLIT),
        part(b"message/news", NESTED),
        part(b"application/octet-stream; name=a.eml", NESTED),
        part(b"message/rfc822", base64.encodebytes(NESTED), b"Content-Transfer-Encoding: base64\r\n"),
        part(b"text/rfc822-headers", b"Subject: =?utf-8?b?" + base64.b64encode(SSN) + b"?="),
        part(b"text/plain; name=a.bin", base64.encodebytes(SSN.decode().encode("utf-16-le")),
             b"Content-Transfer-Encoding: base64\r\n"),
        part(b"application/pdf", b"%PDF-1.4", b"Content-Description: " + SSN + b"\r\n"),
        HEAD + b"\r\nSee below\r\nbegin 644 x.txt\r\n" + binascii.b2a_uu(SSN) + b"`\r\nend\r\n",
        HEAD + b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n" + SPLIT
        + b"\r\n--b--\r\n",
        HEAD + b"Reply-To: " + SSN + b" <a@city.example>\r\n\r\nhello\r\n",
        HEAD + b"Keywords: " + SSN + b"\r\n\r\nhello\r\n",
        html(b"SSN 536-90-<img src=x alt='logo'>4399"),
        html(b"SSN 536-90-<span title='x'>4399</span>"),
        html(b"SSN 536-90-<!--[if mso]>x<![endif]-->4399"),
        html(b"SSN 536-90-<span style='display: none'>x<span>y</span></span>4399"),
        html(b"SSN 536-90-<i hidden>x</i>4399"),
        html(b"SSN 536-90-<title>x</title>4399"),
    ],
)  # fmt: skip
def test_what_the_reader_sees_as_one_is_found(look: Inspect, message: bytes) -> None:
    """Folding, controls, hidden elements and wrong names between the digits hide nothing."""
    found = look(message, Check.CONTENT, "us-ssn")
    assert {(f.evidence, f.confidence) for f in found} == {("***-**-4399", Confidence.HIGH)}


def test_hidden_text_is_still_text() -> None:
    """Leaving out what is hidden is a second reading, not the only one; without anything hidden there is none."""
    source = "a<span style='display:none'>SSN 536-90-4399</span>b"
    assert html_to_text(source) == "aSSN 536-90-4399b"
    assert visible_text(source) == "ab"
    assert visible_text("<p>a</p>") is None


def test_texts_for_all_but_outlook_are_visible() -> None:
    """``<!--[if !mso]><!-->`` hides from Outlook alone."""
    assert visible_text("a<!--[if mso]>x<![endif]--><!--[if !mso]><!-->b<!--<![endif]-->c") == "abc"


def test_rtf_is_read_without_its_controls() -> None:
    """Characters by number, hyphens that do not break, paragraphs."""
    assert rtf_to_text("{\\rtf1\\ansi a\\u8211?b\\_c\\par d\\{e\\}}").split("\n") == ["a–?b-c", "d{e}"]


def test_zeros_are_not_wide_text() -> None:
    """UTF-16 without a mark is text; runs of zeros are not."""
    assert reads_as_text("hello".encode("utf-16-le"))
    assert reads_as_text("hello".encode("utf-16-be"))
    assert not reads_as_text(b"\0" * 100)
    assert not reads_as_text(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (b"message/rfc822", b"Content-Transfer-Encoding: base64\r\n"),
        (b"application/octet-stream; name=a.eml", b"Content-Transfer-Encoding: base64\r\n"),
    ],
)
def test_attachments_of_an_encoded_message_are_looked_at(look: Inspect, kind: bytes, more: bytes) -> None:
    """PHPMailer encodes attached messages; what is attached inside is an attachment all the same."""
    inner = part(b"application/octet-stream; name=run.exe", b"MZ")
    found = look(part(kind, base64.encodebytes(inner), more), Check.ATTACHMENT)
    assert "run.exe" in [f.value for f in found]
