"""One town and one browser for all tests of a file; each test has a window of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from playwright.async_api import Browser, async_playwright

from gateway.accounts import passwords
from tests.browser.chrome import CHROMIUM, launch
from tests.browser.pages import Place, pages_of
from tests.browser.town import Town, town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A running console."""
    async with town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    if not CHROMIUM:
        pytest.skip("no Chromium: pages are not looked at in a browser")
    async with async_playwright() as play:
        found = await launch(play)
        yield found
        await found.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(city: Town) -> dict[str, Place]:
    """Every page, on a morning's mail."""
    return await pages_of(city)


@pytest.fixture(autouse=True, scope="module")
def _cheap_hashes() -> Iterator[None]:
    """Passwords are hashed with the smallest parameters: what they cost is measured elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield
