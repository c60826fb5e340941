"""Pictures of every page, to look at: python -m tests.browser.shots FOLDER [PAGE …] [VIEW …].

Each page at desktop width, on a phone (360 px), dark, and at 200 %.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.browser.chrome import launch
from tests.browser.pages import pages_of
from tests.browser.town import Town, town

VIEWS = {
    "desktop": ({"width": 1280, "height": 900}, "light", 1),
    "phone": ({"width": 360, "height": 740}, "light", 2),
    "dark": ({"width": 1280, "height": 900}, "dark", 1),
    "zoom": ({"width": 640, "height": 450}, "light", 2),  # 200 % of 1280 by 900
}


async def shoot(browser: Browser, city: Town, folder: Path, wanted: set[str]) -> None:
    """All pictures of the pages and views that are wanted; without a name of its kind, of all."""
    views = wanted & set(VIEWS)
    wanted = wanted - views
    for name, page in (await pages_of(city)).items():
        if wanted and name not in wanted:
            continue
        for view, (size, scheme, scale) in VIEWS.items():
            if views and view not in views:
                continue
            context = await browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale)  # type: ignore[arg-type]
            if page.person:
                secret = await city.cookie(page.person)
                await context.add_cookies([{"name": "civicgate", "value": secret, "url": city.url}])
            tab = await context.new_page()
            await tab.goto(city.url + page.path)
            await tab.screenshot(path=folder / f"{name}-{view}.png", full_page=True)
            wide = await tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                print(f"{name} {view}: {wide} px too wide")
            await context.close()


async def main() -> None:
    """The command."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        async with town(Path(place)) as city, async_playwright() as play:
            browser = await launch(play)
            await shoot(browser, city, folder, set(sys.argv[2:]))
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
