"""Fixtures that several rooms' tests share, and the order of the files: those that wait most begin first."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.store.database import Database
from gateway.store.postgres import Server
from tests import compiled, postgresql, together
from tests.postgresql import Cluster
from tests.serving import Client, MailServer, prepare, running, settings_for

_ROOT = Path(__file__).parent
_FIRST = (
    "e2e/test_equivalence.py", "faults/test_kill.py", "browser", "faults", "e2e", "store", "unit/workers",
    "unit/checks", "unit/cli", "unit/pipeline", "fuzz",
)  # fmt: skip
"""In this order; what is not named comes behind them. A process takes one file after the other, so that what is left at
the end is short."""


def pytest_configure() -> None:
    """Processes of one run compile each set of types once."""
    together.begin()
    compiled.share()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in their order; the tests of a file stay together, in theirs."""
    known: dict[Path, int] = {}
    for item in items:
        if item.path not in known:
            known[item.path] = _place(item.path)
    items.sort(key=lambda item: known[item.path])


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def _place(path: Path) -> int:
    name = path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else ""
    return next((n for n, first in enumerate(_FIRST) if name == first or name.startswith(f"{first}/")), len(_FIRST))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server, one for each process of tests."""
    with postgresql.running() as one:
        yield one


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """A migrated, empty database to copy from."""
    name = cluster.create()

    async def migrate() -> None:
        await (await Database.open(Server(cluster.url(name)))).close()

    asyncio.run(migrate())
    return name


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    """A recording mail server."""
    async with MailServer() as one:
        yield one


@pytest.fixture
async def plain_gateway(tmp_path: Path, server: MailServer) -> AsyncIterator[Gateway]:
    """A gateway without rules in front of the recording server."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server)) as gateway:
        yield gateway


@pytest.fixture
async def client(plain_gateway: Gateway) -> AsyncIterator[Client]:
    """A client that has said EHLO to the gateway without rules."""
    one = await (await Client.connect(plain_gateway.ports[0])).hello()
    yield one
    await one.close()
