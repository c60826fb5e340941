"""What must fit together before the gateway starts: sizes of ours, clamd's, the next hop's and the spool's; tesseract.

And what a Postfix on this machine does when it cannot ask us. A contradiction is an error that names both sides; what
cannot be asked now (a neighbour is down) is a remark.
"""

import asyncio
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.checks.processes import InspectionProcess
from gateway.checks.reading.pictures import missing_here
from gateway.checks.virus import contradictions, read_limits
from gateway.deliver import NextHop
from gateway.errors import CivicgateError, NextHopError
from gateway.settings import ConsoleSettings, InspectionSettings, MilterListenerSettings, MilterSettings, Settings
from gateway.spool import SpooledMessage


@dataclass(frozen=True, slots=True)
class Preflight:
    """The outcome. Any error keeps the gateway from starting."""

    errors: tuple[str, ...]
    remarks: tuple[str, ...]


async def preflight(settings: Settings, hostname: str) -> Preflight:
    """Compare what can be compared now. Raises nothing."""
    errors, remarks = _spool(settings), list[str]()
    _clamd(settings, errors, remarks)
    await _pictures(settings.inspection, errors)
    await _next_hop(settings, hostname, errors, remarks)
    await _asking(settings, remarks)
    _console(settings.console, remarks)
    return Preflight(tuple(errors), tuple(remarks))


def _spool(settings: Settings) -> list[str]:
    folder = settings.spool.directory
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    state = os.statvfs(folder)
    free, needed = state.f_bavail * state.f_frsize, settings.smtp.max_message_size
    if free >= needed:
        return []
    return [
        (
            f"smtp.max_message_size announces SIZE {needed}, but spool.directory ({settings.spool.directory}) "
            f"has room for {free} octets only"
        )
    ]


def _clamd(settings: Settings, errors: list[str], remarks: list[str]) -> None:
    path = settings.clamd.config_file
    if path is None or path == Path():
        remarks.append("clamd.config_file is not set: clamd's limits are not compared with smtp.max_message_size")
        return
    try:
        limits = read_limits(path)
    except CivicgateError as error:
        remarks.append(f"clamd's limits are not compared with smtp.max_message_size: {error.detail}")
        return
    errors += contradictions(limits, settings.smtp.max_message_size, settings.clamd.scan_timeout)


async def _pictures(settings: InspectionSettings, errors: list[str]) -> None:
    """An inspection process is asked, so that the gateway itself does not load tesseract."""
    if not settings.ocr:
        return
    try:
        process = InspectionProcess(settings)
    except CivicgateError as error:
        errors.append(error.detail)
        return
    try:
        await process.ready()
        why = await process.call(missing_here, SpooledMessage.of(b""), (settings.ocr_languages,))
        if why:
            errors.append(f"inspection.ocr is on, but {why}")
    except CivicgateError as error:
        errors.append(f"inspection.ocr is on, but whether tesseract works cannot be told: {error.detail}")
    finally:
        process.close()
        process.reap()


def _console(settings: ConsoleSettings, remarks: list[str]) -> None:
    """What makes a console that others cannot use, or that shows their passwords on the way."""
    if not settings.enabled or settings.address.host in ("127.0.0.1", "::1", "localhost"):
        return
    if not settings.base_url:
        remarks.append(f"console.base_url is not set: only {settings.address} and localhost are answered")
    if not settings.secure:
        remarks.append("the console is reached by http (console.base_url): passwords travel readable to it")


async def _next_hop(settings: Settings, hostname: str, errors: list[str], remarks: list[str]) -> None:
    next_hop = NextHop(settings.next_hop, hostname)
    try:
        offered = await next_hop.probe()
    except NextHopError as error:
        remarks.append(f"the next hop ({settings.next_hop.address}) cannot be asked for its SIZE now: {error.detail}")
        return
    finally:
        await next_hop.close()
    ours = settings.smtp.max_message_size
    if offered.size and offered.size < ours:
        errors.append(
            f"smtp.max_message_size announces SIZE {ours}, but the next hop ({settings.next_hop.address}) takes "
            f"SIZE {offered.size} only (Postfix: message_size_limit)"
        )
    network, name = settings.network, offered.name
    if not network.is_internal(f"@{name}") and any(name.endswith(f".{own}") for own in network.internal_domains):
        remarks.append(
            f"the next hop ({settings.next_hop.address}) calls itself {name}, none of network.internal_domains: mail "
            f"to list@{name} may reach the city's lists past the rules about recipients"
        )


async def _asking(settings: Settings, remarks: list[str]) -> None:
    """A Postfix here that asks our milter front must reach it, and defer what it cannot ask about (docs/milter.md)."""
    if not settings.milter.listeners:
        return
    if settings.milter.next_hop_asks and settings.listeners:
        remarks.append(
            "milter.next_hop_asks is set, and there are listeners of our own: what they relay has no mark, and is "
            "judged a second time when the next hop asks (docs/milter.md)"
        )
    main = dict(zip(_ASKING, (await _postconf("-x", "-h", *_ASKING)).splitlines(), strict=False))
    if len(main) != len(_ASKING):
        return
    services = {"": main}
    for where, value in _rows(await _postconf("-P", "-x")):  # smtp/inet/milter_default_action = accept
        service, _, name = where.rpartition("/")
        if name in main:
            services.setdefault(service, dict(main))[name] = value
    fields = dict(_rows(await _postconf("-F", "*/*/chroot", "*/*/command")))
    for listener in settings.milter.listeners:
        queue = Path(main["queue_directory"])
        for service, said in services.items():
            action = _action(listener, queue, said)
            if action not in ("", "tempfail"):
                remarks.append(
                    f"Postfix on this machine asks {listener.name} ({listener.address}) with "
                    f"milter_default_action = {action}{f' for {service} in master.cf' if service else ''}: "
                    "what it cannot ask about, or loses us in the middle of, is not deferred; set tempfail"
                )
        remarks += _out_of_sight(listener, services, fields)
        remarks += _impatience(settings.milter, listener, services)


def _rows(said: str) -> Iterator[tuple[str, str]]:
    """``name = value`` in each line."""
    for line in said.splitlines():
        name, _, value = line.partition("=")
        yield name.strip(), value.strip()


def _is_named(word: str, listener: MilterListenerSettings, queue: Path) -> bool:
    """Whether a word of Postfix's settings names the listener.

    A socket in any spelling of its path, also from the queue directory, where chrooted services are; a port under any
    name of this machine that needs no look-up.
    """
    kind, _, place = word.partition(":")
    path = listener.path
    if path is not None:
        spelled = {Path(place), queue / place.lstrip("/")}
        return kind in ("unix", "local") and path.resolve() in {one.resolve() for one in spelled}
    host, _, port = place.rpartition(":")
    ours = listener.endpoint
    near = {"localhost", "127.0.0.1", "::1", ours.host, socket.gethostname()}
    everywhere = ours.host.strip("[0.:]") == ""  # 0.0.0.0, ::
    return kind == "inet" and port == str(ours.port) and (everywhere or host.strip("[]") in near)


def _out_of_sight(
    listener: MilterListenerSettings, services: Mapping[str, Mapping[str, str]], fields: Mapping[str, str]
) -> Iterator[str]:
    """Debian's Postfix has its services in a chroot: a socket elsewhere is not there for them, and all mail waits."""
    main = services[""]
    queue, path = Path(main["queue_directory"]), listener.path
    if path is None or path.is_relative_to(queue):
        return
    asked_by = {"smtpd": "smtpd_milters", "cleanup": "non_smtpd_milters"}
    for field, chroot in fields.items():
        service, _, name = field.rpartition("/")
        setting = asked_by.get(fields.get(f"{service}/command", "").partition(" ")[0])
        if name != "chroot" or chroot != "y" or setting is None:
            continue
        if any(_is_named(word, listener, queue) for word in _words(services.get(service, main)[setting])):
            yield (
                f"Postfix's {service} runs in a chroot (master.cf) and does not see {listener.name} ({path}): put the "
                f"socket below {queue}, and name it in {setting} by its path from there"
            )


def _impatience(
    settings: MilterSettings, listener: MilterListenerSettings, services: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """A Postfix that waits for less time than we may take calls that a failure; our answer is lost then."""
    queue = Path(services[""]["queue_directory"])
    for service, said in services.items():
        if not any(_is_named(word, listener, queue) for name in _LISTS for word in _words(said[name])):
            continue
        for name, own, ours in (
            ("milter_command_timeout", "command_timeout", settings.command_timeout),
            ("milter_content_timeout", "message_timeout", settings.message_timeout),
        ):
            waits = _seconds(said[name])
            if waits is not None and waits <= ours:
                yield (
                    f"Postfix on this machine asks {listener.name} with {name} = {said[name]}"
                    f"{f' for {service} in master.cf' if service else ''}, and milter.{own} is {ours:g} s: "
                    f"it gives up before we answer; make milter.{own} shorter"
                )


def _seconds(said: str) -> int | None:
    """A time as Postfix writes it (``5m``, ``300``); None: it is none."""
    match = re.fullmatch(r"(\d+)([smhdw]?)", said.strip())
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[match[2]] if match else None


_LISTS = ("smtpd_milters", "non_smtpd_milters")
_ASKING = (*_LISTS, "milter_default_action", "queue_directory", "milter_command_timeout", "milter_content_timeout")


async def _postconf(*arguments: str) -> str:
    """What Postfix's own reader of its settings says; ``""`` when there is none."""
    program = shutil.which("postconf", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await asyncio.wait_for(process.communicate(), 10.0)
    except (OSError, TimeoutError):
        return ""
    return said.decode("utf-8", "replace")


def _action(listener: MilterListenerSettings, queue: Path, said: Mapping[str, str]) -> str:
    """What is done without us, the worst of it: in general, or as ``{ unix:…, default_action=accept }`` says."""
    lists = f"{said['smtpd_milters']} {said['non_smtpd_milters']}"
    found = set()
    for one in re.findall(r"\{[^}]*\}|[^\s,{}]+", lists):
        if any(_is_named(word, listener, queue) for word in _words(one)):
            own = re.search(r"default_action\s*=\s*(\w+)", one)
            found.add(own[1] if own else said["milter_default_action"].strip())
    return next(iter(sorted(found - {"tempfail"}) or sorted(found)), "")


def _words(said: str) -> list[str]:
    return re.split(r"[\s,{}]+", said)
