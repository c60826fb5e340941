"""What becomes of a verdict: with the real store, transformer and next hop, and with each of them failing."""

import asyncio
import random
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.errors import CivicgateError, NextHopError, StoreError, TransformError
from gateway.metrics import REGISTRY
from gateway.model.envelope import Envelope, Sender
from gateway.model.reply import Reply
from gateway.model.verdict import (
    Disposition,
    HoldOrder,
    Notice,
    RecipientGroup,
    Transform,
    TransformKind,
    Verdict,
)
from gateway.pipeline.effect import Effect
from gateway.pipeline.trace import header_facts
from gateway.records.transaction import Record
from gateway.spool import SpooledMessage
from gateway.transform import TransformFailed
from tests.serving import MailServer, prepare, running, settings_for
from tests.unit.pipeline.acting import (
    CLIENT,
    MESSAGE,
    SECRET,
    CountingStore,
    FailingTransformer,
    FullStore,
    carry_out,
    change,
    group,
    install,
    outbox_empty,
    recipients,
)
from tests.unit.transform.making import certificate

DIRECTORY = """
people:
  - {address: boss@city.example, name: The Boss}
roles:
  it-director: [boss@city.example]
"""
KINDS = tuple(TransformKind)


def _failing(gateway: Gateway, *kinds: TransformKind, code: str = "sealed", named: bool = True) -> FailingTransformer:
    """Let every transform of these kinds fail."""

    def fail(transforms: tuple[Transform, ...]) -> None:
        for transform in transforms:
            if transform.kind in kinds:
                if named:
                    raise TransformFailed(code, "the neighbour fails", transform)
                raise TransformError(code, "the neighbour fails")

    fake = FailingTransformer(gateway.pipeline.services.transformer, fail)
    install(gateway, transformer=fake)
    return fake


def _body(content: bytes) -> bytes:
    return content[content.index(b"From: ") :]


async def _held(gateway: Gateway) -> list[tuple[str, tuple[str, ...], str]]:
    assert gateway._hold is not None
    return [(item.queue, tuple(r.address for r in item.recipients), item.orders[0].rule)
            for item in await gateway._hold.list()]  # fmt: skip


# --- dispositions ----------------------------------------------------------------------------------------------------


async def test_pass_is_the_next_hops_word_and_the_messages_octets(plain_gateway: Gateway, server: MailServer) -> None:
    """One group that passes: relayed while the client waits, nothing stored."""
    store = CountingStore(plain_gateway.pipeline.services.store)
    install(plain_gateway, store=store)
    reply, _ = await carry_out(plain_gateway, Verdict((group("b@city.example c@other.example"),)))
    assert str(reply) == "250 2.0.0 queued as SINK1"
    (received,) = server.received
    assert _body(received.content) == MESSAGE
    assert len(received.rcpts) == 2
    assert store.asked == []


async def test_the_next_hops_refusal_is_the_clients(plain_gateway: Gateway, server: MailServer) -> None:
    """After the final dot too the next hop's word is passed on."""
    server.replies["DOT"] = b"554-5.6.0 no\r\n554 5.6.0 thanks\r\n"
    reply, _ = await carry_out(plain_gateway, Verdict((group("b@city.example"),)))
    assert reply.encode() == b"554-5.6.0 no\r\n554 5.6.0 thanks\r\n"


async def test_a_refusal_reaches_nobody_and_carries_the_id(plain_gateway: Gateway, server: MailServer) -> None:
    """One group refused refuses the whole message; the client can quote our id."""
    refusal = Reply.of(550, "5.7.1", "Not so\nReally")
    reply, record = await carry_out(
        plain_gateway, Verdict((group("b@city.example"), group("c@city.example", Disposition.REJECT)), refusal)
    )
    assert reply.lines == ("Not so", f"Really ({record.envelope.transaction})")
    await asyncio.sleep(0.2)
    assert not server.received
    assert await _held(plain_gateway) == []


async def test_discard_is_accepted_and_gone(plain_gateway: Gateway, server: MailServer) -> None:
    """All discarded: 250 with our id, nothing relayed, nothing stored."""
    store = CountingStore(plain_gateway.pipeline.services.store)
    install(plain_gateway, store=store)
    discarded = Verdict((group("b@city.example", Disposition.DISCARD), group("c@city.example", Disposition.DISCARD)))
    reply, record = await carry_out(plain_gateway, discarded)
    assert str(reply) == f"250 2.0.0 OK {record.envelope.transaction}"
    assert (server.received, store.asked) == ([], [])


async def test_groups_that_differ_each_get_theirs_through_the_store(plain_gateway: Gateway, server: MailServer) -> None:
    """Pass, pass with a change, discard and hold in one message: each recipient gets exactly its own."""
    verdict = Verdict(
        (
            group("plain@city.example"),
            group("changed@city.example", Disposition.PASS, change(TransformKind.HEADER)),
            group("gone@city.example", Disposition.DISCARD),
            RecipientGroup(
                recipients("waits@city.example"), Disposition.HOLD, holds=(HoldOrder("r", "all-city", (), None, "why"),)
            ),
        )
    )
    reply, record = await carry_out(plain_gateway, verdict)
    assert str(reply) == f"250 2.0.0 Accepted, held for a decision as {record.envelope.transaction}"
    await outbox_empty(plain_gateway)
    got = {rcpt: received.content for received in server.received for rcpt in received.rcpts}
    assert set(got) == {"TO:<plain@city.example>", "TO:<changed@city.example>"} | {
        to for to in got if to == "TO:<a@city.example>"
    }
    assert _body(got["TO:<plain@city.example>"]) == MESSAGE
    assert b"X-Put: put by header" in got["TO:<changed@city.example>"]
    assert await _held(plain_gateway) == [("all-city", ("waits@city.example",), "r")]


async def test_an_abandoned_transaction_with_the_next_hop_carries_nothing(
    plain_gateway: Gateway, server: MailServer
) -> None:
    """Held mail: the next hop heard MAIL and RCPT, but never any content."""
    order = HoldOrder("r", "q", (), None, "why")
    await carry_out(
        plain_gateway, Verdict((RecipientGroup(recipients("b@city.example"), Disposition.HOLD, (), (order,)),))
    )
    assert server.unfinished == []
    assert all("b@city.example" not in rcpt for received in server.received for rcpt in received.rcpts)


# --- transforms and their failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not TransformKind.ENCRYPT])
async def test_each_change_is_in_what_leaves(plain_gateway: Gateway, server: MailServer, kind: TransformKind) -> None:
    """A transform that works is seen by the next hop, and the record names it."""
    _, record = await carry_out(plain_gateway, Verdict((group("b@city.example", Disposition.PASS, change(kind)),)))
    assert b"put by " + kind.encode() in server.received[0].content
    assert record.actions == [kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("on_failure", "code"),
    [(Disposition.DEFER, 451), (Disposition.REJECT, 554), (Disposition.HOLD, 250), (Disposition.PASS, 250)],
)
async def test_a_failed_change_is_decided_by_its_rule(
    plain_gateway: Gateway, server: MailServer, kind: TransformKind, on_failure: Disposition, code: int
) -> None:
    """Each kind with each on_failure: only pass relays, and encrypt never does."""
    _failing(plain_gateway, kind)
    clear = on_failure is Disposition.PASS and kind is not TransformKind.ENCRYPT
    expected = 451 if on_failure is Disposition.PASS and not clear else code
    before = REGISTRY.get_sample_value("civicgate_transform_failures_total", {"code": "sealed"}) or 0
    reply, record = await carry_out(
        plain_gateway, Verdict((group("b@city.example", Disposition.PASS, change(kind, on_failure)),))
    )
    assert reply.code == expected
    assert record.problem == "sealed: the neighbour fails"
    assert REGISTRY.get_sample_value("civicgate_transform_failures_total", {"code": "sealed"}) == before + 1
    to_recipient = [r for r in server.received if r.rcpts == ["TO:<b@city.example>"]]
    assert [_body(r.content) for r in to_recipient] == ([MESSAGE] if clear else [])
    held = await _held(plain_gateway)
    assert [(to, rule) for _, to, rule in held] == (
        [(("b@city.example",), f"rule-{kind}")] if on_failure is Disposition.HOLD else []
    )
    assert record.verdict is not None
    assert record.verdict.disposition is (
        Disposition.HOLD if on_failure is Disposition.HOLD else Disposition.PASS
    )  # fmt: skip


async def test_the_other_changes_are_made_when_one_may_be_left_out(plain_gateway: Gateway, server: MailServer) -> None:
    """on_failure: pass of one transform leaves out that one alone."""
    fake = _failing(plain_gateway, TransformKind.BANNER)
    changes = [change(kind, Disposition.PASS) for kind in (TransformKind.HEADER, TransformKind.BANNER)]
    changes.append(change(TransformKind.LEGEND, Disposition.REJECT))
    reply, _ = await carry_out(plain_gateway, Verdict((group("b@city.example", Disposition.PASS, *changes),)))
    assert reply.code == 250
    content = server.received[0].content
    assert (b"put by header" in content, b"put by banner" in content, b"put by legend" in content) == (
        True,
        False,
        True,
    )
    assert len(fake.asked) == 2


async def test_an_error_that_names_no_transform_counts_for_all(plain_gateway: Gateway, server: MailServer) -> None:
    """The strongest on_failure of all decides, so that nothing demanded is left out by guess."""
    _failing(plain_gateway, TransformKind.HEADER, named=False)
    changes = (change(TransformKind.HEADER, Disposition.PASS), change(TransformKind.LEGEND, Disposition.REJECT))
    reply, _ = await carry_out(plain_gateway, Verdict((group("b@city.example", Disposition.PASS, *changes),)))
    assert reply.code == 554
    assert not server.received


async def test_encrypted_mail_goes_to_each_recipient_by_itself(tmp_path: Path, server: MailServer) -> None:
    """A list of keys in one message would betray a Bcc: two recipients, two messages, neither in clear."""
    prepare(tmp_path)
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "@other.example.pem").write_bytes(certificate(usage="encipher"))
    async with running(settings_for(tmp_path, server)) as gateway:
        verdict = Verdict((group("b@other.example c@other.example", Disposition.PASS, change(TransformKind.ENCRYPT)),))
        reply, record = await carry_out(gateway, verdict)
        assert str(reply) == f"250 2.0.0 Accepted for delivery as {record.envelope.transaction}"
        await server.wait_for(2)
    assert sorted(tuple(r.rcpts) for r in server.received) == [("TO:<b@other.example>",), ("TO:<c@other.example>",)]
    assert all(b"application/pkcs7-mime" in r.content and SECRET not in r.content for r in server.received)


async def test_encrypt_never_leaks_clear_text_whatever_fails(tmp_path: Path, server: MailServer) -> None:
    """Random groups, changes, on_failures, failing neighbours: who was to be sent cipher text is never sent clear."""
    chance = random.Random(20261121)
    prepare(tmp_path, directory="people: []\n")
    (tmp_path / "certificates").mkdir()
    pem = certificate(usage="encipher")
    clear_allowed, encrypted = set[str](), set[str]()
    async with running(settings_for(tmp_path, server)) as gateway:
        real = gateway.pipeline.services
        for number in range(20):
            groups = []
            for part in range(chance.randint(1, 3)):
                to = [f"r{number}-{part}-{n}@other.example" for n in range(chance.randint(1, 2))]
                kinds = sorted(chance.sample(KINDS, chance.randint(0, 4)), key=KINDS.index)
                outcomes = [Disposition.PASS, Disposition.DEFER, Disposition.HOLD, Disposition.REJECT]
                transforms = [change(kind, chance.choice(outcomes)) for kind in kinds]
                (encrypted if TransformKind.ENCRYPT in kinds else clear_allowed).update(to)
                for address in to:
                    if chance.random() < 0.6:
                        (tmp_path / "certificates" / f"{address}.pem").write_bytes(pem)
                groups.append(group(" ".join(to), Disposition.PASS, *transforms))
            install(gateway, transformer=real.transformer)
            _failing(gateway, *chance.sample(KINDS, chance.choice([0, 1, 1, 2])), named=chance.random() < 0.7)
            try:
                reply, _ = await carry_out(gateway, Verdict(tuple(groups)))
            except StoreError as error:
                reply = error.reply
            assert reply.code in (250, 451, 554)
            await outbox_empty(gateway)
    got = [(rcpt[4:-1], r.content) for r in server.received for rcpt in r.rcpts]
    sealed = [content for to, content in got if to in encrypted]
    assert len(sealed) >= 5, "the campaign must see encryption succeed, too"
    assert len([1 for to, content in got if to in clear_allowed and SECRET in content]) >= 5
    assert all(SECRET not in content and b"about it" not in content for content in sealed)
    assert server.unfinished == []


# --- failing neighbours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disposition", [Disposition.HOLD, Disposition.PASS])
async def test_a_store_that_fails_is_451_and_nothing_is_relayed(
    plain_gateway: Gateway, server: MailServer, disposition: Disposition
) -> None:
    """No promise is given that nobody keeps: neither held mail nor half of a split message goes anywhere."""
    install(plain_gateway, store=FullStore())
    order = HoldOrder("r", "q", (), None, "why")
    verdict = Verdict(
        (group("b@city.example"), RecipientGroup(recipients("c@city.example"), disposition, (), (order,)))
    )
    with pytest.raises(StoreError) as refused:
        await carry_out(plain_gateway, verdict)
    assert refused.value.reply.code == 451
    assert not server.received
    assert not server.unfinished


async def test_a_held_change_with_a_failing_store_is_451(plain_gateway: Gateway, server: MailServer) -> None:
    """A failed transform whose rule holds, and no store: refused for now, not sent without the change."""
    _failing(plain_gateway, TransformKind.ENCRYPT)
    install(plain_gateway, store=FullStore())
    transform = change(TransformKind.ENCRYPT, Disposition.HOLD)
    with pytest.raises(StoreError):
        await carry_out(plain_gateway, Verdict((group("b@other.example", Disposition.PASS, transform),)))
    assert not server.received
    assert not server.unfinished


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict((group("b@city.example"),)), 250),
        (Verdict((group("b@city.example", Disposition.PASS, change(TransformKind.HEADER)),)), 250),
        (Verdict((group("b@city.example", Disposition.DISCARD),)), 250),
        (Verdict((group("b@city.example", Disposition.REJECT),), Reply.of(550, "5.7.1", "no")), 550),
    ],
    ids=["pass", "changed", "discard", "reject"],
)
async def test_a_notice_that_is_lost_changes_no_reply(plain_gateway: Gateway, verdict: Verdict, code: int) -> None:
    """Telling people is no part of the promise to the client; the loss is noted in the record."""
    install(plain_gateway, store=FullStore())
    told = Verdict(verdict.groups, verdict.refusal, (Notice("r", ("it-director",), "seen"),))
    reply, record = await carry_out(plain_gateway, told)
    assert reply.code == code
    assert record.notes == ["notice not sent: no space left on device"]


async def test_a_notice_reaches_the_role(tmp_path: Path, server: MailServer) -> None:
    """The people of the role are written to; the message itself goes on by itself and first."""
    prepare(tmp_path, directory=DIRECTORY)
    async with running(settings_for(tmp_path, server)) as gateway:
        verdict = Verdict((group("b@city.example"),), None, (Notice("r", ("it-director",), "a reason to tell"),))
        await carry_out(gateway, verdict)
        first, notice = await server.wait_for(2)
    assert _body(first.content) == MESSAGE
    assert notice.rcpts == ["TO:<boss@city.example>"]
    assert b"a reason to tell" in notice.content
    assert SECRET not in notice.content


async def test_a_next_hop_that_hangs_up_is_no_success(plain_gateway: Gateway, server: MailServer) -> None:
    """Content sent and no answer: an error with 451 4.4.1, never 250."""
    server.replies["DOT"] = b"DROP"
    with pytest.raises(NextHopError) as lost:
        await carry_out(plain_gateway, Verdict((group("b@city.example"),)))
    assert str(lost.value.reply).startswith("451 4.4.")


async def test_without_a_transaction_behind_one_is_begun(plain_gateway: Gateway, server: MailServer) -> None:
    """A relay that is gone (its recipients refused when asked anew) is no reason to defer what can be sent now."""
    effect = _without_relay(plain_gateway, "b@city.example")
    assert (await effect.carry_out(Verdict((group("b@city.example"),)))).positive
    server.replies["RCPT b@city.example"] = b"450 4.2.0 no\r\n"
    with pytest.raises(NextHopError):
        await _without_relay(plain_gateway, "b@city.example").carry_out(Verdict((group("b@city.example"),)))


async def test_a_verdict_that_forgets_a_recipient_is_refused(plain_gateway: Gateway) -> None:
    """250 is never said for a recipient of whom nobody has thought."""
    with pytest.raises(CivicgateError, match="every recipient"):
        await _without_relay(plain_gateway, "b@city.example", "c@city.example").carry_out(
            Verdict((group("b@city.example", Disposition.DISCARD),))
        )


def _without_relay(gateway: Gateway, *to: str) -> Effect:
    envelope = Envelope("T1", CLIENT, Sender("a@city.example"), recipients(*to))
    facts, record = header_facts(MESSAGE), Record(envelope, 1, "", {})
    return Effect(gateway.pipeline.services, envelope, SpooledMessage.of(MESSAGE), facts, record, None)
