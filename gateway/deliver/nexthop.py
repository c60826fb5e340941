"""The next hop as the pipeline sees it: a bounded pool of connections, and transactions on them.

Refuses to open more than ``pool_size`` connections; who waits longer than ``connect_timeout`` for one gets a
:class:`~gateway.errors.NextHopError` (451 4.4.5). A connection is kept only when the last transaction on it ended in
good order.

Many more clients than connections may be in the middle of a transaction, and a client may take minutes. So a
transaction that only waits for its client *rests*; when somebody waits for a connection, the one that rested longest
gives its own back (RSET) and is begun anew when its client goes on. One that is being asked, answered or sent is never
taken from.
"""

import asyncio
from collections import deque

from gateway.deliver.capabilities import Capabilities
from gateway.deliver.connection import Connection, OnReply
from gateway.deliver.session import Session
from gateway.deliver.transaction import BUSY, Transaction
from gateway.errors import NextHopError
from gateway.model.envelope import Client
from gateway.settings import NextHopSettings

REST = 0.1
"""Seconds that a transaction rests before its connection may be taken: clients that go on at once keep theirs."""
_CLOSE_TIMEOUT = 2.0


class NextHop:
    """One server, many connections; belongs to one event loop."""

    def __init__(self, settings: NextHopSettings, hostname: str, on_reply: OnReply | None = None) -> None:
        """``hostname`` is said in EHLO. ``on_reply(verb, code)`` is called for every reply. Raises ConfigError."""
        self._settings = settings
        self.data_timeout = settings.data_timeout
        self._session = Session(settings, hostname)
        self._on_reply = on_reply
        self._idle: deque[Connection] = deque()
        self._connections: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._resting: dict[Transaction, float] = {}
        """Since when, the longest first."""
        self._coming_back = 0
        """Connections whose RSET is not answered yet."""
        self._lender: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None
        self.capabilities: Capabilities | None = None
        """From the last EHLO that succeeded; None before the first."""

    # -- what the pipeline calls

    async def probe(self) -> Capabilities:
        """Connect once, learn what the server offers, keep the connection. Raises NextHopError."""
        connection = await self.fresh()
        connection.uses -= 1
        self.release(connection)
        return connection.capabilities

    async def begin(
        self, client: Client, reverse_path: str, parameters: tuple[str, ...] = (), ident: str = ""
    ) -> Transaction:
        """A transaction on an idle or new connection; nothing of it is sent before its first recipient.

        ``parameters`` of MAIL pass verbatim (:mod:`gateway.deliver.commands`); ``ident`` is our transaction id for
        XFORWARD. Raises NextHopError.
        """
        connection = self._take_idle()
        if connection is None:
            connection = await self._new_or_wait()
        connection.use()
        return Transaction(
            self,
            connection,
            client if self._settings.xforward else None,
            reverse_path,
            parameters,
            ident,
        )

    async def close(self) -> None:
        """No more transactions: idle connections QUIT, all others are dropped; bounded to some seconds."""
        self._closed = True
        if self._lender is not None:
            self._lender.cancel()
            self._lender = None
        while self._waiting:
            self._wake(NextHopError("closing"))
        busy = self._connections.difference(self._idle)
        while self._idle:
            self._idle.pop().quit()
        for connection in busy:
            connection.abort("closing")
        if self._connections:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=_CLOSE_TIMEOUT)
        for connection in tuple(self._connections):
            connection.abort("closing")
        await asyncio.sleep(0)  # let the transports close

    # -- what transactions call

    async def fresh(self) -> Connection:
        """A connection that has not lain idle, at the cost of one that has when the pool is full.

        Raises NextHopError.
        """
        if self._full() and self._idle:
            self._idle.popleft().abort("makes room")
        connection = await self._new_or_wait()
        connection.pooled = False
        connection.use()
        return connection

    def release(self, connection: Connection) -> None:
        """Back to the pool, to who waits first, or out when it is worn."""
        if not connection.usable:
            connection.abort("broken")
        elif self._closed or connection.uses >= self._settings.max_uses:
            connection.quit()
        elif not self._hand_over(connection):
            connection.rest(self._settings.idle_timeout)
            self._idle.append(connection)

    def reset(self, connection: Connection) -> None:
        """RSET; the connection counts as busy until its 250 has come."""
        if not connection.usable:
            connection.abort("broken")
            return
        exchange = connection.ask(b"RSET\r\n", ("RSET",))
        self._coming_back += 1

        def done(_: "asyncio.Future[None]") -> None:
            self._coming_back -= 1
            if exchange.replies and exchange.replies[0].positive:
                self.release(connection)
            else:
                connection.abort("RSET refused")

        exchange.done.add_done_callback(done)

    def rest(self, transaction: Transaction) -> None:
        """It waits for its client."""
        self._resting.setdefault(transaction, self._loop_time())
        if self._waiting and self._lender is None:
            self._lend()

    def wake(self, transaction: Transaction) -> None:
        """It waits no longer."""
        self._resting.pop(transaction, None)

    def _lend(self) -> None:
        """Take connections back from who has rested longest, as many as are waited for; look again when one has.

        Nothing is awaited between the choice and the taking, and RSET is written before anything of the next one.
        """
        self._lender = None
        while self._resting and len(self._waiting) > self._coming_back:
            transaction, since = next(iter(self._resting.items()))
            ripe = since + REST
            if ripe > self._loop_time():
                self._lender = asyncio.get_running_loop().call_at(ripe, self._lend)
                return
            del self._resting[transaction]
            transaction.lend()

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    # -- what connections call

    def lost(self, connection: Connection) -> None:
        """A connection is gone; its place is free."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._offer_place()
            if not self._connections and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)

    def idle_expired(self, connection: Connection) -> None:
        """A connection has been idle for long enough."""
        if connection in self._idle:
            self._idle.remove(connection)
        connection.quit()

    # -- places

    def _full(self) -> bool:
        return len(self._connections) + self._opening >= self._settings.pool_size

    def _take_idle(self) -> Connection | None:
        """The one used last: its server is the likeliest to be still there, and the others may grow old and leave."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.abort("broken")
        return None

    async def _new_or_wait(self) -> Connection:
        if self._closed:
            raise NextHopError("closing")
        if self._full():
            connection = await self._wait()
            if connection is not None:
                return connection
        else:
            self._opening += 1
        return await self._open()

    async def _wait(self) -> Connection | None:
        """A connection that was handed over, or None with a place kept for a new one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(future)
        late = NextHopError("all connections to the next hop are in use", BUSY)
        timer = loop.call_later(self._settings.connect_timeout, _set_error, future, late)
        if self._lender is None:
            self._lend()
        try:
            return await future
        except asyncio.CancelledError:
            self._return_place(future)
            raise
        finally:
            timer.cancel()
            if future in self._waiting:  # given up: nobody need lend for it
                self._waiting.remove(future)

    def _return_place(self, future: "asyncio.Future[Connection | None]") -> None:
        """Cancelled just as it was served: pass it on."""
        if future.cancelled() or not future.done() or future.exception() is not None:
            return
        connection = future.result()
        if connection is not None:
            self.release(connection)
        else:
            self._opening -= 1
            self._offer_place()

    async def _open(self) -> Connection:
        """Into the place that ``_opening`` counts."""
        opened: Connection | None = None
        try:
            opened, capabilities = await self._session.open(self._make)
            opened.capabilities = self.capabilities = capabilities
            if self._closed:
                opened.abort("closing")
                raise NextHopError("closing")
        finally:
            self._opening -= 1
            if opened is not None and opened.fault is None:
                self._connections.add(opened)
            else:
                self._offer_place()
        return opened

    def _make(self) -> Connection:
        return Connection(self, self._settings.command_timeout, self._on_reply)

    def _hand_over(self, connection: Connection) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _offer_place(self) -> None:
        while self._waiting and not self._full():
            future = self._waiting.popleft()
            if not future.done():
                self._opening += 1
                future.set_result(None)

    def _wake(self, error: NextHopError) -> None:
        _set_error(self._waiting.popleft(), error)


def _set_error(future: "asyncio.Future[Connection | None]", error: NextHopError) -> None:
    if not future.done():
        future.set_exception(error)
