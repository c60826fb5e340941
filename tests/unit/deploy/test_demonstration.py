"""The pieces of `make run`: what an outcome is held against, and how it is shown. The whole of it runs in tests/e2e."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from deploy.dev import run
from deploy.dev.mail_server import Received
from deploy.dev.samples import CITIZEN, SAMPLES, Certificate, Form, Outcome, Sample, make_certificate, samples
from deploy.dev.table import Table
from gateway.directory import load_directory

ROOT = Path(__file__).resolve().parents[3]


def _received(sample: Sample, *recipients: str, content: bytes | None = None) -> Received:
    content = sample.content(sample) if content is None else content
    return Received(1, sample.sender, (), recipients, ((),) * len(recipients), content, len(content))


NOWHERE = Certificate(Path("/nonexistent"), Path("/nonexistent"))


def _sample(title: str) -> Sample:
    return next(sample for sample in samples("run") if sample.title.startswith(title))


def test_samples_use_people_and_lists_that_are_in_the_directory() -> None:
    """A person or list renamed in the shipped directory must be renamed in the demonstration."""
    directory = load_directory(ROOT / "config/directory.yaml")
    inside = {a for sample in SAMPLES for a in (sample.sender, *sample.recipients) if a.endswith("@city.example")}
    assert [a for a in sorted(inside) if directory.person(a) is None and not directory.lists_of(a)] == []


def test_sample_that_arrives_as_sent_is_as_it_must_be() -> None:
    """The right reply and the message itself at its recipient: no problem."""
    sample = _sample("An ordinary")
    outcome = Outcome.of(sample, "250 2.0.0 OK", [_received(sample, *sample.recipients)], NOWHERE)
    assert list(outcome.problems()) == []


def test_wrong_reply_and_missing_message_are_problems() -> None:
    """Each of the two is named."""
    outcome = Outcome.of(_sample("An ordinary"), "451 4.3.0 Later", [], NOWHERE)
    assert len(list(outcome.problems())) == 2
    assert "NOT AS IT MUST BE" in outcome.cells()[2]


def test_refused_sample_that_arrives_nevertheless_is_a_problem() -> None:
    """A virus that reached somebody is seen, though the reply was right."""
    sample = _sample("The EICAR test virus, attached")
    outcome = Outcome.of(sample, "554 5.7.1 No", [_received(sample, *sample.recipients)], NOWHERE)
    assert len(list(outcome.problems())) == 1


def test_clear_message_does_not_pass_for_encrypted() -> None:
    """The sample that must be encrypted and comes in clear is a problem."""
    sample = _sample("A Social Security number")
    outcome = Outcome.of(sample, "250 OK", [_received(sample, *sample.recipients)], NOWHERE)
    assert outcome.forms == ((CITIZEN, Form.PLAIN),)
    assert list(outcome.problems()) != []


@pytest.mark.real
def test_encrypted_message_is_opened_with_the_certificate_that_was_made(tmp_path: Path) -> None:
    """What openssl encrypts to the demonstration's certificate comes out as «encrypted»; it is made once."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    certificate = make_certificate(tmp_path / "certificates", tmp_path / "keys")
    before = certificate.file.read_bytes()
    assert make_certificate(tmp_path / "certificates", tmp_path / "keys").file.read_bytes() == before
    assert certificate.key.stat().st_mode & 0o077 == 0
    sample = _sample("A Social Security number")
    command = ["openssl", "cms", "-encrypt", "-aes256", "-outform", "SMIME", str(certificate.file)]
    sealed = subprocess.run(command, input=sample.content(sample), capture_output=True, check=True, timeout=30).stdout
    received = _received(sample, CITIZEN, content=f"Message-ID: {sample.id}\n".encode() + sealed)
    assert Outcome.of(sample, "250 OK", [received], certificate).forms == ((CITIZEN, Form.ENCRYPTED),)


def test_held_id_is_taken_from_the_reply() -> None:
    """The commands that are suggested name the item that was held a moment ago."""
    sample = _sample("To all of the city")
    assert (
        Outcome(sample, "250 2.0.0 Accepted, held for a decision as 1M809FMTE8P78Y0002", ()).held
        == "1M809FMTE8P78Y0002"
    )
    assert Outcome(sample, "250 2.0.0 Received as 00001", ()).held == ""


def test_table_fits_100_columns_and_wraps() -> None:
    """Cells wrap inside their column and the next column stays in line."""
    table = Table(("a", 5), ("b", 10))
    assert list(table.head()) == ["a      b", "─────  ──────────"]
    assert list(table.row("one two", "x\ny")) == ["one    x", "two    y"]


def test_other_folder_moves_all_that_is_written(tmp_path: Path) -> None:
    """With --var and --free-ports no path and no port of the usual ones is left, so that two can run side by side."""
    at = run.place(tmp_path, free_ports=True)
    settings = at.settings
    written = [
        settings.spool.directory, settings.store.directory, settings.store.key_file, settings.metrics.directory,
        settings.encryption.certificates, Path(settings.clamd.address.removeprefix("unix:")), at.log,
    ]  # fmt: skip
    assert [path for path in written if not path.is_relative_to(tmp_path)] == []
    ports = {at.gateway.port, settings.next_hop.address.port, settings.metrics.address.port}
    assert (ports | {settings.console.address.port}).isdisjoint({10025, 10026, 9464, 8480})


def test_taken_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    """Somebody else on a port ends the start with words, not with a traceback."""
    at = run.place(tmp_path, free_ports=True)
    with (
        socket.create_server(("127.0.0.1", at.settings.next_hop.address.port)),
        pytest.raises(run.CannotStartError, match=r"(?s)mail server.*is taken.*--free-ports"),
    ):
        run.check_ports(at)
