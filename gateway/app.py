"""The composition root: it alone knows every room. Builds one worker's gateway from settings, and one observer.

Refuses to start on settings that contradict each other or the machine (see :mod:`gateway.preflight`'s findings, which
the command prints); a reload that cannot be read leaves everything as it was.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.checks.inspector import Inspector
from gateway.checks.virus import VirusScanner
from gateway.deliver import NextHop
from gateway.directory import Directory, load_directory
from gateway.errors import CivicgateError, ConfigError, NextHopError
from gateway.front.limits import Admission
from gateway.front.milter import MilterSession
from gateway.front.porch import Porch
from gateway.front.proxy import Arrival
from gateway.front.smtp import GatewaySession
from gateway.front.sockets import unix_socket
from gateway.hold import Delivery, DeliveryResult, Hold, Outbox, open_hold
from gateway.metrics import BUILD_INFO, NEXT_HOP_REPLIES, RELOAD_TIME, RELOADS, Tally
from gateway.model.finding import Check
from gateway.model.verdict import Transform
from gateway.pipeline import Pipeline
from gateway.pipeline.release import deliver_from_store
from gateway.pipeline.services import Services
from gateway.pipeline.trace import TransactionIds
from gateway.policy import InformationType, RuleSet, load_rules, load_types
from gateway.records.log import logger
from gateway.records.transaction import Recorder
from gateway.settings import ListenerSettings, Settings, load_settings
from gateway.spool import Spool
from gateway.transform import Planned, Transformer, plan

_RESTART_ONLY = (
    "workers", "listeners", "milter", "metrics", "spool", "store", "next_hop", "clamd", "inspection", "hold", "outbox",
    "notices",
)  # fmt: skip
"""Slices that a reload does not change: said in the log when they differ."""


Policy = tuple[RuleSet, Directory, tuple[InformationType, ...]]


def load_policy(settings: Settings) -> Policy:
    """Rules, directory and information types that the settings name. Raises ConfigErrors."""
    types = load_types(settings.policy.rules / "types")
    directory = load_directory(settings.policy.directory)
    variables = {"city_name": settings.notices.city_name, "transfer_service": settings.notices.transfer_service}
    known = frozenset(kind.id for kind in types)
    own = settings.network.internal_domains
    rules = load_rules(settings.policy.rules, known, variables, directory.role_names, own, settings.policy.profile)
    return rules, directory, types


def prepared(settings: Settings) -> Policy:
    """As :func:`load_policy`, and compiled: seconds of work, which processes that are forked later need not do again.

    Raises ConfigErrors.
    """
    policy = load_policy(settings)
    rules, _, types = policy
    Inspector(settings.inspection, types).prepare(rules.questions)
    return policy


def read_anew(config: Path, running: Settings) -> tuple[Settings, list[str]]:
    """The settings as they stand in the file now, and the slices of them that change with the next start only.

    Those are as they are in ``running``. Raises ConfigErrors.
    """
    newest = load_settings(config)
    kept = [name for name in _RESTART_ONLY if getattr(newest, name) != getattr(running, name)]
    return newest.model_copy(update={name: getattr(running, name) for name in kept}), kept


def own_hostname(settings: Settings) -> str:
    """The name in greetings and trace fields."""
    return settings.smtp.hostname or socket.getfqdn()


def tls_context(listener: ListenerSettings) -> ssl.SSLContext | None:
    """The server side of TLS for a listener, None when it has none. Raises ConfigError."""
    if listener.tls == "none" or listener.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listener.tls_certificate, listener.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"listener {listener.name}: cannot use {listener.tls_certificate}: {error}") from error
    return context


class _Replies(Tally):
    """Counts the next hop's replies."""

    __slots__ = ()

    def __call__(self, verb: str, code: int) -> None:
        kind = code // 100
        self.add(verb.lower(), str(kind) if kind in (2, 3, 4, 5) else "fault")


class Gateway:
    """One worker process: listeners, pipeline, outbox."""

    def __init__(
        self,
        settings: Settings,
        config: Path,
        sockets: Mapping[str, socket.socket] | None = None,
        policy: Policy | None = None,
    ) -> None:
        """``sockets``: the unix sockets that the workers share, by listener; missing ones are made here.

        ``policy``: what the settings name, when it has been read already; until the next reload files do not count.
        """
        self.settings = settings
        self._policy = policy
        self._sockets = sockets or {}
        self._config = config
        self.log = logger(settings.log)
        self._servers: list[asyncio.Server] = []
        self._admissions: list[Admission] = []
        self._clients: list[Admission] = []
        """Those whose limits are SMTP's."""
        self._outbox: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._hold: Hold | None = None
        self._reloading = asyncio.Lock()
        self._contexts = {listener.name: tls_context(listener) for listener in settings.listeners}

    async def start(self) -> None:
        """Build everything and listen. Raises CivicgateError."""
        settings = self.settings
        rules, directory, types = self._policy or load_policy(settings)
        self._policy = None
        hostname = own_hostname(settings)
        spool = Spool(settings.spool)
        spool.prepare()
        self._replies = _Replies(NEXT_HOP_REPLIES)
        self.next_hop = NextHop(settings.next_hop, hostname, self._replies)
        self.inspector = Inspector(settings.inspection, types)
        self.inspector.prepare(rules.questions)
        if rules.questions.checks - {Check.HEADER}:  # a large message's header alone can wait for a process's start
            self.inspector.start()
        self._hold = await open_hold(settings, directory)
        self._recorder = Recorder(settings.log)
        services = Services(
            settings=settings,
            hostname=hostname,
            rules=rules,
            directory=directory,
            next_hop=self.next_hop,
            inspector=self.inspector,
            scanner=VirusScanner(settings.clamd),
            transformer=Transformer(settings.encryption, spool, self._plan),
            store=self._hold,
            exceptions=self._hold.exceptions,
            releases=self._hold.prover,
            passages=self._hold.passages,
            spool=spool,
            new_id=TransactionIds(secrets.randbits(25)).next,
            clock=time.time,
            record=self._recorder,
        )
        self.pipeline = Pipeline(services)
        self._counting = asyncio.create_task(self._count())
        self._outbox = asyncio.create_task(
            Outbox(self._hold, self._deliver, settings.outbox, asked=settings.milter.next_hop_asks).run()
        )
        with contextlib.suppress(NextHopError):
            await self.next_hop.probe()
        await self._listen()
        self._loaded(rules)

    async def _count(self) -> None:
        """Make what was counted visible, twice a second."""
        try:
            while True:
                await asyncio.sleep(0.5)
                self._flush()
        finally:
            self._flush()

    def _flush(self) -> None:
        self._recorder.flush()
        self._replies.flush()

    async def _plan(self, message: Any, transforms: tuple[Transform, ...]) -> Planned:
        """Plan the changes to a large message where its size does no harm."""
        return await self.inspector.run(plan, message, transforms)

    async def _deliver(self, delivery: Delivery) -> DeliveryResult:
        return await deliver_from_store(self.pipeline.services, delivery)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self.settings.listeners:
            admission = Admission(listener.name, *_connections(self.settings))
            self._clients.append(admission)
            self._admissions.append(admission)
            context = self._contexts[listener.name]

            def session(
                arrival: Arrival | None = None,
                listener: ListenerSettings = listener,
                admission: Admission = admission,
                context: ssl.SSLContext | None = context,
            ) -> GatewaySession:
                return GatewaySession(listener, self.pipeline, admission, loop, context, arrival)

            make: Callable[[], asyncio.Protocol] = session
            if listener.tls == "implicit" and context is not None:
                make = partial(Porch, listener, admission, context, self._trusts, session)
            self._servers.append(
                await loop.create_server(
                    make, listener.address.host, listener.address.port, reuse_port=True, backlog=1024
                )
            )

        await self._listen_beside(loop)

    async def _listen_beside(self, loop: asyncio.AbstractEventLoop) -> None:
        """For mail servers that ask."""
        settings = self.settings.milter
        for listener in settings.listeners:
            most = settings.max_connections
            if listener.path is None:  # of a unix socket one worker may get them all: nobody shares them out
                most = _share(most, self.settings)
            admission = Admission(listener.name, most, 0)
            self._admissions.append(admission)
            make = partial(MilterSession, listener, settings, self.pipeline, admission, loop)
            if listener.path is None:
                to = listener.endpoint
                server = await loop.create_server(make, to.host, to.port, reuse_port=True, backlog=1024)
            else:
                shared = self._sockets.get(listener.name) or unix_socket(listener)
                server = await loop.create_unix_server(make, sock=shared, backlog=1024)
            self._servers.append(server)

    def _trusts(self, address: str) -> bool:
        return self.pipeline.trusts(address)

    @property
    def ports(self) -> list[int]:
        """Ports in the order of the listeners (useful when the setting says 0)."""
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    async def reload(self) -> None:
        """Read settings, rules and directory anew; what cannot be read changes nothing. One reload at a time."""
        async with self._reloading:
            try:
                settings, kept = await asyncio.to_thread(read_anew, self._config, self.settings)
                policy = await asyncio.to_thread(load_policy, settings)
            except Exception as error:  # noqa: BLE001 - whatever stands in a file, the old ones stay
                RELOADS.labels("refused").inc()
                problem = error.detail if isinstance(error, CivicgateError) else traceback.format_exc()
                self.log.error("reload refused, the old settings and rules stay", problem=problem)
                return
            await self._use(settings, *policy)
            if kept:
                self.log.warning("these settings change with the next start", settings=",".join(kept))

    async def _use(
        self, settings: Settings, rules: RuleSet, directory: Directory, types: tuple[InformationType, ...]
    ) -> None:
        """Put what was read in force, from the next transaction on."""
        self.log = logger(settings.log)
        self._recorder.use(settings.log)
        for admission in self._clients:
            admission.limit(*_connections(settings))
        await asyncio.to_thread(self.inspector.use, types)
        await asyncio.to_thread(self.inspector.prepare, rules.questions)
        assert self._hold is not None
        self._hold.use_directory(directory)
        services = replace(
            self.pipeline.services,
            settings=settings,
            hostname=own_hostname(settings),
            rules=rules,
            directory=directory,
            record=self._recorder,
            transformer=Transformer(settings.encryption, self.pipeline.spool, self._plan),
        )
        self.pipeline.install(services)
        self.settings = settings
        RELOADS.labels("done").inc()
        self._loaded(rules)

    def _loaded(self, rules: RuleSet) -> None:
        BUILD_INFO.labels(__version__).set(1)
        self.log.info("rules in force", rules=len(rules.active), digest=rules.digest[:12])
        RELOAD_TIME.set(time.time())

    async def drain(self) -> None:
        """Take no more connections; let transactions under way end, up to the drain timeout."""
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + self.settings.smtp.drain_timeout
        while any(a.sessions for a in self._admissions) and time.monotonic() < deadline:
            for admission in self._admissions:
                for session in list(admission.sessions):
                    session.drain()
            await asyncio.sleep(0.05)
        left = [session for admission in self._admissions for session in admission.sessions]
        for session in left:
            session.cut()
        if left:
            await asyncio.sleep(0.05)  # their last words leave
        await self.close()

    async def close(self) -> None:
        """Free everything."""
        for server in self._servers:
            server.close()
        for task in (self._outbox, self._counting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.next_hop.close()
        await self.inspector.close()
        await self.pipeline.services.scanner.close()  # type: ignore[attr-defined]
        if self._hold is not None:
            await self._hold.close()


def _connections(settings: Settings) -> tuple[int, int]:
    """Connections that one worker takes: in all, and of one client."""
    return _share(settings.smtp.max_connections, settings), settings.smtp.max_connections_per_client


def _share(total: int, settings: Settings) -> int:
    return -(-total // (settings.workers or os.cpu_count() or 1))


def _calm_collector() -> None:
    """What was built at the start stays: the collector need not look through it again and again under load."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


async def serve(
    settings: Settings,
    config: Path,
    sockets: Mapping[str, socket.socket] | None = None,
    policy: Policy | None = None,
) -> int:
    """Run one worker until SIGTERM or SIGINT. Returns the exit code. ``sockets``, ``policy``: see :class:`Gateway`."""
    loop = asyncio.get_running_loop()
    started, stop, tasks = asyncio.Event(), asyncio.Event(), set[asyncio.Task[None]]()
    gateway = Gateway(settings, config, sockets, policy)

    async def reload_once_started() -> None:
        await started.wait()
        await gateway.reload()

    def reload() -> None:
        task = loop.create_task(reload_once_started())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await gateway.start()
    except CivicgateError as error:
        gateway.log.error("worker cannot start", problem=error.detail)
        return 1
    _calm_collector()
    started.set()
    await stop.wait()
    await gateway.drain()
    return 0
