"""The metrics page after known traffic through two workers."""

import os
import signal
import threading
from pathlib import Path

from gateway import __version__
from tests.e2e.letters import CLERK, CONFIDENTIAL, CONTRACTOR, EVERYONE, MAYOR, PARTNER, STRANGER, letter, mark
from tests.e2e.running import CityGateway, Nursery, Sink, running_city, transact, until


def total(samples: dict[str, float], name: str, **labels: str) -> float:
    """Sum of the samples of a name that have these labels."""
    return sum(
        value
        for key, value in samples.items()
        if key.partition("{")[0] == name and all(f'{k}="{v}"' in key for k, v in labels.items())
    )


def test_the_numbers_add_up_over_processes(tmp_path: Path, nursery: Nursery, clamd: Path) -> None:
    """Messages, recipients, rules, replies, held mail, neighbours, reloads: what was sent is what is counted."""
    keywords = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 200000000")
    with Sink(keywords=keywords) as sink:
        sink.server.replies[f"RCPT {PARTNER}"] = b"550 5.1.1 no such user\r\n"
        with running_city(tmp_path / "g", nursery, sink.port, clamd={"address": f"unix:{clamd}"}) as gateway:
            _traffic(gateway)
            os.kill(gateway.pid, signal.SIGHUP)
            until(lambda: gateway.log.count("rules in force") >= 4, 20)
            until(lambda: total(gateway.metrics(), "civicgate_held_messages") == 3, 15, "held items are not counted")
            until(lambda: total(gateway.metrics(), "civicgate_outbox_messages") == 0, 15)
            until(lambda: total(gateway.metrics(), "civicgate_messages_total") == 37, 10, "not all are counted")
            _check(gateway)


def _traffic(gateway: CityGateway) -> None:
    """Thirty messages over ten connections each of their own, so that both workers get some; and one of each other."""

    def pump() -> None:
        for _ in range(5):
            assert gateway.send(CLERK, [MAYOR], letter(mark("pass"))).startswith("250")

    threads = [threading.Thread(target=pump) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for _ in range(2):
        assert gateway.send(CLERK, [EVERYONE], letter(mark("hold"))).startswith("250")
    assert gateway.send(CLERK, [STRANGER], letter(mark("no-key"), CONFIDENTIAL + "\n")).startswith("250")
    assert gateway.send(CONTRACTOR, [STRANGER], letter(mark("contractor"), "x\n\n-- \nPat\n")).startswith("550")
    assert gateway.send(CLERK, [PARTNER], letter(mark("refused"))).startswith("550 5.1.1")
    video = letter(
        mark("video"), "AAAAHGZ0eXBpc29tAAACAGlzb21pc28ybXA0MQ==\n" + "A" * 76 + "\n" + ("A" * 76 + "\n") * 190_000,
        CLERK, MAYOR, "MIME-Version: 1.0", "Content-Type: video/mp4",
        'Content-Disposition: attachment; filename="council.mp4"', "Content-Transfer-Encoding: base64",
    )  # fmt: skip
    assert gateway.send(CLERK, [MAYOR], video).startswith("250")
    with gateway.connect() as client:
        client.docmd("XFORWARD", "ADDR=203.0.113.7")
        assert transact(client, STRANGER, [CLERK], letter(mark("in"), sender=STRANGER)).startswith("250")
        assert client.docmd("NONSENSE")[0] == 500


def _check(gateway: CityGateway) -> None:
    now = gateway.metrics()
    messages = "civicgate_messages_total"
    assert total(now, messages, direction="internal", disposition="pass") == 31
    assert total(now, messages, direction="internal", disposition="hold") == 2
    assert total(now, messages, direction="outbound", disposition="hold") == 1
    assert total(now, messages, direction="inbound", disposition="pass") == 1
    assert total(now, messages, disposition="reject") == 2
    assert total(now, messages) == 37
    assert total(now, "civicgate_recipients_total", direction="internal", disposition="hold") == 2
    rules = "civicgate_rule_matches_total"
    assert total(now, rules, rule="all-city-approval", mode="enforce") == 2
    assert total(now, rules, rule="media-size", mode="monitor") == 1
    assert total(now, rules, rule="contractor-signature-block") == 1
    assert total(now, "civicgate_transform_failures_total", code="no-certificate") >= 1
    assert total(now, "civicgate_control_failures_total") == 0
    assert total(now, "civicgate_message_bytes_count") == 36, "all but the one whose recipient was refused"
    assert total(now, "civicgate_stage_seconds_count", stage="virus") == 36
    assert now["civicgate_clamd_up"] == 1
    assert now["civicgate_next_hop_up"] == 1
    assert total(now, "civicgate_held_messages", queue="all-city") == 2
    assert 0 < total(now, "civicgate_held_oldest_seconds", queue="all-city") < 120
    replies = "civicgate_next_hop_replies_total"
    assert total(now, replies, command="rcpt", **{"class": "5"}) == 1
    from_the_outbox = gateway.log.count("outbox-attempt row=")
    assert from_the_outbox >= 5, "two approvers for each list item, and the sender without a key"
    assert total(now, replies, command=".", **{"class": "2"}) == 32 + from_the_outbox
    assert total(now, "civicgate_smtp_errors_total", reason="command") == 1
    assert total(now, "civicgate_reloads_total", outcome="done") == 2
    assert total(now, "civicgate_build_info", version=__version__) == 1
    assert total(now, "civicgate_connections") == 0


def test_clamd_down_is_seen(tmp_path: Path, nursery: Nursery, sink: Sink) -> None:
    """Without clamd: clamd_up is 0 and every deferred message is a control failure."""
    with running_city(tmp_path / "g", nursery, sink.port, workers=1) as gateway:
        for _ in range(3):
            assert gateway.send(CLERK, [MAYOR], letter(mark("down"))).startswith("451 4.7.1")
        until(lambda: total(gateway.metrics(), "civicgate_messages_total") == 3, 10)
        now = gateway.metrics()
        assert now["civicgate_clamd_up"] == 0
        assert total(now, "civicgate_control_failures_total", control="virus", reason="unavailable") == 3
        assert total(now, "civicgate_messages_total", direction="internal", disposition="defer") == 3
