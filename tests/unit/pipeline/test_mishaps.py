"""What goes wrong between the final dot and its reply: nothing is lost, nothing is left behind, the client is told."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.errors import NextHopError
from gateway.model.envelope import ExceptionRecord
from tests.serving import Client, MailServer, prepare, running, settings_for

SMALL_ONLY = """
id: large
title: Large mail is refused
source: city/size
when: {size: {over: 100 kB}}
unless: {exception: large}
then:
  reject: {code: 552, enhanced: 5.3.4, text: Too large}
cases:
  - it: refuses
    message: {from: a@city.example, to: b@city.example, size: 1 MB}
    expect: {disposition: reject}
  - it: passes
    message: {from: a@city.example, to: b@city.example, text: short}
    expect: {disposition: pass}
"""
BANNER = """
id: marked
title: Mail is marked
source: city/mark
when: {header: {name: Subject, present: true}}
then:
  header: {name: X-Marked, value: "yes"}
cases:
  - it: marks
    message: {from: a@city.example, to: b@city.example, text: short, headers: {Subject: x}}
    expect: {transforms: [header]}
  - it: passes
    message: {from: a@city.example, to: b@city.example, raw: "\\r\\nshort"}
    expect: {disposition: pass}
"""
MESSAGE = b"From: a@city.example\r\nSubject: x\r\n\r\nhello\r\n"
LARGE = MESSAGE + b"x" * 300_000


class Broken:
    """Another service, one of whose methods fails as nobody foresaw, or takes for ever."""

    def __init__(self, whole: Any, name: str, error: Exception | None) -> None:
        self._whole, self._name, self._error = whole, name, error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._name else getattr(self._whole, name)

    async def _fail(self, *_: object, **__: object) -> None:
        if self._error is None:
            await asyncio.sleep(60)
        raise self._error or AssertionError


def broken(gateway: Gateway, service: str, method: str, error: Exception | None) -> None:
    """Break one method from the next transaction on."""
    services = gateway.pipeline.services
    changed: Mapping[str, Any] = {service: Broken(getattr(services, service), method, error)}
    gateway.pipeline.install(replace(services, **changed))


@pytest.mark.parametrize(
    ("service", "method"), [("inspector", "inspect"), ("exceptions", "snapshot"), ("transformer", "apply")]
)
async def test_an_unforeseen_error_is_a_4yz_and_leaves_nothing(
    service: str, method: str, tmp_path: Path, server: MailServer
) -> None:
    """It once ended the session without a reply, with the spool's file in place."""
    prepare(tmp_path, {"marked": BANNER, "large": SMALL_ONLY.replace("100 kB", "5 MB")})
    async with running(settings_for(tmp_path, server)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        await client.say("MAIL FROM:<a@city.example>")
        await client.say("RCPT TO:<b@city.example>")
        await client.say("RSET")
        broken(gateway, service, method, RuntimeError("unforeseen"))
        reply = await client.send("a@city.example", ["b@city.example"], LARGE)
        assert reply.startswith("451 4."), reply
        assert (await client.say("NOOP")).startswith("250 ")
        assert not list((tmp_path / "spool").iterdir())
        assert not server.received
        await client.close()


async def test_verdict_timeout_is_a_failed_control(tmp_path: Path, server: MailServer) -> None:
    """The setting was there and nothing looked at it."""
    prepare(tmp_path, {"marked": BANNER})
    settings = settings_for(tmp_path, server)
    settings = settings.model_copy(update={"smtp": settings.smtp.model_copy(update={"verdict_timeout": 0.2})})
    async with running(settings) as gateway:
        broken(gateway, "inspector", "inspect", None)
        client = await (await Client.connect(gateway.ports[0])).hello()
        async with asyncio.timeout(5):
            reply = await client.send("a@city.example", ["b@city.example"], MESSAGE)
        assert reply.startswith("451 4.7.1 "), reply
        await client.close()


async def test_a_next_hop_that_does_not_wait_for_the_content_is_asked_anew(
    plain_gateway: Gateway, client: Client, server: MailServer
) -> None:
    """A client slower than the next hop's patience once got 451 for ever."""
    for line in ("MAIL FROM:<a@city.example>", "RCPT TO:<b@city.example>", "RCPT TO:<c@city.example>", "DATA"):
        await client.say(line)
    client.writer.write(MESSAGE)
    for connection in tuple(plain_gateway.next_hop._connections):
        connection.fail(NextHopError("gone"))
    client.writer.write(b".\r\n")
    assert await client.reply() == "250 2.0.0 queued as SINK1"
    assert [mail.rcpts for mail in server.received] == [["TO:<b@city.example>", "TO:<c@city.example>"]]


async def test_a_recipient_accepted_once_and_refused_anew_defers_all(
    plain_gateway: Gateway, client: Client, server: MailServer
) -> None:
    """250 was said for both: neither may be dropped."""
    for line in ("MAIL FROM:<a@city.example>", "RCPT TO:<b@city.example>", "RCPT TO:<c@city.example>", "DATA"):
        await client.say(line)
    client.writer.write(MESSAGE)
    for connection in tuple(plain_gateway.next_hop._connections):
        connection.fail(NextHopError("gone"))
    server.replies["RCPT c@city.example"] = b"550 5.1.1 gone\r\n"
    client.writer.write(b".\r\n")
    assert (await client.reply()).startswith("451 4.4.1 ")
    assert not server.received


async def test_a_use_of_an_exception_is_given_back_when_the_message_does_not_leave(
    tmp_path: Path, server: MailServer
) -> None:
    """The retry of a message that the next hop deferred was once refused for good."""
    prepare(tmp_path, {"large": SMALL_ONLY})
    async with running(settings_for(tmp_path, server)) as gateway:
        now = datetime.now(UTC)
        await gateway.pipeline.services.exceptions.add(  # type: ignore[attr-defined]
            ExceptionRecord("e1", "large", "a@city.example", "*", "once", "boss", now, now + timedelta(1), 1)
        )
        client = await (await Client.connect(gateway.ports[0])).hello()
        server.replies["DOT"] = b"451 4.3.0 not now\r\n"
        assert await client.send("a@city.example", ["b@city.example"], LARGE) == "451 4.3.0 not now"
        del server.replies["DOT"]
        assert await client.send("a@city.example", ["b@city.example"], LARGE) == "250 2.0.0 queued as SINK1"
        assert (await client.send("a@city.example", ["b@city.example"], LARGE)).startswith("552 5.3.4 ")
        await client.close()


async def test_a_recipient_named_twice_is_held_once(tmp_path: Path, server: MailServer) -> None:
    """Each repetition once made an item to decide of its own, with its notices."""
    prepare(tmp_path)
    for name in ("confidential/confidential-leaves-encrypted", "types"):
        source = Path("rules") / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "rules" / name, dirs_exist_ok=True)
        else:
            shutil.copy(f"{source}.yaml", tmp_path / "rules")
    async with running(settings_for(tmp_path, server)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        taken: list[int] = []
        store = gateway.pipeline.services.store

        class Counting:
            async def accept(self, acceptance: Any) -> None:
                taken.extend(len(g.recipients) for g in (*acceptance.held, *acceptance.outgoing))
                await store.accept(acceptance)

        gateway.pipeline.install(replace(gateway.pipeline.services, store=Counting()))
        content = MESSAGE + b"Social Security number: 536-22-8726\r\n"
        reply = await client.send("a@city.example", ["x@out.example", "x@OUT.example"], content)
        assert reply.startswith("250 2.0.0 Accepted")
        assert taken == [1]
        await client.close()
