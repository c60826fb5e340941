"""The outbox: claimed once, retried, settled per recipient, never in clear, reported to the sender, stopped cleanly."""

import asyncio
import email
import smtplib
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import policy
from itertools import pairwise
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.errors import NextHopError, OperatorError, TransformError
from gateway.hold import (
    Acceptance,
    Delivery,
    DeliveryResult,
    HeldGroup,
    Hold,
    Outbox,
    OutgoingGroup,
    State,
    open_hold,
)
from gateway.hold.decide import Order
from gateway.hold.settle import sort_replies
from gateway.model.envelope import Recipient
from gateway.model.reply import Reply
from gateway.model.verdict import Transform, TransformKind
from gateway.settings import Settings
from tests.pace import until
from tests.ports import free_port

Make = Callable[..., Acceptance]
OK = Reply.of(250, "2.0.0", "ok")
BUSY = Reply(452, "", ("4.2.2 Mailbox full",))
GONE = Reply(550, "", ("5.1.1 No such user",))
ENCRYPT = (Transform(TransformKind.ENCRYPT, "confidential-leaves-encrypted", methods=("smime",)),)


def by_address(**replies: Reply) -> Callable[[Delivery], DeliveryResult]:
    """A next hop that answers RCPT by local-part, and 250 to the rest."""

    def answer(delivery: Delivery) -> DeliveryResult:
        rcpt = tuple(replies.get(r.address.partition("@")[0], OK) for r in delivery.recipients)
        return DeliveryResult(rcpt, OK if any(r.positive for r in rcpt) else None)

    return answer


@pytest.fixture
def relay(acceptance: Make, recipient: Callable[..., Recipient]) -> Callable[..., Acceptance]:
    """An acceptance of one outgoing group."""

    def make(
        *addresses: str, transaction: str = "T1", transforms: tuple[Transform, ...] = (), **more: Any
    ) -> Acceptance:
        people = tuple(recipient(address) for address in addresses)
        return acceptance(transaction, held=(), outgoing=(OutgoingGroup(people, transforms),), **more)

    return make


def relays(sink: Any) -> list[list[str]]:
    """Recipients of each relay that was made."""
    return [[r.address for r in d.recipients] for d, _ in sink.got if d.kind == "relay"]


async def test_an_envelope_leaves_as_it_came(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, recipient: Callable[..., Recipient]
) -> None:
    """Client facts, reverse-path, MAIL and RCPT parameters and every octet are those that were accepted."""
    to = recipient("bob@city.example", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@City.example")
    given = acceptance(held=(), outgoing=(OutgoingGroup((to,)),))
    await hold.accept(given)
    assert await outbox.drain() == 1
    ((delivery, data),) = sink.got
    assert (delivery.client, delivery.reverse_path, delivery.parameters) == (
        given.client,
        given.reverse_path,
        given.parameters,
    )
    assert (delivery.recipients, delivery.transaction, delivery.trace) == ((to,), "T1", ())
    assert data == b"".join(given.message.chunks())
    assert (await hold.queue_facts()).outbox == 0
    assert await outbox.drain() == 0


async def test_each_recipient_has_its_own_outcome(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """2xx is done, 4xx alone is tried again, 5xx goes back to the sender; nobody gets it twice."""
    sink.answer = by_address(busy=BUSY, gone=GONE)
    await hold.accept(relay("ok@x.org", "busy@x.org", "gone@x.org"))
    await outbox.drain()
    assert relays(sink) == [["ok@x.org", "busy@x.org", "gone@x.org"]]
    (back,) = sink.to("alice@city.example")
    parsed = email.message_from_bytes(back, policy=policy.default)
    status = parsed.get_payload(1)
    assert "gone@x.org" in str(status)
    assert "5.1.1" in str(status)
    assert "busy@x.org" not in str(status)
    assert await outbox.drain() == 0
    clock.move(seconds=38)
    sink.answer = None
    assert await outbox.drain() == 1
    assert relays(sink)[1:] == [["busy@x.org"]]
    assert (await hold.queue_facts()).outbox == 0


async def test_retries_back_off_and_end_after_five_days(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any, settings: Settings
) -> None:
    """Waits double from 30 s to one hour, a quarter up or down; after five days the sender has it back, once."""
    calls: list[float] = []

    def down(delivery: Delivery) -> DeliveryResult:
        if delivery.kind == "relay":
            calls.append(clock.now.timestamp())
            raise NextHopError("connection refused")
        return DeliveryResult((OK,), OK)

    sink.answer = down
    start = clock.now
    await hold.accept(relay("bob@x.org"))
    while clock.now - start < timedelta(days=5, hours=9):
        await outbox.drain()
        clock.move(hours=4) if len(calls) > 6 else clock.move(seconds=15)
    waits = [b - a for a, b in pairwise(calls)]
    for number, wait in enumerate(waits[:5]):
        assert 0.75 * 30 * 2**number <= wait <= 1.25 * 30 * 2**number + 16, number
    assert calls[-1] - calls[0] >= 5 * 86400
    (back,) = sink.to("alice@city.example")
    assert b"Status: 5.4.7" in back
    assert (await hold.queue_facts()).outbox == 0


@pytest.mark.parametrize(
    ("rcpt", "final", "expected"),
    [
        ([OK], OK, "a"),
        ([OK], None, "t"),
        ([OK], BUSY, "t"),
        ([OK], GONE, "r"),
        ([BUSY], OK, "t"),
        ([GONE], OK, "r"),
        ([], OK, "t"),
        ([Reply.of(354, "", "go ahead")], OK, "t"),
        ([OK], Reply.of(354, "", "go ahead"), "t"),
        ([OK, GONE, BUSY], OK, "art"),
    ],
)
def test_only_a_clear_answer_settles(
    recipient: Callable[..., Recipient], rcpt: list[Reply], final: Reply | None, expected: str
) -> None:
    """2xx to RCPT and to the content is delivery, 5xx is refusal, everything else, or nothing, is tried again."""
    people = [recipient(f"{number}@x") for number in range(len(expected))]
    found = sort_replies(people, rcpt, final)
    letters = dict.fromkeys(found.accepted, "a")
    letters |= {r.recipient: "r" for r in found.refused} | {r.recipient: "t" for r in found.again}
    assert "".join(letters[person] for person in people) == expected


async def test_a_bounce_never_bounces(hold: Hold, relay: Make, outbox: Outbox, sink: Any) -> None:
    """A refused message from the null reverse-path, and a refused report, end there."""
    sink.answer = by_address(gone=GONE, alice=GONE)
    await hold.accept(relay("gone@x.org", transaction="N1", reverse_path=""))
    assert await outbox.drain() == 1
    await hold.accept(relay("gone@x.org", transaction="N2"))
    assert await outbox.drain() == 2
    assert (await hold.queue_facts()).outbox == 0


async def test_a_certificate_that_is_missing_holds_and_never_sends_in_clear(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any
) -> None:
    """No certificate: held in queue «encryption», the sender told what to do; released again when it is there."""
    certificates: set[str] = set()

    def encrypting(delivery: Delivery) -> DeliveryResult:
        if delivery.transforms and not certificates:
            raise TransformError("no-certificate", "no certificate for out@example.org")
        return DeliveryResult(tuple(OK for _ in delivery.recipients), OK)

    sink.answer = encrypting
    await hold.accept(relay("out@example.org", transforms=ENCRYPT))
    await outbox.drain()
    assert sink.to("out@example.org") == []
    (item,) = await hold.list(queue="encryption")
    assert (item.id, item.transforms, item.message.id) == ("T1-o1-h", ENCRYPT, "T1")
    assert b"S/MIME certificate" in sink.to("alice@city.example")[0]
    assert b"T1-o1-h" in sink.to("ida@city.example")[0]
    await hold.desk.approve(Order(item.id, "ida@city.example"), alone=True)
    await outbox.drain()
    (item,) = await hold.list(queue="encryption")
    assert (item.state, item.round) == (State.HELD, 2)
    assert sink.to("out@example.org") == []
    certificates.add("out@example.org")
    again = await hold.desk.approve(Order(item.id, "ida@city.example"), alone=True)
    assert again.changed
    await outbox.drain()
    sent = [d for d, _ in sink.got if d.kind == "release"]
    assert [(d.transforms, d.trace) for d in sent] == [(ENCRYPT, (("X-Civicgate-Released", item.id),))]
    events = [e.event for e in await hold.history(item.id)]
    assert events == ["held", "complete", "start", "hold-again", "complete", "start", "delivered"]


@pytest.mark.parametrize("lasting", [False, True])
async def test_who_could_not_plan_a_change_is_asked_again_before_a_person_is(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any, lasting: bool
) -> None:
    """An inspection process that was killed is the moment's trouble; one that ends over a message each time is not."""
    asked: list[Delivery] = []

    def planning(delivery: Delivery) -> DeliveryResult:
        if delivery.transforms:
            asked.append(delivery)
            if lasting or len(asked) == 1:
                raise TransformError("crashed", "it ended")
        return DeliveryResult(tuple(OK for _ in delivery.recipients), OK)

    sink.answer = planning
    await hold.accept(relay("out@example.org", transforms=ENCRYPT))
    for _ in range(5):
        await outbox.drain()
        clock.move(minutes=5)
    assert len(asked) == (3 if lasting else 2)
    assert len(await hold.list(queue="encryption")) == lasting


async def test_a_damaged_body_is_not_delivered_and_everybody_hears(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, settings: Settings
) -> None:
    """The body of an accepted message is destroyed: not delivered, the sender is asked to send it again."""
    await hold.accept(relay("bob@x.org"))
    (path,) = (settings.store.directory / "bodies").iterdir()
    path.write_bytes(b"age-encryption.org/v1\n")
    await outbox.drain()
    assert relays(sink) == []
    assert b"send it again" in sink.to("alice@city.example")[0]
    assert b"T1-o1" in sink.to("ida@city.example")[0]


async def test_a_damaged_release_is_a_damaged_item(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, settings: Settings
) -> None:
    """The body goes bad between the last approval and delivery: the item is damaged and visible."""
    await hold.accept(acceptance(outgoing=()))
    for person in ("dora@city.example", "carl@city.example"):
        await hold.desk.approve(Order("T1-h1", person))
    name = (await hold.desk.read("T1-h1")).item.message.body
    (settings.store.directory / "bodies" / f"{name}.age").unlink()
    await outbox.drain()
    (item,) = await hold.list()
    assert item.state is State.DAMAGED
    assert sink.to("all@city.example") == []
    with pytest.raises(OperatorError, match="damaged since"):
        await hold.desk.approve(Order("T1-h1", "cora@city.example"))
    await hold.desk.reject(Order("T1-h1", "cora@city.example", comment="please send it again"))
    await outbox.drain()
    assert (await hold.desk.read("T1-h1")).item.state is State.RETURNED


async def test_a_release_that_is_refused_ends_as_refused(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any
) -> None:
    """The next hop refuses a released message: the item says so and the sender has it back."""
    sink.answer = by_address(all=GONE)
    await hold.accept(acceptance(outgoing=()))
    for person in ("dora@city.example", "carl@city.example"):
        await hold.desk.approve(Order("T1-h1", person))
    await outbox.drain()
    assert (await hold.desk.read("T1-h1")).item.state is State.REFUSED
    assert any(b"Status: 5.1.1" in data for data in sink.to("alice@city.example"))


@pytest.fixture
async def three(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient], hold_order: Callable[..., Any]
) -> str:
    """An approved item with three recipients."""
    people = tuple(recipient(f"{name}@city.example") for name in ("one", "busy", "gone"))
    await hold.accept(acceptance(held=(HeldGroup(people, (hold_order("it-director"),)),), outgoing=()))
    await hold.desk.approve(Order("T1-h1", "ida@city.example"))
    return "T1-h1"


async def test_a_release_in_two_parts_is_released(
    hold: Hold, three: str, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """One recipient at once, one later, one refused: released when the last has its answer."""
    sink.answer = by_address(busy=BUSY, gone=GONE)
    await outbox.drain()
    assert (await hold.desk.read("T1-h1")).item.state is State.RELEASING
    clock.move(minutes=1)
    sink.answer = by_address(busy=GONE)
    await outbox.drain()
    assert (await hold.desk.read("T1-h1")).item.state is State.RELEASED
    events = [e.event for e in await hold.history("T1-h1")]
    assert events == ["held", "complete", "start", "partly-delivered", "delivered"]


async def test_many_workers_share_the_rows(
    hold: Hold, relay: Make, settings: Settings, city: Any, clock: Any, sink: Any
) -> None:
    """Four outboxes on two connections to the same file: every row is delivered exactly once."""
    for number in range(12):
        await hold.accept(relay(f"r{number}@x.org", transaction=f"T{number}"))
    second = await open_hold(settings, city, clock=clock)
    try:
        boxes = [Outbox(door, sink, settings.outbox) for door in (hold, second, hold, second)]
        made = await asyncio.gather(*(box.drain() for box in boxes))
    finally:
        await second.close()
    assert sum(made) == 12
    assert sorted(relays(sink)) == sorted([f"r{number}@x.org"] for number in range(12))


async def test_a_dead_process_s_claim_runs_out(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any, settings: Settings
) -> None:
    """A row claimed by a process that died is taken again after the claim's time, not before; same id."""
    await hold.accept(relay("bob@x.org"))
    dead = Outbox(hold, sink, settings.outbox, owner="dead")
    claimed = await dead.claim()
    assert claimed is not None
    assert await outbox.drain() == 0
    clock.move(seconds=settings.outbox.claim_timeout + 1)
    assert await outbox.drain() == 1
    assert [(d.id, d.attempt) for d, _ in sink.got] == [(claimed.id, 2)]


async def test_a_late_result_of_a_lost_claim_changes_nothing(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any, settings: Settings
) -> None:
    """A process that wakes up after its claim ran out cannot overwrite what the next one recorded."""
    await hold.accept(relay("bob@x.org"))
    late = Outbox(hold, sink, settings.outbox, owner="late")
    row = await late.claim()
    assert row is not None
    clock.move(seconds=settings.outbox.claim_timeout + 1)
    sink.answer = by_address(bob=BUSY)
    await outbox.drain()
    sink.answer = by_address(bob=GONE)
    await late._attempt(row)
    facts = await hold.queue_facts()
    assert facts.outbox == 1
    assert sink.to("alice@city.example") == []


async def test_run_delivers_at_once_and_gives_claims_back(
    hold: Hold, relay: Make, sink: Any, settings: Settings, clock: Any
) -> None:
    """A fresh row leaves without waiting for the poll; a stop in the middle of a delivery frees the row."""
    slow = settings.outbox.model_copy(update={"poll_interval": 30.0})
    begun, stuck = asyncio.Event(), asyncio.Event()

    async def hang(delivery: Delivery) -> DeliveryResult:
        if delivery.recipients[0].address == "stuck@x.org":
            begun.set()
            await stuck.wait()
        return DeliveryResult((OK,), OK)

    sink.answer = hang
    running = asyncio.create_task(Outbox(hold, sink, slow).run())
    await asyncio.sleep(0.2)
    await hold.accept(relay("bob@x.org"))
    await until(lambda: bool(sink.to("bob@x.org")))
    await hold.accept(relay("stuck@x.org", transaction="T2"))
    async with asyncio.timeout(5):
        await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    stuck.set()
    other = Outbox(hold, sink, settings.outbox, owner="other")
    row = await other.claim()
    assert row is not None
    assert row.id == "T2-o1"


async def test_a_claim_that_could_not_be_given_back_is_given_back_later(
    settings: Settings, city: Any, clock: Any, relay: Make, sink: Any, by_hand: Any
) -> None:
    """A store that failed for a moment, at the outcome and at the claim, once cost the whole claim_timeout (5 min)."""
    hold = await open_hold(settings, city, clock=clock, busy_timeout=0.2)
    await hold.accept(relay("bob@x.org"))

    async def answer(_: Delivery) -> DeliveryResult:
        if len(sink.got) == 0:
            await by_hand.lock()
            return DeliveryResult((BUSY,), None)
        return DeliveryResult((OK,), OK)

    sink.answer = answer
    outbox = Outbox(hold, sink, settings.outbox)
    running = asyncio.create_task(outbox.run())
    await until(lambda: bool(outbox._not_freed))
    await by_hand.unlock()
    await until(lambda: not outbox._not_freed)
    assert len(sink.got) == 1
    clock.move(seconds=settings.outbox.retry_first * 1.25 + 1)
    async with asyncio.timeout(10):
        while (await hold.queue_facts()).outbox:
            await asyncio.sleep(0.02)
    assert len(sink.got) == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await hold.close()


async def test_concurrency_is_limited(hold: Hold, relay: Make, sink: Any, settings: Settings) -> None:
    """No more deliveries at the same time than the setting says, and all are made."""
    few = settings.outbox.model_copy(update={"concurrency": 2})
    now = most = 0

    async def count(delivery: Delivery) -> DeliveryResult:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await until(lambda: most >= 2)
        await asyncio.sleep(0.03)  # a third would come now
        now -= 1
        return DeliveryResult((OK,), OK)

    sink.answer = count
    for number in range(6):
        await hold.accept(relay(f"r{number}@x.org", transaction=f"T{number}"))
    running = asyncio.create_task(Outbox(hold, sink, few).run())
    await until(lambda: len(sink.got) == 6)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert most == 2


async def test_a_surprise_in_one_delivery_does_not_end_the_others(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """A bug in delivery costs that row a wait, no more."""

    def bug(delivery: Delivery) -> DeliveryResult:
        if delivery.transaction == "T1" and delivery.attempt == 1:
            raise RuntimeError("surprise")
        return DeliveryResult((OK,), OK)

    sink.answer = bug
    await hold.accept(relay("a@x.org"))
    await hold.accept(relay("b@x.org", transaction="T2"))
    assert await outbox.drain() == 2
    assert relays(sink) == [["b@x.org"]]
    clock.move(minutes=1)
    await outbox.drain()
    assert relays(sink) == [["b@x.org"], ["a@x.org"]]


async def test_a_row_that_cannot_be_read_blocks_nobody(
    hold: Hold, relay: Make, outbox: Outbox, sink: Any, clock: Any, by_hand: Any
) -> None:
    """A row or an item with values of another version is put aside; all others go their way."""
    await hold.accept(relay("odd@x.org"))
    clock.move(seconds=1)
    await hold.accept(relay("b@x.org", transaction="T2"))
    await by_hand("""UPDATE outbox SET recipients = '[{"novelty": 1}]' WHERE id = 'T1-o1'""")
    await outbox.drain()
    await outbox.drain()
    assert relays(sink) == [["b@x.org"]]
    assert (await hold.queue_facts()).outbox == 1


async def test_an_item_that_cannot_be_read_does_not_stop_the_outbox(
    hold: Hold, acceptance: Make, sink: Any, settings: Settings, clock: Any, by_hand: Any
) -> None:
    """Expiry meets an unreadable item: the other items expire, and deliveries go on."""
    await hold.accept(acceptance("T1", outgoing=()))
    await hold.accept(acceptance("T2"))
    await by_hand("UPDATE held SET orders = 'nonsense' WHERE id = 'T1-h1'")
    clock.move(days=3)
    running = asyncio.create_task(Outbox(hold, sink, settings.outbox).run())
    await until(lambda: bool(sink.to("bob@city.example")) and any(d.kind == "return" for d, _ in sink.got))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_bodies_go_when_nothing_needs_them(
    hold: Hold, acceptance: Make, outbox: Outbox, settings: Settings
) -> None:
    """Relayed, but still held for others: kept. Released too: gone."""
    folder = settings.store.directory / "bodies"
    await hold.accept(acceptance())
    await outbox.drain()
    assert [path.name.split(".")[0] for path in folder.iterdir()] == ["T1"]
    for person in ("dora@city.example", "carl@city.example"):
        await hold.desk.approve(Order("T1-h1", person))
    await outbox.drain()
    assert list(folder.iterdir()) == []


class Mailbox:
    """A real SMTP server's handler: refuses ``gone@``, takes the rest."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Per recipient."""
        if address.startswith("gone@"):
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """All."""
        self.got.append(envelope)
        return "250 2.0.0 Queued"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A real SMTP server on a free port."""
    port = free_port()
    handler = Mailbox()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


async def test_the_whole_story_with_a_real_server(
    hold: Hold, acceptance: Make, settings: Settings, mailbox: tuple[Mailbox, int], recipient: Callable[..., Recipient]
) -> None:
    """Over real SMTP: relayed at once, held, told, approved, released; a refusal comes back as a report."""
    handler, port = mailbox

    def send(delivery: Delivery, data: bytes) -> DeliveryResult:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            client.ehlo()
            client.mail(delivery.reverse_path)
            replies = []
            for one in delivery.recipients:
                code, text = client.rcpt(one.address)
                replies.append(Reply(code, "", (text.decode(),)))
            if not any(reply.positive for reply in replies):
                return DeliveryResult(tuple(replies))
            code, text = client.data(data)
            return DeliveryResult(tuple(replies), Reply(code, "", (text.decode(),)))

    async def deliver(delivery: Delivery) -> DeliveryResult:
        kept = bytearray()
        await delivery.copy(kept.extend)
        head = b"".join(f"{name}: {value}\r\n".encode() for name, value in delivery.trace)
        return await asyncio.to_thread(send, delivery, head + bytes(kept))

    people = (recipient("bob@city.example"), recipient("gone@city.example"))
    await hold.accept(acceptance(outgoing=(OutgoingGroup(people),)))
    running = asyncio.create_task(Outbox(hold, deliver, settings.outbox).run())

    await until(lambda: len(handler.got) == 6)
    for person in ("dora@city.example", "carl@city.example"):
        await hold.desk.approve(Order("T1-h1", person))
    await until(lambda: len(handler.got) == 9)
    async with asyncio.timeout(10):  # the server has the mail before the outbox has its reply
        while (await hold.desk.read("T1-h1")).item.state is not State.RELEASED:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    sent = {tuple(envelope.rcpt_tos): envelope for envelope in handler.got}
    assert sent["bob@city.example",].mail_from == "alice@city.example"
    released = sent["all@city.example",]
    assert released.original_content is not None
    assert released.original_content.startswith(b"X-Civicgate-Released: T1-h1\r\nFrom: Alice")
    to_alice = [e for e in handler.got if e.rcpt_tos == ["alice@city.example"]]
    assert [e.mail_from for e in to_alice] == ["<>"] * 3
    assert sum(b"multipart/report" in (e.original_content or b"") for e in to_alice) == 1
    assert (await hold.desk.read("T1-h1")).item.state is State.RELEASED


async def test_a_clock_that_was_years_ahead_strands_nothing(
    hold: Hold, acceptance: Callable[..., Acceptance], clock: Any, outbox: Outbox
) -> None:
    """Accepted while the clock said 2030, then the clock is put right: the mail leaves now, not in 2030."""
    clock.move(days=4 * 365)
    await hold.accept(acceptance())
    clock.move(days=-4 * 365)
    assert await outbox.drain() == 5
