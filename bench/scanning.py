"""clamd alone: as many scans of a message at once as the gateway would ask for, and nothing else. The bound of all.

Uses the gateway's own scanner, so what is compared is the gateway's other work, not the way clamd is asked.
"""

import asyncio
import time
from pathlib import Path

import uvloop

from bench.load import NotMeasuredError
from gateway.checks.virus import VirusScanner
from gateway.errors import ControlError
from gateway.settings import ClamdSettings
from gateway.spool import SpooledMessage

CONCURRENT = 16
"""Two workers with clamd.connections each."""


def scan(socket: Path, content: bytes, count: int) -> float:
    """So many scans of this message, given with LF line ends; the seconds. Raises NotMeasuredError."""
    return uvloop.run(_scan(socket, content.replace(b"\n", b"\r\n"), count))


async def _scan(socket: Path, content: bytes, count: int) -> float:
    settings = ClamdSettings(address=f"unix:{socket}", config_file=None, connections=CONCURRENT)
    scanner = VirusScanner(settings)
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            message = SpooledMessage.of(content)
            try:
                if await scanner.scan(message):
                    raise NotMeasuredError("clamd found something in the message")
            finally:
                message.close()

    started = time.perf_counter()
    try:
        await asyncio.gather(*(work() for _ in range(min(CONCURRENT, count))))
    except ControlError as error:
        raise NotMeasuredError(error.detail) from error
    finally:
        await scanner.close()
    return time.perf_counter() - started
