"""Attachments in messages: findings with their paths, read in a process, and what a process that ends leaves known."""

import gzip
import re
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from gateway.checks import lanes as module
from gateway.checks.inspector import Inspector
from gateway.checks.passive import PASSIVE, Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.checks.reading.values import FactCode
from gateway.checks.scanner import Scanner
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Finding, Questions
from gateway.policy.ruleset import FROM_ATTACHMENTS
from gateway.policy.types import InformationType
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage
from tests.unit.checks.reading.making import SSN, docx, xlsx, zipped

Look = Callable[[bytes], tuple[Finding, ...]]
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def mail(*files: tuple[str, bytes], text: str = "See the attachment.") -> bytes:
    """A message with attachments."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "Files"
    message.set_content(text)
    for name, content in files:
        message.add_attachment(content, "application", "octet-stream", filename=name)
    if files:  # else it would have 19 random digits, of which some are a card number
        message.set_boundary("=_" + "-".join(re.sub(r"\d", "x", name) for name, _ in files)[:60])
    return message.as_bytes()


def sealed_zip(name: str) -> bytes:
    """A ZIP whose only member says that it needs a password."""
    raw = bytearray(zipped({name: b"x" * 50}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(mark) + offset] |= 1
    return bytes(raw)


@pytest.fixture
def look(scanner: Scanner, envelope: Envelope, everything: Questions) -> Look:
    """Inspect here, with readers."""

    def run(data: bytes) -> tuple[Finding, ...]:
        return inspect(data, envelope, everything, scanner, InspectionSettings(), Means(readers=open_reader))

    return run


def test_content_has_the_path_into_the_attachment(look: Look) -> None:
    """Part, member, place; evidence is redacted; where it stands is «attachment»."""
    found = look(mail(("pay.zip", zipped({"2026/staff.xlsx": xlsx([["SSN", SSN]])}))))
    content = [f for f in found if f.check is Check.CONTENT]
    assert [(f.part, f.evidence) for f in content] == [("2/2026/staff.xlsx, sheet Staff", "***-**-4399")]
    assert "attachment" in content[0].marks


def test_long_numbers_in_names_are_not_shown(look: Look) -> None:
    """A path is for people and logs: a number in a file name may be what is looked for."""
    found = look(mail(("a.zip", zipped({f"{SSN}.txt": f"SSN {SSN}".encode()}))))
    assert not [f for f in found if "536" in f.part + f.evidence]
    assert "2/***.txt" in {f.part for f in found}


def test_files_inside_are_attachments(look: Look) -> None:
    """By content and name, so that rules about programs see them; what deceives is said."""
    found = look(mail(("a.zip", zipped({"b/photo.jpg": b"MZ" + bytes(300), "c.pdf.exe": b"x", "\u202efdp.txt": b"x"}))))
    files = {(f.kind, f.value, f.part) for f in found if f.check is Check.ATTACHMENT}
    assert ("application/x-dosexec", "photo.jpg", "2/b/photo.jpg") in files
    codes = {(f.kind, f.value) for f in found if f.check is Check.STRUCTURE}
    assert {
        ("type-mismatch", "photo.jpg"),
        ("double-extension", "c.pdf.exe"),
        ("deceptive-name", "\u202efdp.txt"),
    } <= codes


def test_sealed_files(look: Look) -> None:
    """Encrypted archives and PGP are structure findings; the names of encrypted members are known."""
    found = look(mail(("a.zip", sealed_zip("plan.exe")), ("b.pgp", b"\x85\x01\x0c\x03" + bytes(range(200)))))
    assert {"archive-encrypted", "pgp-encrypted"} <= {f.kind for f in found}
    assert "plan.exe" in {f.value for f in found if f.check is Check.ATTACHMENT}
    inline = b"Subject: x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA\r\n-----END PGP MESSAGE-----\r\n"
    assert "pgp-encrypted" in {f.kind for f in look(inline)}


def test_a_fact_is_one_finding_a_part(look: Look) -> None:
    """However many members are damaged: the first, with their number."""
    found = look(mail(("a.zip", zipped({f"{n}.pdf": b"%PDF-1.4 garbage" for n in range(5)}, zipfile.ZIP_STORED))))
    assert [(f.part, f.count) for f in found if f.kind == "unreadable"] == [("2/0.pdf", 5)]


def test_files_in_forwarded_messages(look: Look) -> None:
    """A document in a message that is an attachment in base64 is read; its text is not counted twice."""
    found = look(mail(("forward.eml", mail(("staff.docx", docx(f"SSN {SSN}"))))))
    assert [f.part for f in found if f.check is Check.CONTENT] == ["2/staff.docx"]
    assert [f.value for f in found if f.check is Check.ATTACHMENT] == ["forward.eml", "staff.docx"]


def test_codes_are_those_that_rules_wait_for() -> None:
    """A rule that names a code makes the gateway look at attachments."""
    own = {"type-mismatch", "double-extension", "deceptive-name"}
    assert set(FROM_ATTACHMENTS) == ({code.value for code in FactCode} - {"text-truncated"}) | own


async def test_small_messages_without_documents_stay_on_the_loop(
    types: tuple[InformationType, ...], envelope: Envelope, everything: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text, HTML and pictures start no process; a document does."""
    started: list[object] = []

    def refuse(*arguments: object) -> object:
        started.append(arguments)
        raise AssertionError

    monkeypatch.setattr(module, "InspectionProcess", refuse)
    inspector = Inspector(InspectionSettings(), types)
    html = b"Subject: x\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>"
    for data in (mail(), html, mail(("photo.png", PICTURE)), mail(("notes.csv", b"a,b\r\n1,2\r\n"))):
        assert (await inspector.inspect(SpooledMessage.of(data), envelope, everything)).known == PASSIVE
    assert not started
    await inspector.inspect(SpooledMessage.of(mail(("a.docx", docx("x")))), envelope, everything)
    await inspector.inspect(SpooledMessage.of(mail(("p.png", PICTURE + zipped({"a": b"b"})))), envelope, everything)
    assert len(started) == 2
    off = Inspector(InspectionSettings(attachments=False), types)
    await off.inspect(SpooledMessage.of(mail(("a.docx", docx("x")))), envelope, everything)
    assert len(started) == 2


async def test_a_process_reads_attachments(
    types: tuple[InformationType, ...], envelope: Envelope, everything: Questions, look: Look
) -> None:
    """The findings of a process are those of a plain call with readers."""
    inspector = Inspector(InspectionSettings(), types)
    try:
        for data in (
            mail(("a.docx", docx(f"SSN {SSN}"))),
            mail(("a.zip", sealed_zip("b.txt"))),
            mail(("x.bin", b"\1\2\3")),
        ):
            result = await inspector.inspect(SpooledMessage.of(data), envelope, everything)
            assert result.items == look(data)
            assert (result.failures, result.known) == ((), PASSIVE)
    finally:
        await inspector.close()


async def test_a_process_that_is_killed_over_an_attachment(
    types: tuple[InformationType, ...], envelope: Envelope, everything: Questions
) -> None:
    """The message gets ``content-unreadable``, content has failed, all else is known; the next one is read."""
    limits = {"timeout": "2 s", "attachment_timeout": "60 s", "archive_expansion": 10_000_000}
    settings = InspectionSettings.model_validate({**limits, "archive_unpacked": "1000 GB"})
    inner = gzip.compress(bytes(50_000_000), 1)
    endless = zipped({f"{n}.gz": inner for n in range(100)}, zipfile.ZIP_STORED)
    inspector = Inspector(settings, types)
    try:
        data = mail(("a.zip", endless), text=f"SSN {SSN}")
        items, failures, known = await inspector.inspect(SpooledMessage.of(data), envelope, everything)
        assert "content-unreadable" in {f.kind for f in items}
        assert "application/zip" in {f.kind for f in items}
        assert "us-ssn" in {f.kind for f in items}
        assert [(f.check, f.reason) for f in failures] == [(Check.CONTENT, "timeout"), (Check.ENCRYPTION, "timeout")]
        assert known == PASSIVE - {Check.CONTENT, Check.ENCRYPTION}
        after = await inspector.inspect(SpooledMessage.of(mail(("a.docx", docx(f"SSN {SSN}")))), envelope, everything)
        assert "us-ssn" in {f.kind for f in after.items}
    finally:
        await inspector.close()


async def test_its_own_deadline_leaves_the_rest_known(
    types: tuple[InformationType, ...], envelope: Envelope, everything: Questions
) -> None:
    """Attachments that take too long are given up in time; no process is lost."""
    settings = InspectionSettings.model_validate({"attachment_timeout": "1 ms"})
    inspector = Inspector(settings, types)
    try:
        data = mail(("a.zip", zipped({f"{n}.txt": b"words" for n in range(2000)})), text=f"SSN {SSN}")
        items, failures, _ = await inspector.inspect(SpooledMessage.of(data), envelope, everything)
        assert not failures
        assert {"content-unreadable", "us-ssn"} <= {f.kind for f in items}
    finally:
        await inspector.close()
