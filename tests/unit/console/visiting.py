"""People and programs that visit a town's console over real HTTP, without a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2 as httpx

from tests.browser.town import Town
from tests.unit.console.serving import NO_TLS

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """One person's browser, as far as HTTP goes."""

    http: httpx.AsyncClient
    csrf: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str) -> httpx.Response:
        """A page."""
        return await self.http.get(path)

    async def post(self, path: str, shown: str = "", **fields: str | list[str]) -> httpx.Response:
        """A form, with the token of the page on which it stands (``shown``, by default the same path)."""
        found = _CSRF.search((await self.get(shown or path)).text)
        return await self.http.post(path, data={"csrf": found[1] if found else "", **fields})


@asynccontextmanager
async def visitor(city: Town, person: str = "") -> AsyncIterator[Visitor]:
    """Somebody who is logged in, or nobody."""
    cookies = {"civicgate": await city.cookie(person)} if person else {}
    async with httpx.AsyncClient(**NO_TLS, base_url=city.url, cookies=cookies, timeout=20) as http:
        yield Visitor(http)
