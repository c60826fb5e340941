"""The console's process: opens the store, speaks HTTP through uvicorn, follows reloads, ends gracefully.

Refuses to answer before the store is open. Handles no mail; when it ends the gateway goes on, and the parent starts it
anew.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import uvicorn

from gateway.accounts import Accounts
from gateway.checks.virus import VirusScanner
from gateway.console.app import Console, build
from gateway.console.connection import protocol
from gateway.console.context import Health, Services
from gateway.console.provider import Provider
from gateway.deliver import NextHop
from gateway.directory import Directory
from gateway.errors import CivicgateError, ConfigError
from gateway.hold import Hold, open_hold
from gateway.policy import RuleSet
from gateway.records.log import logger
from gateway.settings import OidcSettings, Settings
from gateway.store.sealing import Seal

GRACE = 5
"""Seconds for which requests under way may take to end."""
CONCURRENT = 200
"""Connections at once; more get 503."""
MAX_HEAD = 32_768
"""Octets of request line and header that uvicorn reads at most; the console has a lower limit and answers in words."""

_START = ("enabled", "address", "tls_certificate", "tls_key")
"""Settings of the console that a reload does not change."""

Loaded = tuple[Settings, RuleSet, Directory]


class _Server(uvicorn.Server):
    """uvicorn, without signal handlers of its own: ours say what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are captured."""
        yield


class ConsoleProcess:
    """One node's console."""

    def __init__(self, loaded: Loaded, load: Callable[[], Loaded], hostname: str) -> None:
        """``load`` reads settings, rules and directory anew; raises CivicgateError for what cannot be used."""
        self._settings, self._rules, self._directory = loaded
        self._load, self._hostname = load, hostname
        self.log = logger(self._settings.log)
        self._tasks = set[asyncio.Task[None]]()
        self._scanner = VirusScanner(self._settings.clamd)
        self._next_hop = NextHop(self._settings.next_hop, hostname)

    async def run(self) -> int:
        """Until SIGTERM. Raises CivicgateError when the store cannot be opened or the address not be listened on."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        settings = self._settings
        hold = await open_hold(settings, self._directory)
        try:
            console = build(self._services(hold))
            server = _Server(_configuration(settings, console))
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, stop.set)
            loop.add_signal_handler(signal.SIGHUP, self._reload, console)
            serving = loop.create_task(_serving(server, settings, _listen(settings)))
            self.log.info("console", address=str(settings.console.address), url=settings.console.url)
            stopping = loop.create_task(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            stopping.cancel()
            return await serving
        finally:
            await self._scanner.close()
            await self._next_hop.close()
            await hold.close()

    def _services(self, hold: Hold) -> Services:
        settings = self._settings
        return Services(
            settings=settings,
            hold=hold,
            accounts=Accounts(hold.core.database, settings.console, seal=Seal(hold.core.bodies)),
            directory=self._directory,
            rules=self._rules,
            neighbours={"clamd": self._clamd, "next hop": self._reached, "store": self._store(hold)},
            provider=provider_of(settings.console.oidc),
            log=self.log,
        )

    def _reload(self, console: Console) -> None:
        task = asyncio.get_running_loop().create_task(self._reloaded(console))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reloaded(self, console: Console) -> None:
        """Follow what was changed, but for what a start decides: the store, the addresses."""
        try:
            settings, rules, directory = await asyncio.to_thread(self._load)
            old = self._settings
            fixed = {name: getattr(old.console, name) for name in _START}
            waits = [f"console.{name}" for name in _START if getattr(settings.console, name) != fixed[name]]
            kept = {name: getattr(old, name) for name in ("store", "clamd", "next_hop", "metrics")}
            settings = settings.model_copy(update={**kept, "console": settings.console.model_copy(update=fixed)})
            provider = provider_of(settings.console.oidc)
        except CivicgateError as error:
            self.log.error("console: reload refused, everything stays as it was", problem=error.detail)
            return
        self.log = logger(settings.log)
        if waits:
            self.log.warning("these settings change with the next start", settings=",".join(waits))
        self._settings, self._rules, self._directory = settings, rules, directory
        services = console.services
        services.hold.use_directory(directory)
        services.accounts.use(settings.console)
        console.install(
            replace(
                services, settings=settings, directory=directory, rules=rules, provider=provider, log=self.log,
                started=services.clock(),
            )
        )  # fmt: skip

    async def _clamd(self) -> Health:
        up = await self._scanner.ping()
        return Health(up, "answers" if up else "does not answer: mail is deferred, as the rules say")

    async def _reached(self) -> Health:
        try:
            await self._next_hop.probe()
        except CivicgateError as error:
            return Health(False, error.detail)
        return Health(True, "answers")

    def _store(self, hold: Hold) -> Callable[[], Awaitable[Health]]:
        async def ask() -> Health:
            try:
                facts = await hold.queue_facts()
            except CivicgateError as error:
                return Health(False, error.detail)
            return Health(True, f"answers; {sum(facts.held.values())} held, {facts.outbox} in the outbox")

        return ask


def provider_of(settings: OidcSettings) -> Provider | None:
    """The identity provider that the settings name, None when they name none. Raises ConfigError."""
    if not settings.issuer:
        return None
    if settings.client_secret_file is None:
        return Provider(settings)
    try:
        return Provider(settings, settings.client_secret_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"console.oidc.client_secret_file: {settings.client_secret_file} cannot be read") from error


def _configuration(settings: Settings, console: Console) -> uvicorn.Config:
    of: dict[str, Any] = {}
    if settings.console.tls_certificate is not None:
        of = {"ssl_certfile": str(settings.console.tls_certificate), "ssl_keyfile": str(settings.console.tls_key)}
        of["ssl_ciphers"] = "ECDHE+AESGCM:ECDHE+CHACHA20"  # for TLS 1.2; Python's own choice for 1.3, nothing older
    return uvicorn.Config(
        console,
        host=settings.console.address.host,
        port=settings.console.address.port,
        http=protocol(settings.console.trusted_proxies),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONCURRENT,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=MAX_HEAD,
        **of,
    )


def _listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises ConfigError."""
    address = settings.console.address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=256)
    except OSError as error:
        raise ConfigError(f"console: cannot listen on {address}: {error.strerror}") from error


async def _serving(server: uvicorn.Server, settings: Settings, listening: socket.socket) -> int:
    """Raises ConfigError for a certificate that cannot be used."""
    try:
        await server.serve(sockets=[listening])
    except OSError as error:
        raise ConfigError(f"console: cannot use {settings.console.tls_certificate}: {error}") from error
    finally:
        listening.close()
    return 0
