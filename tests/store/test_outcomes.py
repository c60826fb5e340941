"""What the next hop has said is not forgotten while the store is away; what is lost all the same is counted."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import structlog

from gateway.errors import StoreError
from gateway.hold import Acceptance, Delivery, DeliveryResult, Hold, Outbox, OutgoingGroup, open_hold
from gateway.hold.decide import Order
from gateway.hold.links import KEPT, LinkRefused, NewLink, Problem, Purpose, insert_link
from gateway.hold.turns import forget_links
from gateway.metrics import OUTBOX_UNRECORDED
from gateway.model.envelope import Client, Recipient
from gateway.model.reply import Reply
from gateway.settings import OutboxSettings, Settings
from tests.pace import until

Make = Callable[..., Acceptance]
OK = Reply.of(250, "2.0.0", "ok")
GONE = Reply(550, "", ("5.1.1 No such user",))


@pytest.fixture
def one(acceptance: Make, recipient: Callable[..., Recipient]) -> Acceptance:
    """A message that leaves at once, for two."""
    people = tuple(recipient(address) for address in ("bob@x.org", "gone@x.org"))
    return acceptance(held=(), outgoing=(OutgoingGroup(people),))


def counted(why: str) -> float:
    """How many outcomes were lost."""
    return OUTBOX_UNRECORDED.labels(why)._value.get()  # type: ignore[no-any-return]  # prometheus_client's own


async def test_a_store_that_is_away_after_the_next_hops_250_makes_no_duplicate(
    settings: Settings, city: Any, clock: Any, one: Acceptance, sink: Any, by_hand: Any
) -> None:
    """Regression: the outcome was forgotten, and the message delivered a second time when the store was back."""
    hold = await open_hold(settings, city, clock=clock, busy_timeout=0.2)
    await hold.accept(one)

    async def answer(delivery: Delivery) -> DeliveryResult:
        if delivery.kind == "relay":
            await by_hand.lock()
            return DeliveryResult((OK, GONE), OK)
        return DeliveryResult((OK,), OK)

    sink.answer = answer
    running = asyncio.create_task(Outbox(hold, sink, settings.outbox).run())
    await until(lambda: len(sink.got) == 1)
    await asyncio.sleep(0.8)
    await by_hand.unlock()
    async with asyncio.timeout(10):
        while (await hold.queue_facts()).outbox:
            await asyncio.sleep(0.02)
    assert [d.kind for d, _ in sink.got] == ["relay", "notice"], "delivered once, and its refusal reported once"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await hold.close()


@pytest.mark.sqlite
async def test_a_body_that_cannot_be_had_keeps_no_outcome_waiting_for_ever(
    hold: Hold, one: Acceptance, sink: Any, settings: Settings, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of a refusal goes without its original after a while; until then the place in the outbox is taken."""
    monkeypatch.setattr("gateway.hold.outbox.ATTACH_FOR", 0.3)
    await hold.accept(one)
    bodies = settings.store.directory / "bodies"

    async def answer(delivery: Delivery) -> DeliveryResult:
        if delivery.kind == "relay":
            (file,) = bodies.glob(f"{delivery.body}*")
            file.unlink()
            file.mkdir()  # an error of the place, not a missing body
            return DeliveryResult((OK, GONE), OK)
        return DeliveryResult((OK,), OK)

    sink.answer = answer
    await Outbox(hold, sink, settings.outbox).drain()
    (_, (_, report)) = sink.got
    assert b"Final-Recipient: rfc822; gone@x.org" in report
    assert b"message/rfc822" not in report
    assert (await hold.queue_facts()).outbox == 0


@pytest.mark.sqlite
async def test_an_outcome_that_is_lost_at_the_stop_is_counted(
    settings: Settings, city: Any, clock: Any, one: Acceptance, sink: Any, by_hand: Any
) -> None:
    """The process ends while the store is away: the row stays, the metric says that it will come twice."""
    hold = await open_hold(settings, city, clock=clock, busy_timeout=0.1)
    await hold.accept(one)
    before = counted("stop")

    async def answer(_: Delivery) -> DeliveryResult:
        await by_hand.lock()
        return DeliveryResult((OK, OK), OK)

    sink.answer = answer
    running = asyncio.create_task(Outbox(hold, sink, settings.outbox).run())
    await until(lambda: len(sink.got) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await by_hand.unlock()
    assert counted("stop") == before + 1
    assert (await hold.queue_facts()).outbox == 1
    await hold.close()


async def test_a_claim_without_an_answer_is_given_back(
    hold: Hold, one: Acceptance, sink: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a claim that was committed, and its answer lost, kept its row from everybody for claim_timeout."""
    await hold.accept(one)
    write = hold.core.database.write

    async def lost(work: Any, *, alone: bool = True) -> Any:
        monkeypatch.setattr(hold.core.database, "write", write)
        await write(work, alone=alone)
        raise StoreError("nobody knows whether it was committed")

    monkeypatch.setattr(hold.core.database, "write", lost)
    running = asyncio.create_task(Outbox(hold, sink, settings.outbox).run())
    await until(lambda: bool(sink.to("bob@x.org")))  # the clock stands still: no claim runs out
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(sink.to("bob@x.org")) == 1


async def test_an_outcome_of_a_lost_claim_is_counted(
    hold: Hold, one: Acceptance, sink: Any, clock: Any, settings: Settings
) -> None:
    """Another process took the row over meanwhile: what this one heard is not written, and counted."""
    await hold.accept(one)
    before = counted("claim")
    outbox = Outbox(hold, sink, settings.outbox)

    async def answer(_: Delivery) -> DeliveryResult:
        clock.move(seconds=settings.outbox.claim_timeout + 1)
        assert await Outbox(hold, sink, settings.outbox).claim() is not None
        return DeliveryResult((OK, OK), OK)

    sink.answer = answer
    await outbox.drain()
    assert counted("claim") == before + 1
    assert (await hold.queue_facts()).outbox == 1


def test_no_wait_is_longer_than_the_setting(settings: Settings) -> None:
    """Regression: «a quarter up or down» went a quarter above retry_longest; and no two waits are the same."""

    class Row:
        attempts = 1

    wanted = OutboxSettings.model_validate({"retry_first": "30 s", "retry_longest": "1 h"})
    outbox = Outbox.__new__(Outbox)
    outbox._settings = wanted
    for attempts, least, most in ((1, 22.5, 37.5), (3, 90, 150), (20, 2160, 3600), (5000, 2160, 3600)):
        Row.attempts = attempts
        waits = [outbox._delay(Row()) for _ in range(200)]  # type: ignore[arg-type]  # asks for the attempts only
        assert least <= min(waits)
        assert max(waits) <= most
        assert len(set(waits)) > 100


async def test_old_links_are_taken_away(hold: Hold, acceptance: Make, clock: Any, by_hand: Any, outbox: Outbox) -> None:
    """Regression: links stayed in the database for ever. A month after its end one is gone, used or not."""
    await hold.accept(acceptance(outgoing=()))
    item = (await hold.desk.read("T1-h1")).item
    links = [NewLink(item, f"{name}@city.example", Purpose.DECIDE) for name in ("dora", "carl")]
    for link in links:
        await hold.core.database.write(lambda c, link=link: insert_link(c, link, clock()))  # type: ignore[misc]
    await hold.desk.reject(Order("T1-h1", "dora@city.example", comment="no"))
    clock.move(days=2, seconds=1)
    assert await forget_links(hold.core) == 0
    with pytest.raises(LinkRefused) as refused:
        await hold.desk.follow(links[1].token)
    assert refused.value.problem is Problem.OVER
    clock.now = item.expires + KEPT + timedelta(seconds=1)
    await outbox._sweep()
    assert await by_hand("SELECT count(*) FROM link") == [[(0,)]]
    with pytest.raises(LinkRefused) as refused:
        await hold.desk.follow(links[1].token)
    assert refused.value.problem is Problem.UNKNOWN


@pytest.mark.parametrize("inside", [True, False], ids=["from inside", "from outside"])
async def test_what_came_from_outside_is_not_sent_back_whole(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, inside: bool
) -> None:
    """Regression: held mail with a forged sender was returned whole to whom it named, with what it was held for."""
    client = Client("203.0.113.9", 4711, "mx.far.example", "mx", "", "ESMTP", "", inside=inside)
    await hold.accept(acceptance(outgoing=(), client=client, parameters=()))
    await hold.desk.reject(Order("T1-h1", "dora@city.example", comment="no"))
    await outbox.drain()
    (back,) = [data for data in sink.to("alice@city.example") if b"multipart/report" in data]
    assert (b"needle in this body" in back, b"Content-Type: message/rfc822" in back) == (inside, inside)
    assert (b"Content-Type: text/rfc822-headers" in back) is not inside
    assert b"Subject: Picnic" in back


@pytest.mark.sqlite
@pytest.mark.parametrize(("told", "letters"), [("all", 2), ("returns", 1), ("none", 0)])
async def test_what_senders_outside_are_told(
    settings: Settings, city: Any, clock: Any, acceptance: Make, sink: Any, told: str, letters: int
) -> None:
    """Held, not delivered: both, the return alone, or nothing. Who decides and senders inside are told in any case."""
    notices = settings.notices.model_copy(update={"outside": told})
    hold = await open_hold(settings.model_copy(update={"notices": notices}), city, clock=clock)
    for name, inside in (("T1", False), ("T2", True)):
        client = Client("203.0.113.9", 4711, "mx.far.example", "mx", "", "ESMTP", "", inside=inside)
        path = f"{name}@far.example"
        await hold.accept(acceptance(name, outgoing=(), client=client, parameters=(), reverse_path=path))
    for name in ("T1", "T2"):
        await hold.desk.reject(Order(f"{name}-h1", "dora@city.example", comment="no"))
    await Outbox(hold, sink, settings.outbox).drain()
    assert len(sink.to("T1@far.example")) == letters
    assert len(sink.to("T2@far.example")) == 2
    assert len(sink.to("dora@city.example")) == 2
    await hold.close()


async def test_a_row_that_cannot_be_read_does_not_flood_the_log(
    hold: Hold, acceptance: Make, sink: Any, settings: Settings, clock: Any, by_hand: Any, monkeypatch: Any
) -> None:
    """Regression: an expired item that cannot be read was a line in the log at every look, each second, for ever."""
    # A logger that was used before keeps the configuration that it found then.
    monkeypatch.setattr("gateway.hold.outbox._log", structlog.get_logger())
    await hold.accept(acceptance(outgoing=()))
    await by_hand("UPDATE held SET orders = 'nonsense' WHERE id = 'T1-h1'")
    clock.move(days=3)
    outbox = Outbox(hold, sink, settings.outbox)
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(outbox.run())
        await until(lambda: [line for line in lines if line["event"] == "outbox-store-failed"])
        await asyncio.sleep(0.6)  # it looks again and again
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len([line for line in lines if line["event"] == "outbox-store-failed"]) == 1
