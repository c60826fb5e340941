"""Fixtures that several rooms' tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from tests.serving import Client, MailServer, prepare, running, settings_for


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
