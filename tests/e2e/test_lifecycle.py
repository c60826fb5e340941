"""Start, reload, drain, Ctrl-C, restart of a dead worker: what the gateway's processes do when they are told to."""

import os
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.letters import CLERK, MAYOR, letter, mark, named
from tests.e2e.running import (
    ROOT,
    CityGateway,
    Nursery,
    Sink,
    city_gateway,
    greets,
    running_city,
    said,
    transact,
    until,
)

RULE = """\
id: no-picnics
title: No picnics
source: wdm/all-city
when: {{header: {{name: Subject, contains: {word}}}}}
then: {{reject: {{text: "No {word}."}}}}
cases:
  - it: refuses it
    message: {{from: clerk@city.example, to: mayor@city.example, subject: "The {word}"}}
    expect: {{disposition: reject}}
  - it: leaves other things alone
    message: {{from: clerk@city.example, to: mayor@city.example, subject: Budget}}
    expect: {{disposition: pass}}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink) -> Iterator[CityGateway]:
    """Two workers with one rule. The tests of this file follow the life of this one gateway; the last one ends it."""
    folder = tmp_path_factory.mktemp("small")
    with running_city(folder / "g", nursery, sink.port, {"picnic": RULE.format(word="picnic")}) as gateway:
        yield gateway


def test_a_second_gateway_on_the_port_refuses_to_start(small: CityGateway) -> None:
    """It says which address is taken and ends with 1; the first goes on."""
    out = small.cli("run", code=1)
    assert f"127.0.0.1:{small.port}" in out
    assert small.send(CLERK, [MAYOR], letter(mark("first"))).startswith("250")


def test_a_dead_worker_is_replaced(small: CityGateway) -> None:
    """Kill -9 of one worker: the other one goes on, and a new one comes."""
    before = until(lambda: w if len(w := small.workers()) == 2 else [], 10)
    os.kill(before[0], signal.SIGKILL)

    def passes() -> bool:
        with suppress(OSError, smtplib.SMTPException):  # it had connections in its queue when it died
            return small.send(CLERK, [MAYOR], letter(mark("alone"))).startswith("250")
        return False

    until(passes, 5)
    after = until(lambda: w if len(w := small.workers()) == 2 else [], 20, "no new worker")
    assert before[0] not in after
    assert before[1] in after
    assert "worker ended" in small.log


def test_reload_changes_rules_and_a_broken_rule_changes_nothing(small: CityGateway) -> None:
    """SIGHUP: a changed rule counts in every worker; a broken one is named by file:line:column and the old stay."""
    rule = small.folder / "rules" / "picnic.yaml"

    def refused(word: str) -> set[bool]:
        replies = [small.send(CLERK, [MAYOR], letter(mark("reload"), subject=f"The {word}")) for _ in range(8)]
        return {reply.startswith("550 5.7.1") for reply in replies}

    assert refused("picnic") == {True}
    loaded = small.log.count("rules in force")
    rule.write_text(RULE.format(word="parade"), "utf-8")
    os.kill(small.pid, signal.SIGHUP)
    until(lambda: small.log.count("rules in force") >= loaded + 2, 15, "not every worker has reloaded")
    assert refused("parade") == {True}
    assert refused("picnic") == {False}
    rule.write_text(RULE.format(word="circus").replace("then:", "than:"), "utf-8")
    os.kill(small.pid, signal.SIGHUP)
    until(lambda: "reload refused" in small.log, 15, "the broken rule was not refused")
    line = next(line for line in small.log.splitlines() if "reload refused" in line)
    assert f"{rule}:5:1:" in line, line
    assert refused("parade") == {True}
    until(lambda: small.metrics().get('civicgate_reloads_total{outcome="done"}') == 2.0, 5)
    until(lambda: small.metrics().get('civicgate_reloads_total{outcome="refused"}') == 1.0, 5)
    rule.write_text("")  # as an editor leaves it for a moment; it once ended the whole gateway
    os.kill(small.pid, signal.SIGHUP)
    until(lambda: small.log.count("reload refused") == 2, 15, "the empty rule was not refused")
    assert refused("parade") == {True}
    until(lambda: small.metrics().get('civicgate_reloads_total{outcome="refused"}') == 2.0, 5)


def test_a_worker_that_comes_later_runs_by_what_is_in_force(small: CityGateway) -> None:
    """Kill -9 after reloads: the new worker has the settings and rules of the last good one, whatever the files say."""

    def replies() -> set[tuple[str, bool]]:
        seen = set()
        for _ in range(8):  # each of the two workers gets some
            with smtplib.SMTP("127.0.0.1", small.port, timeout=30) as client:
                name = client.ehlo()[1].split()[0].decode()
                reply = transact(client, CLERK, [MAYOR], letter(mark("later"), subject="The parade"))
                seen.add((name, reply.startswith("550 5.7.1")))
        return seen

    rule = small.folder / "rules" / "picnic.yaml"
    rule.write_text(RULE.format(word="parade"), "utf-8")
    small.configure(smtp={"hostname": "second.city.example"})
    loaded = small.log.count("rules in force")
    os.kill(small.pid, signal.SIGHUP)
    until(lambda: small.log.count("rules in force") >= loaded + 2, 15, "not every worker has reloaded")
    rule.write_text("")
    small.config.write_text("")
    for old in small.workers():
        os.kill(old, signal.SIGKILL)
        until(lambda old=old: old not in (now := small.workers()) and len(now) == 2, 20, "no new worker")  # type: ignore[misc]
    assert replies() == {("second.city.example", True)}
    small.configure()
    rule.write_text(RULE.format(word="parade"), "utf-8")


def test_sigterm_lets_a_transaction_end(small: CityGateway, sink: Sink) -> None:
    """A message under way gets its real reply; idle clients hear 421, new ones are refused; the exit code is 0."""
    idle = small.connect()
    name = mark("drain")
    content = letter(name)
    client = small.connect()
    client.mail(CLERK)
    client.rcpt(MAYOR)
    assert client.docmd("DATA")[0] == 354
    client.send(content[:50])
    codes: list[int] = []
    stopping = threading.Thread(target=lambda: codes.append(small.stop(seconds=15)))
    stopping.start()
    until(lambda: not greets(small.port), 5, "connections are still taken")
    assert idle.getreply()[0] == 421
    idle.close()
    client.send(content[50:] + b".\r\n")
    assert said(*client.getreply()).startswith("250 2.0.0 queued as SINK1")
    stopping.join(15)
    assert codes == [0]
    client.close()
    sink.wait(named(name))


def test_ctrl_c_ends_it_cleanly(tmp_path: Path, nursery: Nursery, sink: Sink) -> None:
    """SIGINT to the whole process group, as a terminal sends it: exit code 0, no error, no process left."""
    gateway = city_gateway(tmp_path / "g", nursery, sink.port, {})
    with gateway.log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "--config", str(gateway.config), "run"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: greets(gateway.port), 40, "it does not start")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    log_text = gateway.log
    assert "Traceback" not in log_text
    assert [line for line in log_text.splitlines() if " error " in line and "clamd is down" not in line] == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
