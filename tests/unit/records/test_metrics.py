"""Counting: tallies lose nothing, label values stay apart, processes share through files."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from gateway.metrics import Tally, metric_names

_TWO_PROCESSES = """
import os, sys
from gateway.metrics import CONNECTIONS, MESSAGES, forget_process
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
MESSAGES.labels("inbound", "pass").inc()
pid = os.fork()
if pid == 0:
    MESSAGES.labels("inbound", "pass").inc(2)
    CONNECTIONS.labels("proxy").inc(5)
    os._exit(0)
os.waitpid(pid, 0)
registry = CollectorRegistry()
MultiProcessCollector(registry)
before = generate_latest(registry).decode()
forget_process(pid)
after = generate_latest(registry).decode()
for text in (before, after):
    print(sorted(r for r in text.splitlines() if r.startswith(("civicgate_messages_total", "civicgate_connections{"))))
"""


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("ab"), st.sampled_from("xy"))), max_size=50))
def test_a_tally_adds_up_whenever_it_is_flushed(events: list[tuple[str, str] | None]) -> None:
    """Every add arrives exactly once, whatever the flushes between (None: a flush)."""
    registry = CollectorRegistry()
    tally = Tally(Counter("t", "t", ("one", "two"), registry=registry))
    for event in events:
        tally.flush() if event is None else tally.add(*event)
    tally.flush()
    tally.flush()
    for labels in {event for event in events if event}:
        value = registry.get_sample_value("t_total", dict(zip(("one", "two"), labels, strict=True)))
        assert value == events.count(labels)


def test_names_are_ours_and_stand_once() -> None:
    """Every metric begins with the product's name."""
    names = metric_names()
    assert len(set(names)) == len(names)
    assert all(name.startswith("civicgate_") for name in names)
    assert "civicgate_messages_total" in names


def test_values_of_processes_add_up_and_live_gauges_go_with_their_process(tmp_path: Path) -> None:
    """A fork counts in its own file; what a dead worker counted stays, its open connections do not."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _TWO_PROCESSES], capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    before, after = ran.stdout.splitlines()
    total = """'civicgate_messages_total{direction="inbound",disposition="pass"} 3.0'"""
    assert total in before
    assert total in after
    assert """'civicgate_connections{listener="proxy"} 5.0'""" in before
    assert "civicgate_connections{" not in after or "5.0" not in after
