"""What broke between the milter front and the policy: each test is named for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.model.envelope import ExceptionRecord
from gateway.pipeline.rewriting import header_edits, without
from gateway.wire.milter import Protocol, Step
from tests.serving import MailServer
from tests.unit.front.asking import RULES, Asking, beside

MARK = b"X-Civicgate-Passage"
BIG = """
id: big
title: Too big
source: [milwaukee/encrypted-email]
when: {header: {name: X-Legend, contains: "yes"}}
unless: {exception: large-message}
then: {reject: {code: 552, enhanced: 5.3.4, text: "too big"}}
cases:
  - it: refuses
    message: {from: a@city.example, to: b@city.example, text: x, headers: {X-Legend: "yes"}}
    expect: {disposition: reject}
  - it: leaves
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """The next hop of what the store delivers."""
    async with MailServer() as one:
        yield one


def _seconds(count: int) -> float:
    head = b"Subject: s\r\n" + MARK + b":\r\n"
    head += (MARK + b":\r\n") * (count - 1) + b"\r\n"
    begun = time.process_time()
    header_edits(head, without(head, MARK))
    return time.process_time() - begun


def test_forged_marks_stopped_the_worker_for_a_minute() -> None:
    """Eight times the fields take eight times as long, not sixty-four times."""
    _seconds(1000)
    assert _seconds(8000) < 25 * max(_seconds(1000), 0.005)


@pytest.mark.parametrize("late", [False, True], ids=["gone", "late"])
async def test_an_exception_was_used_up_by_a_message_that_did_not_leave(
    tmp_path: Path, server: MailServer, late: bool
) -> None:
    """The server goes, or the deadline rings, while the legend is put on: the exception is left for the retry."""
    rules = {"legend": RULES["legend"], "big": BIG}
    times = {"message_timeout": "500 ms" if late else "30 s"}
    async with beside(tmp_path, server, rules, milter=times) as (gateway, port):
        services, begun, said = gateway.pipeline.services, asyncio.Event(), list[Any]()

        class Slow:
            """Puts no legend on before the test is over."""

            async def apply(self, *arguments: Any) -> Any:
                begun.set()
                await asyncio.sleep(5)

        now = datetime.now(UTC)
        await services.exceptions.add(  # type: ignore[attr-defined]
            ExceptionRecord(
                id="ex-1", kind="large-message", sender="a@city.example", recipient="*", reason="r",
                approver="m@city.example", created=now, expires=now + timedelta(days=1), uses_left=1, max_size=None,
            ),
            "tester",
        )  # fmt: skip
        record = services.record
        gateway.pipeline.install(
            replace(
                services,
                transformer=Slow(),
                record=lambda row, reply: (said.append(reply.code), record(row, reply)),  # type: ignore[arg-type,func-returns-value]
            )
        )
        one = await Asking.connect(port)
        one.say(Step.CONNECT, b"desk\x004\x30\x39127.0.0.1\0")
        await one.envelope("a@city.example", "b@city.example")
        one.header(("X-Legend", "yes"))
        one.say(Step.END_OF_BODY, b"x\r\n")
        await asyncio.wait_for(begun.wait(), 10)
        if late:
            code, text = await one.answer()
            assert (code, text[:3]) == (b"y", b"451")
        else:
            one.writer.transport.abort()
        await asyncio.sleep(1.3)
        (left,) = await services.exceptions.snapshot()
        assert left.uses_left == 1
        assert said == [451]
        await one.close()


async def test_thousands_of_edits_ended_postfixs_cleanup(tmp_path: Path, server: MailServer) -> None:
    """A message that needs more edits than servers bear leaves from our store, and without the forged marks."""
    async with beside(tmp_path, server) as (_, port):
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        for _ in range(2001):
            one.say(Step.HEADER, MARK + b"\0 forged\0")
        one.header(("Subject", "x"))
        assert await one.end(b"x\r\n") == [(b"d", b"")]
        (got,) = await server.wait_for(1)
        assert MARK not in got.content
        assert b"Subject: x" in got.content
        await one.close()


async def test_forged_marks_stayed_where_no_rule_looks_inside(tmp_path: Path, server: MailServer) -> None:
    """With next_hop_asks the header is read also while there is no rule, for the marks in it."""
    async with beside(tmp_path, server, {}, milter={"next_hop_asks": True}) as (_, port):
        one = await Asking.connect(port)
        await one.envelope("a@city.example", "b@city.example")
        one.say(Step.HEADER, MARK + b"\0 forged\0")
        one.header(("Subject", "x"))
        answers = await one.end(b"x\r\n")
        assert [code for code, _ in answers] == [b"m", b"a"]
        await one.close()


NOBODY = """
id: nobody
title: Nobody is there
source: [milwaukee/encrypted-email]
when: {recipient: {address: nobody@city.example}}
then: {reject: {code: 550, enhanced: 5.1.1, text: "Nobody is there"}}
cases:
  - it: refuses
    message: {from: a@city.example, to: nobody@city.example, text: x}
    expect: {disposition: reject}
  - it: takes
    message: {from: a@city.example, to: b@city.example, text: x}
    expect: {disposition: pass}
"""


async def test_rules_that_need_no_content_asked_for_it(tmp_path: Path, server: MailServer) -> None:
    """A rule that is switched off needs nothing of a message, one about the envelope no more than that."""
    off = RULES["legend"].replace("source:", 'mode: "off"\nsource:')
    async with beside(tmp_path, server, {"legend": off, "nobody": NOBODY}) as (_, port):
        one = await Asking.connect(port)
        assert one.steps & Protocol.NO_BODY
        assert one.actions == 0
        answers = await one.envelope("a@city.example", "nobody@city.example", "b@city.example")
        assert [code for code, _ in answers] == [b"c", b"y", b"c"]
        assert await one.end() == [(b"a", b"")]
        await one.close()


async def test_a_copy_of_ours_that_had_grown_was_refused_by_its_declared_size(
    tmp_path: Path, server: MailServer
) -> None:
    """With next_hop_asks a size up to twice the rule's is judged when the header has been read: a mark may be in it."""
    sizes = BIG.replace('when: {header: {name: X-Legend, contains: "yes"}}', "when: {size: {over: 10 KB}}")
    sizes = sizes.replace('text: x, headers: {X-Legend: "yes"}', "size: 11 KB")
    async with beside(tmp_path, server, {"big": sizes}, milter={"next_hop_asks": True}) as (_, port):
        one = await Asking.connect(port)
        for size, code in ((b"20002", b"y"), (b"20000", b"c")):
            one.say(Step.MAIL, b"<a@city.example>\0SIZE=" + size + b"\0")
            one.say(Step.RCPT, b"<b@city.example>\0")
            assert (await one.answer())[0] == code
        one.header(("Subject", "x"))
        for _ in range(20):
            one.say(Step.BODY, b"0123456789abcdef" * 50 + b"\r\n")
        (answer,) = await one.end()
        assert answer[1].startswith(b"552 5.3.4 too big")
        await one.close()
