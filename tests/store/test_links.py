"""One-time links: what a letter lets its reader do, once, for one message; and the letters themselves as HTML."""

import asyncio
import email
import html.parser
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from email import policy
from email.message import EmailMessage
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, Hold, Outbox, State, open_hold
from gateway.hold.decide import Order
from gateway.hold.links import LinkRefused, Problem, Purpose, fingerprint
from gateway.model.envelope import Recipient
from gateway.model.verdict import Disposition, HoldOrder, Mode, RuleMatch
from gateway.settings import Settings
from gateway.store.tables import held, link

Make = Callable[..., Acceptance]
ITEM = "T1-h1"
DORA, CARL = "dora@city.example", "carl@city.example"
URL = "https://mail.city.example/civicgate"
ORDER = HoldOrder("city-wide", "all-city", ("director", "communications"), None, "wdm/all-city asks for it")
MATCH = RuleMatch("city-wide", "Mail to all needs approval", Mode.ENFORCE, Disposition.HOLD, ("wdm/all-city",), "")
EVIL = '<img src="https://evil.example/x.png"><script>alert(1)</script> "&amp; $id'


@pytest.fixture
async def hold(settings: Settings, city: Any, clock: Any) -> AsyncIterator[Hold]:
    """A store with a console."""
    own = settings.model_copy(update={"console": settings.console.model_copy(update={"base_url": URL})})
    found = await open_hold(own, city, clock=clock, busy_timeout=2.0)
    yield found
    await found.close()


@pytest.fixture
def keep(hold: Hold, acceptance: Make, recipient: Callable[..., Recipient]) -> Callable[..., Any]:
    """Holds one message."""

    async def one(order: HoldOrder = ORDER, **more: object) -> None:
        group = HeldGroup((recipient("all@city.example", lists=("all-city",)),), (order,), matches=(MATCH,))
        await hold.accept(acceptance(held=(group,), outgoing=(), **more))

    return one


def letter(sink: Any, address: str, number: int = -1) -> EmailMessage:
    """What somebody was sent."""
    found = email.message_from_bytes(sink.to(address)[number], policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def both(sink: Any, address: str) -> tuple[str, str]:
    """Text and HTML of the last letter."""
    parts = [letter(sink, address).get_body((kind,)) for kind in ("plain", "html")]
    return str(parts[0].get_content()), str(parts[1].get_content())  # type: ignore[union-attr]  # a letter has both


def token(sink: Any, address: str) -> str:
    """The one in the last letter: the same in both links, in text and HTML."""
    found = [set(re.findall(rf"{URL}/decide/([\w-]+)", part)) for part in both(sink, address)]
    (mine,) = found[0]
    assert found[1] == {mine}
    assert re.fullmatch(r"[\w-]{43}", mine)
    return str(mine)


async def refused(hold: Hold, word: str) -> Problem:
    """Why nothing can be done with a token; looking and deciding agree."""
    with pytest.raises(LinkRefused) as looked:
        await hold.desk.follow(word)
    with pytest.raises(LinkRefused) as tried:
        await hold.desk.approve(Order(link=word))
    assert looked.value.problem is tried.value.problem
    return looked.value.problem


async def test_two_people_two_links(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """Each has a token of their own; looking changes nothing; each decides once, and the record says by what."""
    await keep()
    await outbox.drain()
    dora, carl = token(sink, DORA), token(sink, CARL)
    assert dora != carl
    for _ in range(3):
        found, reading = await hold.desk.follow(dora)
    assert (found.person, found.purpose, reading.item.state) == (DORA, Purpose.DECIDE, State.HELD)
    assert len(await hold.history(ITEM)) == 1
    await hold.desk.approve(Order(link=dora, comment="fine", os_user="one-time link"))
    assert await refused(hold, dora) is Problem.USED
    assert (await hold.desk.approve(Order(link=carl, os_user="one-time link"))).item.state is State.APPROVED
    assert [(d.person, d.os_user) for d in await hold.decisions(ITEM)] == [
        (DORA, "one-time link"),
        (CARL, "one-time link"),
    ]


async def test_a_double_click_decides_once(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """The same link four times at the same instant, beside another person's: each counts once, the rest is told."""
    await keep()
    await outbox.drain()
    words = [token(sink, DORA)] * 4 + [token(sink, CARL)]
    done = await asyncio.gather(*(hold.desk.approve(Order(link=word)) for word in words), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in done) == 2
    assert {one.problem for one in done if isinstance(one, LinkRefused)} <= {Problem.USED, Problem.OVER}
    assert [entry.event for entry in await hold.history(ITEM)] == ["held", "approve", "complete"]


async def test_a_link_rejects_too(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """With a reason; the others' links are over then."""
    await keep()
    await outbox.drain()
    with pytest.raises(OperatorError, match="reason"):
        await hold.desk.reject(Order(link=token(sink, DORA)))
    await hold.desk.reject(Order(link=token(sink, DORA), comment="no"))
    assert await refused(hold, token(sink, CARL)) is Problem.OVER


async def test_forged_changed_expired_and_others(
    hold: Hold, keep: Any, outbox: Outbox, sink: Any, clock: Any, city: Any
) -> None:
    """Every way to use a link that is not good is refused with its own reason, and nothing is decided."""
    await keep()
    await outbox.drain()
    word = token(sink, DORA)
    for forged in ("", "x", word[:-1], word + "A", "A" * 43, word.swapcase(), fingerprint(word)[:43], "../" + word[3:]):
        if forged:
            assert await refused(hold, forged) is Problem.UNKNOWN, forged
    with pytest.raises(LinkRefused, match="not there to attest"):
        await hold.desk.attest(Order(link=word))
    with pytest.raises(OperatorError):
        await hold.desk.withdraw(Order(ITEM, "alice@city.example", link=word))
    async with hold.core.database.read() as connection:
        stored = (await connection.execute(select(link))).mappings().all()
    assert word not in str(stored)

    async def other(**values: object) -> None:
        async def work(connection: Any) -> None:
            await connection.execute(update(link).where(link.c.id == fingerprint(word)).values(values))

        await hold.core.database.write(work)

    digest = (await hold.desk.read(ITEM)).item.message.sha256
    await other(digest="0" * 64)
    assert await refused(hold, word) is Problem.CHANGED
    await other(digest=digest, round=2)
    assert await refused(hold, word) is Problem.OVER
    await other(round=1)
    city.roles["director"] = ("new@city.example",)
    with pytest.raises(OperatorError, match="no approver"):
        await hold.desk.approve(Order(link=word))
    city.roles["director"] = (DORA,)
    clock.move(hours=48)
    assert await refused(hold, word) is Problem.EXPIRED
    assert [entry.event for entry in await hold.history(ITEM)] == ["held"]


async def test_a_link_that_was_given_for_another_item(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """Whatever item and person an order names beside a link: the link's own count."""
    await keep()
    await outbox.drain()
    word = token(sink, DORA)
    await keep(transaction="T2")
    done = await hold.desk.approve(Order("T2-h1", CARL, link=word))
    assert done.item.id == ITEM
    assert [d.person for d in await hold.decisions(ITEM)] == [DORA]
    assert await hold.decisions("T2-h1") == ()


async def test_deciding_elsewhere_ends_the_links(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """Who has approved after logging in leaves no link behind, nor the one in a reminder."""
    await keep()
    await outbox.drain()
    first = token(sink, DORA)
    hold.core.clock.move(hours=25)  # type: ignore[attr-defined]  # the test's own clock
    assert await hold.desk.remind() == 1
    await outbox.drain()
    second = token(sink, DORA)
    assert first != second
    await hold.desk.approve(Order(ITEM, DORA))
    assert [await refused(hold, word) for word in (first, second)] == [Problem.USED] * 2


async def test_the_sender_confirms_or_withdraws_by_link(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """The sender's link attests, once; of another message it takes back; it never approves."""
    await keep(replace(ORDER, attestation="Official business."))
    await outbox.drain()
    word = token(sink, "alice@city.example")
    with pytest.raises(LinkRefused, match="not there to decide"):
        await hold.desk.approve(Order(link=word))
    assert (await hold.desk.attest(Order(link=word))).item.state is State.HELD
    assert await refused_attest(hold, word) is Problem.USED
    await keep(replace(ORDER, attestation="Official business."), transaction="T2")
    await outbox.drain()
    word = token(sink, "alice@city.example")
    assert (await hold.desk.withdraw(Order(link=word))).item.state is State.WITHDRAWN


async def refused_attest(hold: Hold, word: str) -> Problem:
    """Why the sender cannot use it."""
    with pytest.raises(LinkRefused) as tried:
        await hold.desk.attest(Order(link=word))
    return tried.value.problem


class Outline(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags are closed in order."""
        assert self.open.pop() == tag


async def test_a_letter_is_plain_and_loads_nothing(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """Text and HTML say the same; the HTML has language, one heading, a table with row heads, links, nothing remote."""
    await keep(subject=EVIL)
    await outbox.drain()
    text, page = both(sink, DORA)
    assert letter(sink, DORA).get_content_type() == "multipart/alternative"
    for word in ("alice@city.example", "all-city", "412", "wdm/all-city", "Mail to all needs approval", "director"):
        assert word in text, word
        assert word in page, word
    outline = Outline(page)
    assert outline.open == []
    assert ("html", "lang", "en") in outline.attributes
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("th") == outline.attributes.count(("th", "scope", "row")) == 8
    assert not {"img", "script", "link", "iframe", "form", "object"} & set(outline.tags)
    assert not [row for row in outline.attributes if row[1] in ("src", "style", "onclick", "background")]
    links = [value for tag, name, value in outline.attributes if (tag, name) == ("a", "href")]
    word = token(sink, DORA)
    assert links == [
        f"{URL}/decide/{word}?choice=approve",
        f"{URL}/decide/{word}?choice=reject",
        f"{URL}/items/{ITEM}",
    ]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert EVIL in text.replace("\n               ", " ").replace("\n", " ") or "<script>alert(1)" in text
    assert "needle" not in text + page


async def test_a_letter_to_one_is_no_use_to_another_store(hold: Hold, keep: Any, outbox: Outbox, sink: Any) -> None:
    """A second item's release does not need the first one's link, and a hidden round change ends it."""
    await keep()
    await outbox.drain()
    word = token(sink, CARL)

    async def again(connection: Any) -> None:
        await connection.execute(update(held).where(held.c.id == ITEM).values(round=2, version=9))

    await hold.core.database.write(again)
    assert await refused(hold, word) is Problem.OVER
