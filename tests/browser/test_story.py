"""The whole story, with nothing imitated but the mail server behind: Postfix, gateway, letters, browser, two people.

On SQLite with one gateway, and on PostgreSQL with two: the mail comes in at one, people decide on the other's console.
"""

import contextlib
import json
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.chrome import ARGUMENTS, CHROMIUM
from tests.e2e import fixtures
from tests.e2e.postfix import installed, running_postfix
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, said, transact, until
from tests.ports import free_ports
from tests.postgresql import Cluster, programs

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the story is not played in a browser"),
    pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root"),
]
PASSWORD = "three wooden bridges"
MANAGER, HERALD = "manager@city.example", "communications@city.example"
nursery = fixtures.nursery
KEYWORDS = ("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000", "XFORWARD NAME ADDR PROTO HELO SOURCE PORT")
RULES = Path(__file__).parents[2] / "rules" / "lists" / "all-city-approval.yaml"
LETTER = (
    "From: Chris Clerk <clerk@city.example>\r\nTo: everyone@city.example\r\nSubject: Town hall meeting\r\n"
    "Message-ID: <story@city.example>\r\n\r\nThe meeting is on Thursday: the-mark-of-the-story.\r\n"
)


@contextlib.contextmanager
def nodes(kind: str, folder: Path, nursery: Nursery, sink: Sink) -> Iterator[tuple[CityGateway, CityGateway, str]]:
    """The gateway that takes mail, the one with the console (the same on SQLite), and the console's address."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    rules = {"all-city-approval": RULES.read_text("utf-8")}
    console = {"enabled": True, "address": f"127.0.0.1:{port}", "base_url": url}
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            one = stack.enter_context(
                running_city(folder / "one", nursery, sink.port, rules, workers=1, console=console)
            )
            yield one, one, url
            return
        cluster = Cluster()
        stack.callback(cluster.remove)
        shared = folder / "shared"
        store = {
            "directory": str(shared),
            "key_file": str(shared / "body.key"),
            "database": cluster.url(cluster.create()),
        }
        other = console | {"address": f"127.0.0.1:{free_ports(1)[0]}"}
        first = stack.enter_context(
            running_city(folder / "one", nursery, sink.port, rules, workers=1, store=store, console=other)
        )
        second = stack.enter_context(
            running_city(folder / "two", nursery, sink.port, rules, workers=1, store=store, console=console)
        )
        yield first, second, url


def add_account(gateway: CityGateway, address: str) -> None:
    """A local account with a password."""
    subprocess.run(
        [sys.executable, "-m", "gateway", "--config", str(gateway.config), "users", "add", address],
        input=PASSWORD + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


def approve(page: Page, url: str, link: str, person: str, comment: str) -> str:
    """Follow the letter's link, log in on the way, read, approve, log out; what the page says."""
    page.goto(link)
    page.fill("#address", person)
    page.fill("#password", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(re.compile(r"/items/"))
    assert "the-mark-of-the-story" in page.inner_text("main")
    page.fill("#comment", comment)
    page.click("button[value=approve]")
    words = page.inner_text("[role=status]")
    page.click("text=Log out")
    page.wait_for_url(re.compile(r"/log"))
    assert url in page.url
    return words


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_from_the_sender_to_the_whole_city(kind: str, tmp_path: Path, nursery: Nursery) -> None:
    """Sent through Postfix, held, letters to both approvers, each logs in and approves, delivered to the list once."""
    if kind == "postgresql" and programs() is None:
        pytest.skip("no PostgreSQL")
    (front,) = free_ports(1)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink(keywords=KEYWORDS))
        taking, deciding, url = stack.enter_context(nodes(kind, tmp_path, nursery, sink))
        hop = {"relayhost": f"[127.0.0.1]:{taking.port}"}
        stack.enter_context(running_postfix("front.city.example", {front: ""}, hop))
        for person in (MANAGER, HERALD):
            add_account(deciding, person)
        with smtplib.SMTP("127.0.0.1", front, local_hostname="desk.city.example", timeout=30) as client:
            client.ehlo()
            assert transact(client, "clerk@city.example", ["everyone@city.example"], LETTER).startswith("250")
        letters = {one: sink.wait_to(one, b"Town hall meeting", seconds=40) for one in (MANAGER, HERALD)}
        links = {person: link_in(letter.content) for person, letter in letters.items()}
        assert sink.to("everyone@city.example", b"the-mark-of-the-story") == []
        play = stack.enter_context(sync_playwright())
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(30_000)
        first = approve(page, url, links[MANAGER], MANAGER, "Official business.")
        assert "Another person has to approve" in first
        assert sink.to("everyone@city.example", b"the-mark-of-the-story") == []
        second = approve(page, url, links[HERALD], HERALD, "Fine.")
        assert "on its way" in second
        browser.close()
        got = sink.wait_to("everyone@city.example", b"the-mark-of-the-story", seconds=40)
        assert b"Message-ID: <story@city.example>" in got.content
        item = until(lambda: [i for i in taking.held("all") if i["state"] == "released"], 30)[0]
        record: list[dict[str, Any]] = json.loads(taking.cli("hold", "history", item["id"], "--json"))
        wanted = [("approve", MANAGER), ("complete", HERALD)]
        assert [(e["event"], e["actor"]) for e in record if e["event"] in ("approve", "complete")] == wanted
        assert len(sink.to("everyone@city.example", b"the-mark-of-the-story")) == 1


def link_in(content: bytes) -> str:
    """The address of the item's page in a letter; its plain text is quoted-printable or as it stands."""
    text = content.replace(b"=\r\n", b"").replace(b"=3D", b"=").decode("utf-8", "replace")
    found = re.search(r"http://127\.0\.0\.1:\d+/items/[A-Za-z0-9.-]+", text)
    assert found is not None, said(0, content)
    return found[0]
