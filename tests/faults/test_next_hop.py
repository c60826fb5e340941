"""A next hop that misbehaves is never read as success: the client is told to try again, and nothing is lost or kept."""

import asyncio
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.serving import Client, MailServer, prepare, running, settings_for

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
NO_ANSWERS = {
    "garbage": b"what do you want?\r\n",
    "half a reply": b"250 2.0.0 que",
    "half a reply of two lines": b"250-2.0.0 queued\r\n",
    "a line without CR": b"250 2.0.0 queued\n",
    "two codes in one reply": b"250-2.0.0 queued\r\n550 5.0.0 not\r\n",
    "a NUL": b"250 2.0.0 \0queued\r\n",
    "an empty line": b"\r\n",
    "a code of four digits": b"2500 queued\r\n",
    "a number that is no code": b"099 queued\r\n",
    "go on": b"354 go on\r\n",
    "nothing": b"HANG",
    "a closed connection": b"DROP",
    "going down": b"421 4.3.2 going down\r\n",
    "not now": b"451 4.3.0 not now\r\n",
    "html": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_after_the_final_dot(tmp_path: Path, server: MailServer, answer: bytes) -> None:
    """What is no whole 2xx reply after the final dot is a 4xx to the client; the next message is not confused."""
    server.replies["DOT"] = answer
    prepare(tmp_path)
    hop = {"address": f"127.0.0.1:{server.port}", "data_timeout": "300 ms", "command_timeout": "300 ms"}
    async with running(settings_for(tmp_path, server, next_hop=hop)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        reply = await client.send("clerk@city.example", ["mayor@city.example"], CONTENT)
        assert reply.startswith("4"), reply
        assert reply[4:6] == "4.", "an enhanced code"
        del server.replies["DOT"]
        if reply.startswith("421"):
            await client.close()
            client = await (await Client.connect(gateway.ports[0])).hello()
        again = await client.send("clerk@city.example", ["mayor@city.example"], CONTENT)
        assert again == "250 2.0.0 queued as SINK1"
        await client.close()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "answer", [b"nonsense\r\n", b"250-half\r\n", b"354 go on\r\n", b"421 4.3.2 going down\r\n"], ids=repr
)
async def test_before_the_content(tmp_path: Path, server: MailServer, verb: str, answer: bytes) -> None:
    """What is no 2xx to MAIL and RCPT, or no 354 to DATA, is a 4xx, and no content is sent after it."""
    if (verb, answer[:3]) == ("DATA", b"354"):
        answer = b"250 go on\r\n"
    server.replies[verb] = answer
    prepare(tmp_path)
    hop = {"address": f"127.0.0.1:{server.port}", "data_timeout": "300 ms", "command_timeout": "300 ms"}
    async with running(settings_for(tmp_path, server, next_hop=hop)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        reply = await client.send("clerk@city.example", ["mayor@city.example"], CONTENT)
        assert reply.startswith("4"), reply
        await client.close()
    assert not server.received
    assert not server.unfinished


async def test_a_message_that_breaks_off_is_never_ended_for_the_next_hop(tmp_path: Path, server: MailServer) -> None:
    """When a client hangs up in the middle, the next hop does not even hear DATA."""
    prepare(tmp_path)
    async with running(settings_for(tmp_path, server)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        for line in ("MAIL FROM:<clerk@city.example>", "RCPT TO:<mayor@city.example>"):
            assert (await client.say(line)).startswith("250")
        assert (await client.say("DATA")).startswith("354")
        client.writer.write(b"Subject: half\r\n\r\n" + b"x" * 500_000)
        await client.writer.drain()
        await client.close()
        await asyncio.sleep(0.2)
    assert "DATA" not in server.commands
    assert not server.received
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_next_hop_that_is_down_defers(tmp_path: Path) -> None:
    """Nobody listens: 451 4.4.1 at the first recipient; back again: mail flows without a restart."""
    prepare(tmp_path)
    back = MailServer(port=free_ports(1)[0])
    async with running(settings_for(tmp_path, back)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        reply = await client.send("clerk@city.example", ["mayor@city.example"], CONTENT)
        assert reply.startswith("451 4.4.1"), reply
        async with back:
            await client.say("RSET")
            assert (await client.send("clerk@city.example", ["mayor@city.example"], CONTENT)).startswith("250 ")
            assert len(back.received) == 1
            await client.close()
