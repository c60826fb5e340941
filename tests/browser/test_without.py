"""What the console does for who has no mouse and whose browser runs no script: everything."""

import hashlib

import pytest
from playwright.async_api import Browser, Page

from gateway.accounts import totp
from gateway.hold import State
from gateway.store.events import Actor
from tests.browser.looking import VIEWS, Window, window
from tests.browser.town import CABLE, HERALD, MANAGER, Town

pytestmark = pytest.mark.asyncio(loop_scope="module")
PASSWORD = "three wooden bridges"


async def _tab_to(found: Window, name: str) -> None:
    """Press Tab until the field or button of this name or words has the focus, and see that each stop is shown."""
    page = found.page
    for _ in range(80):
        await page.keyboard.press("Tab")
        tag, outline, ident, words = await page.evaluate(
            "(e => [e.tagName, getComputedStyle(e).outlineStyle, e.id || e.name || '', e.innerText || ''])"
            "(document.activeElement)"
        )
        assert outline != "none" or tag in ("IFRAME", "BODY"), f"the focus is not seen on {tag} {ident} {words}"
        if name in (ident, words.strip()):
            return
    raise AssertionError(f"no Tab reaches {name}")


async def _enter(page: Page) -> None:
    async with page.expect_navigation():
        await page.keyboard.press("Enter")


async def _log_in(found: Window, city: Town, person: str, path: str) -> None:
    """From a letter's link to the page, with password and code, by keys alone."""
    page = found.page
    await page.goto(city.url + path)
    await _tab_to(found, "address")
    await page.keyboard.type(person)
    await _tab_to(found, "password")
    await page.keyboard.type(PASSWORD)
    await _enter(page)
    secret = totp.from_digest(hashlib.sha256(f"keys {person}".encode()).hexdigest())
    await _tab_to(found, "code")
    await page.keyboard.type(totp.code_at(secret, totp.step_at(city.clock()) + 1))
    await _enter(page)


async def _account(city: Town, person: str) -> None:
    people, test = city.accounts.people, Actor("test")
    await people.add(person, test)
    await people.set_password(person, PASSWORD, test)
    secret = totp.from_digest(hashlib.sha256(f"keys {person}".encode()).hexdigest())
    await people.enrol(person, secret, totp.code_at(secret, totp.step_at(city.clock())), test)


async def test_the_whole_story_without_mouse_and_script(browser: Browser, city: Town) -> None:
    """Link, login, second factor, reading, approving, by two people one after the other; then logging out."""
    ident = await city.keep("By keys alone")
    for person in (MANAGER, HERALD):
        await _account(city, person)
        async with window(browser, city, "", **VIEWS["light"], java_script_enabled=False) as found:
            page = found.page
            await _log_in(found, city, person, f"/items/{ident}")
            assert page.url == f"{city.url}/items/{ident}"
            assert "By keys alone" in await page.inner_text("h1")
            await _tab_to(found, "comment")
            await page.keyboard.type("Good to go.")
            await _tab_to(found, "Approve")
            await _enter(page)
            assert "Your approval is recorded" in await page.inner_text("main")
            await _tab_to(found, "Log out")
            await _enter(page)
            assert "You are logged out" in await page.inner_text("main")
            assert found.problems == []
    assert (await city.item(ident)).state in (State.APPROVED, State.RELEASING, State.RELEASED)


async def test_an_account_is_ended_without_mouse_and_script(browser: Browser, city: Town) -> None:
    """An administrator finds a person in the list and disables the account; the menu of a phone opens by keys."""
    person = "temp@city.example"
    await city.accounts.people.add(person, Actor("test"))
    async with window(browser, city, CABLE, **VIEWS["phone"], java_script_enabled=False) as found:
        page = found.page
        await page.goto(f"{city.url}/")
        await _tab_to(found, "Menu")
        await page.keyboard.press("Enter")
        await _tab_to(found, "Accounts")
        await _enter(page)
        await _tab_to(found, person)
        await _enter(page)
        await _tab_to(found, "Disable")
        await _enter(page)
        assert "Disabled. Sessions and API tokens stopped at once." in await page.inner_text("main")
        assert found.problems == []
    assert (await city.accounts.people.get(person)).disabled is not None
