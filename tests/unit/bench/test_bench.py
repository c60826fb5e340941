"""The parts of the measurements that need no server: messages, /proc, what is reckoned and what is drawn."""

import os
import time
from email import message_from_bytes
from email.policy import default
from functools import cache
from pathlib import Path

import pytest

from bench import extraction, texts
from bench.__main__ import chosen, parse
from bench.content import COLUMNS, Row, rate
from bench.documents import documents
from bench.latency import Latencies, percentile
from bench.load import next_count
from bench.memory import Memory
from bench.messages import RECIPIENT, SENDER, SIZES, Size, wire_size
from bench.messages import content as written
from bench.passing import Passing
from bench.postfix import master_cf
from bench.processes import Meter, Process, Usage, parse_anonymous, parse_peak, parse_stat, tree
from bench.profile import aggregate
from bench.report import GATEWAY, POSTFIX, Bar, Results, bars, render
from bench.rows import ROWS, Cell, Run
from bench.servers import RULES, amavis_conf, rules_without_clamd, switched_off
from gateway.checks.scanner import Tally
from gateway.policy import load_rules, load_types
from tests.shipped import shipped_scanner

SMALL, MIDDLE, LARGE = SIZES[:3]
content = cache(written)


@pytest.mark.parametrize("size", SIZES[:3], ids=lambda size: size.name)
def test_a_message_has_its_size_and_is_the_same_every_time(size: Size) -> None:
    """Within 3 % of what is promised, never above, and the same octets twice."""
    message = content(size)
    assert size.octets * 0.97 <= wire_size(message) <= size.octets
    assert written(size) == message


@pytest.mark.parametrize("size", SIZES[:3], ids=lambda size: size.name)
def test_a_message_is_well_formed(size: Size) -> None:
    """The standard library reads it without a defect, and finds sender and recipient in it."""
    message = message_from_bytes(content(size), policy=default)
    assert all(not part.defects for part in message.walk())
    assert SENDER in message["From"]
    assert RECIPIENT in message["To"]


def test_kinds_of_messages() -> None:
    """Small: text. Middle: text and HTML. Large: attachments of noise in base64."""
    kinds = [
        [part.get_content_type() for part in message_from_bytes(content(s)).walk()] for s in (SMALL, MIDDLE, LARGE)
    ]
    assert kinds[0] == ["text/plain"]
    assert kinds[1] == ["multipart/alternative", "text/plain", "text/html"]
    assert kinds[2] == ["multipart/mixed", "text/plain", "image/jpeg", "image/jpeg"]


def test_too_small_a_message_is_refused() -> None:
    """A header and a signature block must find room."""
    with pytest.raises(ValueError, match="too small"):
        written(Size("tiny", 500, 1, 1))


# --- /proc ----------------------------------------------------------------------------------------------------------


def test_stat_of_a_process_with_a_strange_name() -> None:
    """Spaces and parentheses in the command's name do not shift the fields."""
    line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 100 1000 10"
    assert parse_stat(line) == Process(42, 7, 11 + 22 + 33 + 44)


def test_memory_lines() -> None:
    """Kilobytes become octets; a process without the line has none."""
    status = "Name:\tx\nVmHWM:\t  1024 kB\nRssAnon:\t 12 kB\n"
    assert parse_peak(status) == 1024 * 1024
    assert parse_anonymous(status) == 12 * 1024
    assert parse_peak("Name:\tzombie\n") == 0


def test_tree_has_descendants_only() -> None:
    """Depth counts from the root; strangers and roots that are gone are not in it."""
    everything = {pid: Process(pid, parent, 1) for pid, parent in ((1, 0), (10, 1), (11, 10), (12, 11), (20, 1))}
    assert tree(everything, (10, 99)) == {10: 0, 11: 1, 12: 2}


def test_meter_counts_this_process() -> None:
    """Work that is done between its making and its stop is seen."""
    meter = Meter(os.getpid())
    begin = os.times()
    while sum(os.times()[:2]) - sum(begin[:2]) < 0.1:
        sum(range(1000))
    usage = meter.stop()
    assert usage.cpu >= 0.08
    assert usage.peak > 1_000_000


# --- What is reckoned -----------------------------------------------------------------------------------------------


def test_next_count_fills_the_time_with_whole_rounds() -> None:
    """As many as fit, a multiple of the sessions, one round at least, and not endless after an untimeable first run."""
    assert next_count(100, 0.5, 2.0, 20) == 400
    assert next_count(100, 0.5, 0.99, 20) == 180
    assert next_count(4, 10.0, 1.0, 4) == 4
    assert next_count(100, 1e-6, 2.0, 20) == 10_000


def test_percentile_is_nearest_rank() -> None:
    """A value that occurred, never one between."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0], 50) == 3.0
    assert percentile([], 95) == 0.0


def test_a_cell_weighs_its_runs_by_their_length() -> None:
    """Rate and CPU are over all messages, the peak is the highest."""
    cell = Cell("new", SMALL, [Run(100, 1.0, Usage(0.1, 50)), Run(300, 1.0, Usage(0.5, 70), Usage(0.2, 9))])
    assert cell.rate == 200
    assert cell.cpu == pytest.approx(1.5)
    assert cell.clamd_cpu == pytest.approx(0.5)
    assert cell.peak == 70
    assert cell.spread == pytest.approx(1.0)


def test_profile_counts_a_function_once_a_sample() -> None:
    """Recursion does not count twice; other threads do not count at all; the innermost frame is the busy one."""
    raw = [
        "thread (0x1): MainThread;run (a.py:1);walk (b.py:2);walk (b.py:9) 3",
        "thread (0x1): MainThread;run (a.py:7) 1",
        "thread (0x2): waiter;wait (c.py:1) 50",
        "thread (0x1): MainThread 7",
    ]
    found = aggregate(raw)
    assert found.total == 4
    assert found.own == {"b.py walk": 3, "a.py run": 1}
    assert found.inclusive == {"a.py run": 4, "b.py walk": 3}


# --- What is drawn --------------------------------------------------------------------------------------------------


def _results() -> Results:
    cells = [
        Cell("direct", SMALL, [Run(1000, 0.1, Usage())]),
        Cell("new", SMALL, [Run(1000, 0.5, Usage(0.3, 90_000_000))]),
        Cell("amavis", SMALL, problem="amavisd is not installed"),
    ]
    return Results({"CPUs": "2"}, cells)


def test_the_table_shows_ratio_and_reason() -> None:
    """A measured row has its share of the direct rate, one that could not be measured says why."""
    text = render(_results(), markdown=False)
    row = next(line for line in text.splitlines() if "no rules, new connections, 2" in line)
    assert row.split()[-5:] == ["2,000", "0", "0.20", "0.30", "90"]
    assert "(amavisd is not installed)" in text


def test_markdown_rows_have_all_columns() -> None:
    """Every row of a table has as many cells as its head."""
    lines = [line for line in render(_results(), markdown=True).splitlines() if line.startswith("| ")]
    head = next(line for line in lines if line.startswith("| size"))
    rows = [line for line in lines if line.startswith("| 2 KB")]
    assert len(rows) == 3
    assert {line.count("|") for line in rows} == {head.count("|")}


def test_a_bar_that_was_not_measured_is_not_reached() -> None:
    """Silence is no success; a limit is kept from above."""
    assert not Bar("x", None, 1).reached
    assert Bar("x", 199, 200, "MB", at_most=True).reached
    assert not Bar("x", 201, 200, "MB", at_most=True).reached
    assert "NOT REACHED (0.50 ×)" in Bar("x", 800, 1600).row()


def test_bars_take_their_cells() -> None:
    """Rates, memory and latency find their way to the bar that asks for them."""
    results = _results()
    results.memory["no rules"] = Memory(150_000_000, 80_000_000, 0, 5.0, 20)
    results.latency = {GATEWAY: Latencies([0.01, 0.03]), POSTFIX: Latencies([0.01, 0.01])}
    found = {bar.name: bar.value for bar in bars(results)}
    assert found["no rules, 2 KB, new connections"] == 2000
    assert found["worker, 20 × 45 MB in flight, no rules"] == 150
    assert found["latency worst, of Postfix's"] == pytest.approx(3)
    assert found["all rules with clamd, 2 KB, of amavisd-new"] is None


# --- What is configured ---------------------------------------------------------------------------------------------


def test_virus_rules_are_off_in_the_copy(tmp_path: Path) -> None:
    """The copy loads, and asks nothing of clamd any more; all other rules are as they are."""
    copy = rules_without_clamd(tmp_path)
    types = frozenset(kind.id for kind in load_types(copy / "types"))
    before, after = load_rules(RULES, types), load_rules(copy, types)
    virus = {rule.id for rule in before.rules if rule.id.startswith("virus-")}
    assert virus
    assert {rule.id for rule in before.active} - {rule.id for rule in after.active} == virus


def test_switching_off_replaces_the_mode() -> None:
    """There is one mode afterwards, whatever it was."""
    assert switched_off("id: a\nmode: monitor\nwhen: {}\n") == 'id: a\nwhen: {}\nmode: "off"\n'


def test_other_servers_listen_on_loopback_only() -> None:
    """Neither Postfix nor amavisd-new is told to listen anywhere else."""
    services = [line for line in master_cf(1025, ((1026, 2525),)).splitlines() if " inet " in line]
    assert [line.split(":")[0] for line in services] == ["127.0.0.1", "127.0.0.1"]
    assert "$inet_socket_bind = '127.0.0.1'" in amavis_conf(Path("x"), 1, 2, Path("s"))


def test_options() -> None:
    """--quick is a default that an explicit choice overrides; an unknown row is refused."""
    assert parse(["--quick"]).only == ("direct", "new", "kept", "rules")
    assert parse(["--quick", "--only", "amavis"]).only == ("amavis",)
    assert parse([]).only[: len(ROWS)] == ROWS
    assert chosen("b,a", ("a", "b", "c")) == ("a", "b")
    with pytest.raises(ValueError, match="not among"):
        chosen("z", ("a",))


def test_dense_text_is_dense_and_prose_is_not() -> None:
    """One value each thousand octets, which the gateway finds; hardly any in the prose. The same octets every time."""
    scanner = shipped_scanner()
    for text, least, most in ((texts.plain(100_000), 0, 3), (texts.dense(100_000, 1000), 85, 130)):
        tally = Tally()
        scanner.scan(text, "1", tally)
        assert least <= sum(finding.count for finding in scanner.findings(tally)) <= most
    assert texts.dense(20_000, 400) == texts.dense(20_000, 400)


def test_a_slow_way_to_look_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as it gets through in some seconds, so that a row never takes minutes."""
    monkeypatch.setattr("bench.content.PATIENCE", 1.0)
    lengths: list[int] = []

    def find(text: bytes) -> None:
        lengths.append(len(text))
        end = time.process_time() + len(text) / 400_000
        while time.process_time() < end:
            pass

    assert 0.2 < rate(find, bytes(5_000_000), slow=True) < 0.6
    assert max(lengths) < 400_000


@pytest.mark.parametrize(
    "name", [".docx", ".pptx", ".odt", ".rtf", ".doc", ".xls", ".msg", "winmail.dat", ".zip", ".7z"]
)
def test_a_measured_document_is_read_in_whole(name: str, tmp_path: Path) -> None:
    """All its text comes out, so that seconds a megabyte mean something."""
    path = tmp_path / "document"
    path.write_bytes(documents(tmp_path, 60_000)[name]())
    row = extraction.read(path, name)
    assert row.file == path.stat().st_size
    assert 55_000 < row.text < 150_000


def test_rows_of_content_are_drawn_with_their_bars() -> None:
    """Rates, what is not installed, documents; a bar for each column that has one."""
    count = len(COLUMNS)
    results = Results(
        finding=[
            Row("ours", tuple(float(50 * n) for n in range(1, count + 1))),
            Row("x", ("none", *[""] * (count - 1))),
        ],
        reading=[extraction.Row(".docx", 1_000_000, 2_000_000, 0.5, 90_000_000, 60_000_000)],
        passing={"all": Passing(45, 30, 3.0, 150_000_000, 1, 2, Latencies([0.1]), Latencies([0.2], 1))},
    )
    text = render(results, markdown=True)
    assert "| .docx |  | 1.00 | 2.00 | 0.500 | 0.250 | 90 | 60 |" in text
    assert "| 2 | x | none |" in text
    reached = [bar.reached for bar in bars(results) if bar.unit == "MB/s"]
    assert reached == [False, True, True, True]
    assert [bar.reached for bar in bars(results) if "30 MB" in bar.name] == [True]
