"""The load under which processes are killed: clients that send on and on and remember what was accepted."""

import random
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.letters import CLERK
from tests.e2e.running import transact, until


@dataclass
class Load:
    """Clients that send on and on and remember what was accepted."""

    port: int
    kinds: Mapping[str, tuple[str, ...]]
    """The recipients of each kind of message."""
    accepted: dict[str, str] = field(default_factory=dict)
    """Name of each message that got 250, and its kind."""
    refused: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    pause: float = 0.01
    """Seconds between one client's messages: they are under way all the time, and others compute as well."""
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, client: int) -> None:
        """One client, until it is over."""
        chance = random.Random(client)
        number = 0
        while not self.over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, local_hostname="load.city.example", timeout=30) as smtp:
                    smtp.ehlo()
                    for _ in range(10):
                        number += 1
                        self._one(smtp, f"k{client}-{number}", chance)
                        time.sleep(self.pause)
                        if self.over.is_set():
                            return
            except (OSError, smtplib.SMTPException):
                self.cut_off += 1
                time.sleep(0.02)

    def _one(self, smtp: smtplib.SMTP, name: str, chance: random.Random) -> None:
        kind = chance.choice(list(self.kinds))
        size = 300_000 if chance.random() < 0.05 else 1500
        content = f"X-First: {name}\r\nMessage-ID: <{name}@kill.example>\r\n\r\n".encode()
        content += b"line of text\r\n" * (size // 14)
        reply = transact(smtp, CLERK, self.kinds[kind], content)
        if reply.startswith("250"):
            with self._lock:
                self.accepted[name] = kind
        elif reply.startswith("-1"):
            raise ConnectionResetError
        else:
            self.refused[reply[:9]] += 1

    def settle(self, more: int = 4) -> None:
        """Until so many more messages were accepted, so that what comes next comes under load."""
        before = len(self.accepted)
        until(lambda: len(self.accepted) >= before + more, 60, "nothing is accepted any more")

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        """So many clients, until the block is left; then each has ended."""
        threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)


def under_load(load: Load, rounds: int, seed: int, strike: Callable[[int, random.Random], object]) -> None:
    """Strike so many times, each at a random moment after some messages more were accepted."""
    chance = random.Random(seed)
    for number in range(rounds):
        load.settle()
        time.sleep(chance.uniform(0.0, 0.2))
        strike(number, chance)
    load.settle()
