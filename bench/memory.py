"""Memory of one worker while many large messages are in flight through it at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.load import Source
from bench.processes import PROC, parse_anonymous, parse_peak, processes, status, tree

SAMPLE = 0.1


@dataclass(frozen=True, slots=True)
class Memory:
    """Octets. ``resident`` counts the pages of mapped spool files, which the kernel can take back at any time."""

    resident: int
    anonymous: int
    inspector: int
    """Resident peak of the worker's inspection process, 0 when it has none."""
    seconds: float
    messages: int


def measure(parent: int, port: int, source: Source, count: int) -> Memory:
    """Send ``count`` messages at once, each from a process of its own. Raises NotMeasuredError.

    smtp-source writes a whole message to one session before it looks at the next; only several of them really send at
    the same time.
    """
    depths = tree(processes(), (parent,))
    workers = [pid for pid, depth in depths.items() if depth == 1]
    for pid in depths:
        (PROC / str(pid) / "clear_refs").write_text("5", encoding="ascii")
    over = threading.Event()
    highest = 0

    def watch() -> None:
        nonlocal highest
        while not over.wait(SAMPLE):
            highest = max(highest, *(parse_anonymous(status(pid)) for pid in workers))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(count) as senders:
            started = time.perf_counter()
            for sent in [senders.submit(source.send, port, 1) for _ in range(count)]:
                sent.result()
            seconds = time.perf_counter() - started
    finally:
        over.set()
        watcher.join()
    return Memory(
        resident=max(parse_peak(status(pid)) for pid in workers),
        anonymous=highest,
        inspector=max((parse_peak(status(pid)) for pid, depth in depths.items() if depth > 1), default=0),
        seconds=seconds,
        messages=count,
    )
