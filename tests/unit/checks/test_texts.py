"""Content is found however it is encoded, wherever a reader can see it, and not where nobody can."""

import base64
import dataclasses
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from gateway.model.finding import Check, Confidence, Finding, Questions
from gateway.settings import InspectionSettings

Inspect = Callable[..., tuple[Finding, ...]]
SSN = "Her SSN is 536-90-4399."
HEAD = b"From: a@city.example\r\nTo: b@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
NESTED = b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\n"


def part(content_type: str, body: bytes, encoding: str = "", disposition: str = "") -> bytes:
    """One message whose only part is this."""
    head = HEAD + f"Content-Type: {content_type}\r\n".encode()
    if encoding:
        head += f"Content-Transfer-Encoding: {encoding}\r\n".encode()
    if disposition:
        head += f"Content-Disposition: {disposition}\r\n".encode()
    return head + b"\r\n" + body


def b64(data: bytes) -> bytes:
    """base64 in lines of 76, as senders write it."""
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "message",
    [
        part("text/plain", SSN.encode()),
        part("text/plain; charset=utf-8", b64(SSN.encode()), "base64"),
        part("text/plain; charset=utf-8", b64(b"x" * 56 + SSN.encode()), "base64"),
        part("text/plain; charset=us-ascii", b"Her SSN is 536=2D90=\r\n-4399.\r\n", "quoted-printable"),
        part("text/plain; charset=us-ascii", b"Her SSN is 53=\r\n6-90-43=\r\n99.\r\n", "quoted-printable"),
        part("text/plain; charset=utf-16", b64(SSN.encode("utf-16")), "base64"),
        part("text/plain; charset=utf-16le", b64(SSN.encode("utf-16-le")), "base64"),
        part("text/plain; charset=utf-32", b64(SSN.encode("utf-32")), "base64"),
        part("text/plain; charset=iso-2022-jp", SSN.encode("iso-2022-jp")),
        part("text/plain; charset=utf-7", b"Her SSN is +ADUAMwA2-+AC0-90-4399."),
        part("text/plain; charset=nonsense", b"\xe9 " + SSN.encode()),
        part("text/plain; charset=latin-1", "café, ssn\xa0536\xad-90-4399".encode("latin-1")),
        part("text/plain; charset=utf-8", "SSN ５３６－９０－４３９９".encode()),
        part("text/plain; charset=utf-8", "SSN ٥٣٦-٩٠-٤٣٩٩".encode()),
        part("text/plain; charset=utf-8", "SSN 5\u200b36\u2011\u206090\u20144399".encode()),
        part("text/plain", b"file ssn_536-90-4399.txt"),
        part("text/plain", b"SSN-536-90-4399"),
        part("text/plain", b"ssn no.536-90-4399."),
        part("text/plain", b"Her SSN is 5\x0036\x00-90-4399"),
        part("text/html", b"<p>Her <i>SSN</i> is <b>536</b>-<span>90</span>-<font color=red>43</font>99.</p>"),
        part("text/html", b"<p>SSN 536&#45;90&#x2d;4399</p>"),
        part("text/html", b"<p>SSN 536&ndash;90&#8209;4399</p>"),
        part("text/html", b"<table><tr><td>SSN</td><td>536-90-4399</td></tr></table>"),
        part("text/html; charset=utf-16", b64("<p>SSN <b>536</b>-90-4399".encode("utf-16")), "base64"),
        part("text/csv; name=list.csv", b64(b"name,ssn\r\nRoe,536-90-4399\r\n"), "base64", "attachment"),
        part("application/json", b'{"ssn": "536-90-4399"}'),
        part("application/octet-stream", b64(b"ssn 536-90-4399"), "base64", "attachment; filename=a.bin"),
        part("image/png", b64(SSN.encode()), "base64", "attachment; filename=photo.png"),
        part("image/svg+xml", b"<svg><text>SSN 536-<tspan>90</tspan>-4399</text></svg>"),
        part("application/rtf", b"{\\rtf1 SSN 536-90-4399}"),
        part("message/delivery-status", b"Reason: ssn 536-90-4399"),
        part("text/plain; charset=utf-8", b"not base64 at all!! ssn 536-90-4399", "base64"),
        part("text/plain", b64(SSN.encode()), "7bit\r\nContent-Transfer-Encoding: base64"),
        part("text/plain", SSN.encode(), "base64\r\nContent-Transfer-Encoding: 7bit"),
        part("text/plain", SSN.encode(), "8-bits-please"),
        part("multipart/mixed", SSN.encode()),
        part("multipart/mixed; boundary=b", SSN.encode()),
        part("multipart/mixed; boundary=b", SSN.encode() + b"\r\n--b\r\n\r\nx\r\n--b--\r\n"),
        part("multipart/mixed; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n" + SSN.encode()),
        part("multipart/mixed; boundary=b", b"--b\r\n" + NESTED + b"\r\n" + SSN.encode()),
        part("message/rfc822", b64(b"Subject: y\r\n\r\n" + SSN.encode()), "base64"),
        HEAD.replace(b"Subject: x", b"Subject: SSN 536-90-4399") + b"\r\nhello",
        HEAD.replace(b"Subject: x", b"Subject: =?utf-8?b?" + base64.b64encode(SSN.encode()) + b"?=") + b"\r\nhello",
        HEAD.replace(b"Subject: x", b"Subject: SSN =?utf-8?q?536-9?=\r\n =?utf-8?q?0-4399?=") + b"\r\nhello",
        part("application/pdf", b"JVBERi0=", "base64", 'attachment; filename="SSN 536-90-4399.pdf"'),
        part("application/pdf", b"JVBERi0=", "base64", "attachment; filename*=utf-8''ssn%20536%2D90%2D4399.pdf"),
        part("application/pdf; name=\"=?utf-8?q?ssn=20536-90-4399?=\"", b"JVBERi0=", "base64"),
    ],
)  # fmt: skip
def test_a_number_is_found_under_every_encoding(look: Inspect, message: bytes) -> None:
    """Transfer encodings, charsets, markup, names and ambiguous structure hide nothing that a reader can see."""
    found = look(message, Check.CONTENT, "us-ssn")
    assert {(f.evidence, f.confidence) for f in found} == {("***-**-4399", Confidence.HIGH)}


@pytest.mark.parametrize(
    "message",
    [
        part("text/plain", b"nothing of the kind, call 414-555-0134 or see case 2026-536-90-4399"),
        part("text/plain", b"docket CR-536-90-4399, lot 12.536-90-4399, 536-90-4399/2"),
        part("text/html", b"<style>.x{ssn:'536-90-4399'}</style><!-- ssn 536-90-4399 --><p>hello</p>"),
        part("text/html", b"<p>SSN list</p><p id='a'>536</p><p>90</p><p>4399</p>"),
        part("text/plain; charset=utf-8", b64(b"order 4111 1111 1111 1112, parcel 9400 1000 0000 0000 00"), "base64"),
        part("application/octet-stream", b64(b"\x00\x01ssn 536-90-4399\x00\x02" * 40), "base64"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(look: Inspect, message: bytes) -> None:
    """Near misses, what no reader sees, and binary data give no content finding."""
    assert look(message, Check.CONTENT) == ()


def test_evidence_and_value_never_hold_the_number(look: Inspect) -> None:
    """What a finding shows is redacted, and its value is empty, for every type."""
    found = look(part("text/plain", b"SSN 536-90-4399, card 4111 1111 1111 1111"), Check.CONTENT)
    assert {(f.kind, f.evidence, f.value) for f in found} == {
        ("payment-card", "**** **** **** 1111", ""),
        ("us-ssn", "***-**-4399", ""),
    }


def test_the_same_number_in_two_alternatives_counts_once(look: Inspect) -> None:
    """Plain and HTML alternatives say the same thing twice; it is one number, as sure as its surest place."""
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("Number 536-90-4399 only.")
    message.add_alternative("<p>SSN <b>536-90-4399</b></p>", subtype="html")
    (found,) = look(message.as_bytes(), Check.CONTENT)
    assert (found.count, found.confidence, found.part) == (1, Confidence.HIGH, "2")


def test_many_distinct_numbers_are_capped_and_counted(look: Inspect) -> None:
    """Twenty findings at most a type and confidence; their counts add up to all distinct numbers."""
    rows = "\r\n".join(f"ssn 536-90-{n:04d}" for n in range(1, 501))
    found = look(part("text/plain", f"{rows}\r\n{rows}".encode()), Check.CONTENT, "us-ssn")
    assert len(found) == 20
    assert sum(f.count for f in found) == 500
    assert [f.count for f in found] == [1] * 19 + [481]


def test_each_confidence_is_counted_apart(look: Inspect) -> None:
    """A rule that asks for high confidence counts none of the less sure matches."""
    body = "".join(f"ssn 536-90-{n:04d}\r\n" for n in range(1, 31)) + "-" * 200
    body += "".join(f"\r\nnumber 537-90-{n:04d}" for n in range(1, 41))
    found = look(part("text/plain", body.encode()), Check.CONTENT, "us-ssn")
    sums = {c: sum(f.count for f in found if f.confidence is c) for c in Confidence}
    assert sums == {Confidence.HIGH: 30, Confidence.MEDIUM: 40, Confidence.LOW: 0}


def test_text_beyond_the_cap_is_said_to_be_unread(look: Inspect) -> None:
    """What max_text cuts off is a structure finding that names the part; what stands before the cut is found."""
    settings = InspectionSettings(max_text=1000)
    body = b"SSN 536-90-4399 " + b"x " * 1000 + b"SSN 536-90-4400"
    for encoding, data in (("7bit", body), ("base64", b64(body))):
        message = part("text/plain", data, encoding)
        assert [f.evidence for f in look(message, Check.CONTENT, settings=settings)] == ["***-**-4399"]
        (cut,) = look(message, Check.STRUCTURE, "text-truncated", settings)
        assert (cut.part, cut.count) == ("1", 1)


def test_only_the_types_asked_for_are_reported(look: Inspect, everything: Questions) -> None:
    """A type that no rule names is not looked at, though the scanner knows it."""
    asked = dataclasses.replace(everything, types=frozenset({"us-ssn"}))
    message = part("text/plain", b"SSN 536-90-4399, card 4111 1111 1111 1111")
    assert {f.kind for f in look(message, Check.CONTENT, questions=asked)} == {"us-ssn"}
