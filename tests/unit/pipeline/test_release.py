"""Release of held mail that must be encrypted: decided once, sent to each recipient on its own."""

import asyncio
from dataclasses import replace
from pathlib import Path

from gateway.hold.decide import Order
from gateway.model.verdict import Disposition, HoldOrder, TransformKind, Verdict
from tests.pace import until
from tests.serving import MailServer, Received, prepare, running, settings_for
from tests.unit.pipeline.acting import SECRET, carry_out, change, group
from tests.unit.transform.making import certificate


def released(server: MailServer) -> list[Received]:
    """What the next hop got of held mail."""
    return [one for one in server.received if b"X-Civicgate-Released" in one.content]


DIRECTORY = """
people:
  - {address: dana@city.example, name: Dana}
roles:
  it-director: [dana@city.example]
"""


async def test_a_held_message_for_two_strangers_is_one_item_and_two_encrypted_messages(
    tmp_path: Path, server: MailServer
) -> None:
    """One decision; each stranger gets a message that only names its own key; nobody gets it in clear."""
    prepare(tmp_path, directory=DIRECTORY)
    (tmp_path / "certificates").mkdir()
    for address in ("one@other.example", "two@other.example"):
        (tmp_path / "certificates" / f"{address}.pem").write_bytes(certificate(usage="encipher"))
    held = replace(
        group("one@other.example two@other.example", Disposition.HOLD, change(TransformKind.ENCRYPT)),
        holds=(HoldOrder("r", "quarantine", ("it-director",), None, "it must be looked at"),),
    )
    async with running(settings_for(tmp_path, server)) as gateway:
        reply, _ = await carry_out(gateway, Verdict((held,)))
        assert reply.code == 250
        assert gateway._hold is not None
        (item,) = await gateway._hold.list()
        await gateway._hold.desk.approve(Order(item.id, "dana@city.example"), alone=True)
        await until(lambda: len(released(server)) == 2)
    assert sorted(one.rcpts[0] for one in released(server)) == ["TO:<one@other.example>", "TO:<two@other.example>"]
    assert all(len(one.rcpts) == 1 for one in released(server))
    assert all(b"application/pkcs7-mime" in one.content and SECRET not in one.content for one in released(server))


async def test_one_missing_certificate_sends_nothing_to_anybody(tmp_path: Path, server: MailServer) -> None:
    """What is made for the first recipient is not sent when the second's cannot be made: a retry would double it."""
    prepare(tmp_path, directory=DIRECTORY)
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "one@other.example.pem").write_bytes(certificate(usage="encipher"))
    held = replace(
        group("one@other.example two@other.example", Disposition.HOLD, change(TransformKind.ENCRYPT)),
        holds=(HoldOrder("r", "quarantine", ("it-director",), None, "it must be looked at"),),
    )
    async with running(settings_for(tmp_path, server)) as gateway:
        await carry_out(gateway, Verdict((held,)))
        assert gateway._hold is not None
        (item,) = await gateway._hold.list()
        await gateway._hold.desk.approve(Order(item.id, "dana@city.example"), alone=True)
        await until(lambda: any(b"two@other.example" in one.content for one in server.received))
        async with asyncio.timeout(10):
            while (again := await gateway._hold.list()) and again[0].round < 2:
                await asyncio.sleep(0.05)
    assert [(one.id, one.round) for one in again] == [(item.id, 2)]
    assert not released(server)
