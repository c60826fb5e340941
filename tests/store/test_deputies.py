"""A deputy's word uses up the right of whom it stands in for: who is asked, reminded and listed knows that."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, State
from gateway.hold.decide import Order
from gateway.hold.listing import Wanted
from gateway.model.envelope import Recipient
from gateway.model.verdict import HoldOrder

PAM, DON, IDA = (f"{name}@city.example" for name in ("pam", "don", "ida"))
ITEM = "T1-h1"
ORDER = HoldOrder(
    "city-wide", "all-city", ("director", "communications"), None, "it needs two", remind_after=timedelta(hours=8)
)


@pytest.fixture
async def held(
    hold: Hold, city: Any, acceptance: Callable[..., Acceptance], recipient: Callable[..., Recipient]
) -> str:
    """Pam holds both roles, Don stands in for her; Ida has the fallback role."""
    city.roles |= {"director": (PAM,), "communications": (PAM,)}
    city.standing_in = {PAM: (DON,)}
    group = HeldGroup((recipient("all@city.example"),), (replace(ORDER),))
    await hold.accept(acceptance(held=(group,), outgoing=()))
    return ITEM


async def waits_for(hold: Hold, person: str) -> bool:
    """Whether it stands in the list of what waits for somebody."""
    return bool((await hold.listing.page(Wanted(waiting_for=person))).items)


async def test_a_person_and_the_deputy_release_nothing_by_themselves(
    hold: Hold, held: str, outbox: Outbox, sink: Any, clock: Any
) -> None:
    """Regression: Pam and Don, who acts in her name, were two persons. Ida is asked; then Pam is left in peace."""
    assert (await hold.desk.approve(Order(held, DON))).item.state is State.HELD
    with pytest.raises(OperatorError, match="by another person"):
        await hold.desk.approve(Order(held, PAM))
    assert [await waits_for(hold, person) for person in (PAM, DON, IDA)] == [False, False, True]
    await outbox.drain()
    sink.got.clear()
    clock.move(hours=9)
    assert await hold.desk.remind() == 1
    await outbox.drain()
    assert [[r.address for r in d.recipients] for d, _ in sink.got] == [[IDA]]
    assert (await hold.desk.approve(Order(held, IDA))).item.state is State.APPROVED


async def test_rights_of_a_past_deputy(hold: Hold, held: str, city: Any, clock: Any) -> None:
    """Don approved as Pam's deputy; his days are over. Pam's own approval adds nothing, somebody else's does."""
    begun = clock.now
    await hold.desk.approve(Order(held, DON))
    city.deputies = lambda address, at: (DON,) if address == PAM and at <= begun else ()
    clock.move(days=1)
    with pytest.raises(OperatorError, match="by another person"):
        await hold.desk.approve(Order(held, PAM))
    assert not await waits_for(hold, PAM)
    assert (await hold.desk.approve(Order(held, IDA))).item.state is State.APPROVED
