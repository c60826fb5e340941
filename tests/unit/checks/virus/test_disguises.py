"""Disguised files with a real clamd: what it does not see in the message it is given apart; ordinary mail is free."""

import tarfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

from gateway.checks.inspector import Inspector
from gateway.errors import ControlError
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Questions
from gateway.settings import InspectionSettings
from gateway.spool import SpooledMessage
from tests.unit.checks.virus.conftest import Clamd, MakeScanner
from tests.unit.checks.virus.disguises import DISGUISES, GROUPS, attached, mixed, part, signed

FILE = b"civicgate harmless test file, known by its hash\n"
ORDINARY = Path(__file__).parents[3] / "rules" / "ordinary"
ASK = Questions(frozenset({Check.VIRUS}))
ASK_STRUCTURE = Questions(frozenset({Check.VIRUS, Check.STRUCTURE}))
FRAGMENTS = {"message/partial, the first", "message/partial, the last"}
INEXACT = {
    *("without padding", "with a comment in brackets", "behind a group with padding", "url alphabet", "text behind"),
    *("damaged escapes before", "Outlook message", "gzip of two streams", "bzip2 of two streams", "xz of two streams"),
    "message/partial, the first",
}
"""Disguises whose file is longer than the hashed one: other octets stand before or behind it for every reader."""
SCANNED_AGAIN = {
    *("in-base64-in-text", "in-pgp-inline", "in-pgp-mime-signed", "in-smime-opaque", "null-dsn-headers-in-rfc822"),
}
"""The ordinary messages that have something to be scanned apart: sloppy structure, blocks of base64, opaque S/MIME."""


@pytest.fixture
async def inspector() -> AsyncIterator[Inspector]:
    """One with no information types."""
    one = Inspector(InspectionSettings(), ())
    yield one
    await one.close()


def left_in(folder: Path) -> list[str]:
    """Names of the files there."""
    return sorted(path.name for path in folder.iterdir())


async def unpacked(inspector: Inspector, content: bytes, envelope: Envelope) -> list[bytes]:
    """The files that are to be scanned apart."""
    examined = await inspector.examine(SpooledMessage.of(content), envelope, ASK_STRUCTURE)
    assert not examined.failures
    if examined.apart is None:
        return []
    try:
        with tarfile.open(fileobj=BytesIO(bytes(examined.apart.buffer[:]))) as archive:
            opened = [archive.extractfile(member) for member in archive]
            return [file.read() for file in opened if file is not None]
    finally:
        examined.apart.close()


async def verdict(
    inspector: Inspector, scanner: object, content: bytes, envelope: Envelope, questions: Questions = ASK
) -> tuple[str, str]:
    """``found``, ``clean`` or the reason of the failure: of the message alone, and of all of it."""
    message = SpooledMessage.of(content)
    answers = []
    examined = await inspector.examine(message, envelope, questions)
    for one in (message, examined.apart):
        try:
            found = await scanner.scan(one) if one is not None else ()  # type: ignore[attr-defined]
            answers.append("found" if found else "clean")
        except ControlError as error:
            answers.append(error.reason)
        if one is not None:
            one.close()
    both = set(answers) | {failure.reason for failure in examined.failures}
    return answers[0], "found" if "found" in both else "limit" if "limit" in both else "clean"


@pytest.mark.real
async def test_every_disguise(
    clamd: Clamd, make_scanner: MakeScanner, inspector: Inspector, envelope: Envelope, eicar: bytes
) -> None:
    """A test virus is found in each disguise, or a limit says so; only fragments stay, which a rule holds.

    clamd given the message alone misses at least one in six. The virus control is asked alone, without any other.
    """
    scanner = make_scanner(clamd.unix)
    answers = {name: await verdict(inspector, scanner, make(eicar), envelope) for name, make in DISGUISES.items()}
    assert {name for name, (_, all_of_it) in answers.items() if all_of_it == "clean"} == FRAGMENTS
    assert {GROUPS[name] for name, (_, all_of_it) in answers.items() if all_of_it == "limit"} == {"nesting"}
    assert sum(alone == "clean" for alone, _ in answers.values()) > len(DISGUISES) / 6


@pytest.mark.real
async def test_files_come_out_exact(
    clamd: Clamd, make_scanner: MakeScanner, inspector: Inspector, envelope: Envelope
) -> None:
    """A file that is known by its hash alone is found wherever some reader gets exactly that file."""
    scanner = make_scanner(clamd.unix)
    answers = {name: await verdict(inspector, scanner, make(FILE), envelope) for name, make in DISGUISES.items()}
    assert {name for name, (_, all_of_it) in answers.items() if all_of_it == "clean"} == INEXACT
    assert sum(alone == "clean" for alone, _ in answers.values()) > len(DISGUISES) / 4


async def test_ordinary_mail_is_not_scanned_again(inspector: Inspector, envelope: Envelope) -> None:
    """Of the city's ordinary day only a few messages cost a second scan."""
    again = set()
    for path in ORDINARY.glob("*.eml"):
        examined = await inspector.examine(SpooledMessage.of(path.read_bytes()), envelope, ASK_STRUCTURE)
        assert not examined.failures, path
        if examined.apart is not None:
            again.add(path.stem)
            examined.apart.close()
    assert again == SCANNED_AGAIN


@pytest.mark.parametrize(
    "name", ["base64 attachment", "base64 root", "zip", "zip in zip", "forwarded message", "tar.gz"]
)
async def test_what_clamd_sees_is_not_handed_out(inspector: Inspector, envelope: Envelope, name: str) -> None:
    """Nothing is scanned twice that a scan of the message sees."""
    assert await unpacked(inspector, DISGUISES[name](FILE), envelope) == []


@pytest.mark.parametrize(
    "name",
    [
        *("two encodings, base64 last", "opaque signed part", "zip packed with LZMA", "invitation with it attached"),
        *("second part, multipart/signed", "hexadecimal in a script", "yEnc in the text", "multipart in base64"),
    ],
)
async def test_files_are_handed_out(inspector: Inspector, envelope: Envelope, name: str) -> None:
    """Exactly the file is among what is scanned apart, and nothing is there twice."""
    files = await unpacked(inspector, DISGUISES[name](FILE), envelope)
    assert FILE in files
    assert len(files) == len(set(files))


async def test_utf16_is_handed_out_as_utf8(inspector: Inspector, envelope: Envelope) -> None:
    """A text in a charset in which letters are other octets is scanned as the letters that it shows."""
    assert FILE in await unpacked(inspector, DISGUISES["UTF-16 text, other end first"](FILE), envelope)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"rescan_octets": 2000}, "more than 2000 octets", id="octets"),
        pytest.param({"rescan_files": 1}, "more than 1 files", id="files"),
    ],
)
async def test_beyond_a_limit_is_a_failure(envelope: Envelope, settings: dict[str, int], words: str) -> None:
    """What is not scanned is not clean: the virus control has no answer, the others have."""
    inspector = Inspector(InspectionSettings.model_validate(settings), ())
    content = mixed(*[part(signed(b"%d" % n * 800)) for n in range(3)])
    try:
        examined = await inspector.examine(SpooledMessage.of(content), envelope, ASK_STRUCTURE)
    finally:
        await inspector.close()
    assert examined.apart is None
    assert examined.known == {Check.STRUCTURE}
    assert [(failure.check, failure.reason) for failure in examined.failures] == [(Check.VIRUS, "limit")]
    assert words in examined.failures[0].detail


async def test_unread_containers_are_a_failure_where_no_finding_can_say_so(envelope: Envelope) -> None:
    """Deeper than archive_depth: a structure finding when rules ask for those, else the virus control's failure."""
    inspector = Inspector(InspectionSettings(archive_depth=2), ())
    data = FILE
    for _ in range(5):
        data = signed(part(data))
    content = attached(data, "application/pkcs7-mime", "smime.p7m")
    try:
        alone = await inspector.examine(SpooledMessage.of(content), envelope, ASK)
        beside = await inspector.examine(
            SpooledMessage.of(content), envelope, Questions(ASK_STRUCTURE.checks | {Check.ATTACHMENT})
        )
    finally:
        await inspector.close()
    assert [(failure.check, failure.reason) for failure in alone.failures] == [(Check.VIRUS, "limit")]
    assert not beside.failures
    assert "archive-limit" in {finding.kind for finding in beside.items}
    for examined in (alone, beside):
        if examined.apart is not None:
            examined.apart.close()


async def test_large_messages_write_beside_themselves(inspector: Inspector, envelope: Envelope, tmp_path: Path) -> None:
    """What is made of a message in the spool lies in the spool, without a name, and goes with its descriptor."""
    path = tmp_path / "m.eml"
    path.write_bytes(attached(signed(bytes(range(256)) * 8000), "application/pkcs7-mime", "smime.p7m"))
    message = SpooledMessage.of_file(path)
    message.path = path
    examined = await inspector.examine(message, envelope, ASK)
    assert examined.apart is not None
    assert bytes(range(256)) * 8000 in bytes(examined.apart.buffer[:])
    assert left_in(tmp_path) == [path.name]
    examined.apart.close()
    message.close()
