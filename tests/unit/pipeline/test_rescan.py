"""The join of scan and inspection: what is scanned apart decides as the message's own scan does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.errors import ControlError
from gateway.model.finding import Check, Finding
from gateway.spool import SpooledMessage
from tests.serving import Client, MailServer, prepare, running, settings_for
from tests.unit.checks.virus.disguises import DISGUISES, attached
from tests.unit.pipeline.acting import install
from tests.unit.pipeline.test_transaction import VIRUS

ODD = DISGUISES["two encodings, base64 last"](b"harmless")
PLAIN = attached(b"harmless")
FOUND = (Finding(Check.VIRUS, "Eicar-Test"),)
DOWN = ControlError("unavailable", "nobody listens")
LIMIT = ControlError("limit", "clamd reached a limit")
Answer = tuple[Finding, ...] | ControlError


class Scanner:
    """One answer to the message, another to what is scanned apart."""

    def __init__(self, message: Answer, apart: Answer) -> None:
        self.answers = (message, apart)
        self.asked: list[bytes] = []

    async def scan(self, message: SpooledMessage) -> tuple[Finding, ...]:
        """Answer."""
        content = bytes(message.buffer[:])
        self.asked.append(content)
        answer = self.answers[content not in (ODD, PLAIN)]
        if isinstance(answer, ControlError):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def gateway(tmp_path: Path, server: MailServer) -> AsyncIterator[Gateway]:
    """One with a virus rule and no other; failures are deferred, limits refused."""
    prepare(tmp_path, {"v": VIRUS.replace("ON_FAILURE", "defer\non_limit: reject")})
    async with running(settings_for(tmp_path, server)) as one:
        yield one


async def reply(gateway: Gateway, scanner: Scanner, content: bytes) -> str:
    """The reply to a message with these octets."""
    install(gateway, scanner=scanner)
    client = await (await Client.connect(gateway.ports[0])).hello()
    try:
        return str(await client.send("a@city.example", ["b@city.example"], content))
    finally:
        await client.close()


async def test_ordinary_mail_is_scanned_once(gateway: Gateway) -> None:
    """No second scan, no inspection process: the virus rule alone asks for nothing more."""
    scanner = Scanner((), FOUND)
    assert (await reply(gateway, scanner, PLAIN)).startswith("250")
    assert scanner.asked == [PLAIN]
    assert not any(process._ready for process in gateway.inspector._middling._idle)


@pytest.mark.parametrize(
    ("message", "apart", "start"),
    [
        pytest.param((), (), "250", id="both-clean"),
        pytest.param((), FOUND, "5", id="apart-infected"),
        pytest.param(FOUND, (), "5", id="message-infected"),
        pytest.param(FOUND, FOUND, "5", id="both-infected"),
        pytest.param((), DOWN, "451", id="apart-not-scanned"),
        pytest.param(DOWN, (), "451", id="message-not-scanned"),
        pytest.param(DOWN, FOUND, "550", id="apart-infected-message-not-scanned"),
        pytest.param((), LIMIT, "554", id="apart-beyond-a-limit"),
        pytest.param(LIMIT, DOWN, "554", id="limit-and-failure"),
    ],
)
async def test_what_is_scanned_apart_decides_too(gateway: Gateway, message: Answer, apart: Answer, start: str) -> None:
    """Any infected is infected; else any failure is the control's failure; clean needs both."""
    scanner = Scanner(message, apart)
    said = await reply(gateway, scanner, ODD)
    assert said.startswith(start), said
    assert len(scanner.asked) == 2
    assert b"harmless" in scanner.asked[0] + scanner.asked[1]


async def test_no_inspection_is_no_clean(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody can look for what has to be scanned apart, the virus control has failed."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(gateway.inspector, "examine", broken)
    assert (await reply(gateway, Scanner((), ()), PLAIN)).startswith("451")
