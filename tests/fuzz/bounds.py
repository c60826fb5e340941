"""Time and size, as every fuzzer measures them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from zlib import crc32

STRETCHED = 128 * 1024
"""Octets to which an input is repeated, so that time that grows faster than the input shows."""


@contextmanager
def in_time(octets: int) -> Iterator[None]:
    """Fail when the work took more processor time than linear work on a slow, instrumented interpreter takes."""
    begun = time.thread_time()
    yield
    spent, allowed = time.thread_time() - begun, 1.0 + 20e-6 * octets
    assert spent <= allowed, f"{spent:.2f} s for {octets} octets, {allowed:.2f} s are enough"


def one_in(data: bytes, many: int) -> bool:
    """The same one input in ``many`` each time: costly checks need not look at all."""
    return crc32(data) % many == 0


def stretched(data: bytes, work: Callable[[bytes], object], many: int = 64) -> None:
    """Do the work on one input in ``many`` repeated, its first half once, and its last octets repeated."""
    if not data or not one_in(data, many):
        return
    times = STRETCHED // len(data)
    tail = data[-8:]
    for long in (data * times, data[: len(data) // 2] + data[len(data) // 2 :] * times,
                 data + tail * (STRETCHED // len(tail))):  # fmt: skip
        with in_time(len(long)):
            work(long)
