"""A release that the next hop routes through the gateway once more: known again by its mark, and by nothing less."""

from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.hold.decide import Order
from gateway.hold.proof import FIELD
from gateway.hold.states import State
from gateway.model.envelope import Direction, Recipient
from gateway.model.verdict import Disposition, HoldOrder, Mode, RecipientGroup, RuleMatch, Verdict
from gateway.policy.released import pardoned
from tests.pace import until
from tests.serving import Client, MailServer, prepare, running, settings_for

RULE = """
id: bomb
title: A word
source: wdm/all-city
when: {header: {name: subject, contains: WORD}}
then:
  hold: {queue: QUEUE, approvers: it-director, reason: "Somebody has to look."}
  BANNER
cases:
  - it: holds
    message: {from: a@city.example, to: [b@far.example], subject: WORD}
    expect: {disposition: hold TRANSFORMS}
  - it: leaves alone
    message: {from: a@city.example, to: [b@far.example]}
    expect: {disposition: pass}
"""
DIRECTORY = """
people:
  - {address: dana@city.example, name: Dana}
roles:
  it-director: [dana@city.example]
"""
LETTER = b"From: a@city.example\r\nTo: b@far.example\r\nSubject: bomb\r\nMessage-ID: <1@city.example>\r\n\r\nHello.\r\n"
FROM, TO = "a@city.example", "b@far.example"


def rule(word: str, banner: bool = False) -> str:
    """A rule that holds mail with a word in its subject."""
    put = "banner: {id: looked-at, lines: [Somebody looked at this]}" if banner else ""
    text = RULE.replace("WORD", word).replace("BANNER", put).replace("QUEUE", word).replace("id: bomb", f"id: {word}")
    return text.replace(" TRANSFORMS", ", transforms: [banner]" if banner else "")


async def send(gateway: Gateway, content: bytes, sender: str = FROM, to: tuple[str, ...] = (TO,)) -> str:
    """One message through the front."""
    client = await (await Client.connect(gateway.ports[0])).hello()
    try:
        return await client.send(sender, list(to), content)
    finally:
        await client.close()


@pytest.mark.parametrize("banner", [False, True], ids=["as it was", "changed on release"])
async def test_a_release_that_comes_again(tmp_path: Path, server: MailServer, banner: bool) -> None:
    """Held, approved, released; again with fields of the next hop on top: passes. Anything else is held."""
    prepare(tmp_path, {"bomb": rule("bomb", banner), "second": rule("second")}, DIRECTORY)
    async with running(settings_for(tmp_path, server)) as gateway:
        assert gateway._hold is not None
        hold = gateway._hold
        assert "held for a decision" in await send(gateway, LETTER)
        (item,) = await hold.list()
        await hold.desk.approve(Order(item.id, "dana@city.example"))
        await until(lambda: [one for one in server.received if FIELD.encode() in one.content])
        (out,) = [one.content for one in server.received if FIELD.encode() in one.content]
        assert (b"Somebody looked at this" in out) is banner
        again = b"Received: from gateway by mail.city.example;\r\n\tSun, 22 Nov 2026 10:00:00 +0000\r\n" + out
        before = len(server.received)
        assert (await send(gateway, again)).startswith("250 ")
        await until(lambda: len(server.received) > before)
        assert server.received[-1].content.endswith(again)
        assert await hold.list(states=[State.HELD]) == ()
        mark = next(line for line in out.split(b"\r\n") if line.startswith(b"\tm="))
        forged = [
            (again.replace(b"Hello.", b"Hello!"), FROM, (TO,)),
            (again.replace(b"Subject: bomb", b"subject: bomb"), FROM, (TO,)),
            (b"Subject: bomb and more\r\n" + again, FROM, (TO,)),
            (again + b"More.\r\n", FROM, (TO,)),
            (again.replace(mark, b"\tm=" + b"0" * 64), FROM, (TO,)),
            (again.replace(item.id.encode(), b"X" + item.id.encode()), FROM, (TO,)),
            (again, "other@city.example", (TO,)),
            (again, FROM, ("c@far.example",)),
            (again, FROM, (TO, "c@far.example")),
        ]
        for number, (content, sender, to) in enumerate(forged):
            assert "held for a decision" in await send(gateway, content, sender, to), number
        assert len(await hold.list(states=[State.HELD])) == len(forged)


async def test_another_rule_holds_a_release_that_comes_again(tmp_path: Path, server: MailServer) -> None:
    """The mark is for the rules that were approved, not for those that came after."""
    prepare(tmp_path, {"bomb": rule("bomb")}, DIRECTORY)
    settings = settings_for(tmp_path, server)
    async with running(settings) as gateway:
        assert gateway._hold is not None
        await send(gateway, LETTER)
        (item,) = await gateway._hold.list()
        await gateway._hold.desk.approve(Order(item.id, "dana@city.example"))
        await until(lambda: [one for one in server.received if FIELD.encode() in one.content])
        (out,) = [one.content for one in server.received if FIELD.encode() in one.content]
    prepare(tmp_path, {"later": rule("omb").replace("id: omb", "id: later")}, DIRECTORY)
    async with running(settings) as gateway:
        assert gateway._hold is not None
        assert "held for a decision" in await send(gateway, out)
        (again,) = await gateway._hold.list()
        assert [order.rule for order in again.orders] == ["later"]


def test_a_pardon_takes_away_nothing_but_holds() -> None:
    """Other holds, refusals, changes and a discard that the hold had hidden stay."""
    to = (Recipient(TO, Direction.OUTBOUND),)

    def match(name: str, what: Disposition) -> RuleMatch:
        return RuleMatch(name, name, Mode.ENFORCE, what, ("x/y",), "because")

    two = RecipientGroup(to, Disposition.HOLD, holds=(HoldOrder("a", "q", ()), HoldOrder("b", "q", ())))
    (left,) = pardoned(Verdict((two,)), {"a"}).groups
    assert (left.disposition, [order.rule for order in left.holds]) == (Disposition.HOLD, ["b"])
    hidden = RecipientGroup(
        to,
        Disposition.HOLD,
        holds=(HoldOrder("a", "q", ()),),
        matches=(match("a", Disposition.HOLD), match("d", Disposition.DISCARD)),
    )
    (left,) = pardoned(Verdict((hidden,)), {"a"}).groups
    assert left.disposition is Disposition.DISCARD
    assert "approved and released before" in left.matches[0].why
    assert pardoned(Verdict((two,)), set()) == Verdict((two,))
