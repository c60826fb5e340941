"""``civicgate run``: the gateway, until it is told to stop. Refuses to start on contradictions (:mod:`preflight`)."""

import argparse
import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from gateway.errors import CivicgateError, ConfigError
from gateway.settings import Settings
from gateway.workers import reserve


def register(commands: Any) -> None:
    """Add the sub-command."""
    commands.add_parser("run", help="run the gateway: SIGHUP reloads settings and rules, SIGTERM drains and stops")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Start the workers and the observer; come back when all have ended."""
    addresses = [listener.address for listener in settings.listeners]
    addresses += [listener.endpoint for listener in settings.milter.listeners if listener.path is None]
    addresses += [settings.console.address] if settings.console.enabled else []
    reserve([*addresses, settings.metrics.address])  # before any change:
    _share_metrics(settings.metrics.directory)  # a second gateway must not empty the first one's folder
    from gateway.app import load_policy, own_hostname, prepared, read_anew, serve  # noqa: PLC0415
    from gateway.front.sockets import unix_socket  # noqa: PLC0415
    from gateway.metrics import RELOADS, forget_process  # noqa: PLC0415
    from gateway.observer import Observer  # noqa: PLC0415
    from gateway.preflight import preflight  # noqa: PLC0415
    from gateway.records.log import logger  # noqa: PLC0415
    from gateway.settings import load_settings  # noqa: PLC0415
    from gateway.workers import CONSOLE, OBSERVER, Parent  # noqa: PLC0415

    log = logger(settings.log)
    in_force = settings, prepared(settings)
    before = asyncio.run(preflight(settings, own_hostname(settings)))
    for remark in before.remarks:
        log.warning(remark)
    if before.errors:
        print("\n".join(before.errors), file=sys.stderr)
        return 1

    def load() -> tuple[Settings, Any, Any]:
        newest = load_settings(args.config)
        return newest, *load_policy(newest)[:2]

    def work(number: int) -> int:
        import uvloop  # noqa: PLC0415 - the parent has no loop of its own

        if number == OBSERVER:
            return uvloop.run(_observe(Observer(settings, own_hostname(settings)), log))
        if number == CONSOLE:
            return uvloop.run(_console(load, own_hostname(settings), log))
        newest, policy = in_force
        return uvloop.run(serve(newest, args.config, shared, policy))

    def check() -> None:
        """A worker that is started from now on runs by what the others have been told to read."""
        nonlocal in_force
        newest, _ = read_anew(args.config, settings)
        in_force = newest, prepared(newest)

    shared = {kept.name: unix_socket(kept) for kept in settings.milter.listeners if kept.path is not None}
    _say_what_starts(log, settings, len(in_force[1][0].rules))
    parent = Parent(
        settings=settings,
        work=work,
        check=check,
        log=log,
        on_exit=forget_process,
        on_refusal=RELOADS.labels("refused").inc,
    )
    try:
        code = parent.run()
    finally:
        for kept in settings.milter.listeners:
            if kept.path is not None:
                kept.path.unlink(missing_ok=True)
    log.info("civicgate has stopped")
    return code


def _say_what_starts(log: Any, settings: Settings, rules: int) -> None:
    listeners = [f"{one.name}={one.address}" for one in settings.listeners]
    listeners += [f"{one.name}={one.address}" for one in settings.milter.listeners]
    log.info(
        "civicgate starts",
        listeners=",".join(listeners),
        metrics=str(settings.metrics.address),
        console=settings.console.url if settings.console.enabled else "",
        next_hop=str(settings.next_hop.address),
        rules=rules,
    )


def _share_metrics(directory: Path) -> None:
    """Empty the folder in which processes share values. prometheus-client reads the variable when it is imported.

    Raises ConfigError.
    """
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(f"metrics.directory: {directory} cannot be used: {error.strerror}") from error
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory.resolve())


async def _console(load: Any, hostname: str, log: Any) -> int:
    from gateway.console.serve import ConsoleProcess  # noqa: PLC0415 - the workers need none of it

    try:
        return int(await ConsoleProcess(load(), load, hostname).run())
    except CivicgateError as error:
        log.error("console cannot start", problem=error.detail)
        return 1


async def _observe(observer: Any, log: Any) -> int:
    try:
        return int(await observer.run())
    except CivicgateError as error:
        log.error("observer cannot start", problem=error.detail)
        return 1
