"""How long things may take on a machine that has other things to do as well.

A bound in seconds says what is wanted of a machine with nothing else to do; the suite runs in several processes, and
whoever runs it may have others. What is pure computing is better measured as processor time.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path


def seconds(alone: float) -> float:
    """So many seconds on a machine with nothing else to do; more, as more processes than processors want to run now."""
    last_minute, _, _, running, *_ = Path("/proc/loadavg").read_text("ascii").split()
    wanting = max(float(last_minute), float(running.partition("/")[0]))
    return alone * max(1.0, wanting / (os.cpu_count() or 1))


async def until(condition: Callable[[], object], bound: float = 10.0) -> None:
    """Wait until it is true. Raises TimeoutError after so many :func:`seconds`."""
    async with asyncio.timeout(seconds(bound)):
        while not condition():
            await asyncio.sleep(0.01)
