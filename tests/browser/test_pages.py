"""Every page in a real browser: no barrier, nothing loaded from elsewhere, no error, no sideways scrolling."""

import hashlib

import pytest
from playwright.async_api import Browser

from gateway.accounts import Method, Stage, Visit, totp
from gateway.console.context import Who
from gateway.console.routes import ROUTES
from gateway.store.events import Actor
from tests.browser.looking import VIEWS, Window, window
from tests.browser.pages import Place
from tests.browser.town import CABLE, HERALD, MANAGER, Town, letter

pytestmark = pytest.mark.asyncio(loop_scope="module")
WIDTHS = (1280, 640, 320, 800, 1024, 1100)
"""640 is a window of 1280 pixels at 200 %."""


async def test_every_page_is_looked_at(places: dict[str, Place]) -> None:
    """A page that people open stands in the list of pages; what is no page, or asks for a link, is named here."""
    opened = {
        page.path
        for page in ROUTES
        if page.method == "GET" and page.who not in (Who.READ, Who.DECIDE) and not page.path.startswith("/api/")
    }
    assert opened - {place.route for place in places.values()} - ELSEWHERE == set()


ELSEWHERE = {
    "/account/totp/off", "/account/totp/picture.svg", "/health", "/items/{item}/parts/{part}", "/login/code",
    "/login/oidc", "/login/oidc/callback", "/logged-out", "/setup/{token}", "/static/{name}",
}  # fmt: skip
"""No pages, or pages behind a step of a login, which have a test of their own below."""


LEFT_OUT = {"html"}
"""The frame's document runs no script, so axe-core does not run in it; what it may hold has tests of its own."""
ALIKE = {"held-nothing", "mine-none", "exceptions-read", "item-half", "item-past", "item-program", "waiting-none"}
"""Looked at in light alone: others show the same pieces."""


async def test_no_page_has_a_barrier(browser: Browser, city: Town, places: dict[str, Place]) -> None:
    """axe-core finds nothing on any page; no error, no request to elsewhere, nothing too wide.

    In the dark the colours alone are looked at again. At 200 %, and at widths from 320 px to a laptop's, every page
    fits the window (WCAG 1.4.4, 1.4.10). Regressions: the buttons of «My account» were cut off on a phone, the states
    of held mail on a tablet.
    """
    wrong: dict[str, object] = {}
    for person in sorted({place.person for place in places.values()}):
        async with window(browser, city, person, **VIEWS["light"]) as found:
            for name, place in places.items():
                if place.person == person:
                    await found.open(city.url + place.path, missing=name == "not-found")
                    problems = [] if name in LEFT_OUT else await found.violations()
                    problems += found.problems
                    if name not in LEFT_OUT | ALIKE:
                        await found.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
                        problems += [f"dark: {one}" for one in await found.violations(structure=False)]
                        await found.page.emulate_media(color_scheme="light")
                    if name not in LEFT_OUT:
                        problems += await _does_not_fit(found)
                    if problems:
                        wrong[name] = problems
    assert wrong == {}


async def _does_not_fit(found: Window) -> list[str]:
    """What stands out of the window at some width; the window has its first size again."""
    problems = []
    for width in WIDTHS:
        await found.page.set_viewport_size({"width": width, "height": 450})
        problems += [f"{width}: {one}" for one in await found.cut_off()]
        if wide := await found.too_wide():
            problems.append(f"{width}: {wide} px too wide")
    await found.page.set_viewport_size(VIEWS["light"]["viewport"])
    return problems


async def test_no_page_has_a_barrier_on_a_phone(browser: Browser, city: Town, places: dict[str, Place]) -> None:
    """All but the colours again, where tables are folded and fingers are used."""
    wrong: dict[str, object] = {}
    for person in sorted({place.person for place in places.values()}):
        async with window(browser, city, person, **VIEWS["phone"]) as found:
            for name, place in places.items():
                if place.person == person and name not in LEFT_OUT | ALIKE:
                    await found.open(city.url + place.path, missing=name == "not-found")
                    problems = [*await found.violations(colours=False), *found.problems]
                    if wide := await found.too_wide():
                        problems.append(f"{wide} px too wide")
                    if problems:
                        wrong[name] = problems
    assert wrong == {}


@pytest.mark.parametrize("view", list(VIEWS))
async def test_no_step_of_a_login_has_a_barrier(browser: Browser, city: Town, view: str) -> None:
    """The pages that need a step before them: a wrong password, the code, a new account's link, the second factor."""
    person, actor = f"{view}@city.example", Actor("test")
    people, secret = city.accounts.people, totp.from_digest(hashlib.sha256(view.encode()).hexdigest())
    await people.add(person, actor)
    link, _ = await people.make_link(person, actor)
    await people.set_password(person, f"correct horse battery {view}", actor)
    await people.enrol(person, secret, totp.code_at(secret, totp.step_at(city.clock())), actor)
    half = await city.accounts.sessions.start(person, Stage.CODE, Visit(Method.PASSWORD, "192.0.2.99", "a browser"))
    fresh, _ = await people.make_link(person, actor)
    assert link != fresh
    paths = {
        "code": ("/login/code", half),
        "setup": (f"/setup/{fresh}", ""),
        "setup-used": (f"/setup/{link}", ""),
        "totp-off": ("/account/totp/off", await city.cookie(person)),
        "logged-out": ("/logged-out", ""),
    }
    wrong: dict[str, object] = {}
    async with window(browser, city, "", **VIEWS[view]) as found:

        async def look(name: str) -> None:
            problems = await found.violations(colours=view != "phone", structure=view != "dark")
            if wide := await found.too_wide():
                problems.append(f"{wide} px too wide")
            if problems:
                wrong[name] = problems

        for name, (path, cookie) in paths.items():
            await found.page.context.clear_cookies()
            if cookie:
                await found.page.context.add_cookies([{"name": "civicgate", "value": cookie, "url": city.url}])
            await found.page.goto(city.url + path)
            await look(name)
        await found.page.context.clear_cookies()
        await found.page.goto(f"{city.url}/login")
        await found.page.fill("[name=address]", person)
        await found.page.fill("[name=password]", "wrong")
        async with found.page.expect_navigation():
            await found.page.keyboard.press("Enter")
        await look("wrong-password")
    assert wrong == {}


async def test_a_decision_needs_the_keyboard_only(browser: Browser, city: Town) -> None:
    """From the first page to an approval with Tab, Enter and letters; every stop shows where the focus is."""
    ident = await city.keep("Approved by keyboard", expires_after=None)
    async with window(browser, city, MANAGER, **VIEWS["light"]) as found:
        page = found.page
        await page.goto(f"{city.url}/items/{ident}")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("Enter")
        for _ in range(60):
            await page.keyboard.press("Tab")
            shown, tag, name = await page.evaluate(
                "[getComputedStyle(document.activeElement).outlineStyle, document.activeElement.tagName,"
                " document.activeElement.id]"
            )
            assert shown != "none" or tag in ("IFRAME", "BODY"), (tag, name)
            if name == "comment":
                break
        await page.keyboard.type("Good to go.")
        await page.keyboard.press("Tab")
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        assert "Your approval is recorded" in await page.inner_text("main")
        assert found.problems == []
    reading = await city.hold.desk.read(ident)
    assert [(said.person, said.comment) for said in reading.said] == [(MANAGER, "Good to go.")]


_FOCUSED = """() => {
  const e = document.activeElement, box = e.getClientRects()[0];
  if (e === document.body) return 'BODY';
  const seen = box && document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  const parts = [e, ...(e.labels || [])];
  return parts.some(part => part.contains(seen)) ? '' : `${e.tagName} ${e.href || e.id || e.innerText}`;
}"""
"""What has the focus and cannot be seen where it stands."""


@pytest.mark.parametrize("name", ["held-admin", "accounts"])
async def test_the_focus_is_seen_where_tables_are_folded(
    browser: Browser, city: Town, places: dict[str, Place], name: str
) -> None:
    """On a phone Tab goes through the page and never behind it: the heads of folded tables hold links."""
    async with window(browser, city, places[name].person, **VIEWS["phone"]) as found:
        await found.page.goto(city.url + places[name].path)
        assert await found.page.evaluate("getComputedStyle(document.querySelector('.folds thead')).position") == (
            "absolute"
        )
        hidden, stops = [], 0
        while stops < 200:
            await found.page.keyboard.press("Tab")
            where = await found.page.evaluate(_FOCUSED)
            if where == "BODY":
                break
            stops += 1
            hidden += [where] if where else []
        assert hidden == []
        assert 10 < stops < 200


async def test_hostile_mail_does_nothing_in_the_browser(browser: Browser, city: Town, places: dict[str, Place]) -> None:
    """The frame shows the words; no script ran, no picture was asked for, no link leads anywhere."""
    async with window(browser, city, MANAGER, **VIEWS["light"]) as found:
        await found.page.goto(city.url + places["item"].path)
        await found.page.locator("iframe").scroll_into_view_if_needed()
        frame = found.page.frame_locator("iframe")
        assert "Main Street is closed" in await frame.locator("body").inner_text()
        assert await frame.locator("script, img, a[href], form, [onclick], style + style").count() == 0
        assert "owned" not in await found.page.title()
        assert found.problems == []


async def test_several_are_decided_at_once(browser: Browser, city: Town) -> None:
    """Two ticked, one form: each is approved by itself, and the result is told for each."""
    first, second = await city.keep("Bulk one"), await city.keep("Bulk two")
    async with window(browser, city, HERALD, **VIEWS["light"]) as found:
        page = found.page
        await page.goto(f"{city.url}/held?sort=-created&mine=1")
        await page.check(f'input[value^="{first}:"]')
        await page.check(f'input[value^="{second}:"]')
        await page.click("text=Approve the chosen")
        assert await page.locator("tbody tr").count() == 2
        assert "2 messages of 2 are decided" in await page.inner_text("main")
        assert await found.violations() == []
    for ident in (first, second):
        assert [said.person for said in (await city.hold.desk.read(ident)).said] == [HERALD]


async def test_a_mistake_is_told_beside_the_field(browser: Browser, city: Town) -> None:
    """A rejection without a reason: the page says what is missing, keeps what was typed, and is without barrier."""
    ident = await city.keep("To be rejected")
    async with window(browser, city, MANAGER, **VIEWS["light"]) as found:
        await found.page.goto(f"{city.url}/items/{ident}")
        await found.page.click("button[value=reject]")
        assert await found.page.get_attribute("#comment", "aria-invalid") == "true"
        assert "Write the reason" in await found.page.inner_text("#comment-wrong")
        assert await found.violations() == []
        await found.page.fill("#comment", "Not for the whole city.")
        await found.page.click("button[value=reject]")
        assert "Rejected" in await found.page.inner_text("main")
    assert (await city.item(ident)).state in ("rejected", "returned")


async def test_an_exception_is_granted_and_revoked(browser: Browser, city: Town) -> None:
    """An administrator fills in the form, sees it in the list, and takes it back."""
    async with window(browser, city, CABLE, **VIEWS["light"]) as found:
        page = found.page
        await page.goto(f"{city.url}/exceptions")
        await page.fill("#from", "painter@city.example")
        await page.fill("#reason", "Plans of the new library")
        await page.click("text=Grant the exception")
        row = page.locator("tr", has_text="painter@")
        assert "In force" in await row.inner_text()
        await row.locator("button").click()
        assert await page.locator("tr", has_text="painter@").count() == 0
        assert found.problems == []


EVIL = """
<link rel="prefetch" href="//e.example/1"><link rel="preload" as="image" href="//e.example/2">
<link rel="dns-prefetch" href="//e.example/"><link rel="stylesheet" href="//e.example/3">
<meta http-equiv="refresh" content="0;url=//e.example/4"><base href="//e.example/">
<style>@import "//e.example/5"; body{background:url(//e.example/6)}</style>
<p style="background:url(//e.example/7)" onmouseover="fetch('//e.example/8')">words</p>
<img src="//e.example/9" srcset="//e.example/10 2x"><picture><source srcset="//e.example/11"><img></picture>
<svg><image href="//e.example/12"/><use href="//e.example/13#x"/><script>fetch("//e.example/14")</script></svg>
<object data="//e.example/15"></object><embed src="//e.example/16"><iframe src="//e.example/17"></iframe>
<iframe srcdoc="<img src=//e.example/18>"></iframe>
<video src="//e.example/19" poster="//e.example/20" autoplay></video>
<audio src="//e.example/21" autoplay></audio>
<input type="image" src="//e.example/22" autofocus onfocus="alert(1)">
<form action="//e.example/23"><button>send</button></form><table background="//e.example/24"><td>cell</table>
<body background="//e.example/25"><frameset><frame src="//e.example/26"></frameset>
<marquee onstart="alert(2)">m</marquee>
<a href="//e.example/27" ping="//e.example/28" target="_top">a link of theirs</a>
<details open ontoggle="alert(3)">d</details>
<math href="//e.example/29"><mtext><img src="//e.example/30"></mtext></math>
<noscript><img src="//e.example/31"></noscript>
"""


async def test_no_html_of_mail_reaches_out(browser: Browser, city: Town) -> None:
    """Thirty ways in which a message asks for something from elsewhere: none does; the words are shown."""
    ident = await city.keep("Evil", letter("Evil", "words", f"<!doctype html><html><body>{EVIL}</body></html>"))
    async with window(browser, city, MANAGER, **VIEWS["light"]) as found:
        for path in (f"/items/{ident}", f"/items/{ident}/html"):
            await found.page.goto(city.url + path)
            await found.page.wait_for_load_state("networkidle")
            frame = found.page.frames[-1]
            assert "a link of theirs" in await frame.inner_text("body")
            await frame.click("text=a link of theirs")
            assert found.page.url == city.url + path
        assert found.problems == []
