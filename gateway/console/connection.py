"""Connections of the console: each must say soon what it wants, and one client may not have all of them.

uvicorn waits for ever for the head of a request, and answers 503 to everybody once so many connections are open as it
takes: whoever opened them and kept silent would shut the console. Refuses, by closing, a connection whose next request
is not there in time, and the one too many of a client. Behind a trusted proxy all clients have its address: there the
number is the proxy's to limit.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from gateway.console.security import within
from gateway.settings import Networks

HEAD = 15.0
"""Seconds from the connection, or from the first octet of a request after another, to the end of the header."""
MOST_OF_ONE = 120
"""Connections of one address that is no trusted proxy; a browser opens six, and a whole office may have one address."""


class Connection(H11Protocol):
    """uvicorn's protocol with a clock for the header."""

    trusted: ClassVar[Networks] = ()
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; close at once what is one too many."""
        super().connection_made(transport)
        self._wait()
        if self.client is not None and not within(self.client[0], self.trusted):
            others = [getattr(other, "client", None) for other in self.connections]
            if sum(1 for other in others if other and other[0] == self.client[0]) > MOST_OF_ONE:
                transport.abort()

    def data_received(self, data: bytes) -> None:
        """A whole header ends the waiting, a part of one does not."""
        super().data_received(data)
        if self._answering():
            self._stop()
        else:
            self._wait()

    def on_response_complete(self) -> None:
        """What came behind this request is the beginning of the next."""
        super().on_response_complete()
        if not self._answering():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        if not self._answering():
            self.transport.close()


def protocol(trusted: Networks) -> type[Connection]:
    """The class for uvicorn, for these trusted proxies."""
    believed = trusted

    class Believing(Connection):
        """Knows them."""

        trusted = believed

    return Believing
