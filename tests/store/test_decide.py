"""Decisions: both roles, two people, never the sender, bound to the message; expiry; the return to the sender."""

import asyncio
import email
import subprocess
import sys
from collections.abc import Callable
from email import policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, State, open_hold
from gateway.hold.decide import Order
from gateway.model.envelope import Recipient
from gateway.model.verdict import HoldOrder
from gateway.settings import Settings

Make = Callable[..., Acceptance]
ITEM = "T1-h1"
DORA, CARL, CORA, IDA = (f"{name}@city.example" for name in ("dora", "carl", "cora", "ida"))


@pytest.fixture
async def item(hold: Hold, acceptance: Make) -> str:
    """A held item that needs the director and the communications specialist."""
    await hold.accept(acceptance())
    return ITEM


async def state(hold: Hold) -> State:
    """Where the item stands."""
    return (await hold.desk.read(ITEM)).item.state


async def names(hold: Hold) -> list[str]:
    """Its history's events."""
    return [entry.event for entry in await hold.history(ITEM)]


async def test_both_roles_by_two_people_release_it(hold: Hold, item: str, outbox: Outbox, sink: Any) -> None:
    """The first approval is not enough, the second sends the message, with its id in a trace field."""
    first = await hold.desk.approve(Order(item, DORA, comment="official", os_user="dora"))
    assert (await state(hold), first.changed) == (State.HELD, True)
    assert [slot.role for slot in first.missing] == ["communications"]
    await outbox.drain()
    assert sink.to("all@city.example") == []
    await hold.desk.approve(Order(item, CARL))
    assert await state(hold) is State.APPROVED
    await outbox.drain()
    assert await state(hold) is State.RELEASED
    (sent,) = [d for d, _ in sink.got if d.kind == "release"]
    assert sent.trace == (("X-Civicgate-Released", item),)
    assert (sent.reverse_path, sent.parameters) == ("alice@city.example", ("BODY=8BITMIME", "RET=FULL"))
    assert await names(hold) == ["held", "approve", "complete", "start", "delivered"]
    dora = (await hold.decisions(item))[0]
    assert (dora.person, dora.comment, dora.os_user, dora.digest) == (DORA, "official", "dora", sent.sha256)


async def test_the_same_approval_again_changes_nothing(hold: Hold, item: str) -> None:
    """A second identical yes says so, adds no decision and no event; an alias is the same person."""
    await hold.desk.approve(Order(item, DORA))
    before = await hold.history(item)
    for address in (DORA, "D.Smith@City.Example"):
        again = await hold.desk.approve(Order(item, address))
        assert not again.changed
        assert "nothing was changed" in again.text
    assert await hold.history(item) == before
    assert len(await hold.decisions(item)) == 1


@pytest.mark.parametrize(
    ("person", "role", "complaint"),
    [
        ("alice@city.example", "", "sent this message"),
        ("ALICE@city.example", "", "sent this message"),
        ("alice+x@city.example", "", "sent this message"),
        ("bob@city.example", "", r"no approver.*director: dora@city.example"),
        (IDA, "", "no approver"),
        (DORA, "communications", "does not fill the role communications"),
    ],
)
async def test_who_may_not_decide(hold: Hold, item: str, person: str, role: str, complaint: str) -> None:
    """The sender in any guise, strangers, and people with another role are refused and told who can."""
    with pytest.raises(OperatorError, match=complaint):
        await hold.desk.approve(Order(item, person, role))
    with pytest.raises(OperatorError):
        await hold.desk.reject(Order(item, "alice@city.example", comment="x"))
    assert await names(hold) == ["held"]


async def test_two_of_the_same_role_are_not_two_roles(hold: Hold, item: str) -> None:
    """Two communications specialists do not make a director."""
    await hold.desk.approve(Order(item, CARL))
    with pytest.raises(OperatorError, match=r"taken.*still needs director"):
        await hold.desk.approve(Order(item, CORA))
    assert await state(hold) is State.HELD


async def test_one_person_with_both_roles_is_one_person(hold: Hold, item: str, city: Any) -> None:
    """Somebody who holds both roles fills one; the other needs somebody else."""
    city.roles["communications"] = (DORA, CARL)
    first = await hold.desk.approve(Order(item, DORA))
    assert len(first.missing) == 1
    await hold.desk.approve(Order(item, CARL))
    assert await state(hold) is State.APPROVED


async def test_an_approval_once_counted_after_its_giver_had_lost_the_role(hold: Hold, item: str, city: Any) -> None:
    """Dora is director no more when the second approval comes: the new director is asked, and it goes then."""
    await hold.desk.approve(Order(item, DORA))
    city.roles["director"] = (IDA,)
    second = await hold.desk.approve(Order(item, CARL))
    assert (await state(hold), [slot.role for slot in second.missing]) == (State.HELD, ["director"])
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.approve(Order(item, DORA))
    await hold.desk.approve(Order(item, IDA))
    assert await state(hold) is State.APPROVED


async def test_a_role_that_comes_back_makes_the_approval_count_again(hold: Hold, item: str, city: Any) -> None:
    """Nothing is missing any more, and yet it is held: any approver's word releases it, also one said before."""
    await hold.desk.approve(Order(item, DORA))
    city.roles["director"] = (IDA,)
    await hold.desk.approve(Order(item, CARL))
    city.roles["director"] = (DORA,)
    again = await hold.desk.approve(Order(item, CARL))
    assert (again.changed, await state(hold)) == (True, State.APPROVED)


async def test_an_approval_holds_for_the_message_that_was_looked_at(hold: Hold, item: str) -> None:
    """A stated digest that is not this message's is refused; its beginning is enough."""
    digest = (await hold.desk.read(item)).item.message.sha256
    with pytest.raises(OperatorError, match="another message"):
        await hold.desk.approve(Order(item, DORA, digest="0000"))
    await hold.desk.approve(Order(item, DORA, digest=digest[:10].upper()))
    assert (await hold.decisions(item))[0].digest == digest


async def test_a_changed_body_is_never_released(
    hold: Hold, item: str, settings: Settings, outbox: Outbox, sink: Any
) -> None:
    """The body on the disk changes between the approvals: damaged, visible, told to IT, not delivered."""
    await hold.desk.approve(Order(item, DORA))
    name = (await hold.desk.read(item)).item.message.body
    path = settings.store.directory / "bodies" / f"{name}.age"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(OperatorError, match="damaged"):
        await hold.desk.approve(Order(item, CARL))
    assert await state(hold) is State.DAMAGED
    assert [i.id for i in await hold.list()] == [item]
    assert (await hold.queue_facts()).damaged == 1
    await outbox.drain()
    assert all(d.kind != "release" for d, _ in sink.got)
    assert b"damaged" in sink.to(IDA)[0]
    await hold.desk.reject(Order(item, DORA, comment="send again"))
    await outbox.drain()
    assert any(b"multipart/report" in data for data in sink.to("alice@city.example"))


async def test_a_rejection_ends_it_and_the_sender_gets_it_back(
    hold: Hold, item: str, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """One no: the sender gets the message as a report with the reason; approvers are told; the body is forgotten."""
    await hold.desk.approve(Order(item, DORA))
    clock.move(minutes=1)
    await hold.desk.reject(Order(item, CARL, comment="Not city business"))
    assert await state(hold) is State.REJECTED
    with pytest.raises(OperatorError, match="rejected since"):
        await hold.desk.approve(Order(item, CORA))
    await outbox.drain()
    assert await state(hold) is State.RETURNED
    back = email.message_from_bytes(sink.to("alice@city.example")[-1], policy=policy.default)
    assert back.get_content_type() == "multipart/report"
    assert "Not city business" in str(back)
    assert "The needle in this body" in str(back)
    (returned,) = [d for d, _ in sink.got if d.kind == "return"]
    assert returned.reverse_path == ""
    assert b"is rejected (carl@city.example)" in sink.to(DORA)[-1]
    assert (await hold.desk.read(item)).item.message.body == ""


async def test_a_rejection_needs_a_reason(hold: Hold, item: str) -> None:
    """The sender must be able to read why."""
    with pytest.raises(OperatorError, match="needs a reason"):
        await hold.desk.reject(Order(item, CARL, comment="  "))


async def test_what_nobody_decides_expires(hold: Hold, item: str, clock: Any, outbox: Outbox, sink: Any) -> None:
    """After 48 h and not before, it goes back to the sender, once, whoever looks."""
    clock.move(hours=47, minutes=59)
    assert await hold.desk.expire() == 0
    clock.move(minutes=1)
    assert await hold.desk.expire() == 1
    assert await hold.desk.expire() == 0
    await outbox.drain()
    assert await state(hold) is State.RETURNED
    back = sink.to("alice@city.example")[-1]
    assert b"Status: 5.4.7" in back
    assert b"nobody decided in time" in back
    with pytest.raises(OperatorError, match="returned since"):
        await hold.desk.approve(Order(item, DORA))


async def test_a_late_approval_is_refused(hold: Hold, item: str, clock: Any) -> None:
    """After the deadline nobody approves, also when no worker has given it back yet: the sender was told so."""
    clock.move(hours=49)
    with pytest.raises(OperatorError, match="expired"):
        await hold.desk.approve(Order(item, "dora@city.example"))
    assert await hold.desk.expire() == 1


@pytest.mark.parametrize(
    "changes",
    [{"reverse_path": ""}, {"automatic": True}],
    ids=["null reverse-path", "automatic"],
)
async def test_nobody_is_answered_who_must_not_be(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, changes: dict[str, Any]
) -> None:
    """Null reverse-path and automatic mail: no notice, no return, to anybody but approvers (RFC 3834, RFC 5321 6.1)."""
    for transaction, verb in (("T1", "reject"), ("T2", "approve"), ("T3", "expire")):
        await hold.accept(acceptance(transaction, outgoing=(), **changes))
        if verb == "approve":
            for person in (DORA, CARL):
                await hold.desk.approve(Order(f"{transaction}-h1", person))
        elif verb == "reject":
            await hold.desk.reject(Order(f"{transaction}-h1", DORA, comment="no"))
        else:
            hold.core.clock.move(days=3)  # type: ignore[attr-defined]  # the test's own clock
            await hold.desk.expire()
    await outbox.drain()
    assert await state(hold) is State.REJECTED
    assert {r.address for d, _ in sink.got for r in d.recipients} == {DORA, CARL, CORA, "all@city.example"}
    assert all(d.reverse_path == "" for d, _ in sink.got if d.kind != "release")


async def test_notify_never_is_respected(
    hold: Hold,
    acceptance: Make,
    outbox: Outbox,
    sink: Any,
    recipient: Callable[..., Recipient],
    hold_order: Callable[..., HoldOrder],
) -> None:
    """RFC 3461: no report for a recipient with NOTIFY=NEVER."""
    group = HeldGroup((recipient("all@city.example", "NOTIFY=NEVER"),), (hold_order(),))
    await hold.accept(acceptance(held=(group,), outgoing=()))
    await hold.desk.reject(Order(ITEM, DORA, comment="no"))
    await outbox.drain()
    assert not any(b"multipart/report" in data for _, data in sink.got)


async def test_release_is_for_items_that_need_one_person(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient], hold_order: Callable[..., HoldOrder]
) -> None:
    """``release`` does not get round a second approval; where one role is asked for, its holder is enough."""
    one = HeldGroup((recipient("x@example.org"),), (hold_order("it-director", queue="quarantine"),))
    two = HeldGroup((recipient("all@city.example"),), (hold_order(),))
    await hold.accept(acceptance(held=(one, two)))
    with pytest.raises(OperatorError, match="hold approve"):
        await hold.desk.approve(Order("T1-h2", DORA), alone=True)
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.approve(Order("T1-h1", DORA), alone=True)
    assert (await hold.desk.approve(Order("T1-h1", IDA), alone=True)).item.state is State.APPROVED


async def test_notices_tell_approvers_all_but_the_body(hold: Hold, item: str, outbox: Outbox, sink: Any) -> None:
    """Who, list, how many people, size, rule, clause, digest: yes. The body: no, to nobody."""
    await outbox.drain()
    (told,) = sink.to(DORA)
    assert all(len(sink.to(person)) == 1 for person in (CARL, CORA))
    for word in (b"alice@city.example", b"Picnic", b"all-city", b"412", b"city-wide", b"it-director"):
        assert (word in told) == (word != b"it-director"), word
    assert (await hold.desk.read(item)).item.message.sha256.encode() in told
    notices = [data for d, data in sink.got if d.kind == "notice"]
    assert len(notices) == 4
    assert not any(b"needle" in data for data in notices)


async def test_a_view_is_for_approvers_and_is_an_event(hold: Hold, item: str) -> None:
    """Reading the body leaves a trace, also the sender's own; IT and strangers cannot."""
    await hold.desk.view(item, DORA, "dsmith", "plan.pdf")
    last = (await hold.history(item))[-1]
    assert (last.event, last.actor, last.os_user, last.comment) == ("view", DORA, "dsmith", "plan.pdf")
    await hold.desk.view(item, "alice@city.example", "alice")
    assert (await hold.history(item))[-1].actor == "alice@city.example"
    for other in (IDA, "bob@city.example", ""):
        assert not await hold.desk.permission(item, other)
        with pytest.raises(OperatorError):
            await hold.desk.view(item, other, "")
    assert len(await hold.history(item)) == 3


async def test_views_and_decisions_at_once(hold: Hold, item: str, clock: Any) -> None:
    """Somebody reads while others decide: nothing gets lost, and a view does not change since when it is approved."""
    views = [hold.desk.view(item, CORA, "") for _ in range(4)]
    await asyncio.gather(*views, hold.desk.approve(Order(item, DORA)), hold.desk.approve(Order(item, CARL)))
    approved = (await hold.desk.read(item)).item.changed
    clock.move(hours=1)
    await hold.desk.view(item, DORA, "")
    assert (await hold.desk.read(item)).item.changed == approved
    assert sorted(await names(hold)) == sorted(["held", "approve", "complete", *["view"] * 5])


async def test_ids_can_be_shortened(hold: Hold, acceptance: Make) -> None:
    """A unique beginning is enough; an ambiguous one lists the candidates; % and _ are only characters."""
    for transaction in ("AB1", "AB2", "C1"):
        await hold.accept(acceptance(transaction))
    assert await hold.resolve("C") == "C1-h1"
    assert await hold.resolve("AB1-h1") == "AB1-h1"
    with pytest.raises(OperatorError, match="AB1-h1, AB2-h1"):
        await hold.resolve("AB")
    for nonsense in ("%", "_B1", "zz", ""):
        with pytest.raises(OperatorError):
            await hold.resolve(nonsense)


@pytest.mark.sqlite
@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.tuples(st.sampled_from("ar"), st.sampled_from([DORA, CARL, CORA, IDA])), max_size=5))
def test_any_sequence_of_words(
    tmp_path_factory: pytest.TempPathFactory,
    settings: Settings,
    city: Any,
    acceptance: Make,
    words: list[tuple[str, str]],
) -> None:
    """Whatever people say in whatever order: approved exactly when a director and a specialist did before any no."""

    async def story() -> State:
        folder = tmp_path_factory.mktemp("words")
        own = settings.model_copy(
            update={"store": settings.store.model_copy(update={"directory": folder, "key_file": folder / "key"})}
        )
        hold = await open_hold(own, city)
        try:
            await hold.accept(acceptance())
            for verb, person in words:
                try:
                    if verb == "a":
                        await hold.desk.approve(Order(ITEM, person))
                    else:
                        await hold.desk.reject(Order(ITEM, person, comment="no"))
                except OperatorError:
                    pass
            await hold.verify_events()
            return await state(hold)
        finally:
            await hold.close()

    expected, yes = State.HELD, set[str]()
    for verb, person in words:
        if expected is not State.HELD or person == IDA:
            continue
        if verb == "r":
            expected = State.REJECTED
        else:
            yes.add("director" if person == DORA else "communications")
            expected = State.APPROVED if len(yes) == 2 else State.HELD
    assert asyncio.run(story()) == expected


RIVALS = """
import asyncio, os, sys, time
sys.path.insert(0, sys.argv[1])
import conftest
from pathlib import Path
from gateway.errors import OperatorError
from gateway.hold import State, open_hold
from gateway.hold.decide import Order
from gateway.settings import Settings, StoreSettings, NoticeSettings

folder = Path(sys.argv[2])
settings = Settings(store=StoreSettings(directory=folder, database=sys.argv[3], key_file=folder / "body.key"),
                    notices=NoticeSettings(templates=conftest.TEMPLATES))

async def decide(verb, person, scenario, at):
    hold = await open_hold(settings, conftest.City(), clock=conftest.Clock())
    items = [item.id for item in await hold.list(states=list(State)) if item.id.startswith(scenario)]
    time.sleep(max(0, at - time.time()))
    said = []
    for ident in items:
        order = Order(ident, person, comment="because")
        try:
            outcome = await (hold.desk.approve(order) if verb == "approve" else hold.desk.reject(order))
            said.append(f"{ident} {verb} {'won' if outcome.changed else 'same'}\\n")
        except OperatorError as error:
            said.append(f"{ident} {verb} told\\n")
    await hold.close()
    os.write(1, "".join(said).encode())

for scenario, rivals in (("D", (("approve", "carl"), ("reject", "cora"))), ("S", (("approve", "carl"),) * 2)):
    at, children = time.time() + 0.5, []
    for verb, name in rivals:
        child = os.fork()
        if child == 0:
            asyncio.run(decide(verb, name + "@city.example", scenario, at))
            os._exit(0)
        children.append(child)
    for child in children:
        if os.waitpid(child, 0)[1]:
            sys.exit(1)
"""


async def test_two_processes_at_the_same_instant(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """Of two processes that decide the same items at once, for each item one wins and the other is told."""
    for name in (f"{scenario}{number}" for scenario in "DS" for number in range(6)):
        await hold.accept(acceptance(name))
        await hold.desk.approve(Order(f"{name}-h1", DORA))
    here = Path(__file__).parent
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", RIVALS, str(here), str(settings.store.directory), settings.store.database],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=here.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, list[tuple[str, str]]] = {}
    for ident, verb, result in map(str.split, done.stdout.splitlines()):
        said.setdefault(ident, []).append((result, verb))
    assert len(said) == 12
    for ident, words in said.items():
        (other, _), (won, verb) = sorted(words)
        assert (other, won) == ("same" if ident.startswith("S") else "told", "won"), ident
        wanted = State.APPROVED if verb == "approve" else State.REJECTED
        assert (await hold.desk.read(ident)).item.state is wanted
    await hold.verify_events()
