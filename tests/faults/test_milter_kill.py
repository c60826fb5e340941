"""kill -9 of the gateway at random moments while a Postfix asks it about mail: nothing that Postfix accepted is lost.

Every message that got 250 is delivered, held, or still in Postfix's queue; none that had to be encrypted left in clear.
With CIVICGATE_CAMPAIGN set it is a hundred kills.
"""

import os
from pathlib import Path

import pytest

from tests.e2e.letters import certificate
from tests.e2e.postfix import installed, open_folder, running_postfix
from tests.e2e.running import Nursery, Sink, running_city, until
from tests.faults.load import Load, under_load
from tests.faults.test_kill import CLIENTS, KINDS, ONE, RULES, TWO, examine, kill
from tests.ports import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(not installed(), reason="Postfix is not installed, or not root"),
]

KILLS = 100 if os.environ.get("CIVICGATE_CAMPAIGN") else 8


def test_nothing_that_postfix_accepted_is_missing(tmp_path: Path, nursery: Nursery) -> None:
    """After the kills the queue empties, and every 250 is at the last server or held."""
    sealed = tmp_path / "gateway" / "certificates"
    sealed.mkdir(parents=True)
    owners = {address: certificate(sealed, tmp_path, address) for address in (ONE, TWO)}
    (port,) = free_ports(1)
    outbox = {"claim_timeout": "5 s", "poll_interval": "100 ms", "retry_first": "200 ms", "retry_longest": "1 s"}
    keywords = ("8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")
    with Sink(keywords=keywords) as sink, open_folder() as place:
        milter = {"listeners": [{"name": "beside", "address": f"unix:{place}/milter.sock", "mode": "0666"}]}
        asking = {
            "relayhost": f"[127.0.0.1]:{sink.port}",
            "smtpd_milters": f"unix:{place}/milter.sock",
            "milter_default_action": "tempfail",
        }
        with (
            running_city(
                tmp_path / "gateway", nursery, sink.port, RULES, outbox=outbox, workers=3, milter=milter
            ) as gateway,
            running_postfix("front.city.example", {port: ""}, asking) as postfix,
        ):
            load = Load(port, KINDS)
            with load.running(CLIENTS):
                under_load(load, KILLS, 51, lambda round_, chance: kill(gateway, round_, chance))
            queue = postfix.folder / "queue"
            until(lambda: not _waiting(queue), 90, "Postfix's queue does not become empty")
            print(f"{KILLS} kills behind Postfix")
            examine(gateway, sink, load, owners, through_postfix=True)


def _waiting(queue: Path) -> list[Path]:
    """Messages that Postfix still has."""
    return [path for name in ("incoming", "active", "deferred") for path in (queue / name).rglob("*") if path.is_file()]
