"""«Release to some» where who must approve depends on the recipients: what counts is who is asked for those left."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, State
from gateway.hold.allowing import Allowance
from gateway.hold.approval import LIST_OWNERS
from gateway.hold.decide import Order, Rest
from gateway.model.envelope import Recipient
from gateway.model.verdict import HoldOrder

OTTO, ODA, DORA = "otto@city.example", "oda@city.example", "dora@city.example"
OWNERS = {"parks": (OTTO,), "roads": (ODA,), "works": (OTTO,)}
ITEM = "T1-h1"
ORDER = HoldOrder("city-wide", "lists", (LIST_OWNERS,), None, "the owner of each list is asked")


class SomeList:
    """A list with owners."""

    def __init__(self, owners: tuple[str, ...]) -> None:
        self.owners, self.size = owners, 10


@pytest.fixture
def held(
    hold: Hold, city: Any, acceptance: Callable[..., Acceptance], recipient: Callable[..., Recipient], monkeypatch: Any
) -> Callable[..., Any]:
    """Holds one message to these lists."""
    monkeypatch.setattr(type(city), "list", lambda _, name: SomeList(OWNERS[name]) if name in OWNERS else None)

    async def keep(order: HoldOrder, *lists: str) -> None:
        to = tuple(recipient(f"{name}@city.example", lists=(name,)) for name in lists)
        await hold.accept(acceptance(held=(HeldGroup(to, (order,)),), outgoing=()))

    return keep


async def test_the_owner_of_the_list_that_is_left_is_enough(hold: Hold, held: Any, outbox: Outbox, sink: Any) -> None:
    """Regression: the item of one list, approved by its owner, waited on, with nothing missing, until it expired."""
    await held(ORDER, "parks", "roads")
    done = await hold.desk.release_some(Order(ITEM, OTTO), ["parks@city.example"])
    assert done.item.state is State.APPROVED
    (parted,) = [item for item in await hold.list() if item.id != ITEM]
    assert [slot.role for slot in (await hold.desk.read(parted.id)).missing()] == [f"{LIST_OWNERS}:roads"]
    await outbox.drain()
    assert (len(sink.to("parks@city.example")), sink.to("roads@city.example")) == (1, [])
    assert (await hold.desk.approve(Order(parted.id, ODA))).item.state is State.APPROVED


async def test_an_approval_for_two_lists_still_counts_for_one(hold: Hold, held: Any) -> None:
    """Regression: Otto approved for both of his lists; when Dora parted one, his word counted for neither."""
    await held(replace(ORDER, roles=(LIST_OWNERS, "director")), "parks", "works")
    await hold.desk.approve(Order(ITEM, OTTO))
    done = await hold.desk.release_some(Order(ITEM, DORA), ["parks@city.example"])
    assert done.item.state is State.APPROVED
    (parted,) = [item for item in await hold.list() if item.id != ITEM]
    assert [slot.role for slot in (await hold.desk.read(parted.id)).missing()] == ["director"]


@pytest.mark.parametrize("to", ["*", "@city.example", "roads@city.example"])
async def test_the_owner_of_one_list_allows_nothing_to_others(hold: Hold, held: Any, clock: Any, to: str) -> None:
    """Regression: «release and allow» to anybody let a list's owner exempt mail to lists of other owners."""
    await held(replace(ORDER, exceptions=("list-mail",)), "parks")
    until = clock() + timedelta(days=7)
    with pytest.raises(OperatorError, match="these lists only"):
        await hold.desk.release_and_allow(Order(ITEM, OTTO), Allowance(until, (to,)))
    await hold.desk.release_and_allow(Order(ITEM, OTTO), Allowance(until, ("Parks@city.example",)))
    assert [record.recipient for record, _ in await hold.exceptions.list()] == ["parks@city.example"]


@pytest.mark.parametrize("rest", list(Rest))
async def test_who_is_not_asked_for_what_is_left_does_not_part(hold: Hold, held: Any, rest: Rest) -> None:
    """Regression: the owner of one list could part the item so that only the other's was left, as an «approval»."""
    await held(ORDER, "parks", "roads")
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.release_some(Order(ITEM, ODA, comment="not these"), ["parks@city.example"], rest)
    assert [entry.event for entry in await hold.history(ITEM)] == ["held"]
