"""More clients amid a transaction than the pool has connections: who only waits lends, who works never."""

import asyncio

import pytest

from gateway.deliver import NextHop
from gateway.deliver.transaction import Transaction
from gateway.errors import NextHopError
from tests.unit.deliver.scripted import CLIENT, HANG, OK, Server, Starter, eventually, relay


async def _resting(hop: NextHop, address: str) -> Transaction:
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    assert (await transaction.rcpt(address)).positive
    transaction.rest()
    return transaction


async def test_idling_transactions_once_kept_everybody_else_out(start: Starter) -> None:
    """The one that has rested longest gives its connection back, after RSET; the pool grows no larger."""
    server, hop = await start(pool_size=2)
    first, second = await _resting(hop, "1@x.y"), await _resting(hop, "2@x.y")
    assert await relay(hop) == "250 2.0.0 queued"
    assert (first.lost, second.lost) == (True, False)
    assert len(server.sessions) == 2
    assert server.sessions[0][1:] == [
        "MAIL FROM:<a@example.org>", "RCPT TO:<1@x.y>", "RSET",
        "MAIL FROM:<a@example.org>", "RCPT TO:<b@city.example>", "DATA",
    ]  # fmt: skip
    assert (await second.send([b"x\r\n"])).positive
    first.abort()


async def test_who_is_lent_from_is_told_rather_than_mixed_up_with_the_next(start: Starter) -> None:
    """Its further recipients never go into another's transaction: 451 4.4.5, and ending it ends nobody else's."""
    _, hop = await start(pool_size=1)
    first = await _resting(hop, "1@x.y")
    second = await _resting(hop, "2@x.y")
    with pytest.raises(NextHopError) as refused:
        await first.rcpt("3@x.y")
    assert str(refused.value.reply).startswith("451 4.4.5 ")
    first.abort()
    first.rest()
    assert not second.lost
    assert (await second.send([b"x\r\n"])).positive


async def test_nobody_who_works_is_taken_from(start: Starter) -> None:
    """Not between two recipients, not while one is asked, not while content is sent."""
    _, hop = await start(Server({"RCPT": [OK, OK, OK, HANG]}), pool_size=3, connect_timeout="400 ms")
    between = await _resting(hop, "1@x.y")
    await between.rcpt("2@x.y")
    sending = await _resting(hop, "3@x.y")
    asked = asyncio.create_task(between.rcpt("4@x.y"))
    await asyncio.sleep(0.2)
    task = asyncio.create_task(sending.send([b"x\r\n"]))
    busy = await hop.begin(CLIENT, "a@example.org", ())
    await task
    again = await hop.begin(CLIENT, "a@example.org", ())
    with pytest.raises(NextHopError):
        await hop.begin(CLIENT, "a@example.org", ())
    assert not asked.done()
    asked.cancel()
    for transaction in (busy, again, between):
        transaction.abort()


async def test_a_waiter_is_served_when_somebody_comes_to_rest(start: Starter) -> None:
    """Who waits when all others work need not wait until one ends."""
    _, hop = await start(pool_size=1)
    working = await hop.begin(CLIENT, "a@example.org", ())
    await working.rcpt("1@x.y")
    waiting = asyncio.create_task(relay(hop))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    working.rest()
    assert await waiting == "250 2.0.0 queued"
    assert working.lost


async def test_no_more_is_taken_than_is_waited_for(start: Starter) -> None:
    """One who waits costs one transaction its connection, not all of them."""
    _, hop = await start(pool_size=5)
    resting = [await _resting(hop, f"{n}@x.y") for n in range(5)]
    await asyncio.sleep(0.15)
    assert await relay(hop) == "250 2.0.0 queued"
    assert [transaction.lost for transaction in resting] == [True, False, False, False, False]
    for transaction in resting:
        transaction.abort()


async def test_a_refused_transaction_lends_too(start: Starter) -> None:
    """A client told 550 at every recipient, or at MAIL, holds a connection no longer than others."""
    _, hop = await start(Server({"MAIL": [b"550 5.7.1 no\r\n", OK]}), pool_size=1)
    refused = await hop.begin(CLIENT, "a@example.org", ())
    assert (await refused.rcpt("1@x.y")).code == 550
    refused.rest()
    assert await relay(hop) == "250 2.0.0 queued"
    assert refused.lost


async def test_a_next_hop_that_refuses_rset_costs_a_connection_and_no_waiter(start: Starter) -> None:
    """The connection is dropped and a new one opened in its place."""
    server, hop = await start(Server({"RSET": b"500 5.5.1 what\r\n"}), pool_size=1)
    await _resting(hop, "1@x.y")
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 2
    await eventually(lambda: server.live == 1)
