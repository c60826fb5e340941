"""Attachments: what they are called, what they really are, and when that is a contradiction."""

import base64
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from gateway.checks import passive
from gateway.checks.attachment import contradicts, group_of, real_type
from gateway.model.finding import Check, Finding, Questions

Inspect = Callable[..., tuple[Finding, ...]]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
EXE = b"MZ" + bytes(58) + struct.pack("<I", 0x80) + bytes(64) + b"PE\0\0" + struct.pack("<H", 0x14C) + bytes(400)


def zipped(name: str, content: bytes = b"x") -> bytes:
    """A ZIP archive with one member, stored first as Office writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def tarred() -> bytes:
    """A tar archive with one member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO(b""))
    return out.getvalue()


def message(*parts: tuple[str, str, bytes]) -> bytes:
    """A message with a short text and these attachments: declared type, disposition, content."""
    rows = [b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n"]
    for declared, disposition, content in parts:
        head = f"--b\r\nContent-Type: {declared}\r\nContent-Transfer-Encoding: base64\r\n"
        head += f"Content-Disposition: {disposition}\r\n" if disposition else ""
        rows.append(head.encode() + b"\r\n" + base64.encodebytes(content).replace(b"\n", b"\r\n"))
    return b"".join(rows) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (PNG, {"image/png"}),
        (PDF, {"application/pdf"}),
        (EXE, {"application/vnd.microsoft.portable-executable", "application/x-dosexec"}),
        (zipped("a.txt"), {"application/zip"}),
        (zipped("[Content_Types].xml"), {"application/zip", "application/octet-stream"}),
        (tarred(), {"application/x-tar"}),
        (b"#!/bin/sh\necho hello\n", {"text/x-shellscript"}),
        (b"plain words\r\n" * 5000, {"text/plain"}),
        (b"", {"application/x-empty"}),
    ],
)
def test_the_real_type_comes_from_the_content(look: Inspect, content: bytes, kinds: set[str]) -> None:
    """The type reported is the content's, the name and the declared type stand beside it."""
    (found,) = look(message(("application/octet-stream", 'attachment; filename="a b.dat"', content)), Check.ATTACHMENT)
    assert found.kind in kinds
    assert (found.value, found.declared, found.part) == ("a b.dat", "application/octet-stream", "2")
    assert abs(found.size - len(content)) <= max(4, len(content) // 50)


def test_names_are_decoded_and_every_name_counts(look: Inspect) -> None:
    """RFC 2231 and 2047 names are decoded; two different names are two findings, since readers differ."""
    parts = (
        ("application/pdf", "attachment; filename*=utf-8''pl%C3%A4ne.pdf", PDF),
        ('application/pdf; name="invoice.exe"', 'attachment; filename="invoice.pdf"', PDF),
        ('application/pdf; name="=?utf-8?q?R=C3=A9sum=C3=A9.pdf?="', "", PDF),
    )
    found = look(message(*parts), Check.ATTACHMENT)
    assert [(f.part, f.value) for f in found] == [
        ("2", "pläne.pdf"), ("3", "invoice.pdf"), ("3", "invoice.exe"), ("4", "Résumé.pdf"),
    ]  # fmt: skip


def test_the_body_is_no_attachment_and_a_forwarded_message_is_one(look: Inspect) -> None:
    """Body text gives no finding; a nested message is reported, and so is what is attached to it."""
    inner = message(("image/png", "inline", PNG))
    outer = b"Subject: y\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nsee below\r\n--o\r\n"
    outer += b"Content-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--o--\r\n"
    assert [(f.part, f.kind) for f in look(outer, Check.ATTACHMENT)] == [("2", "message/rfc822"), ("2.2", "image/png")]
    assert look(b"Subject: z\r\n\r\nhello", Check.ATTACHMENT) == ()


@pytest.mark.parametrize(
    ("declared", "name", "content", "deceives"),
    [
        ("application/pdf", "a.pdf", EXE, True),
        ("image/png", "a.png", EXE, True),
        ("text/plain", "a.txt", EXE, True),
        ("application/octet-stream", "a.pdf", EXE, True),
        ("text/plain", "a.txt", PNG, True),
        ("application/pdf", "a.pdf", b"just words, no PDF at all\r\n", True),
        ("application/pdf", "a.pdf", zipped("a.txt"), True),
        ("application/octet-stream", "setup.exe", EXE, False),
        ("application/octet-stream", "unnamed", EXE, False),
        ("application/pdf", "a.pdf", PDF, False),
        ("image/jpeg", "a.jpg", PNG, False),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a.docx", zipped("a.xml"), False),
        ("text/csv", "a.csv", b"some words\r\n", False),
        ("text/plain", "a.txt", b"#!/bin/sh\necho hello\n", False),
        ("application/octet-stream", "a.bin", b"\x07\x99\x01\x00" * 40, False),
    ],
)
def test_only_what_deceives_is_a_mismatch(
    look: Inspect, declared: str, name: str, content: bytes, deceives: bool
) -> None:
    """A difference of group is a structure finding; within a group, or without a claim, it means nothing."""
    found = look(message((declared, f'attachment; filename="{name}"', content)), Check.STRUCTURE, "type-mismatch")
    assert [f.value for f in found] == ([name] if deceives else [])


def test_libmagic_is_asked_only_when_a_rule_asks(look: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the attachment check there is neither finding nor cost."""
    asked: list[int] = []

    def answer(head: bytes) -> str:
        asked.append(len(head))
        return "image/png"

    monkeypatch.setattr(passive, "real_type", answer)
    data = message(("image/png", "attachment", PNG + bytes(200_000)))
    assert look(data, questions=Questions(checks=frozenset({Check.STRUCTURE, Check.HEADER}))) == ()
    assert asked == []
    assert [f.kind for f in look(data, Check.ATTACHMENT)] == ["image/png"]
    assert asked == [65536]


def test_groups_hold_each_other_apart() -> None:
    """Types of one family share a group, types without a claim have none, and no group contradicts itself."""
    assert group_of("application/vnd.ms-excel") == group_of("application/msword") == "office"
    assert group_of("application/octet-stream") == group_of("application/x-nobody-knows") == ""
    for media_type in ("image/png", "text/html", "application/zip", "application/pdf", "audio/mpeg"):
        assert not contradicts(media_type, "", media_type)


def test_real_type_survives_any_octets() -> None:
    """Whatever the content, the answer is a type."""
    for content in (b"\0", b"\xff" * 70000, bytes(range(256)) * 20, EXE[:40]):
        assert "/" in real_type(content)
