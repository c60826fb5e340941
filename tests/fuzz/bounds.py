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


def stretched(data: bytes, work: Callable[[bytes], object], many: int = 64, ease: int = 4) -> None:
    """Do the work on one input in ``many`` repeated: the whole, its second half, its end, a piece of its middle.

    ``ease``: so many times cheaper than what :func:`in_time` allows.
    """
    if not data or not one_in(data, many):
        return
    middle = len(data) * (crc32(data) // many % 100) // 100
    head, piece, half = data[:middle], data[middle : middle + 20], len(data) // 2
    for long in (
        data * (STRETCHED // len(data)),
        data[:half] + data[half:] * (STRETCHED // (len(data) - half)),
        data + data[-8:] * (STRETCHED // 8),
        head + piece * (STRETCHED // len(piece)),
    ):
        with in_time(len(long) // ease):
            work(long)
