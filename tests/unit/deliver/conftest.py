"""Both event loops for every test of this room, and scripted next hops that end with the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from gateway.deliver import NextHop
from gateway.settings import Endpoint, NextHopSettings
from tests.unit.deliver.scripted import Server, Starter, eventually


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop; where that cannot be had, on asyncio."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start() -> AsyncIterator[Starter]:
    """Starts a scripted server and a next hop that uses it, with settings as keywords."""
    hops: list[NextHop] = []
    servers: list[tuple[asyncio.Server, Server]] = []

    async def starter(
        server: Server | None = None, on_reply: Callable[[str, int], None] | None = None, **settings: object
    ) -> tuple[Server, NextHop]:
        server = server or Server()
        listener = await asyncio.start_server(server.session, "127.0.0.1", 0)
        servers.append((listener, server))
        port = listener.sockets[0].getsockname()[1]
        values = {"command_timeout": "2 s", "data_timeout": "2 s", "connect_timeout": "2 s", **settings}
        values.setdefault("address", Endpoint(host="127.0.0.1", port=port))
        hop = NextHop(NextHopSettings.model_validate(values), "gw.city.example", on_reply)
        hops.append(hop)
        return server, hop

    yield starter
    for hop in hops:
        await hop.close()
    for listener, server in servers:
        listener.close()
        for writer in server.writers:
            writer.transport.abort()
    await eventually(lambda: all(server.live == 0 for _, server in servers))
