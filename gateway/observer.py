"""The observer: a process of its own that serves the metrics and asks, now and then, how the neighbours are.

Pings clamd, probes the next hop, counts what is held. Handles no mail; when it ends the gateway goes on.
"""

import asyncio
import signal
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.checks.virus import VirusScanner
from gateway.deliver import NextHop
from gateway.directory import load_directory
from gateway.errors import CivicgateError, ConfigError
from gateway.hold import Hold, open_hold
from gateway.metrics import (
    CLAMD_UP,
    HELD,
    HELD_OLDEST,
    HELD_UNDECIDABLE,
    NEXT_HOP_UP,
    OUTBOX_DEPTH,
    OUTBOX_OLDEST,
)
from gateway.records.log import logger
from gateway.settings import Settings

INTERVAL = 5.0
"""Seconds between two looks."""


class Observer:
    """Looks at the neighbours and answers Prometheus."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        self._settings = settings
        self._scanner = VirusScanner(settings.clamd)
        self._next_hop = NextHop(settings.next_hop, hostname)
        self._queues: set[str] = set()
        self._log = logger(settings.log)
        self._said: dict[str, bool] = {}
        self._hold: Hold | None = None
        self._stale = False
        """Who decides may have changed: the directory is to be read again."""

    def _reload(self) -> None:
        self._stale = True

    async def run(self) -> int:
        """Until SIGTERM. Raises ConfigError when the metrics' address cannot be listened on."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        server = self._listen()
        looking = loop.create_task(self._look_again())
        await stop.wait()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        server.shutdown()
        server.server_close()
        await self._next_hop.close()
        await self._scanner.close()
        if self._hold is not None:
            await self._hold.close()
        return 0

    def _listen(self) -> Any:
        address = self._settings.metrics.address
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        try:
            server, _ = start_http_server(address.port, address.host, registry)
        except OSError as error:
            raise ConfigError(f"metrics: cannot listen on {address}: {error.strerror}") from error
        return server

    async def _look_again(self) -> None:
        while True:
            CLAMD_UP.set(self._up("clamd", up=await self._scanner.ping()))
            NEXT_HOP_UP.set(self._up("next hop", up=await self._reached()))
            try:
                if self._hold is None:
                    self._hold = await open_hold(self._settings, load_directory(self._settings.policy.directory))
                elif self._stale:
                    self._hold.use_directory(load_directory(self._settings.policy.directory))
                self._stale = False
                await self._count(self._hold)
            except CivicgateError as error:
                self._log.error("cannot count held mail", problem=error.detail)
            await asyncio.sleep(INTERVAL)

    def _up(self, name: str, *, up: bool) -> int:
        """Say it when it changes."""
        if self._said.get(name) is not up:
            self._said[name] = up
            (self._log.info if up else self._log.error)(f"{name} is {'up' if up else 'down'}")
        return int(up)

    async def _reached(self) -> bool:
        try:
            await self._next_hop.probe()
        except CivicgateError:
            return False
        return True

    async def _count(self, hold: Hold) -> None:
        facts = await hold.queue_facts()
        for queue in self._queues - set(facts.held):
            HELD.labels(queue).set(0)
            HELD_OLDEST.labels(queue).set(0)
        self._queues |= set(facts.held)
        for queue, count in facts.held.items():
            HELD.labels(queue).set(count)
            HELD_OLDEST.labels(queue).set(facts.oldest_held[queue])
        OUTBOX_DEPTH.set(facts.outbox)
        OUTBOX_OLDEST.set(facts.oldest_outbox)
        HELD_UNDECIDABLE.set(facts.undecidable)
