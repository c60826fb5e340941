"""One mail transaction with the next hop: MAIL and the recipients as they come, then the content, then its reply.

Refuses to take anything but a well-formed 2yz after the final dot for success. Whatever goes wrong in the middle of the
content closes the connection without the final dot, so that the next hop throws away what it has (RFC 5321 section
4.1.1.4).

BDAT (RFC 3030) is not used although it would save a round trip: a server that refuses BDAT without reading its octets
takes a stranger's content for commands. With DATA, 354 has said that content is what it waits for.
"""

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from gateway.deliver import commands
from gateway.deliver.connection import Connection, Exchange
from gateway.errors import NextHopError
from gateway.model.envelope import Client
from gateway.model.reply import Reply
from gateway.wire.data import Octets, encode_data

SMALL = 64 * 1024
"""Octets up to which a message goes out in one write."""
BUSY = Reply.of(451, "4.4.5", "The mail server behind this gateway is busy, please try again later")
BURST = 256 * 1024
"""Octets after which a sender lets the other sessions of the event loop have their turn."""


class State(StrEnum):
    """Where a transaction stands."""

    NEW = "new"
    """Nothing sent."""
    OPENING = "opening"
    """MAIL is on its way."""
    OPEN = "open"
    """MAIL accepted."""
    REFUSED = "refused"
    """MAIL refused; every recipient gets the same reply."""
    SENDING = "sending"
    """DATA said, the final reply not read."""
    LENT = "lent"
    """Another transaction needed the connection while this one's client took its time; it can be begun anew."""
    OVER = "over"
    """The connection is no longer ours."""


class Pool(Protocol):
    """Where the connection comes from and goes back to."""

    data_timeout: float
    """Seconds to wait for the final reply, and for room in the write buffer."""

    async def fresh(self) -> Connection:
        """A connection that has not lain idle. Raises NextHopError."""

    def release(self, connection: Connection) -> None:
        """The transaction is over: keep the connection if it is good for another."""

    def reset(self, connection: Connection) -> None:
        """The transaction is given up: RSET, and keep the connection when that is answered."""

    def rest(self, transaction: "Transaction") -> None:
        """The transaction waits for its client; from now on its connection may be asked for."""

    def wake(self, transaction: "Transaction") -> None:
        """The transaction needs its connection itself."""


class Transaction:
    """Made by :meth:`gateway.deliver.nexthop.NextHop.begin`. End it with :meth:`send` or :meth:`abort`, always."""

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        client: Client | None,
        reverse_path: str,
        parameters: tuple[str, ...],
        ident: str,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._client = client
        """None: no XFORWARD."""
        self._reverse_path = reverse_path
        self._parameters = parameters
        self._ident = ident
        self._utf8 = any(parameter.upper() == "SMTPUTF8" for parameter in parameters)
        self._refusal: Reply | None = None
        self._opening: list[asyncio.Future[None]] = []
        self._turn: asyncio.Lock | None = None
        self.state = State.NEW
        self.accepted = 0
        """Recipients that the next hop accepted."""

    @property
    def lost(self) -> bool:
        """True when the connection is gone or lent and nothing of the content was sent: the mail can be begun anew."""
        return self.state is State.LENT or (self.state in (State.NEW, State.OPEN) and not self._connection.usable)

    def rest(self) -> None:
        """Nothing to do until the client goes on: whoever finds the pool full may take the connection.

        Ends with the next call of any other method; look at :attr:`lost` before it.
        """
        if self.state not in (State.LENT, State.OVER):
            self._pool.rest(self)

    def lend(self) -> None:
        """For the pool: give the connection of a resting transaction back, if it is still there."""
        if not self._connection.usable:
            return
        begun, self.state = self.state is not State.NEW, State.LENT
        if begun:
            self._pool.reset(self._connection)
        else:
            self._pool.release(self._connection)

    # -- envelope

    async def rcpt(self, address: str, parameters: tuple[str, ...] = ()) -> Reply:
        """The next hop's reply for one recipient, or its reply to MAIL when it refused that. Raises NextHopError.

        The first call sends MAIL (and XFORWARD) along. May be called concurrently; replies 553 and 555 of our own when
        the recipient cannot be said to this server (:mod:`gateway.deliver.commands`).
        """
        self._pool.wake(self)
        if self.state is State.LENT:
            raise NextHopError("the connection to the next hop was lent", BUSY)
        while self.state is State.OPENING:
            waiter = asyncio.get_running_loop().create_future()
            self._opening.append(waiter)
            await waiter
        if self._refusal is not None:
            return self._refusal
        assert self.state in (State.NEW, State.OPEN), f"rcpt in state {self.state}"
        line = commands.rcpt(address, parameters, self._connection.capabilities, utf8=self._utf8)
        if isinstance(line, Reply):
            return line
        reply = await (self._open(line) if self.state is State.NEW else self._further(line))
        if reply.positive and self.state is State.OPEN:
            self.accepted += 1
        return reply

    async def _open(self, line: bytes) -> Reply:
        self.state = State.OPENING
        try:
            return await self._open_once_or_twice(line)
        except BaseException:  # also when cancelled: MAIL may have been accepted unseen
            self._connection.abort("transaction could not be opened")
            raise
        finally:
            if self.state is State.OPENING:  # failed or cancelled: whoever waits shall try and fail on their own
                self.state = State.NEW
            waiters, self._opening = self._opening, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _open_once_or_twice(self, line: bytes) -> Reply:
        """A pooled connection may have died while it was idle: nothing was accepted yet, so once more on a new one."""
        connection = self._connection
        pooled = connection.pooled
        try:
            reply = await self._first(line)
            if not (pooled and connection.dead and reply.code == 421 and self._refusal is reply):
                return reply
        except NextHopError:
            if not (pooled and connection.dead and self.state is State.OPENING):
                raise
        self.state, self._refusal = State.OPENING, None
        self._connection = await self._pool.fresh()
        return await self._first(line)

    async def _first(self, line: bytes) -> Reply:
        connection = self._connection
        offered = connection.capabilities
        mail = commands.mail(self._reverse_path, self._parameters, offered)
        if isinstance(mail, Reply):
            return self._refuse(mail)
        xforward: tuple[bytes, ...] = ()
        if self._client is not None and offered.xforward:
            xforward = commands.xforward(self._client, offered.xforward, self._ident)
        if not offered.pipelining:
            return await self._first_stepwise(xforward, mail, line)
        before = len(xforward)
        exchange = connection.ask(b"".join((*xforward, mail, line)), ("XFORWARD",) * before + ("MAIL", "RCPT"))
        await exchange.done
        replies = exchange.replies
        if len(replies) <= before:
            raise exchange.error or NextHopError("no reply to MAIL")
        if not self._mail_accepted(replies[before]):
            return replies[before]
        if len(replies) == before + 1:
            raise exchange.error or NextHopError("no reply to RCPT")
        return self._answer(replies[before + 1], "RCPT")

    async def _first_stepwise(self, xforward: tuple[bytes, ...], mail: bytes, line: bytes) -> Reply:
        for command in xforward:
            await self._connection.command(command, "XFORWARD")  # a refusal costs the next hop a line in its log
        reply = await self._connection.command(mail, "MAIL")
        if not self._mail_accepted(reply):
            return reply
        return await self._further(line)

    def _mail_accepted(self, reply: Reply) -> bool:
        if self._answer(reply, "MAIL").positive:
            self.state = State.OPEN
            return True
        self._refuse(reply)
        return False

    def _refuse(self, reply: Reply) -> Reply:
        self.state, self._refusal = State.REFUSED, reply
        return reply

    async def _further(self, line: bytes) -> Reply:
        if self._connection.capabilities.pipelining:
            return self._answer(await self._connection.command(line, "RCPT"), "RCPT")
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            return self._answer(await self._connection.command(line, "RCPT"), "RCPT")

    def _answer(self, reply: Reply, verb: str) -> Reply:
        """The reply, unless it is a 3yz, which means nothing here."""
        if 300 <= reply.code < 400:
            error = NextHopError(f"the next hop answers {verb} with {reply}")
            self._connection.fail(error)
            raise error
        return reply

    # -- content

    async def send(self, chunks: Iterable[Octets]) -> Reply:
        """DATA, the content (as spooled, without dot-stuffing), and the final reply.

        Raises NextHopError, and whatever ``chunks`` raises; then the next hop has nothing.
        Only to be called when a recipient was accepted. A negative reply, also one that comes early, is returned as it
        is. The transaction is over afterwards, whatever happens.
        """
        self._pool.wake(self)
        assert self.state is State.OPEN, f"send in state {self.state}"
        assert self.accepted, "send without an accepted recipient"
        connection = self._connection
        self.state = State.SENDING
        try:
            data = connection.ask(b"DATA\r\n", ("DATA",))
            final = connection.expect((".",), self._pool.data_timeout)  # a refusal may come along with 354
            await data.done
            reply = connection.only(data)
            if reply.code == 354:
                reply = await self._content(connection, chunks, final)
                self._pool.release(connection)
            elif reply.positive or reply.code < 400:
                raise NextHopError(f"the next hop answers DATA with {reply}")
            else:
                connection.withdraw(final)
                self._pool.reset(connection)
        except BaseException:  # cancelled, or the chunks raised: never let the dot out
            connection.abort("given up in the middle of the content")
            raise
        finally:
            self.state = State.OVER
        return reply

    async def _content(self, connection: Connection, chunks: Iterable[Octets], final: Exchange) -> Reply:
        pieces: list[bytes] = []
        size, burst = 0, 0
        for piece in encode_data(chunks):
            pieces.append(piece)
            size += len(piece)
            if size <= SMALL:
                continue
            if final.done.done():
                return self._early(connection, final)
            for one in pieces:
                connection.write(one)
            burst += size
            pieces, size = [], 0
            await connection.drain(final)
            if burst >= BURST:
                burst = 0
                await asyncio.sleep(0)
        if final.done.done():
            return self._early(connection, final)
        connection.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        connection.touch(final)
        await final.done
        reply = connection.only(final)
        if reply.positive and connection.unsent:
            raise NextHopError(f"the next hop answers before the end of the content: {reply}")
        if reply.code < 400 and not reply.positive:
            raise NextHopError(f"the next hop answers the content with {reply}")
        if connection.unsent:
            connection.abort("answered before the end of the content")
        return reply

    def _early(self, connection: Connection, final: Exchange) -> Reply:
        """A reply in the middle of the content: a refusal counts, anything else cannot be meant."""
        connection.abort("answered before the end of the content")
        reply = connection.only(final)
        if reply.code < 400:
            raise NextHopError(f"the next hop answers before the end of the content: {reply}")
        return reply

    # -- the end

    def abort(self) -> None:
        """Give the transaction up; may be called at any time, also twice. Never raises, never waits."""
        state, self.state = self.state, State.OVER
        if state in (State.OVER, State.LENT):
            return
        self._pool.wake(self)
        connection = self._connection
        if state is State.NEW and connection.usable:
            self._pool.release(connection)
        elif state in (State.OPEN, State.REFUSED) and connection.usable:
            self._pool.reset(connection)
        else:
            connection.abort("given up")
