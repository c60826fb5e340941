"""Approval policy end to end: choices, deputies, attestation, reminders, escalation, withdrawal, parts, exceptions."""

import email
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email import policy
from typing import Any

import pytest

from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, State
from gateway.hold.allowing import Allowance
from gateway.hold.decide import Order, Rest
from gateway.metrics import HOLD_ALARMS
from gateway.model.envelope import Recipient
from gateway.model.verdict import HoldOrder

Make = Callable[..., Acceptance]
ITEM = "T1-h1"
ALICE = "alice@city.example"
DORA, CARL, CORA, IDA, MAY = (f"{name}@city.example" for name in ("dora", "carl", "cora", "ida", "may"))
BASE = HoldOrder("city-wide", "all-city", ("director", "communications"), None, "wdm/all-city asks for it")


@pytest.fixture
def held(hold: Hold, acceptance: Make, recipient: Callable[..., Recipient]) -> Callable[..., Any]:
    """Holds one message under the given order."""

    async def keep(order: HoldOrder, *to: str, **more: object) -> str:
        addresses = to or ("all@city.example",)
        people = tuple(recipient(a, lists=("all-city",) if a == "all@city.example" else ()) for a in addresses)
        await hold.accept(acceptance(held=(HeldGroup(people, (order,)),), outgoing=(), **more))
        return ITEM

    return keep


async def state(hold: Hold) -> State:
    """Where the item stands."""
    return (await hold.desk.read(ITEM)).item.state


async def names(hold: Hold, ident: str = ITEM) -> list[str]:
    """Its history's events."""
    return [entry.event for entry in await hold.history(ident)]


def subjects(sink: Any, address: str) -> list[str]:
    """Subjects of what somebody was sent."""
    return [str(email.message_from_bytes(data, policy=policy.default)["Subject"]).strip() for data in sink.to(address)]


async def test_any_of_and_so_many_of(hold: Hold, held: Any, city: Any) -> None:
    """One of two roles is enough where the rule says so; two of three need two different ones."""
    await held(replace(BASE, need=1))
    assert (await hold.desk.approve(Order(ITEM, CORA), alone=True)).item.state is State.APPROVED
    city.roles["mayor"] = (MAY,)
    three = replace(BASE, roles=("director", "communications", "mayor"), need=2)
    await held(three, transaction="T2")
    first = await hold.desk.approve(Order("T2-h1", CARL))
    assert [slot.role for slot in first.missing] == ["director or mayor"]
    with pytest.raises(OperatorError, match=r"taken.*still needs director or mayor"):
        await hold.desk.approve(Order("T2-h1", CORA))
    assert (await hold.desk.approve(Order("T2-h1", MAY))).item.state is State.APPROVED


async def test_owners_of_the_list_decide(hold: Hold, held: Any) -> None:
    """The role list-owners is filled by the owner of the list that the message goes to."""
    await held(replace(BASE, roles=("list-owners",)))
    with pytest.raises(OperatorError, match=r"no approver.*list-owners:all-city: otto@city.example"):
        await hold.desk.approve(Order(ITEM, DORA))
    assert (await hold.desk.approve(Order(ITEM, "otto@city.example"))).item.state is State.APPROVED


async def test_a_deputy_decides_on_its_days_and_its_word_stays(hold: Hold, held: Any, city: Any, clock: Any) -> None:
    """The sender's being deputy counts for nothing; a deputy's approval counts after its time as deputy has ended."""
    await held(BASE)
    city.standing_in[DORA] = (ALICE, MAY)
    with pytest.raises(OperatorError, match="sent this message"):
        await hold.desk.approve(Order(ITEM, ALICE))
    assert await hold.desk.permission(ITEM, MAY)
    assert [s.role for s in (await hold.desk.approve(Order(ITEM, MAY))).missing] == ["communications"]
    clock.move(hours=1)

    def later(address: str, at: Any) -> tuple[str, ...]:
        return (MAY,) if address == DORA and at < clock() - timedelta(minutes=30) else ()

    city.deputies = later
    assert not await hold.desk.permission(ITEM, MAY)
    assert (await hold.desk.approve(Order(ITEM, CARL))).item.state is State.APPROVED


async def test_nobody_holds_a_role(hold: Hold, held: Any, city: Any, outbox: Outbox, sink: Any, clock: Any) -> None:
    """The fallback role is asked and told why, an alarm counts; with nobody there at all it goes back, undelivered."""
    before = {kind: HOLD_ALARMS.labels(kind)._value.get() for kind in ("fallback", "nobody")}
    city.roles["director"] = ()
    await held(BASE)
    await outbox.drain()
    assert any("Nobody holds a role" in subject for subject in subjects(sink, IDA))
    assert b"because too few hold the role" in sink.to(IDA)[0]
    city.roles["it-director"] = ()
    await held(BASE, transaction="T2")
    assert (await hold.queue_facts()).undecidable == 2
    with pytest.raises(OperatorError, match=r"no approver.*director: nobody"):
        await hold.desk.approve(Order("T2-h1", DORA))
    await hold.desk.approve(Order("T2-h1", CARL))
    clock.move(hours=49)
    assert await hold.desk.expire() == 2
    await outbox.drain()
    assert [d.kind for d, _ in sink.got if d.kind == "release"] == []
    after = {kind: HOLD_ALARMS.labels(kind)._value.get() for kind in before}
    assert after == {kind: number + 1 for kind, number in before.items()}


async def test_the_sender_confirms_first(hold: Hold, held: Any, outbox: Outbox, sink: Any, clock: Any) -> None:
    """Nobody is asked, and no approver reads or decides, before the sender has confirmed; then their time begins."""
    await held(replace(BASE, attestation="This is official city business."))
    await outbox.drain()
    assert [d.recipients[0].address for d, _ in sink.got] == [ALICE]
    assert "Please confirm" in subjects(sink, ALICE)[0]
    assert b"official city business" in sink.to(ALICE)[0]
    assert b"civicgate hold attest T1-h1" in sink.to(ALICE)[0]
    with pytest.raises(OperatorError, match="sender has to confirm"):
        await hold.desk.approve(Order(ITEM, DORA))
    with pytest.raises(OperatorError, match="waits for its sender's confirmation"):
        await hold.desk.view(ITEM, DORA, "")
    with pytest.raises(OperatorError, match="did not send"):
        await hold.desk.attest(Order(ITEM, DORA))
    clock.move(hours=40)
    assert (await hold.desk.attest(Order(ITEM, "alice+x@city.example", os_user="web"))).changed
    assert not (await hold.desk.attest(Order(ITEM, ALICE))).changed
    item = (await hold.desk.read(ITEM)).item
    assert (item.state, item.asked, item.expires) == (State.HELD, clock(), clock() + timedelta(hours=48))
    said = (await hold.history(ITEM))[-1]
    assert (said.event, said.actor, said.comment) == ("attest", ALICE, "This is official city business.")
    await outbox.drain()
    assert b"The sender has confirmed: This is official city business." in sink.to(DORA)[0]
    assert len(sink.to(ALICE)) == 1
    await hold.desk.approve(Order(ITEM, DORA))
    await hold.desk.approve(Order(ITEM, CARL))
    assert await state(hold) is State.APPROVED


async def test_without_the_senders_word_it_goes_back(
    hold: Hold, held: Any, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """An unconfirmed message expires to its sender; approvers, who were never asked, hear nothing."""
    await held(replace(BASE, attestation="Official."))
    clock.move(hours=49)
    with pytest.raises(OperatorError, match="expired"):
        await hold.desk.attest(Order(ITEM, ALICE))
    assert await hold.desk.expire() == 1
    await outbox.drain()
    assert await state(hold) is State.RETURNED
    assert b"the sender did not confirm in time" in sink.to(ALICE)[-1]
    assert {r.address for d, _ in sink.got for r in d.recipients} == {ALICE}


@pytest.mark.parametrize("changes", [{"reverse_path": ""}, {"automatic": True}], ids=["null path", "automatic"])
async def test_a_header_does_not_make_the_question_go_away(
    hold: Hold, held: Any, outbox: Outbox, sink: Any, changes: dict[str, Any]
) -> None:
    """Automatic and null-sender mail is asked nothing (RFC 3834), and its approvers neither: it waits and expires."""
    await held(replace(BASE, attestation="Official."), **changes)
    await outbox.drain()
    assert (await state(hold), sink.got) == (State.ATTESTING, [])
    if "automatic" in changes:
        await hold.desk.withdraw(Order(ITEM, ALICE))
    else:
        with pytest.raises(OperatorError, match="did not send"):
            await hold.desk.withdraw(Order(ITEM, ""))
        hold.core.clock.move(days=3)  # type: ignore[attr-defined]  # the test's own clock
        assert await hold.desk.expire() == 1
    await outbox.drain()
    assert sink.got == []


async def test_reminders(hold: Hold, held: Any, outbox: Outbox, sink: Any, clock: Any) -> None:
    """Who has not said a word that is needed is reminded after 8 h and every 4 h from then; others are not."""
    await held(replace(BASE, remind_after=timedelta(hours=8), remind_every=timedelta(hours=4)))
    await hold.desk.approve(Order(ITEM, CARL))
    await outbox.drain()
    sink.got.clear()
    assert await hold.desk.remind() == 0
    clock.move(hours=8)
    assert (await hold.desk.remind(), await hold.desk.remind()) == (1, 0)
    clock.move(hours=4)
    assert await hold.desk.remind() == 1
    await outbox.drain()
    assert [subject.split(":")[0] for subject in subjects(sink, DORA)] == ["[Civicgate] Reminder"] * 2
    assert {r.address for d, _ in sink.got for r in d.recipients} == {DORA}
    await hold.desk.approve(Order(ITEM, DORA))
    clock.move(hours=5)
    assert await hold.desk.remind() == 0
    assert await names(hold) == ["held", "approve", "remind", "remind", "complete", "start", "delivered"][:5]


async def test_one_reminder_by_the_setting(hold: Hold, held: Any, clock: Any) -> None:
    """Without a word in the rule: after 24 h, once."""
    await held(BASE)
    for hours, expected in ((23, 0), (1, 1), (23, 0)):
        clock.move(hours=hours)
        assert await hold.desk.remind() == expected
    assert await names(hold) == ["held", "remind"]


async def test_escalation(hold: Hold, held: Any, city: Any, outbox: Outbox, sink: Any, clock: Any) -> None:
    """After its time a further role is asked, reads, and decides in any place, but fills one only; before, nothing."""
    city.roles["manager"] = (MAY,)
    await held(replace(BASE, escalate_after=timedelta(hours=4), escalate_to=("manager",)))
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.approve(Order(ITEM, MAY))
    clock.move(hours=5)
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.approve(Order(ITEM, MAY))
    assert await hold.desk.remind() == 1
    await outbox.drain()
    assert subjects(sink, MAY) == [
        "[Civicgate] Nobody has decided yet: message from alice@city.example waits (all-city)"
    ]
    assert len(sink.to(DORA)) == 1
    assert await hold.desk.permission(ITEM, MAY)
    assert len((await hold.desk.approve(Order(ITEM, MAY))).missing) == 1
    with pytest.raises(OperatorError):
        await hold.desk.approve(Order(ITEM, IDA))
    assert (await hold.desk.approve(Order(ITEM, CORA))).item.state is State.APPROVED
    last = (await hold.history(ITEM))[1]
    assert (last.event, last.actor, last.comment) == ("escalate", "gateway", MAY)


async def test_the_sender_takes_it_back(hold: Hold, held: Any, outbox: Outbox, sink: Any) -> None:
    """Withdrawn: delivered to nobody, approvers and sender are told, once; not by others, not after the release."""
    await held(BASE)
    for other in (DORA, "bob@city.example", ""):
        with pytest.raises(OperatorError, match="did not send"):
            await hold.desk.withdraw(Order(ITEM, other))
    await hold.desk.approve(Order(ITEM, DORA))
    done = await hold.desk.withdraw(Order(ITEM, "Alice@City.example", comment="typo"))
    assert (done.changed, (await hold.desk.withdraw(Order(ITEM, ALICE))).changed) == (True, False)
    with pytest.raises(OperatorError, match="withdrawn since"):
        await hold.desk.approve(Order(ITEM, CARL))
    await outbox.drain()
    assert (await state(hold), [d.kind for d, _ in sink.got if d.kind != "notice"]) == (State.WITHDRAWN, [])
    assert "[Civicgate] withdrawn" in subjects(sink, CORA)[-1]
    assert "Withdrawn: Picnic" in subjects(sink, ALICE)[-1]
    assert (await hold.desk.read(ITEM)).item.message.body == ""
    await held(replace(BASE, roles=("director",)), transaction="T2")
    await hold.desk.approve(Order("T2-h1", DORA))
    with pytest.raises(OperatorError, match="cannot be withdrawn: it is approved"):
        await hold.desk.withdraw(Order("T2-h1", ALICE))


@pytest.mark.parametrize("rest", list(Rest))
async def test_release_to_some(hold: Hold, held: Any, outbox: Outbox, sink: Any, rest: Rest) -> None:
    """The chosen get it after both have approved; the others wait on as an item of their own, or are rejected."""
    await held(BASE, "a@x.example", "b@x.example", "c@x.example")
    with pytest.raises(OperatorError, match=r"not for z@x\.example"):
        await hold.desk.release_some(Order(ITEM, DORA, comment="w"), ["z@x.example"], rest)
    await hold.desk.approve(Order(ITEM, CARL))
    done = await hold.desk.release_some(Order(ITEM, DORA, comment="wrong people"), ["A@x.example"], rest)
    assert (done.item.state, [r.address for r in done.item.recipients]) == (State.APPROVED, ["a@x.example"])
    again = await hold.desk.release_some(Order(ITEM, DORA, comment="wrong people"), ["a@x.example"], rest)
    assert not again.changed
    (parted,) = [i for i in await hold.list(states=list(State)) if i.id != ITEM]
    assert [r.address for r in parted.recipients] == ["b@x.example", "c@x.example"]
    await outbox.drain()
    assert (len(sink.to("a@x.example")), sink.to("b@x.example"), sink.to("c@x.example")) == (1, [], [])
    assert await names(hold) == ["held", "approve", "split", "complete", "start", "delivered"]
    if rest is Rest.HOLD:
        reading = await hold.desk.read(parted.id)
        assert (reading.item.state, [s.role for s in reading.missing()]) == (State.HELD, ["director"])
        await hold.desk.approve(Order(parted.id, DORA))
        await outbox.drain()
        assert len(sink.to("b@x.example")) == len(sink.to("c@x.example")) == 1
    else:
        (back,) = [data for data in sink.to(ALICE) if b"multipart/report" in data]
        assert b"wrong people" in back
        assert b"Final-Recipient: rfc822; b@x.example" in back
        assert b"Final-Recipient: rfc822; a@x.example" not in back
        assert (await hold.desk.read(parted.id)).item.state is State.RETURNED
    assert (await hold.desk.read(ITEM)).item.message.body == ""
    await hold.verify_events()


async def test_an_approval_of_all_is_not_one_of_fewer(hold: Hold, held: Any) -> None:
    """Dora read the item with three recipients while Carl parted two: hers is made anew on what is there now."""
    await held(BASE, "a@x.example", "b@x.example")
    stale = await hold.desk.read(ITEM)
    await hold.desk.release_some(Order(ITEM, CARL), ["a@x.example"])
    assert (await hold.desk.read(ITEM)).item.version == stale.item.version + 2
    done = await hold.desk.approve(Order(ITEM, DORA))
    assert [r.address for r in done.item.recipients] == ["a@x.example"]


async def test_release_and_allow(hold: Hold, held: Any, clock: Any) -> None:
    """The exception is written with the last approval, by all, with the very same wish; else there is none."""
    known = replace(BASE, exceptions=("all-city-mail",))
    until = clock() + timedelta(days=30)
    wish = Allowance(until, ("all@city.example",), max_size=2000)
    await held(known)
    await hold.desk.release_and_allow(Order(ITEM, DORA, comment="weekly"), wish)
    assert await hold.exceptions.list() == ()
    done = await hold.desk.release_and_allow(Order(ITEM, CARL), wish)
    ((record, how),) = await hold.exceptions.list()
    assert (record.kind, record.sender, record.recipient) == ("all-city-mail", ALICE, "all@city.example")
    assert (record.expires, record.max_size, record.approver, how) == (until, 2000, f"{DORA}, {CARL}", "active")
    assert record.id in done.text
    assert "weekly (T1-h1)" in record.reason
    assert record.id in (await hold.history(ITEM))[-1].comment
    await held(known, transaction="T2")
    await hold.desk.release_and_allow(Order("T2-h1", DORA), wish)
    assert (await hold.desk.approve(Order("T2-h1", CARL))).item.state is State.APPROVED
    assert len(await hold.exceptions.list()) == 1
    await held(BASE, transaction="T3")
    with pytest.raises(OperatorError, match="knows no exceptions"):
        await hold.desk.release_and_allow(Order("T3-h1", DORA), wish)
    await held(known, transaction="T4")
    with pytest.raises(OperatorError, match="within a year"):
        await hold.desk.release_and_allow(Order("T4-h1", DORA), replace(wish, expires=clock() + timedelta(days=400)))
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.release_and_allow(Order("T4-h1", IDA), wish)


async def test_many_at_once_and_words_without_a_decision(hold: Hold, held: Any) -> None:
    """Each its own transaction with its own result; comments are for those who may read, and stand in the history."""
    await held(replace(BASE, roles=("director",)))
    await held(replace(BASE, roles=("it-director",)), transaction="T2")
    await held(replace(BASE, roles=("director",)), transaction="T3")
    done = await hold.desk.bulk("approve", [Order(f"T{n}-h1", DORA) for n in (1, 2, 3, 9)])
    assert [(row.item, row.outcome is not None) for row in done] == [
        ("T1-h1", True), ("T2-h1", False), ("T3-h1", True), ("T9-h1", False),
    ]  # fmt: skip
    assert "no approver" in done[1].problem
    assert "no held item" in done[3].problem
    with pytest.raises(OperatorError, match="cannot be done to many"):
        await hold.desk.bulk("delete", [])
    for who in (IDA, ALICE):
        await hold.desk.comment(Order("T2-h1", who, comment="why?"))
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.comment(Order("T2-h1", "bob@city.example", comment="x"))
    with pytest.raises(OperatorError, match="nothing in the comment"):
        await hold.desk.comment(Order("T2-h1", IDA, comment=" "))
    assert [e.comment for e in await hold.history("T2-h1") if e.event == "comment"] == ["why?", "why?"]
    assert (await hold.desk.read("T2-h1")).item.state is State.HELD


async def test_every_letter_says_that_nobody_answers_it(hold: Hold, held: Any, outbox: Outbox, sink: Any) -> None:
    """Null reverse-path, Auto-Submitted, a stable Message-ID: in each letter of a whole life (RFC 3834 section 3)."""
    await held(replace(BASE, attestation="Official."))
    await hold.desk.attest(Order(ITEM, ALICE))
    await hold.desk.reject(Order(ITEM, DORA, comment="no"))
    await held(BASE, transaction="T2")
    await hold.desk.withdraw(Order("T2-h1", ALICE))
    await outbox.drain()
    assert len(sink.got) > 8
    for delivery, data in sink.got:
        found = email.message_from_bytes(data, policy=policy.default)
        assert delivery.reverse_path == ""
        assert found["Auto-Submitted"] in ("auto-generated", "auto-replied")
        assert re.fullmatch(r"<T[12]-h1-[a-z0-9-]+@city\.example>", found["Message-ID"])
        assert not found.defects
