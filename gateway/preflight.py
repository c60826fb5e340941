"""What must fit together before the gateway starts: sizes of ours, clamd's, the next hop's and the spool's; tesseract.

A contradiction is an error that names both sides; what cannot be asked now (a neighbour is down) is a remark.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.checks.processes import InspectionProcess
from gateway.checks.reading.pictures import missing_here
from gateway.checks.virus import contradictions, read_limits
from gateway.deliver import NextHop
from gateway.errors import CivicgateError, NextHopError
from gateway.settings import InspectionSettings, Settings
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
