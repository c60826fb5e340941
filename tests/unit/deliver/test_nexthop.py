"""Claims of gateway.deliver about a next hop that keeps to SMTP."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from gateway.errors import NextHopError
from gateway.model.reply import Reply
from tests.unit.deliver.scripted import CLIENT, HANG, OK, Server, Starter, ehlo, eventually, relay

PLAIN = ehlo("SIZE 5000")
"""A server without PIPELINING."""


async def test_one_message(start: Starter) -> None:
    """MAIL, RCPT, DATA go out in order and the final reply comes back verbatim."""
    server, hop = await start()
    assert await relay(hop) == "250 2.0.0 queued"
    assert server.sessions == [
        ["EHLO gw.city.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@city.example>", "DATA"]
    ]
    assert server.messages == [b"Subject: x\r\n\r\nhello\r\n.\r\n"]


async def test_begin_sends_nothing(start: Starter) -> None:
    """Before the first recipient nothing of the transaction is sent, and an abort then costs nothing."""
    server, hop = await start()
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    transaction.abort()
    transaction.abort()
    assert await relay(hop)
    assert server.sessions[0][1].startswith("MAIL")
    assert len(server.sessions) == 1


async def test_first_group_is_one_write(start: Starter) -> None:
    """With PIPELINING, XFORWARD, MAIL and RCPT go out together: the server answers none before it has all."""
    keywords = ehlo("PIPELINING", "XFORWARD NAME ADDR HELO")
    server = Server({"EHLO": keywords, "XFORWARD": HANG, "MAIL": HANG, "RCPT": OK * 3})
    server, hop = await start(server)
    assert await relay(hop) == "250 2.0.0 queued"
    assert server.sessions[0][1] == "XFORWARD NAME=mail.example ADDR=192.0.2.1 HELO=mail.example"


async def test_step_by_step(start: Starter) -> None:
    """Without PIPELINING each command waits for the reply to the one before, also with concurrent recipients."""
    held: list[int] = []

    class Strict(Server):
        async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> bool:
            lines = sum(map(len, self.sessions))
            await asyncio.sleep(0.005)
            held.append(sum(map(len, self.sessions)) - lines)
            return await super()._answer(writer, answer)

    server, hop = await start(Strict({"EHLO": ehlo("XFORWARD ADDR")}))
    transaction = await hop.begin(CLIENT, "a@example.org", ("SIZE=5",))
    replies = await asyncio.gather(*(transaction.rcpt(f"{n}@city.example") for n in range(5)))
    assert [reply.code for reply in replies] == [250] * 5
    assert (await transaction.send([b"x\r\n"])).code == 250
    assert server.sessions[0][1:4] == [
        "XFORWARD ADDR=192.0.2.1",
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<0@city.example>",
    ]
    assert set(held) == {0}


@pytest.mark.parametrize("hello", [ehlo("PIPELINING"), PLAIN], ids=["pipelining", "plain"])
async def test_recipients(start: Starter, hello: bytes) -> None:
    """Each recipient gets its own reply, verbatim and in order, whether asked for at once or one by one."""
    answers = [b"250 2.1.5 Ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 such\r\n", b"451 4.2.1 later\r\n", b"251 moved\r\n"]
    server, hop = await start(Server({"EHLO": hello, "RCPT": [*answers]}))
    transaction = await hop.begin(CLIENT, "", ())
    first = [await transaction.rcpt("0@x.y"), await transaction.rcpt("1@x.y")]
    more = await asyncio.gather(transaction.rcpt("2@x.y"), transaction.rcpt("3@x.y"))
    assert [*first, *more] == [
        Reply(250, "", ("2.1.5 Ok",)),
        Reply(550, "", ("5.1.1 no", "5.1.1 such")),
        Reply(451, "", ("4.2.1 later",)),
        Reply(251, "", ("moved",)),
    ]
    assert transaction.accepted == 2
    assert (await transaction.send([b"x\r\n"])).code == 250
    assert server.sessions[0][1:] == ["MAIL FROM:<>", *(f"RCPT TO:<{n}@x.y>" for n in range(4)), "DATA"]


@pytest.mark.parametrize("hello", [ehlo("PIPELINING"), PLAIN], ids=["pipelining", "plain"])
async def test_concurrent_first_recipients(start: Starter, hello: bytes) -> None:
    """Recipients that come together before MAIL is answered share one MAIL."""
    server, hop = await start(Server({"EHLO": hello}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    replies = await asyncio.gather(*(transaction.rcpt(f"{n}@x.y") for n in range(20)))
    assert all(reply.positive for reply in replies)
    assert sum(line.startswith("MAIL") for line in server.sessions[0]) == 1
    assert sorted(line for line in server.sessions[0] if line.startswith("RCPT")) == sorted(
        f"RCPT TO:<{n}@x.y>" for n in range(20)
    )
    transaction.abort()


@pytest.mark.parametrize("hello", [ehlo("PIPELINING"), PLAIN], ids=["pipelining", "plain"])
async def test_mail_refused(start: Starter, hello: bytes) -> None:
    """MAIL's refusal is every recipient's reply, nothing more is sent for them, and the connection is used again."""
    refusals: list[bytes] = [b"550 5.7.1 not you\r\n", OK]
    server, hop = await start(Server({"EHLO": hello, "MAIL": refusals, "RCPT": [b"503 5.5.1 no MAIL\r\n", OK]}))
    if hello == PLAIN:
        server.replies["RCPT"] = OK
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    replies = await asyncio.gather(*(transaction.rcpt(f"{n}@x.y") for n in range(3)))
    assert [str(reply) for reply in [*replies, await transaction.rcpt("z@x.y")]] == ["550 5.7.1 not you"] * 4
    transaction.abort()
    await eventually(lambda: "RSET" in server.sessions[0])
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


async def test_send_needs_a_recipient(start: Starter) -> None:
    """With every recipient refused there is nothing to send to: a mistake of the caller."""
    server, hop = await start(Server({"RCPT": b"550 5.1.1 no\r\n"}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    assert (await transaction.rcpt("b@x.y")).code == 550
    with pytest.raises(AssertionError):
        await transaction.send([b"x"])
    transaction.abort()
    await eventually(lambda: "RSET" in server.sessions[0])
    assert "DATA" not in server.sessions[0]


@pytest.mark.parametrize("parameter", ["SMTPUTF8", "RET=FULL"])
async def test_parameter_not_offered(start: Starter, parameter: str) -> None:
    """A parameter that the next hop does not offer is refused here: it hears nothing of the transaction."""
    server, hop = await start(Server({"EHLO": PLAIN}))
    transaction = await hop.begin(CLIENT, "a@example.org", (parameter,))
    assert str(await transaction.rcpt("b@x.y")).startswith("555 5.5.4 ")
    assert str(await transaction.rcpt("c@x.y")).startswith("555 5.5.4 ")
    transaction.abort()
    assert not any(line.startswith("MAIL") for line in server.sessions[0])


async def test_recipient_parameter_not_offered(start: Starter) -> None:
    """A recipient whose parameters cannot be said is refused alone."""
    server, hop = await start(Server({"EHLO": PLAIN}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    assert (await transaction.rcpt("b@x.y", ("NOTIFY=NEVER",))).code == 555
    assert (await transaction.rcpt("ü@x.y")).code == 553
    assert (await transaction.rcpt("c@x.y")).code == 250
    assert (await transaction.send([b"x\r\n"])).code == 250
    assert server.sessions[0][2] == "RCPT TO:<c@x.y>"


@pytest.mark.parametrize(
    "reply", [b"451 4.3.0 later\r\n", b"554-5.7.1 no\r\n554 5.7.1 never\r\n", b"552 5.3.4 big\r\n"]
)
async def test_negative_final_reply(start: Starter, reply: bytes) -> None:
    """A refusal after the dot is the reply, verbatim, and the connection is good for the next message."""
    server, hop = await start(Server({".": [reply, b"250 2.0.0 queued\r\n"]}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@x.y")
    assert (await transaction.send([b"x\r\n"])).encode() == reply
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


async def test_data_refused(start: Starter) -> None:
    """A refusal of DATA is the reply; RSET, and the connection is good for the next message."""
    server, hop = await start(Server({"DATA": [b"451 4.3.0 later\r\n", b"354 go\r\n"]}))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@x.y")
    assert str(await transaction.send([b"x\r\n"])) == "451 4.3.0 later"
    await eventually(lambda: "RSET" in server.sessions[0])
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


@pytest.mark.parametrize("size", [0, 3, 5000, 70_000, 1_500_000])
async def test_content(start: Starter, size: int) -> None:
    """Content arrives dot-stuffed and otherwise unchanged, whatever its size and however it is cut."""
    rng = random.Random(size)
    lines = [b"." * rng.randrange(4) + b"x" * rng.randrange(90) for _ in range(size // 40)]
    content = b"\r\n".join(lines)[:size].replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n")
    content = content.rstrip(b"\r\n") + (b"\r\n" if size else b"")
    cuts = sorted(rng.randrange(len(content) + 1) for _ in range(min(30, size)))
    chunks = [memoryview(content)[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    server, hop = await start()
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@x.y")
    assert (await transaction.send(iter(chunks))).code == 250
    received = server.messages[0]
    assert received.endswith(b".\r\n")
    assert (b"\r\n" + received[:-3]).replace(b"\r\n.", b"\r\n")[2:] == content


@pytest.mark.parametrize("seed", range(3))
async def test_replies_in_pieces(start: Starter, seed: int) -> None:
    """Replies that come byte by byte, or split at random, are the same replies."""
    rng = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        if seed == 0:
            return [data[n : n + 1] for n in range(len(data))]
        at = sorted(rng.randrange(len(data) + 1) for _ in range(4))
        return [piece for a, b in zip([0, *at], [*at, len(data)], strict=True) if (piece := data[a:b])]

    server, hop = await start(Server({"RCPT": b"250-2.1.5 a\r\n250 2.1.5 b\r\n"}, pieces=cut))
    for _ in range(3):
        assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


async def test_pool_reuses(start: Starter) -> None:
    """One after another they share a connection, together they do not; idle ones are taken again."""
    server, hop = await start()
    for _ in range(5):
        await relay(hop)
    assert len(server.sessions) == 1
    await asyncio.gather(*(relay(hop) for _ in range(4)))
    assert 1 < len(server.sessions) <= 4
    before = len(server.sessions)
    await asyncio.gather(*(relay(hop) for _ in range(before)))
    assert len(server.sessions) == before


async def test_max_uses(start: Starter) -> None:
    """A connection serves ``max_uses`` transactions, then says QUIT."""
    server, hop = await start(max_uses=2)
    for _ in range(5):
        await relay(hop)
    assert [sum(line.startswith("MAIL") for line in commands) for commands in server.sessions] == [2, 2, 1]
    await eventually(lambda: server.endings == 2)
    assert [commands[-1] for commands in server.sessions] == ["QUIT", "QUIT", "DATA"]


async def test_idle_timeout(start: Starter) -> None:
    """An idle connection says QUIT in time, and one that is used again does not."""
    server, hop = await start(idle_timeout="150 ms")
    for _ in range(6):
        await relay(hop)
        await asyncio.sleep(0.05)
    assert len(server.sessions) == 1
    await eventually(lambda: server.endings == 1)
    assert server.sessions[0][-1] == "QUIT"
    assert await relay(hop) == "250 2.0.0 queued"


async def test_pool_is_bounded(start: Starter) -> None:
    """Never more than ``pool_size`` connections; who waits is served in turn."""
    server, hop = await start(pool_size=2)
    await asyncio.gather(*(relay(hop) for _ in range(20)))
    assert len(server.sessions) == 2
    assert len(server.messages) == 20


async def test_pool_busy(start: Starter) -> None:
    """Who waits too long for a connection gets 451 4.4.5, and one who gave up waiting loses nothing for others."""
    server, hop = await start(pool_size=1, connect_timeout="100 ms")
    holder = await hop.begin(CLIENT, "a@example.org", ())
    with pytest.raises(NextHopError) as raised:
        await hop.begin(CLIENT, "b@example.org", ())
    assert str(raised.value.reply).startswith("451 4.4.5 ")
    impatient = asyncio.create_task(hop.begin(CLIENT, "c@example.org", ()))
    await asyncio.sleep(0.01)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    served_and_cancelled = asyncio.create_task(hop.begin(CLIENT, "d@example.org", ()))
    await asyncio.sleep(0.01)
    holder.abort()
    served_and_cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served_and_cancelled
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


async def test_place_of_a_lost_connection(start: Starter) -> None:
    """When the connection that another waits for is dropped, the waiter opens a new one in its place."""
    server, hop = await start(pool_size=1)
    holder = await hop.begin(CLIENT, "a@example.org", ())
    waiting = asyncio.create_task(relay(hop))
    await asyncio.sleep(0.01)
    server.writers[0].transport.abort()
    assert await waiting == "250 2.0.0 queued"
    holder.abort()
    assert len(server.sessions) == 2


async def test_abort_resets(start: Starter) -> None:
    """An abort after RCPT says RSET and keeps the connection; its reply is not taken for the next one's."""
    server, hop = await start(Server({"RSET": b"250 2.0.0 flushed\r\n"}), pool_size=1)
    for _ in range(3):
        transaction = await hop.begin(CLIENT, "a@example.org", ())
        assert str(await transaction.rcpt("b@x.y")) == "250 2.0.0 Ok"
        transaction.abort()
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1
    assert server.sessions[0].count("RSET") == 3


async def test_probe(start: Starter) -> None:
    """A probe learns the capabilities and leaves its connection to the pool."""
    server, hop = await start(Server({"EHLO": ehlo("PIPELINING", "SIZE 12345", "XFORWARD NAME ADDR")}), max_uses=1)
    before = hop.capabilities
    assert before is None
    offered = await hop.probe()
    assert hop.capabilities is offered
    assert (offered.size, offered.pipelining, offered.xforward) == (12345, True, frozenset({"NAME", "ADDR"}))
    assert await relay(hop) == "250 2.0.0 queued"
    assert len(server.sessions) == 1


async def test_helo(start: Starter) -> None:
    """A server that does not know EHLO is spoken to with HELO, without extensions."""
    server, hop = await start(Server({"EHLO": b"502 5.5.1 what\r\n"}))
    assert await relay(hop) == "250 2.0.0 queued"
    assert server.sessions[0][:2] == ["EHLO gw.city.example", "HELO gw.city.example"]
    assert hop.capabilities is not None
    assert not hop.capabilities.keywords


@pytest.mark.parametrize("code", [b"501 5.5.4 what\r\n", b"550 5.7.0 no\r\n"])
async def test_xforward_refused(start: Starter, code: bytes) -> None:
    """XFORWARD is for the next hop's log: its refusal does not stop the mail."""
    for keywords in (["PIPELINING", "XFORWARD ADDR"], ["XFORWARD ADDR"]):
        _, hop = await start(Server({"EHLO": ehlo(*keywords), "XFORWARD": code}))
        assert await relay(hop) == "250 2.0.0 queued"


async def test_xforward_by_setting(start: Starter) -> None:
    """XFORWARD is said for every transaction when set and offered, with our id; not when switched off."""
    server, hop = await start(Server({"EHLO": ehlo("PIPELINING", "XFORWARD IDENT")}))
    for ident in ("T1", "T2"):
        transaction = await hop.begin(CLIENT, "a@example.org", (), ident)
        await transaction.rcpt("b@x.y")
        await transaction.send([b"x\r\n"])
    assert [line for line in server.sessions[0] if line.startswith("X")] == ["XFORWARD IDENT=T1", "XFORWARD IDENT=T2"]
    server, hop = await start(Server({"EHLO": ehlo("PIPELINING", "XFORWARD IDENT")}), xforward=False)
    await relay(hop)
    assert not any(line.startswith("X") for line in server.sessions[0])


async def test_on_reply(start: Starter) -> None:
    """The hook sees each reply with the command that it answers."""
    seen: list[tuple[str, int]] = []
    _, hop = await start(Server({"RCPT": [b"550 5.1.1 no\r\n", OK]}), lambda verb, code: seen.append((verb, code)))
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@x.y")
    await transaction.rcpt("c@x.y")
    await transaction.send([b"x\r\n"])
    assert seen == [
        ("CONNECT", 220),
        ("EHLO", 250),
        ("MAIL", 250),
        ("RCPT", 550),
        ("RCPT", 250),
        ("DATA", 354),
        (".", 250),
    ]


async def test_close(start: Starter) -> None:
    """Closing says QUIT on idle connections, drops the busy ones, and begins nothing any more."""
    server, hop = await start()
    busy = await hop.begin(CLIENT, "a@example.org", ())
    await busy.rcpt("b@x.y")
    await relay(hop)
    await hop.close()
    with pytest.raises(NextHopError):
        await hop.begin(CLIENT, "a@example.org", ())
    with pytest.raises(NextHopError):
        await busy.rcpt("c@x.y")
    busy.abort()
    await eventually(lambda: server.live == 0)
    assert sorted(commands[-1] for commands in server.sessions) == ["QUIT", "RCPT TO:<b@x.y>"]


async def test_large_yields(start: Starter) -> None:
    """While a large message is being sent, small ones pass."""
    _, hop = await start(data_timeout="10 s")
    finished: list[str] = []
    produced = 0

    def chunks() -> Iterator[bytes]:
        nonlocal produced
        for _ in range(80):
            produced += 262144
            yield b"x" * 262142 + b"\r\n"

    async def large() -> None:
        transaction = await hop.begin(CLIENT, "a@example.org", ())
        await transaction.rcpt("b@x.y")
        await transaction.send(chunks())
        finished.append("large")

    async def small() -> None:
        await eventually(lambda: produced > 0)
        for _ in range(5):
            await relay(hop)
            finished.append("small")

    await asyncio.gather(large(), small())
    assert finished == ["small"] * 5 + ["large"]


async def test_back_pressure(start: Starter) -> None:
    """A next hop that does not read stops the sender after some hundred KiB, until the deadline ends it."""
    produced = 0

    def chunks() -> Iterator[bytes]:
        nonlocal produced
        for _ in range(400):
            produced += 262144
            yield bytes(262142) + b"\r\n"

    class Deaf(Server):
        async def _content(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            await asyncio.sleep(0.5)
            return False

    _, hop = await start(Deaf(), data_timeout="200 ms")
    transaction = await hop.begin(CLIENT, "a@example.org", ())
    await transaction.rcpt("b@x.y")
    with pytest.raises(NextHopError) as raised:
        await transaction.send(chunks())
    assert str(raised.value.reply).startswith("451 4.4.2 ")
    assert produced < 20_000_000  # the kernel's buffers and ours
