"""Sends mail with smtp-source and takes the time. Refuses to call a run measured when any message was refused."""

import os
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.messages import RECIPIENT, SENDER

LONGEST = 120.0
"""Seconds after which a run is given up."""


class NotMeasuredError(Exception):
    """A cell has no number; the text says why in a few words."""


@dataclass(frozen=True, slots=True)
class Source:
    """smtp-source with one message."""

    message: Path
    sessions: int
    reading: float
    """Seconds that smtp-source needs to start and read the message; taken off every run."""

    def send(self, port: int, count: int, *, kept: bool = False) -> float:
        """Send so many messages to a port of this machine; the seconds it took. Raises NotMeasuredError.

        ``kept``: all messages of a session over one connection; else a new connection for each.
        """
        try:
            started = time.perf_counter()
            done = subprocess.run(
                self.command(port, count, kept=kept),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LONGEST,
                check=False,
            )
            taken = time.perf_counter() - started
        except subprocess.TimeoutExpired:
            raise NotMeasuredError(f"not done in {LONGEST:.0f} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            raise NotMeasuredError(said[-1] if said else f"smtp-source ended with {done.returncode}")
        return max(taken - self.reading, 1e-6)

    def command(self, port: int, count: int, *, kept: bool = False) -> list[str]:
        """The command line."""
        return [
            "smtp-source",
            *(["-d"] if kept else []),
            *("-s", str(min(self.sessions, count)), "-m", str(count)),
            *("-f", SENDER, "-t", RECIPIENT, "-F", str(self.message), f"127.0.0.1:{port}"),
        ]


def reading_time(message: Path) -> float:
    """Seconds from smtp-source's start to its first connection.

    It is sent to a port that nobody listens on; its CPU time counts, for it sleeps before it gives up.
    """
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        times = []
        for _ in range(3):
            process = subprocess.Popen(
                ["smtp-source", "-F", str(message), f"127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, process.returncode, usage = os.wait4(process.pid, 0)
            times.append(usage.ru_utime + usage.ru_stime)
        return statistics.median(times)


def next_count(done: int, seconds: float, wanted: float, sessions: int) -> int:
    """How many messages take about ``wanted`` seconds when ``done`` took ``seconds``: whole rounds of the sessions.

    At most a hundred times ``done``: a first run that was too short to be timed must not make the next one endless.
    """
    count = min(round(done / seconds * wanted), done * 100)
    return max(sessions, count // sessions * sessions)
