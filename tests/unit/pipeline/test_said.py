"""What ``civicgate explain`` says the client would read is what the gateway says."""

import pytest

from gateway.app import Gateway
from gateway.cli.explain import reply_for
from gateway.model.reply import Reply
from gateway.model.verdict import Disposition, HoldOrder, RecipientGroup, TransformKind, Verdict
from tests.unit.pipeline.acting import carry_out, change, group, recipients

DISCARD, HOLD, PASS = Disposition.DISCARD, Disposition.HOLD, Disposition.PASS
HELD = RecipientGroup(recipients("h@city.example"), HOLD, (), (HoldOrder("r", "q", (), None, "why"),))


@pytest.mark.parametrize(
    "groups",
    [
        (group("a@city.example", DISCARD),),
        (group("a@city.example", DISCARD), group("b@city.example", DISCARD)),
        (group("a@city.example", DISCARD), group("b@city.example")),
        (group("a@city.example"), group("b@city.example", PASS, change(TransformKind.HEADER))),
        (group("a@city.example"), HELD),
        (group("a@other.example b@other.example", PASS, change(TransformKind.ENCRYPT)),),
    ],
    ids=["discard", "two-discards", "discard-and-pass", "two-passes", "hold", "encrypt-for-two"],
)
async def test_explain_says_what_the_gateway_says(plain_gateway: Gateway, groups: tuple[RecipientGroup, ...]) -> None:
    """Regression: two discards, and encryption for two recipients, were explained with another reply."""
    verdict = Verdict(groups)
    said, record = await carry_out(plain_gateway, verdict)
    assert str(reply_for(verdict)).replace(" ID", f" {record.envelope.transaction}") == str(said)


def test_what_is_not_ours_to_say_is_told_so() -> None:
    """One group that passes: the reply is the next hop's. A refusal is the rule's, word by word."""
    assert reply_for(Verdict((group("a@city.example"),))).text == "(the next hop's reply)"
    refusal = Reply.of(550, "5.7.1", "no")
    assert reply_for(Verdict((group("a@city.example", Disposition.REJECT),), refusal)) is refusal
