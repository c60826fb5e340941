"""One row that cannot be read (damaged, or of another version) costs nothing but itself: not a page, not the outbox."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.cli import hold as cli
from gateway.cli.main import parser
from gateway.errors import OperatorError, StoreError
from gateway.hold import Acceptance, Hold, Outbox, State
from gateway.hold.decide import Order
from gateway.hold.listing import Wanted
from gateway.settings import Settings

Make = Callable[..., Acceptance]
DORA, CARL = "dora@city.example", "carl@city.example"
DAMAGE = {
    "orders": "UPDATE held SET orders = 'nonsense' WHERE id = 'T1-h1'",
    "recipients": """UPDATE held SET recipients = '[{"novelty": 1}]' WHERE id = 'T1-h1'""",
    "client": "UPDATE message SET client = '[]' WHERE id = 'T1'",
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_list_shows_what_it_cannot_read_as_damaged(
    hold: Hold, acceptance: Make, by_hand: Any, clock: Any, what: str
) -> None:
    """Regression: one unreadable row failed the whole page, and «what waits for me», for everybody."""
    for name in ("T1", "T2"):
        await hold.accept(acceptance(name, outgoing=()))
        clock.move(seconds=1)
    await by_hand(DAMAGE[what])
    page = (await hold.listing.page(Wanted())).items
    assert [(item.id, item.state, bool(item.unreadable)) for item in page] == [
        ("T1-h1", State.DAMAGED, True),
        ("T2-h1", State.HELD, False),
    ]
    assert page[0].recipients
    assert page[0].message.reverse_path == "alice@city.example"
    assert "T2-h1" in [item.id for item in (await hold.listing.page(Wanted(waiting_for=DORA))).items]
    with pytest.raises(StoreError, match="T1-h1 cannot be read"):
        await hold.desk.read("T1-h1")
    assert (await hold.desk.approve(Order("T2-h1", DORA))).changed


async def test_a_decision_that_cannot_be_read_hides_no_other_item(hold: Hold, acceptance: Make, by_hand: Any) -> None:
    """Regression: damaged roles of one approval failed the list of what waits, for everybody who had one."""
    for name in ("T1", "T2"):
        await hold.accept(acceptance(name, outgoing=()))
        await hold.desk.approve(Order(f"{name}-h1", CARL))
    await by_hand("UPDATE decision SET roles = 'nonsense' WHERE item = 'T1-h1'")
    waiting = (await hold.listing.page(Wanted(waiting_for=DORA))).items
    assert {item.id for item in waiting} == {"T1-h1", "T2-h1"}


@pytest.mark.sqlite
async def test_the_command_lists_and_names_it(
    hold: Hold, acceptance: Make, by_hand: Any, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """``hold list`` prints the id and «damaged», as table and as JSON with the reason; ``hold show`` says why."""
    await hold.accept(acceptance("T1", outgoing=()))
    await hold.accept(acceptance("T2", outgoing=()))
    await by_hand("UPDATE held SET recipients = 'nonsense' WHERE id = 'T1-h1'")
    assert await asyncio.to_thread(cli.run, parser().parse_args(["hold", "list"]), settings) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("T1-h1"))
    assert "(cannot be read)" in line
    assert line.endswith("damaged")
    assert await asyncio.to_thread(cli.run, parser().parse_args(["hold", "list", "--json"]), settings) == 0
    found = {row["id"]: row["unreadable"] for row in orjson.loads(capsys.readouterr().out)}
    assert found["T2-h1"] == ""
    assert "not JSON" in found["T1-h1"]
    assert await asyncio.to_thread(cli.run, parser().parse_args(["hold", "show", "T1-h1"]), settings) == 1
    assert "T1-h1 cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("what", [*DAMAGE, "kind"])
async def test_a_release_that_cannot_be_read_blocks_no_other_mail(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, by_hand: Any, clock: Any, what: str
) -> None:
    """Regression: the claim of a release with an unreadable item failed, and with it every claim after it, for ever."""
    await hold.accept(acceptance("T1", outgoing=()))
    await hold.desk.approve(Order("T1-h1", DORA))
    await hold.desk.approve(Order("T1-h1", CARL))
    await by_hand(DAMAGE.get(what, "UPDATE outbox SET kind = 'novelty' WHERE id = 'T1-h1-r1'"))
    clock.move(seconds=1)
    await hold.accept(acceptance("T2", held=()))
    for _ in range(3):
        await outbox.drain()
    assert sink.to("bob@city.example")
    assert sink.to("all@city.example") == []
    assert (await hold.queue_facts()).outbox == 1


async def test_an_item_that_becomes_unreadable_under_way_is_released_all_the_same(
    hold: Hold, acceptance: Make, outbox: Outbox, sink: Any, by_hand: Any
) -> None:
    """Regression: what the next hop had taken could not be written down, and was delivered again and again."""
    await hold.accept(acceptance("T1", outgoing=()))
    await hold.desk.approve(Order("T1-h1", DORA))
    await hold.desk.approve(Order("T1-h1", CARL))
    row = await outbox.claim()
    while row is not None and row.kind != "release":
        await outbox._attempt(row)
        row = await outbox.claim()
    assert row is not None
    await by_hand(DAMAGE["orders"])
    await outbox._attempt(row)
    await outbox.drain()
    assert len(sink.to("all@city.example")) == 1
    assert await by_hand("SELECT state FROM held WHERE id = 'T1-h1'") == [[("released",)]]
    with pytest.raises(OperatorError):
        await hold.desk.read("T9-h1")
