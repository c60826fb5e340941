"""The real console over HTTP on a free port, on a real store, with a clock that tests move; and a browser for it."""

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from sqlalchemy import func, select

from gateway.accounts import Accounts
from gateway.console.app import Console, build
from gateway.console.context import Page, Services
from gateway.console.routes import ROUTES
from gateway.console.serve import provider_of
from gateway.directory import Directory
from gateway.directory.directory import Department, Person
from gateway.hold import Hold, open_hold
from gateway.policy import load_rules
from gateway.settings import Settings
from gateway.store import tables
from gateway.store.events import Actor
from gateway.store.sealing import Seal
from tests.ports import free_port

TEMPLATES = Path("config/templates").resolve()
PASSWORD = "three wooden bridges"
OTHER_PASSWORD = "seven silent rivers"
CLERK, IDA, DORA = "clerk@city.example", "ida@city.example", "dora@city.example"
TESTER = Actor("tester", "")
CITY = Directory(
    people=(
        Person(CLERK, "Chris Clerk", ("c.clerk@city.example",), "administration"),
        Person(IDA, "Ida Tec", (), "it"),
        Person(DORA, "Dora Director", ("dd@city.example",), "administration"),
    ),
    departments={
        "administration": Department("administration", "Administration", DORA),
        "it": Department("it", "IT", IDA),
    },
    roles={"it-director": (IDA,), "communications-specialist": (DORA,)},
)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def move(self, **span: float) -> None:
        """Later by ``timedelta(**span)``."""
        self.now += timedelta(**span)


NO_TLS: dict[str, Any] = {"verify": False}
"""For clients of the console without TLS: to read whom the machine trusts takes as long as ten pages."""


class Browser(httpx2.AsyncClient):
    """A client with cookies that fills in forms as a person's browser does."""

    async def token(self, path: str) -> str:
        """The CSRF token that the page of this path holds."""
        return csrf_of((await self.get(path)).text)

    async def submit(self, path: str, page: str = "", /, **fields: str) -> httpx2.Response:
        """Open ``page`` (default: the same path), send its form to ``path``."""
        return await self.post(path, data={"csrf": await self.token(page or path), **fields})

    async def log_in(self, address: str, password: str = PASSWORD, **more: str) -> httpx2.Response:
        """Through the login form."""
        return await self.submit("/login", address=address, password=password, **more)


def csrf_of(text: str) -> str:
    """The CSRF token in a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', text)
    assert found is not None, text[:500]
    return found[1]


@dataclass
class Served:
    """A console that answers."""

    console: Console
    services: Services
    clock: Clock
    port: int
    log: "Log"

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def accounts(self) -> Accounts:
        """Its accounts."""
        return self.services.accounts

    def browser(self, **options: Any) -> Browser:
        """A new one, without cookies."""
        return Browser(base_url=options.pop("base_url", self.url), timeout=20, **NO_TLS, **options)

    async def account(self, address: str = CLERK, password: str = PASSWORD, *, admin: bool = False) -> None:
        """Make a local account."""
        await self.accounts.people.add(address, TESTER, admin=admin)
        await self.accounts.people.set_password(address, password, TESTER)

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        async with self.services.hold.core.database.read() as connection:
            return {
                name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for name, table in tables.metadata.tables.items()
            }

    async def events(self, address: str) -> list[str]:
        """Names of the account's events, oldest first."""
        return [entry.event for entry in await self.services.hold.history(f"account:{address}")]


@dataclass
class Log:
    """Keeps what is logged."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, level: str) -> Any:
        return lambda event, **values: self.lines.append((level, event, values))


class Quiet(uvicorn.Server):
    """uvicorn without signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """None."""
        yield


def settings_for(folder: Path, **console: Any) -> Settings:
    """Settings of a console that keeps everything below ``folder``."""
    values = {
        "store": {"directory": str(folder / "store"), "key_file": str(folder / "store" / "body.key")},
        "notices": {"templates": str(TEMPLATES), "city_name": "City of Bridges"},
        "console": {"address": f"127.0.0.1:{free_port()}"} | console,
    }
    return Settings.model_validate(values)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, store: Path | None = None, *, pages: tuple[Page, ...] = (), **console: Any
) -> AsyncIterator[Served]:
    """A console on this event loop. ``store``: a migrated store to start from."""
    settings = settings_for(folder, **console)
    if store is not None:
        shutil.copytree(store, folder / "store", dirs_exist_ok=True)
    clock = Clock()
    hold = await open_hold(settings, CITY, clock=clock)
    log = Log()
    services = Services(
        settings=settings, hold=hold, directory=CITY,
        accounts=Accounts(hold.core.database, settings.console, clock, Seal(hold.core.bodies)),
        rules=_no_rules(folder), clock=clock, provider=provider_of(settings.console.oidc), log=log,
    )  # fmt: skip
    app = build(services, ROUTES + pages)
    server = Quiet(
        uvicorn.Config(
            app, host="127.0.0.1", port=settings.console.address.port, http="h11", ws="none", lifespan="off",
            log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=60,
        )
    )  # fmt: skip
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield Served(app, services, clock, settings.console.address.port, log)
    finally:
        server.should_exit = True
        await task
        await hold.close()


def _no_rules(folder: Path) -> Any:
    (folder / "rules" / "types").mkdir(parents=True, exist_ok=True)
    return load_rules(folder / "rules", frozenset(), {}, frozenset(), ())


async def hold_of(folder: Path) -> Hold:
    """The store alone."""
    return await open_hold(settings_for(folder), CITY)
