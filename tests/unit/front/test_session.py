"""The SMTP front in front of a real next hop, without rules."""

import pytest

from gateway.app import Gateway
from tests.serving import Client, MailServer

MESSAGE = b"From: a@city.example\r\nTo: b@city.example\r\nSubject: hello\r\n\r\n.dot\r\n..two\r\nend\r\n"


async def test_a_message_arrives_identical_but_for_one_trace_block(client: Client, server: MailServer) -> None:
    """Promise 2: untouched means untouched."""
    reply = await client.send("a@city.example", ["b@city.example"], MESSAGE.replace(b"\r\n.", b"\r\n.."))
    assert reply == "250 2.0.0 queued as SINK1"
    (received,) = server.received
    trace, _, rest = received.content.partition(b"From: ")
    assert b"From: " + rest == MESSAGE
    assert trace.startswith(b"Received: from client.example")
    assert trace.count(b"\r\nReceived") == 0


async def test_smtputf8_with_a_value_once_went_on_to_the_next_hop(client: Client) -> None:
    """RFC 6531 section 3.4: the parameter takes none. Half of us took it for SMTPUTF8."""
    assert await client.say("MAIL FROM:<a@city.example> SMTPUTF8=1") == "501 5.5.4 SMTPUTF8 takes no value"
    assert (await client.say("MAIL FROM:<a@city.example> smtputf8")).startswith("250 ")


async def test_mail_and_rcpt_parameters_pass_verbatim(client: Client, server: MailServer) -> None:
    """DSN and SIZE parameters reach the next hop as they were written."""
    assert (await client.say("MAIL FROM:<a@city.example> SIZE=100 RET=HDRS ENVID=QQ314159")).startswith("250 ")
    assert (await client.say("RCPT TO:<b@city.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@city.example")) == (
        "250 2.1.5 recipient ok"
    )
    assert (await client.say("DATA")).startswith("354")
    assert (await client.say("x: y\r\n\r\n.")).startswith("250")
    assert server.received[0].mail == "FROM:<a@city.example> SIZE=100 RET=HDRS ENVID=QQ314159"
    assert server.received[0].rcpts == ["TO:<b@city.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob@city.example"]


async def test_next_hops_refusal_of_a_recipient_is_the_clients(client: Client, server: MailServer) -> None:
    """Per-recipient answers are verbatim; the other recipients go on."""
    server.replies["RCPT nobody@city.example"] = b"550-5.1.1 no such\r\n550 5.1.1 person here\r\n"
    await client.say("MAIL FROM:<a@city.example>")
    assert await client.say("RCPT TO:<nobody@city.example>") == "550-5.1.1 no such\n550 5.1.1 person here"
    assert await client.say("RCPT TO:<b@city.example>") == "250 2.1.5 recipient ok"


async def test_next_hop_down_is_451_4_4_1(plain_gateway: Gateway, server: MailServer) -> None:
    """With nobody behind us the client is told to come back."""
    await plain_gateway.next_hop.close()
    await server.__aexit__()
    client = await (await Client.connect(plain_gateway.ports[0])).hello()
    await client.say("MAIL FROM:<a@city.example>")
    assert (await client.say("RCPT TO:<b@city.example>")).startswith("451 4.4.1 ")
    await client.close()


@pytest.mark.parametrize("port", ["+C2+B2", "+C2+B9+C2+B2", "99999", "123456", "-1", "9" * 5000, "", "[UNAVAILABLE]"])
@pytest.mark.parametrize("command", ["XCLIENT", "XFORWARD"])
async def test_a_port_that_is_none_is_left_out(command: str, port: str, client: Client, server: MailServer) -> None:
    """«²» is a digit to str.isdigit and none to int: XCLIENT got 451, XFORWARD let MAIL fail."""
    line = f"{command} ADDR=203.0.113.5 PORT={port}"
    assert (await client.say(line[:4000]))[:3] in ("220", "250")
    assert (await client.say("EHLO client.example")).startswith("250-")
    assert (await client.send("a@out.example", ["b@city.example"], MESSAGE)).startswith("250 ")
    assert b"[203.0.113.5]" in server.received[0].content
