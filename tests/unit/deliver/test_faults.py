"""Claims of gateway.deliver about a next hop that does not keep to SMTP: never read as success, never used again."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.deliver import NextHop, Transaction
from gateway.errors import NextHopError
from gateway.model.reply import Reply
from gateway.settings import Endpoint
from tests.unit.deliver.scripted import CLIENT, CLOSE, HANG, OK, Server, Starter, ehlo, eventually, relay

PIPELINED = ehlo("PIPELINING")
PLAIN = ehlo()

GARBAGE = {
    "nothing": CLOSE,
    "silence": HANG,
    "words": b"OK\r\n",
    "half a reply": b"250 2.0.0 queue" + HANG,
    "half a reply, then the end": b"250 2.0.0 queue" + CLOSE,
    "no last line": b"250-2.0.0 queued\r\n" + CLOSE,
    "codes that differ": b"250-2.0.0 queued\r\n550 5.0.0 or not\r\n",
    "codes that differ the other way": b"550-5.0.0 no\r\n250 2.0.0 queued\r\n",
    "bare LF": b"250 2.0.0 queued\n",
    "NUL": b"250 2.0.0 que\0ued\r\n",
    "no separator": b"250ok\r\n",
    "1yz": b"150 2.0.0 soon\r\n",
    "6yz": b"650 2.0.0 queued\r\n",
    "3yz": b"354 2.0.0 more\r\n",
    "a line without end": b"250 " + b"x" * 100_000,
    "lines without end": b"250-x\r\n" * 10_000,
    "binary": bytes(range(256)) * 10,
}


async def _opened(hop: NextHop) -> Transaction:
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    assert (await transaction.rcpt("b@city.example")).positive
    return transaction


async def _to_the_end(transaction: Transaction) -> None:
    await transaction.rcpt("b@city.example")
    await transaction.send([b"x\r\n"])


async def _good_again(server: Server, hop: NextHop, verb: str) -> None:
    """The next message goes out on a new connection."""
    server.replies.pop(verb, None)
    before = len(server.sessions)
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == before + 1


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE.keys())
async def test_after_the_dot(start: Starter, reply: bytes) -> None:
    """What is not a reply to the final dot is an error that the client may repeat, and the connection is dropped."""
    server, hop = await start(Server({".": reply}), data_timeout="60 ms")
    transaction = await _opened(hop)
    with pytest.raises(NextHopError) as raised:
        await transaction.send([b"x\r\n"])
    assert str(raised.value.reply)[:9] in ("451 4.4.1", "451 4.4.2")
    assert (raised.value.reply.enhanced == "4.4.2") == reply.endswith(HANG)
    transaction.abort()
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, ".")


@pytest.mark.parametrize("hello", [PIPELINED, PLAIN], ids=["pipelining", "plain"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", [b"OK\r\n", b"250-x\r\n550 y\r\n", HANG, CLOSE, b"25" + CLOSE, b"3", b"299\n"])
async def test_in_the_envelope(start: Starter, hello: bytes, verb: str, reply: bytes) -> None:
    """The same for every command before."""
    server, hop = await start(Server({"EHLO": hello, verb: reply}), command_timeout="60 ms")
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    with pytest.raises(NextHopError):
        await _to_the_end(transaction)
    transaction.abort()
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, verb)


@pytest.mark.parametrize("reply", [b"250 2.0.0 accepted\r\n", b"221 2.0.0 bye\r\n", b"334 go\r\n"])
async def test_data_answered_otherwise(start: Starter, reply: bytes) -> None:
    """A positive reply to DATA that is not 354 accepts nothing: the content is not sent."""
    server, hop = await start(Server({"DATA": reply}))
    transaction = await _opened(hop)
    with pytest.raises(NextHopError):
        await transaction.send([b"x\r\n"])
    await eventually(lambda: server.live == 0)
    assert server.messages == []


@pytest.mark.parametrize(
    "reply", [CLOSE, HANG, b"OK\r\n", b"554 5.0.0 no service\r\n", b"421 4.3.2 later\r\n", b"250 x\r\n"]
)
async def test_greeting(start: Starter, reply: bytes) -> None:
    """A next hop that does not greet with 220 gets nothing; the client may come again."""
    server, hop = await start(Server({"CONNECT": reply}), command_timeout="60 ms")
    with pytest.raises(NextHopError) as raised:
        await hop.begin(CLIENT, "a@example.org", ())
    assert raised.value.reply.code == 451
    assert server.sessions == [[]]
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, "CONNECT")


async def test_nobody_listens(start: Starter) -> None:
    """A refused connection is 451 4.4.1, and takes no place in the pool."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        _, hop = await start(address=Endpoint(host="127.0.0.1", port=unused.getsockname()[1]), pool_size=1)
        for _ in range(3):
            with pytest.raises(NextHopError) as raised:
                await hop.begin(CLIENT, "a@example.org", ())
            assert str(raised.value.reply).startswith("451 4.4.1 ")


async def test_answer_before_the_question(start: Starter) -> None:
    """A final reply that comes along with 354 was given before the content was: no success."""
    server, hop = await start(Server({"DATA": b"354 go\r\n250 2.0.0 queued\r\n"}))
    transaction = await _opened(hop)
    with pytest.raises(NextHopError):
        await transaction.send([b"x\r\n"])
    await eventually(lambda: server.live == 0)
    assert server.messages == []


async def test_refusal_along_with_354(start: Starter) -> None:
    """A refusal that comes along with 354 is the reply, and the content is not sent."""
    server, hop = await start(Server({"DATA": b"354 go\r\n552 5.3.4 but not this\r\n"}))
    transaction = await _opened(hop)
    assert str(await transaction.send([b"x\r\n"])) == "552 5.3.4 but not this"
    await eventually(lambda: server.live == 0)
    assert server.messages == []


async def test_refusal_with_a_tail(start: Starter) -> None:
    """A reply too many behind a refusal of DATA costs the connection."""
    server, hop = await start(Server({"DATA": b"451 4.3.0 later\r\n250 2.0.0 queued\r\n"}))
    transaction = await _opened(hop)
    assert str(await transaction.send([b"x\r\n"])) == "451 4.3.0 later"
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, "DATA")


async def test_answer_before_data(start: Starter) -> None:
    """A reply too many in the envelope is not taken for the reply to DATA."""
    server, hop = await start(Server({"RCPT": OK + b"354 go\r\n"}))
    transaction = await _opened(hop)
    with pytest.raises(NextHopError):
        await transaction.send([b"x\r\n"])
    await eventually(lambda: server.live == 0)


async def test_success_with_a_tail(start: Starter) -> None:
    """A well-formed 250 after the dot counts even when rubbish follows it, but the connection is not used again."""
    server, hop = await start(Server({".": b"250 2.0.0 queued\r\n250 2.0.0 Ok\r\n"}))
    assert await relay(hop) == "250 2.0.0 queued"
    await _good_again(server, hop, ".")


@pytest.mark.parametrize("said", [b"250 2.0.0 Ok\r\n", b"421 4.4.2 timeout\r\n", b"x", b"\r\n"])
async def test_unsolicited_while_idle(start: Starter, said: bytes) -> None:
    """An idle connection on which something is said is dropped and not used again."""
    server, hop = await start()
    await relay(hop)
    server.writers[0].write(said)
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, "")


# -- 421


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_421(start: Starter, verb: str) -> None:
    """421 is the reply wherever it comes, and ends the connection even if the server leaves it open."""
    server, hop = await start(Server({verb: b"421 4.3.2 going down\r\n"}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    reply = await transaction.rcpt("b@city.example")
    if verb in ("DATA", "."):
        reply = await transaction.send([b"x\r\n"])
    assert str(reply) == "421 4.3.2 going down"
    transaction.abort()
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, verb)


async def test_refusal_and_end(start: Starter) -> None:
    """A refusal of MAIL followed by the end of the connection is still the reply."""
    server, hop = await start(Server({"MAIL": b"550 5.7.1 go away\r\n" + CLOSE}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    assert str(await transaction.rcpt("b@x.y")) == "550 5.7.1 go away"
    assert str(await transaction.rcpt("c@x.y")) == "550 5.7.1 go away"
    transaction.abort()
    assert len(server.sessions) == 1


# -- pooled connections that died


@pytest.mark.parametrize("hello", [PIPELINED, PLAIN, ehlo("PIPELINING", "XFORWARD ADDR"), ehlo("XFORWARD ADDR")])
@pytest.mark.parametrize("answer", [CLOSE, b"421 4.4.2 idle too long\r\n" + CLOSE])
async def test_dead_pooled_connection(start: Starter, hello: bytes, answer: bytes) -> None:
    """A pooled connection that turns out dead at MAIL is replaced once, unseen by the client."""
    verb = "XFORWARD" if b"XFORWARD" in hello else "MAIL"
    server, hop = await start(Server({"EHLO": hello, verb: [OK, answer, OK]}), pool_size=1)
    assert await relay(hop) == "250 2.0.0 queued"
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 2
    assert len(server.messages) == 2


async def test_dead_only_once(start: Starter) -> None:
    """A second death is told: one retry, not more."""
    server, hop = await start(Server({"MAIL": [OK, CLOSE]}))
    await relay(hop)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    with pytest.raises(NextHopError):
        await transaction.rcpt("b@x.y")
    transaction.abort()
    assert len(server.sessions) == 2


async def test_fresh_connection_is_not_retried(start: Starter) -> None:
    """A new connection that dies at MAIL is told at once."""
    server, hop = await start(Server({"MAIL": CLOSE}))
    with pytest.raises(NextHopError):
        await relay(hop)
    assert len(server.sessions) == 1


async def test_no_retry_after_mail(start: Starter) -> None:
    """Once MAIL was accepted, a death is told, not repeated."""
    server, hop = await start(Server({"RCPT": [OK, CLOSE]}))
    await relay(hop)
    with pytest.raises(NextHopError):
        await relay(hop)
    assert len(server.sessions) == 1


async def test_dead_with_concurrent_recipients(start: Starter) -> None:
    """Recipients that wait for MAIL on a dead connection all go to the new one."""
    server, hop = await start(Server({"MAIL": [OK, CLOSE, OK]}))
    await relay(hop)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    replies = await asyncio.gather(*(transaction.rcpt(f"{n}@x.y") for n in range(8)))
    assert [reply.code for reply in replies] == [250] * 8
    assert (await transaction.send([b"x\r\n"])).code == 250
    assert sum(line.startswith("RCPT") for line in server.sessions[1]) == 8


async def test_server_restarts(start: Starter) -> None:
    """When the server has closed all idle connections, every message still gets through."""
    server, hop = await start()
    await asyncio.gather(*(relay(hop) for _ in range(5)))
    for writer in server.writers:
        writer.transport.abort()
    assert await asyncio.gather(*(relay(hop) for _ in range(5))) == ["250 2.0.0 queued"] * 5


# -- in the middle of the content


def _endless() -> Iterator[bytes]:
    for _ in range(2000):
        yield b"x" * 65534 + b"\r\n"
    pytest.fail("the sender did not stop")


@pytest.mark.parametrize("reply", [b"552 5.3.4 too big\r\n", b"451 4.3.1 disk full\r\n", b"421 4.3.2 down\r\n" + CLOSE])
async def test_early_refusal(start: Starter, reply: bytes) -> None:
    """A refusal in the middle of the content stops the sender and is the reply; no final dot is sent."""
    server, hop = await start(Server(early=(300_000, reply)))
    transaction = await _opened(hop)
    assert (await transaction.send(_endless())).encode() == reply.removesuffix(CLOSE)
    await eventually(lambda: server.live == 0)
    assert server.messages == []
    server.early = None
    await _good_again(server, hop, "")


@pytest.mark.parametrize("reply", [b"250 2.0.0 queued\r\n", b"354 more\r\n", b"what\r\n", CLOSE])
async def test_early_rubbish(start: Starter, reply: bytes) -> None:
    """Success that comes in the middle of the content is none; nor is rubbish, nor the end."""
    server, hop = await start(Server(early=(300_000, reply)))
    transaction = await _opened(hop)
    with pytest.raises(NextHopError):
        await transaction.send(_endless())
    await eventually(lambda: server.live == 0)
    assert server.messages == []


async def test_success_before_the_dot_is_read(start: Starter) -> None:
    """A 250 that comes while the dot is still in our own buffer answers something else: no success."""

    class Hasty(Server):
        async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.15)
            await self._answer(writer, b"250 2.0.0 queued\r\n")
            await asyncio.sleep(0.15)
            return False

    _, hop = await start(Hasty())
    transaction = await _opened(hop)
    ended = False

    def until_the_kernel_is_full() -> Iterator[bytes]:
        nonlocal ended
        while not transaction._connection.unsent:
            yield b"x" * 70_000
        ended = True

    with pytest.raises(NextHopError, match="before the end of the content"):
        await transaction.send(until_the_kernel_is_full())
    assert ended


async def test_cancelled_in_the_content(start: Starter) -> None:
    """A sender that is cancelled closes the connection without the final dot."""
    server, hop = await start()
    transaction = await _opened(hop)
    sending = asyncio.create_task(transaction.send(_endless()))
    await asyncio.sleep(0.05)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    transaction.abort()
    await eventually(lambda: bool(server.broken))
    assert server.messages == []
    assert not server.broken[0].endswith(b"\r\n.\r\n")


async def test_abort_in_the_content(start: Starter) -> None:
    """Abort during the content, too, closes the connection without the final dot, and the sender gets an error."""
    server, hop = await start()
    transaction = await _opened(hop)
    sending = asyncio.create_task(transaction.send(_endless()))
    await asyncio.sleep(0.05)
    transaction.abort()
    with pytest.raises(NextHopError):
        await sending
    await eventually(lambda: bool(server.broken))
    assert server.messages == []


@pytest.mark.parametrize("size", [10, 500_000])
async def test_content_breaks(start: Starter, size: int) -> None:
    """When the content cannot be read to its end, what was sent of it is never ended with a dot."""

    def chunks() -> Iterator[bytes]:
        yield b"x" * size + b"\r\n"
        raise OSError("the spool is gone")

    server, hop = await start()
    transaction = await _opened(hop)
    with pytest.raises(OSError, match="the spool is gone"):
        await transaction.send(chunks())
    await eventually(lambda: bool(server.broken))
    assert server.messages == []


async def test_cancelled_in_the_envelope(start: Starter) -> None:
    """A recipient that is cancelled while MAIL is on its way leaves no half-open transaction in the pool."""
    server, hop = await start(Server({"MAIL": HANG}), pool_size=1)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    asking = asyncio.create_task(transaction.rcpt("b@x.y"))
    await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    transaction.abort()
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, "MAIL")


async def test_cancelled_as_mail_is_accepted(start: Starter) -> None:
    """Nor does one that is cancelled at the very moment when the reply is there: the next one must not find a MAIL."""
    asking: asyncio.Task[Reply] | None = None

    def cancel(verb: str, _code: int) -> None:
        if verb == "RCPT" and asking is not None:
            asking.cancel()

    server, hop = await start(Server(), cancel, pool_size=1)
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    asking = asyncio.create_task(transaction.rcpt("b@x.y"))
    with pytest.raises(asyncio.CancelledError):
        await asking
    transaction.abort()
    asking = None
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 2


async def test_rset_refused(start: Starter) -> None:
    """A next hop that refuses RSET loses the connection."""
    server, hop = await start(Server({"RSET": b"500 what\r\n"}), pool_size=1)
    (await _opened(hop)).abort()
    await eventually(lambda: server.live == 0)
    await _good_again(server, hop, "RSET")


async def test_rset_unanswered(start: Starter) -> None:
    """A next hop that does not answer RSET loses the connection in time; who waits for its place gets it."""
    server, hop = await start(Server({"RSET": HANG}), pool_size=1, command_timeout="60 ms")
    (await _opened(hop)).abort()
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 2


async def test_slow_but_alive(start: Starter) -> None:
    """The deadline is for each reply, not for the whole transaction."""

    def slowly(data: bytes) -> list[bytes]:
        return [data]

    class Slow(Server):
        async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> bool:
            await asyncio.sleep(0.12)
            return await super()._answer(writer, answer)

    _, hop = await start(Slow(pieces=slowly), command_timeout="400 ms", data_timeout="400 ms")
    assert await relay(hop) == "250 2.0.0 queued"
