"""Attacks on the pages: hostile mail, other people's items, forged and replayed links, paths, prefetching."""

import html
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.console.pages.opened import file_name, sanitised
from gateway.hold import State
from gateway.hold.decide import Order
from gateway.mime.parser import parse
from gateway.model.envelope import ExceptionRecord
from gateway.store.tables import message
from tests.browser.town import CABLE, CLERK, GARDENER, HERALD, MANAGER, PARK, Town, letter, town
from tests.unit.console.visiting import visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPT = "<script>alert(1)</script>"
BREAK = "\"'><img src=x onerror=alert(1)>"
AUTHOR = "Mallory </title><script>alert(2)</script><img src=x onerror=alert(2)>"
DAY = timedelta(days=1)
EVERYONE = "everyone@city.example"
TURNED = "invoice\u202efdp.exe"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A running console."""
    async with town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def festival(city: Town) -> dict[str, str]:
    """A morning's mail."""
    return await city.populate()


class Elements(HTMLParser):
    """Names of all elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note them."""
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


async def hostile(city: Town) -> str:
    """A message that is hostile everywhere; returns its id."""
    body = (
        f"{SCRIPT}<iframe src=//evil.example></iframe><a href='javascript:alert(1)'>x</a><svg onload=alert(1)>" + BREAK
    )
    data = letter(SCRIPT + BREAK, SCRIPT, body, BREAK.replace('"', "") + TURNED)
    author = f'From: "{AUTHOR}"'.encode()
    assert data.startswith(b"From: Chris Clerk")
    data = data.replace(b"From: Chris Clerk", author, 1)
    ident = await city.keep(SCRIPT + BREAK + TURNED, data, evidence=SCRIPT)
    await city.hold.desk.comment(Order(ident, MANAGER, comment=SCRIPT + BREAK, os_user=SCRIPT))
    return ident


@pytest.mark.parametrize(
    "path", ["/", "/held", "/items/{}", "/items/{}/history"], ids=["first", "list", "item", "record"]
)
async def test_mail_writes_no_markup_into_a_page(city: Town, path: str) -> None:
    """Subject, author, file name, evidence, text and comments with markup are shown, and are no markup."""
    ident = await hostile(city)
    async with visitor(city, MANAGER) as person:
        text = (await person.get(path.format(ident))).text
    assert "<script" not in text
    reader = Elements()
    reader.feed(text)
    assert reader.found & {"script", "img", "object", "embed"} == set()
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert html.escape(SCRIPT) in text
    assert "alert(2)" not in text or html.escape(AUTHOR) in text
    assert "alert(2)" in text or path != "/items/{}", "the author's name is on the item's page"
    assert "\u202e" not in text


async def test_html_of_mail_is_a_frame_that_does_nothing(city: Town) -> None:
    """Only structure is left; the answer forbids everything, and the page gives the frame no permission."""
    ident = await hostile(city)
    async with visitor(city, MANAGER) as person:
        page, frame = await person.get(f"/items/{ident}"), await person.get(f"/items/{ident}/html")
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("sandbox")
    body = frame.text.partition("<body>")[2]
    assert re.findall(r"<(\w+)", body) == ["a"]
    assert not re.search(r"(?i)<[^>]+(on\w+=|href|src|style)", body)
    assert re.search(r'<iframe[^>]* sandbox=""', page.text)
    assert "javascript:alert(1)" in page.text


@pytest.mark.parametrize(
    "markup",
    [
        "<math><mtext></p><script>alert(1)</script>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<form action=//evil.example><input name=a><button>b</button></form>",
        "<meta http-equiv=refresh content='0;url=//evil.example'><base href=//evil.example>",
        "<p style='background:url(//evil.example)' onmouseover=alert(1) id=x class=y>z</p>",
        "<a href='data:text/html,x' target=_top>z</a><link rel=stylesheet href=//evil.example>",
        "<table background=//evil.example><td background=//evil.example colspan=99999>z",
    ],
    ids=["math", "svg", "noscript", "form", "refresh", "style", "link", "background"],
)
async def test_what_a_browser_would_load_or_run_is_gone(markup: str) -> None:
    """No attribute but spans of cells, no element but words and structure."""
    left = sanitised(markup)
    assert not re.search(r"(?i)<(script|img|style|svg|math|form|input|button|meta|base|link|iframe|noscript)", left)
    assert not re.search(r"<\w+ (?!colspan|rowspan)", left)


async def test_deeply_nested_html_takes_no_time(city: Town) -> None:
    """A hundred thousand open elements, for which a browser's reading takes minutes, are cut."""
    data = letter("Deep", "text", "<div>" * 100_000 + "the end")
    ident = await city.keep("Deep", data)
    async with visitor(city, MANAGER) as person:
        begun = datetime.now(UTC)
        page = await person.get(f"/items/{ident}")
        frame = await person.get(f"/items/{ident}/html")
    assert (page.status_code, frame.status_code) == (200, 200)
    assert datetime.now(UTC) - begun < timedelta(seconds=15)


# --- downloads --------------------------------------------------------------------------------------------------------


async def test_a_download_is_octets_under_a_safe_name(city: Town, festival: dict[str, str]) -> None:
    """Type, name and policy are the console's, not the message's; the octets are the sender's; the look is recorded."""
    async with visitor(city, MANAGER) as person:
        page = await person.get(f"/items/{festival['festival']}")
        link = re.search(r'href="(/items/[^"]+/parts/[^"]+)"', page.text)
        assert link is not None
        got = await person.get(link[1])
    assert got.content == b"%PDF-1.4\n% a plan\n"
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith('attachment; filename="street plan.pdf"')
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    events = await city.hold.history(festival["festival"])
    assert (events[-1].event, events[-1].actor, events[-1].comment) == ("view", MANAGER, "attachment 2")


@pytest.mark.parametrize(
    "part",
    [
        "...",
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cx",
        "0",
        "1",
        "99",
        "2/../../x",
        "%00",
        "2%0d%0aX:y",
    ],
    ids=["up", "passwd", "coded", "backslash", "zero", "body", "beyond", "inside", "nul", "line"],
)
async def test_a_part_is_a_place_in_the_message_and_never_a_file(
    city: Town, festival: dict[str, str], part: str
) -> None:
    """Anything but the path of an attachment is not found."""
    async with visitor(city, MANAGER) as person:
        got = await person.get(f"/items/{festival['festival']}/parts/{part}")
    assert got.status_code in (404, 405), got.url
    assert b"root:" not in got.content


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\autoexec.bat", "autoexec.bat"),
        ("/etc/cron.d/x", "x"),
        (".htaccess", "htaccess"),
        ("a\r\nSet-Cookie: x=1.txt", "a__Set-Cookie_ x=1.txt"),
        ("plan\u202efdp.exe", "plan_fdp.exe"),
        ('x";.html', "x__.html"),
        ("   ", "part-1.bin"),
    ],
    ids=["up", "backslash", "root", "hidden", "lines", "turned", "quote", "blank"],
)
async def test_names_of_files_are_made_safe(name: str, safe: str) -> None:
    """No folder, no hidden file, no second header field, no turned order."""
    tree = parse(b"Content-Type: text/plain\r\n\r\nx")
    part = tree.root.__class__(**{f: getattr(tree.root, f) for f in tree.root.__slots__} | {"filename": name})
    assert file_name(part) == safe


# --- other people's items ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/html", "/parts/2"], ids=["page", "html", "attachment"])
async def test_an_approver_of_others_gets_no_content(city: Town, festival: dict[str, str], path: str) -> None:
    """A director of another department sees metadata and no subject, body, evidence or attachment."""
    ident = festival["festival"]
    for person in (PARK, CABLE):
        async with visitor(city, person) as other:
            got = await other.get(f"/items/{ident}{path}")
        assert got.status_code == (403 if path else 200)
        assert "Main Street" not in got.text
        assert "Fall Festival" not in got.text
        assert "street plan" not in got.text
    assert {e.actor for e in await city.hold.history(ident) if e.event == "view"} <= {MANAGER, HERALD, CLERK}


async def test_an_approver_of_others_decides_nothing(city: Town, festival: dict[str, str]) -> None:
    """Every action of somebody who is not asked is refused, whatever the form says."""
    ident = festival["festival"]
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, PARK) as other:
        for action in ("approve", "reject", "some", "allow", "comment", "withdraw", "attest"):
            got = await other.post(
                f"/items/{ident}", action=action, digest=digest, comment="x", recipient=["mayor@city.example"],
                days="7", scope="*", confirmed="1",
            )  # fmt: skip
            assert got.status_code == 409, action
        bulk = await other.post("/held", "/account", action="approve", item=[f"{ident}:{digest}"])
    assert "Not done" in bulk.text
    assert (await city.item(ident)).state is State.HELD


async def test_who_has_nothing_to_do_with_an_item_does_not_learn_of_it(city: Town, festival: dict[str, str]) -> None:
    """Somebody without a role gets the same answer for an item of others as for one that is not there."""
    async with visitor(city, "contractor@city.example") as other:
        there = await other.get(f"/items/{festival['festival']}")
        nowhere = await other.get("/items/T99999-h1")
        listed = await other.get("/held?state=all")
    assert (there.status_code, nowhere.status_code) == (404, 404)
    assert there.text.replace(festival["festival"], "T99999-h1") == nowhere.text
    assert "T0000" not in listed.text


async def test_subjects_cannot_be_guessed_by_searching(city: Town, festival: dict[str, str]) -> None:
    """A search of subjects finds only what waits for who searches."""
    for within in ("", "&within=subject"):
        async with visitor(city, CABLE) as other:
            got = await other.get(f"/held?q=festival{within}")
        assert festival["festival"] not in got.text


async def test_the_sender_decides_nothing(city: Town) -> None:
    """Who sent a message cannot approve it, being the director besides."""
    ident = await city.keep("From the manager", sender=MANAGER)
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, MANAGER) as person:
        got = await person.post(f"/items/{ident}", action="approve", digest=digest)
    assert got.status_code == 409
    assert (await city.hold.desk.read(ident)).said == ()


# --- what was looked at is what is decided ----------------------------------------------------------------------------


async def test_an_approval_is_for_the_message_that_was_seen(city: Town) -> None:
    """A form that shows another digest is refused; so is everything once the stored message has another one."""
    ident = await city.keep("Seen")
    async with visitor(city, MANAGER) as person:
        got = await person.post(f"/items/{ident}", action="approve", digest="0" * 64)
        for action in ("approve", "reject", "some", "allow"):
            without = await person.post(f"/items/{ident}", action=action, comment="x", recipient=[EVERYONE], days="7")
            assert (without.status_code, "which message" in without.text) == (409, True)
    assert got.status_code == 409
    assert "another message" in html.unescape(got.text)
    assert (await city.hold.desk.read(ident)).said == ()


async def test_a_body_that_was_changed_is_never_released(city: Town) -> None:
    """Both have approved, but the stored octets are others by then: nothing leaves, the item is damaged."""
    ident = await city.keep("Changed")
    item = await city.item(ident)
    await city.hold.desk.approve(Order(ident, MANAGER))

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(update(message).where(message.c.id == item.message.id).values(sha256="f" * 64))

    await city.hold.core.database.write(work)
    async with visitor(city, HERALD) as person:
        got = await person.post(f"/items/{ident}", action="approve", digest="f" * 64)
    assert got.status_code == 409
    assert (await city.item(ident)).state is State.DAMAGED


async def test_clicking_twice_does_nothing_twice(city: Town) -> None:
    """The second time the page says that it was said before."""
    ident = await city.keep("Twice")
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, MANAGER) as person:
        first = await person.post(f"/items/{ident}", action="approve", digest=digest)
        second = await person.post(f"/items/{ident}", action="approve", digest=digest)
    assert (first.headers["location"], second.headers["location"]) == (
        f"/items/{ident}?done=approved-more",
        f"/items/{ident}?done=again",
    )
    assert [e.event for e in await city.hold.history(ident)].count("approve") == 1


# --- one-time links ---------------------------------------------------------------------------------------------------


async def test_following_a_link_decides_nothing(city: Town) -> None:
    """Any number of GET and HEAD requests, with any query, leave item and link as they were."""
    ident = await city.keep("Prefetched")
    token = await city.link(ident, HERALD)
    before = await city.item(ident)
    async with visitor(city) as scanner:
        for query in ("", "?choice=approve", "?choice=reject", "?action=approve&comment=x"):
            assert (await scanner.get(f"/decide/{token}{query}")).status_code == 200
            assert (await scanner.http.head(f"/decide/{token}{query}")).status_code == 200
        assert (
            await scanner.http.post(f"/decide/{token}", data={"action": "approve"})
        ).status_code == 403  # no form seen
    assert await city.item(ident) == before
    assert (await city.hold.desk.read(ident)).said == ()


async def test_a_link_decides_once_for_its_person(city: Town) -> None:
    """The form counts for whom the link was made; the second use, and any other, is refused."""
    ident = await city.keep("By link")
    token = await city.link(ident, HERALD)
    async with visitor(city) as person:
        stale = await person.get(f"/decide/{token}")
        done = await person.post(f"/decide/{token}", action="approve", comment="Fine.")
        assert done.status_code == 200
        assert "Thank you" in done.text
        again = await person.http.post(f"/decide/{token}", data={"action": "approve"})
        seen = await person.get(f"/decide/{token}")
    assert "By link" in stale.text
    assert again.status_code in (403, 410)
    assert seen.status_code == 410
    said = (await city.hold.desk.read(ident)).said
    assert [(one.person, one.comment) for one in said] == [(HERALD, "Fine.")]


async def test_a_replayed_form_of_a_used_link_is_refused(city: Town) -> None:
    """With its own valid token of the form, too: the link itself is spent."""
    ident = await city.keep("Replayed")
    token = await city.link(ident, MANAGER)
    async with visitor(city) as person:
        shown = await person.get(f"/decide/{token}")
        csrf = re.search(r'name="csrf" value="([^"]+)"', shown.text)
        assert csrf is not None
        form = {"csrf": csrf[1], "action": "approve"}
        first = await person.http.post(f"/decide/{token}", data=form)
        second = await person.http.post(f"/decide/{token}", data=form)
    assert (first.status_code, second.status_code) == (200, 410)
    assert [e.event for e in await city.hold.history(ident)].count("approve") == 1


@pytest.mark.parametrize(
    "token",
    ["A" * 43, "x", "A" * 2000, "..%2f..%2fitems", "' OR 1=1 --"],
    ids=["random", "short", "long", "path", "sql"],
)
async def test_a_forged_link_opens_nothing(city: Town, token: str) -> None:
    """What was never given out is not found, in words that tell nothing."""
    async with visitor(city) as person:
        assert (await person.get(f"/decide/{token}")).status_code in (404, 431)


async def test_a_link_tells_no_content(city: Town, festival: dict[str, str]) -> None:
    """Who has the link sees the metadata of the letter, not the message."""
    token = await city.link(festival["festival"], HERALD)
    async with visitor(city) as person:
        text = (await person.get(f"/decide/{token}")).text
    assert "Road closures" in text
    assert "Main Street" not in text
    assert "street plan" not in text


async def test_a_link_of_an_item_that_is_decided_does_nothing(city: Town) -> None:
    """After a rejection the other approver's link is over."""
    ident = await city.keep("Rejected meanwhile")
    token = await city.link(ident, MANAGER)
    await city.hold.desk.reject(Order(ident, HERALD, comment="No."))
    async with visitor(city) as person:
        got = await person.get(f"/decide/{token}")
    assert got.status_code == 410
    assert "Nothing is left to decide" in got.text


# --- what the sender does ---------------------------------------------------------------------------------------------


async def test_a_sender_takes_a_message_back(city: Town) -> None:
    """Own messages are listed with subject and can be withdrawn; nobody decides them then."""
    ident = await city.keep("Second thoughts", sender=GARDENER)
    async with visitor(city, GARDENER) as person:
        assert "Second thoughts" in (await person.get("/mine")).text
        got = await person.post(f"/items/{ident}", action="withdraw")
        assert got.headers["location"] == f"/items/{ident}?done=withdrawn"
    assert (await city.item(ident)).state is State.WITHDRAWN


async def test_nobody_is_asked_before_the_sender_confirms(city: Town) -> None:
    """An item that wants an attestation is closed to approvers until its sender has ticked the box."""
    ident = await city.keep("Official?", sender=GARDENER, attestation="I confirm that this is official business.")
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, PARK) as approver:
        early = await approver.post(f"/items/{ident}", action="approve", digest=digest)
    async with visitor(city, GARDENER) as person:
        page = await person.get(f"/items/{ident}")
        without = await person.post(f"/items/{ident}", action="attest", digest=digest)
        done = await person.post(f"/items/{ident}", action="attest", digest=digest, confirmed="1")
    assert early.status_code == 409
    assert "official business" in page.text
    assert without.status_code == 409
    assert done.headers["location"] == f"/items/{ident}?done=attested"
    assert (await city.item(ident)).state is State.HELD


async def test_some_recipients_get_it_and_the_others_wait(city: Town) -> None:
    """A release to some parts the item; a recipient that is not the item's is refused."""
    ident = await city.keep("For some", to=("everyone@city.example", "mayor@city.example"))
    digest = (await city.item(ident)).message.sha256
    async with visitor(city, MANAGER) as person:
        odd = await person.post(f"/items/{ident}", action="some", digest=digest, recipient=["thief@evil.example"])
        done = await person.post(f"/items/{ident}", action="some", digest=digest, recipient=["mayor@city.example"])
    assert odd.status_code == 409
    assert done.headers["location"] == f"/items/{ident}?done=partly"
    assert [r.address for r in (await city.item(ident)).recipients] == ["mayor@city.example"]


async def test_a_list_goes_on_page_after_page(city: Town) -> None:
    """Every item is on one of the pages, none on two; an invented place is not found."""
    for number in range(55):
        await city.keep(f"Notice {number}", sender="many@vendor.example")
    seen: list[str] = []
    path = "/held?q=many@vendor.example&sort=created"
    async with visitor(city, CABLE) as person:
        while path:
            page = (await person.get(path)).text
            seen += re.findall(r'class="strong" href="/items/([^"]+)"', page)
            following = re.search(r'href="([^"]+)" rel="next"', page)
            path = html.unescape(following[1]) if following else ""
        assert (await person.get("/held?after=nonsense")).status_code == 404
    assert len(seen) == len(set(seen)) == 55


async def test_how_rules_look_for_things_is_not_for_everybody(city: Town) -> None:
    """Who holds no role sees what a rule is for, not its source; and not the state of the system."""
    for person, sees in ((HERALD, True), ("contractor@city.example", False)):
        async with visitor(city, person) as someone:
            page = await someone.get("/rules/passwords-in-mail")
            state = await someone.get("/system")
        assert page.status_code == 200
        assert ("when:" in page.text) is sees
        assert state.status_code == (200 if sees else 403)


@pytest.mark.parametrize(
    "path",
    [
        "/held?q={0}&queue={0}&rule={0}&sort={0}&state={0}",
        "/held?q={0}&within=subject",
        "/lists?sender={0}@city.example",
        "/account?said={0}",
        "/exceptions?done={0}&all=1",
        "/rules/{0}",
        "/accounts/{0}@city.example",
        "/items/{0}",
        "/nowhere/{0}",
    ],
    ids=["filters", "search", "sender", "said", "done", "rule", "account", "item", "nowhere"],
)
async def test_addresses_write_no_markup_into_a_page(city: Town, path: str) -> None:
    """What a link of somebody else's puts into the address is no markup on the page, and neither is an exception."""
    now = city.clock()
    ident = f"x{secrets.token_hex(5)}"
    record = ExceptionRecord(ident, SCRIPT, f"{BREAK}@city.example", "*", SCRIPT + BREAK, CABLE, now, now + DAY)
    await city.hold.exceptions.add(record)
    async with visitor(city, CABLE) as person:
        got = await person.get(path.format(quote(SCRIPT + BREAK, safe="")))
    assert got.status_code in (200, 404)
    reader = Elements()
    reader.feed(got.text)
    assert reader.found & {"script", "img", "object", "embed"} == set()
    assert not [name for name in reader.attributes if name.startswith("on")]
