"""Mail that the store sends on has a Message-ID: its own, or one of ours that is the same at every attempt."""

import asyncio
import email
from email import policy
from pathlib import Path

import pytest

from gateway.hold.decide import Order
from gateway.hold.proof import FIELD
from gateway.hold.states import State
from gateway.pipeline.trace import has_message_id
from tests.serving import MailServer, prepare, running, settings_for
from tests.unit.pipeline.test_released_again import DIRECTORY, TO, rule, send

BARE = b"From: a@city.example\r\nTo: b@far.example\r\nSubject: bomb\r\n\r\nMessage-ID: <in-the-body@x>\r\n"


async def released(server: MailServer, count: int) -> list[bytes]:
    """What the next hop was given of held mail, once it is so much."""
    async with asyncio.timeout(10):
        while len(found := [one.content for one in server.received if FIELD.encode() in one.content]) < count:
            await asyncio.sleep(0.02)
    return found


async def test_mail_without_one_gets_the_same_at_every_attempt(tmp_path: Path, server: MailServer) -> None:
    """Regression: the next hop made another one at each attempt. Ours stays; with it on top the release is known."""
    prepare(tmp_path, {"bomb": rule("bomb")}, DIRECTORY)
    async with running(settings_for(tmp_path, server)) as gateway:
        assert gateway._hold is not None
        hold = gateway._hold
        reply = await send(gateway, BARE, to=(TO, "c@far.example"))
        (item,) = await hold.list()
        server.replies["RCPT c@far.example"] = b"451 4.3.0 later\r\n"
        await hold.desk.approve(Order(item.id, "dana@city.example"))
        first = (await released(server, 1))[0]
        server.replies.clear()
        last = (await released(server, 2))[-1]
        fields = [email.message_from_bytes(one, policy=policy.SMTP) for one in (first, last)]
        wanted = f"<{item.message.id}@city.example>"
        assert [one.get_all("Message-ID") for one in fields] == [[wanted], [wanted]]
        assert item.message.id in reply
        assert last.endswith(BARE)
        assert (await send(gateway, last)).startswith("250 ")
        assert await hold.list(states=[State.HELD]) == ()


async def test_mail_with_one_keeps_it(tmp_path: Path, server: MailServer) -> None:
    """Also one that is empty: a second field is never put beside it (RFC 5322 section 3.6)."""
    prepare(tmp_path, {"bomb": rule("bomb")}, DIRECTORY)
    async with running(settings_for(tmp_path, server)) as gateway:
        assert gateway._hold is not None
        for number, own in enumerate((b"Message-ID: <own@x>\r\n", b"message-id :\r\n"), 1):
            await send(gateway, own + BARE)
            (item,) = await gateway._hold.list(states=[State.HELD])
            await gateway._hold.desk.approve(Order(item.id, "dana@city.example"))
            left = (await released(server, number))[-1]
            assert left.endswith(own + BARE)
            assert left.lower().count(b"message-id") == 2  # in the header its own, in the body what stands there


@pytest.mark.parametrize(
    ("content", "there"),
    [
        (b"", False),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", False),
        (b"\r\nMessage-ID: <a@b>\r\n", False),
        (b"Subject: x\r\n\tMessage-ID: <a@b>\r\n\r\n", False),
        (b"Received: x\nMESSAGE-ID: <a@b>\n\nbody", True),
        (b"Message-ID:\r\n\r\n", True),
        (b"X: y\r\n" * 50 + b"Message-Id\t: <a@b>", True),
    ],
    ids=["nothing", "in the body", "after an empty line", "folded", "bare line feeds", "empty", "no body"],
)
def test_where_a_field_is_one(content: bytes, there: bool) -> None:
    """In the header, at the start of a line, whatever stands in it."""
    assert has_message_id(content) is there
