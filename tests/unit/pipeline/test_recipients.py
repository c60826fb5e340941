"""Recipients and the lists that they are, through a real gateway with the shipped rule for the whole city."""

import shutil
from pathlib import Path

import pytest

from tests.serving import Client, MailServer, prepare, running, settings_for

DIRECTORY = """
people:
  - {address: director@city.example, name: Director, department: it}
  - {address: talker@city.example, name: Talker, department: it}
  - {address: clerk@city.example, name: Clerk, department: it}
departments:
  - {id: it, name: IT, director: director@city.example}
roles:
  communications-specialist: [talker@city.example]
  it-director: [director@city.example]
lists:
  - {id: everyone, addresses: [everyone@city.example], city_wide: true}
"""


@pytest.mark.parametrize(
    "written",
    ["EveryOne@CITY.example", '"everyone"@city.example', "everyone+x@city.example", '"every\\one"@city.example'],
)
async def test_no_way_of_writing_the_citys_list_passes_by_the_approval(
    written: str, tmp_path: Path, server: MailServer
) -> None:
    """Quotes, case and a detail are taken off before the directory is asked."""
    prepare(tmp_path, directory=DIRECTORY)
    shutil.copy("rules/lists/all-city-approval.yaml", tmp_path / "rules")
    async with running(settings_for(tmp_path, server)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        reply = await client.send("clerk@city.example", [written], b"Subject: x\r\n\r\nhello\r\n")
        assert reply.startswith("250 2.0.0 Accepted, held for a decision"), reply
        assert not [mail for mail in server.received if b"\r\n\r\nhello" in mail.content]
        await client.close()


@pytest.mark.parametrize("host", ["sink.example", "gateway.city.example", "localhost", "SINK.example"])
@pytest.mark.parametrize("local", ["everyone%city.example", "city.example!everyone", '"everyone@city.example"'])
async def test_a_route_through_a_server_of_ours_got_round_the_approval(
    local: str, host: str, tmp_path: Path, server: MailServer
) -> None:
    """A server takes its own name off and sends on to what is left: the city's list, which nobody then approved."""
    prepare(tmp_path, directory=DIRECTORY)
    shutil.copy("rules/lists/all-city-approval.yaml", tmp_path / "rules")
    async with running(settings_for(tmp_path, server)) as gateway:
        client = await (await Client.connect(gateway.ports[0])).hello()
        reply = await client.send("clerk@city.example", ["friend@elsewhere.example"], b"Subject: x\r\n\r\nhello\r\n")
        assert reply.startswith("250 "), reply
        await client.say("MAIL FROM:<clerk@city.example>")
        assert (await client.say(f"RCPT TO:<{local}@{host}>")).startswith("550 5.7.1 An address with a route in it")
        assert (await client.say("RCPT TO:<100%wool@elsewhere.example>")).startswith("250 ")
        await client.close()
