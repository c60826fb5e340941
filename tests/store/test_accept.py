"""Accepting: one transaction, all or nothing, and never in clear on the disk."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, OutgoingGroup, State, open_hold
from gateway.model.envelope import Recipient
from gateway.model.verdict import (
    Disposition,
    HoldOrder,
    Mode,
    Notice,
    RuleMatch,
    Transform,
    TransformKind,
)
from gateway.settings import Settings

Make = Callable[..., Acceptance]


async def test_a_list_under_two_addresses_was_counted_twice(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient], hold_order: Callable[..., HoldOrder]
) -> None:
    """Approvers read how many people it reaches: the list's 412 once, and one more person."""
    lists = ("all-city", "@city-wide")
    to = [recipient(address, lists=lists) for address in ("all@city.example", "All@city.example", "staff@city.example")]
    await hold.accept(acceptance(held=(HeldGroup((*to, recipient("bob@city.example")), (hold_order(),)),)))
    (item,) = await hold.list()
    assert item.audience == 413


async def test_what_was_accepted_comes_back(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient], hold_order: Callable[..., HoldOrder]
) -> None:
    """Envelope, client, orders, transforms, matches: the held item has them all, equal."""
    group = HeldGroup(
        (recipient("out@example.org", "NOTIFY=FAILURE", "ORCPT=rfc822;x"), recipient("all@city.example")),
        (hold_order("director", after=timedelta(hours=3)), hold_order("it-director", queue="encryption")),
        (Transform(TransformKind.ENCRYPT, "r1", methods=("smime",), on_failure=Disposition.HOLD),),
        (RuleMatch("r1", "Title", Mode.ENFORCE, Disposition.HOLD, ("wdm/all-city",), "because"),),
    )
    wanted = acceptance(held=(group,), authors=("alice@city.example",), automatic=True)
    await hold.accept(wanted)
    (item,) = await hold.list()
    facts = item.message
    assert (item.id, item.state, item.queue) == ("T1-h1", State.HELD, "all-city")
    assert (item.recipients, item.orders, item.transforms, item.matches) == (
        group.recipients,
        group.orders,
        group.transforms,
        group.matches,
    )
    assert item.expires - item.created == timedelta(hours=3)
    assert (facts.client, facts.reverse_path, facts.parameters, facts.authors, facts.automatic) == (
        wanted.client,
        wanted.reverse_path,
        wanted.parameters,
        wanted.authors,
        True,
    )
    assert (facts.sha256, facts.size) == (wanted.message.sha256(), wanted.message.size)
    body = bytearray()
    await hold.body(item, body.extend)
    assert bytes(body) == b"".join(wanted.message.chunks())


async def test_groups_are_items_and_rows_of_their_own(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient], hold_order: Callable[..., HoldOrder]
) -> None:
    """Two held groups and two outgoing ones: two items and two relay rows, next to the notices."""
    held = tuple(HeldGroup((recipient(f"l{n}@city.example"),), (hold_order(),)) for n in (1, 2))
    outgoing = tuple(OutgoingGroup((recipient(f"p{n}@city.example"),)) for n in (1, 2))
    await hold.accept(acceptance(held=held, outgoing=outgoing))
    assert [item.id for item in await hold.list()] == ["T1-h1", "T1-h2"]
    facts = await hold.queue_facts()
    assert facts.held == {"all-city": 2}
    assert facts.outbox == 2 + 2 * 4  # three approvers and the sender are told of each item


async def test_notices_alone_store_no_body(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """A message that passed, with a rule's notice: only the notice is stored."""
    notices = (Notice("intrusion", ("it-director",), "roc/intrusion"),)
    await hold.accept(acceptance(held=(), outgoing=(), notices=notices))
    assert (await hold.queue_facts()).outbox == 1
    assert len(list((settings.store.directory / "bodies").iterdir())) == 1


async def test_a_notice_of_a_refused_message_names_its_recipients(
    hold: Hold, acceptance: Make, sink: Any, outbox: Outbox, recipient: Callable[..., Recipient]
) -> None:
    """Nothing of the message is stored, and those who are told read all the same to whom it was to go."""
    notices = (Notice("virus-found", ("it-director",), "A virus"),)
    await hold.accept(acceptance(held=(), outgoing=(), notices=notices, recipients=(recipient("victim@city.example"),)))
    await outbox.drain()
    assert b"victim@city.example" in sink.to("ida@city.example")[0]


async def test_nothing_lies_in_clear_on_the_disk(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """No file of the store holds the body's words, and only its owner can read the key."""
    await hold.accept(acceptance())
    files = [path for path in settings.store.directory.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert b"needle" not in path.read_bytes(), path
    assert settings.store.key_file.stat().st_mode & 0o777 == 0o600
    for path in settings.store.directory.glob("store.db*"):
        assert path.stat().st_mode & 0o077 == 0


async def test_the_same_transaction_twice_is_refused(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """A transaction id names one message for good; the second try leaves nothing, the first stays whole."""
    await hold.accept(acceptance())
    before = sorted((settings.store.directory / "bodies").iterdir())
    with pytest.raises(StoreError):
        await hold.accept(acceptance())
    assert sorted((settings.store.directory / "bodies").iterdir()) == before
    (item,) = await hold.list()
    await hold.body(item, len)


async def test_a_locked_database_is_451_and_leaves_nothing(
    settings: Settings, acceptance: Make, hold: Hold, by_hand: Any
) -> None:
    """Another process keeps the database locked: StoreError after the timeout, no rows, no bodies."""
    impatient = await open_hold(settings, hold.core.directory, clock=hold.core.clock, busy_timeout=0.2)
    try:
        await by_hand.lock()
        with pytest.raises(StoreError, match=r"locked|lock timeout") as caught:
            await impatient.accept(acceptance())
        await by_hand.unlock()
        assert caught.value.reply.code == 451
        assert await hold.list() == ()
        assert list((settings.store.directory / "bodies").iterdir()) == []
        await impatient.accept(acceptance())
    finally:
        await impatient.close()


async def test_a_folder_that_cannot_be_written_is_451(hold: Hold, acceptance: Make, settings: Settings) -> None:
    """The folder of bodies is gone: StoreError, nothing in the database."""
    (settings.store.directory / "bodies").rename(settings.store.directory / "elsewhere")
    with pytest.raises(StoreError):
        await hold.accept(acceptance())
    assert await hold.list() == ()


FULL_DISK = """
import asyncio, resource, signal, sys
sys.path.insert(0, sys.argv[1])
import conftest
from pathlib import Path
from gateway.errors import StoreError
from gateway.hold import open_hold
from gateway.settings import Settings, StoreSettings, NoticeSettings

async def main():
    folder = Path(sys.argv[2])
    settings = Settings(store=StoreSettings(directory=folder, key_file=folder / "key"),
                        notices=NoticeSettings(templates=conftest.TEMPLATES))
    hold = await open_hold(settings, conftest.City())
    make = conftest.acceptance.__wrapped__(conftest.Clock())
    await hold.accept(make("T0"))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        for number in range(1, 200):
            await hold.accept(make(f"T{number}", conftest.MESSAGE * int(sys.argv[4])))
        print("no failure")
    except StoreError as error:
        print("refused", error.reply.code, number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await hold.accept(make("LAST"))
    print(" ".join(item.id for item in await hold.list()))
    for item in await hold.list():
        await hold.body(item, len)
    print(len([f for f in (folder / "bodies").iterdir()]), (await hold.queue_facts()).outbox)
    await hold.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("limit", "repeat"), [(100_000, 1000), (150_000, 1)], ids=["body", "database"])
def test_a_full_disk_is_451_and_leaves_nothing(tmp_path: Path, limit: int, repeat: int) -> None:
    """No room for the body, or for the rows: StoreError, what was accepted before is whole, later it works again."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(here), str(tmp_path / "s"), str(limit), str(repeat)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=here.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, ids, counts = done.stdout.strip().splitlines()
    assert refused.startswith("refused 451 ")
    accepted = int(refused.split()[2])
    wanted = {f"T{number}-h1" for number in range(accepted)} | {"LAST-h1"}
    assert set(ids.split()) == wanted
    bodies, rows = map(int, counts.split())
    assert rows == 5 * len(wanted)
    assert bodies == 5 * len(wanted)


async def test_a_cancelled_accept_is_all_or_nothing(hold: Hold, acceptance: Make) -> None:
    """Cancelled at any moment, an accept has either stored everything or nothing, and the store works on."""
    for number in range(25):
        task = asyncio.create_task(hold.accept(acceptance(f"C{number}")))
        await asyncio.sleep(number * 0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.1)
    await hold.accept(acceptance("LAST"))
    items = await hold.list()
    for item in items:
        await hold.body(item, len)
    facts = await hold.queue_facts()
    assert facts.outbox == 5 * len(items)


async def test_a_group_without_order_or_recipients_is_refused(
    hold: Hold, acceptance: Make, recipient: Callable[..., Recipient]
) -> None:
    """Nothing can be held without somebody who may decide it."""
    with pytest.raises(StoreError, match="without a hold order"):
        await hold.accept(acceptance(held=(HeldGroup((recipient("a@city.example"),), ()),)))
    assert await hold.list() == ()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", "x" * 121, "a\nb"])
async def test_a_transaction_id_cannot_be_a_path(hold: Hold, acceptance: Make, name: str) -> None:
    """Ids become file names: whatever could lead elsewhere is refused."""
    with pytest.raises(StoreError):
        await hold.accept(acceptance(name))
