"""Windows that note everything that should not happen: errors, refusals by policy, requests to elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import axe_playwright_python
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, Page, Request

from tests.browser.town import Town

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True},
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
_CUT = """() => [...document.querySelectorAll('main *, header *, nav *')].filter(e => {
  if (!e.checkVisibility() || e.closest('.away, .skip') || getComputedStyle(e).position === 'absolute') return false;
  const hidden = e.closest('.folds thead');
  if (hidden && getComputedStyle(hidden).position === 'absolute') return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(p).overflowX)) return false;
  const box = e.getBoundingClientRect();
  return box.width >= 1 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).slice(0, 3).map(e => `${e.tagName} ${(e.innerText || '').slice(0, 30)}`)"""
_AXE = AXE_FILE_PATH.read_text("utf-8")
assert axe_playwright_python.__name__


@dataclass
class Window:
    """A page in the browser, and what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    async def open(self, url: str, *, missing: bool = False) -> None:
        """Go there, with no problems yet. ``missing``: browsers note a 404 themselves."""
        self.problems.clear()
        await self.page.goto(url)
        if missing:
            self.problems.clear()

    async def violations(self, *, colours: bool = True, structure: bool = True) -> list[str]:
        """What axe-core finds, each as rule, place and reason; of colours, of everything else, or of both."""
        await self.page.evaluate(_AXE)
        options: dict[str, Any] = {"iframes": False, "preload": False, "resultTypes": ["violations"]}
        if structure:
            options |= {"runOnly": {"type": "tag", "values": RULES}, "rules": {"color-contrast": {"enabled": colours}}}
        else:
            options |= {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
        found = await self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    async def cut_off(self) -> list[str]:
        """Elements that stand out of the window and cannot be scrolled to: a card that clips hides them from sight."""
        return list(await self.page.evaluate(_CUT))

    async def too_wide(self) -> int:
        """By how many pixels the page scrolls sideways."""
        return int(
            await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


@asynccontextmanager
async def window(browser: Browser, city: Town, person: str = "", **view: Any) -> AsyncIterator[Window]:
    """A fresh window, logged in as somebody."""
    context = await browser.new_context(**view)
    try:
        if person:
            secret = await city.cookie(person)
            await context.add_cookies([{"name": "civicgate", "value": secret, "url": city.url}])
        context.set_default_timeout(10_000)
        page = await context.new_page()
        found = Window(page)

        def asked(request: Request) -> None:
            if not request.url.startswith((f"{city.url}/", "data:image")):
                found.problems.append(f"request to {request.url}")

        page.on(
            "console", lambda m: found.problems.append(f"console: {m.text}") if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: found.problems.append(f"error: {error}"))
        page.on("requestfailed", lambda r: found.problems.append(f"failed: {r.url} {r.failure}"))
        page.on("request", asked)
        yield found
    finally:
        await context.close()
