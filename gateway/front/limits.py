"""Who may connect: the connections of one worker process, in all and per client address.

Refuses with 421, which every client retries. Counted per process; the total is divided by the number of workers.
"""

from typing import Protocol

from gateway.metrics import CONNECTIONS
from gateway.model.reply import Reply

TOO_MANY = Reply.of(421, "4.3.2", "Too many connections, please try again later")
TOO_MANY_YOURS = Reply.of(421, "4.7.0", "Too many connections from your address, please try again later")


class Drainable(Protocol):
    """A session that can be told to stop."""

    def drain(self) -> None:
        """End when nothing is lost by it."""

    def cut(self) -> None:
        """Time is up: end with a word, unless an answer of ours is on its way."""


class Admission:
    """The open sessions of one listener."""

    def __init__(self, name: str, total: int, per_client: int) -> None:
        self._gauge = CONNECTIONS.labels(name)
        self._total = total
        self._per_client = per_client
        self._clients: dict[str, int] = {}
        self.sessions: set[Drainable] = set()

    def enter(self, session: Drainable, client: str) -> Reply | None:
        """Count the session in, or say why not."""
        if len(self.sessions) >= self._total:
            return TOO_MANY
        mine = self._clients.get(client, 0)
        if client and mine >= self._per_client:
            return TOO_MANY_YOURS
        self._clients[client] = mine + 1
        self.sessions.add(session)
        self._gauge.inc()
        return None

    def rename(self, session: Drainable, before: str, client: str) -> Reply | None:
        """The session's client is known only now (PROXY): count it as that one's, or say why not."""
        self.leave(session, before)
        return self.enter(session, client)

    def take_over(self, before: Drainable, session: Drainable) -> bool:
        """``session`` goes on in the place of ``before``, under the same client. False when that one has none."""
        if before not in self.sessions:
            return False
        self.sessions.discard(before)
        self.sessions.add(session)
        return True

    def leave(self, session: Drainable, client: str) -> None:
        """Count the session out."""
        self.sessions.discard(session)
        left = self._clients.get(client, 1) - 1
        if left > 0:
            self._clients[client] = left
        else:
            self._clients.pop(client, None)
        self._gauge.dec()

    def limit(self, total: int, per_client: int) -> None:
        """New limits, for sessions from now on."""
        self._total, self._per_client = total, per_client
