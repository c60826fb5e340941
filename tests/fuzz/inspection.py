"""Any octets as a message that is inspected whole, in this process: all passive checks, every reading of every text."""

from collections.abc import Iterator

from gateway.checks.parts import Reading
from gateway.checks.passive import PASSIVE, inspect
from gateway.mime.parser import parse
from gateway.mime.tree import Limits
from gateway.model.envelope import Client, Envelope, Sender
from gateway.model.finding import Finding, LegendText, Questions
from gateway.settings import InspectionSettings
from tests.fuzz import mime_tree
from tests.fuzz.bounds import in_time, one_in, stretched

LONGEST = 4096
TOKENS = (
    *mime_tree.TOKENS,
    *(b"<a href=", b"https://city.example/", b"http://xn--cty-9na.example", b"</a>"),
    *(b"<form action=", b"data:text/html;base64,"),
    *(b"javascript:", b"<svg", b"onload=", b"application/pkcs7-mime", b"multipart/encrypted", b"name=invoice.pdf.exe"),
    *(b"message/external-body", b"text/calendar", b"text/rfc822-headers", b".eml", b"BEGIN:VCALENDAR", b"{\\rtf1"),
    *(b"PK\x03\x04", b"%PDF-", b"MZ", b"GIF89a", b"%41", b"@", b"://", b"user:pass@", b"&#x2e;"),
)  # fmt: skip
_ENVELOPE = Envelope("t1", Client("127.0.0.1"), Sender("clerk@city.example"))
_QUESTIONS = Questions(
    checks=PASSIVE,
    headers=frozenset({"subject", "from", "to", "content-type"}),
    legends=(LegendText("secret", ("STRICTLY CONFIDENTIAL",)),),
    signature_wordings=("contractor",),
    quoted=True,
    domains=("city.example",),
    wrappers=("safelinks.example",),
)
_SETTINGS = InspectionSettings.model_validate({"max_depth": 8, "max_parts": 40, "max_text": "1 MB"})
_READINGS = 40
"""Texts of a message are at most so many times as long as the message, however many readings it has."""


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    with in_time(60 * len(data)):
        found = inspect(data, _ENVELOPE, _QUESTIONS, None, _SETTINGS)
        for one in found:
            _finding(one, data)
        _texts(data)
        if one_in(data, 8):
            assert inspect(data, _ENVELOPE, _QUESTIONS, None, _SETTINGS) == found, "a second look finds something else"
    stretched(data, lambda long: inspect(long, _ENVELOPE, _QUESTIONS, None, _SETTINGS), many=128)


def _finding(one: Finding, data: bytes) -> None:
    assert one.check in PASSIVE
    assert one.kind
    assert one.evidence.isprintable(), "evidence that cannot be shown"
    assert len(one.evidence) <= 600
    assert one.part.isprintable()
    assert -1 <= one.offset <= len(data)
    assert one.count >= 1
    assert one.size >= 0


def _texts(data: bytes) -> None:
    reading = Reading(data, parse(data, Limits(8, 40)), 1_000_000)
    total = 0
    for piece in (*reading.titles(), *reading.texts()):
        piece.data.decode("utf-8")
        total += len(piece.data)
    assert total <= _READINGS * len(data) + 1000, f"{total} octets of text in a message of {len(data)}"


def seeds() -> Iterator[bytes]:
    """Messages to begin with when there is no corpus."""
    yield from mime_tree.seeds()
    yield (
        b"Subject: x\r\nContent-Type: text/html\r\n\r\n<a href='http://evil.example/'>https://city.example/</a>"
        b"<a href='https://c\xc3\xadty.example'>x</a><form action=http://10.0.0.1/>"
        b"<script>location='data:;base64,eA'</script>"
    )
    yield (
        b"Content-Type: multipart/mixed; boundary=AAA\r\n\r\n--AAA\r\nContent-Type: message/rfc822\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogYQ0KDQpi\r\n--AAA\r\n"
        b"Content-Type: image/png; name=a.pdf.exe\r\n"
        b"\r\nMZ\x90\r\n--AAA--\r\n"
    )
    yield (
        b"Content-Type: multipart/encrypted; boundary=A\r\n\r\n--A\r\nContent-Type: application/pgp-encrypted\r\n\r\n"
        b"Version: 1\r\n--A--"
    )
    yield b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AGE-\r\nbegin 644 a\r\n#0V%T\r\n`\r\nend\r\n"
