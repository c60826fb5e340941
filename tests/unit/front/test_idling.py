"""Clients that stop in the middle of a transaction, many more than there are connections to the next hop."""

import asyncio
from pathlib import Path

from tests.serving import Client, MailServer, prepare, running, settings_for

MESSAGE = b"From: a@city.example\r\nSubject: x\r\n\r\nhello\r\n"


async def _begun(port: int, number: int) -> Client:
    client = await (await Client.connect(port)).hello()
    assert (await client.say(f"MAIL FROM:<s{number}@city.example>")).startswith("250 ")
    assert (await client.say(f"RCPT TO:<r{number}@city.example>")).startswith("250 ")
    return client


async def _finish(client: Client) -> str:
    assert (await client.say("DATA")).startswith("354 ")
    client.writer.write(MESSAGE + b".\r\n")
    return await client.reply(20)


async def test_clients_that_stop_after_rcpt_keep_nobody_from_sending(tmp_path: Path, server: MailServer) -> None:
    """Ten idlers on a pool of two once meant 451 4.4.5 for everybody, the other idlers too."""
    prepare(tmp_path)
    changes = {"pool_size": 2, "connect_timeout": "2 s"}
    async with running(settings_for(tmp_path, server, next_hop=changes)) as gateway:
        port = gateway.ports[0]
        idlers = [await _begun(port, number) for number in range(10)]
        other = await (await Client.connect(port)).hello()
        assert await other.send("a@city.example", ["b@city.example"], MESSAGE) == "250 2.0.0 queued as SINK1"
        for number, client in enumerate(idlers[:5]):
            reply = await client.say(f"RCPT TO:<also{number}@city.example>")
            assert reply.startswith("250 "), reply
        replies = await asyncio.gather(*(_finish(client) for client in idlers))
        assert replies == ["250 2.0.0 queued as SINK1"] * 10
        assert server.connections <= 3  # a pool of two, and the first probe
        expected = {
            f"FROM:<s{n}@city.example>": [f"TO:<r{n}@city.example>", *([f"TO:<also{n}@city.example>"] if n < 5 else [])]
            for n in range(10)
        }
        assert {m.mail: m.rcpts for m in server.received if "<s" in m.mail} == expected
        for client in (*idlers, other):
            await client.close()


async def test_a_recipient_refused_when_begun_anew_leaves_the_transaction_as_it_was(
    tmp_path: Path, server: MailServer
) -> None:
    """The next hop's change of mind defers; once it takes the recipient again the message passes, to all of them."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server, next_hop={"pool_size": 1})) as gateway:
        idler = await _begun(gateway.ports[0], 1)
        other = await (await Client.connect(gateway.ports[0])).hello()
        assert (await other.send("a@city.example", ["b@city.example"], MESSAGE)).startswith("250 ")
        server.replies["RCPT r1@city.example"] = b"450 4.2.0 not now\r\n"
        assert (await idler.say("RCPT TO:<c@city.example>")).startswith("451 4.4.1 ")
        del server.replies["RCPT r1@city.example"]
        assert (await _finish(idler)).startswith("250 ")
        assert server.received[-1].rcpts == ["TO:<r1@city.example>"]
        await idler.close()
        await other.close()
