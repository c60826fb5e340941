"""civicgate hold and civicgate exception, as somebody at a terminal sees them."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import exception, hold
from gateway.cli.columns import span, table
from gateway.directory import load_directory
from gateway.errors import OperatorError
from gateway.hold import Acceptance, HeldGroup, open_hold
from gateway.settings import PolicySettings, Settings

pytestmark = pytest.mark.sqlite

DIRECTORY = Path(__file__).parents[2] / "config" / "directory.yaml"
Say = Callable[..., tuple[int, str, str]]
GARDENER, DIRECTOR, HERALD = (f"{n}@city.example" for n in ("gardener", "parks-director", "communications"))


@pytest.fixture
def own(
    settings: Settings, acceptance: Callable[..., Acceptance], clock: Any, hold_order: Any, recipient: Any
) -> Settings:
    """A store with one held item T1-h1, from the gardener to everyone, and the shipped directory."""
    own = settings.model_copy(update={"policy": PolicySettings(directory=DIRECTORY)})
    clock.now = datetime.now(UTC)

    async def fill() -> None:
        store = await open_hold(own, load_directory(DIRECTORY), clock=clock)
        to = (recipient("everyone@city.example", lists=("all-staff", "@city-wide")),)
        group = HeldGroup(to, (hold_order("director", "communications-specialist"),))
        await store.accept(acceptance(held=(group,), outgoing=(), reverse_path=GARDENER))
        await store.close()

    asyncio.run(fill())
    return own


@pytest.fixture
def say(own: Settings, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs one command line: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser(prog="civicgate")
        commands = parser.add_subparsers(dest="command")
        for module in (hold, exception):
            module.register(commands)
        args = parser.parse_args(words)
        code = {"hold": hold, "exception": exception}[args.command].run(args, own)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_night_s_work(say: Say) -> None:
    """List, show, approve twice, history: aligned, plain, with what is still needed."""
    code, out, _ = say("hold", "list")
    head, row = out.splitlines()
    assert code == 0
    assert row.split()[:4] == ["T1-h1", "all-city", GARDENER, "everyone@city.example"]
    assert head.index("FROM") == row.index(GARDENER)
    assert "now" in row
    code, out, _ = say("hold", "approve", "T1", "--as", "Parks-Director@city.example", "--comment", "official")
    assert (code, "still needed: communications-specialist (communications@city.example)" in out) == (0, True)
    assert "SHA-256" in out
    code, out, _ = say("hold", "approve", "T1", "--as", DIRECTOR)
    assert (code, "nothing was changed" in out) == (0, True)
    _, out, _ = say("hold", "show", "T1")
    assert f"Needs:      communications-specialist: {HERALD}" in out
    assert f"Said:       approve by {DIRECTOR}" in out
    assert "People:     412" in out
    assert "Lists:      all-staff\n" in out
    code, out, _ = say("hold", "approve", "T1", "--as", HERALD)
    assert (code, "on its way" in out) == (0, True)
    _, out, _ = say("hold", "history", "T1")
    assert [line.split()[3] for line in out.splitlines()[1:] if not line.startswith("    ")] == [
        "held",
        "approve",
        "complete",
    ]
    assert "official" in out
    assert say("hold", "verify")[1].startswith("3 events, none altered.")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("show", "T9"), "There is no held item T9"),
        (
            ("approve", "T1", "--as", GARDENER),
            "sent this message and cannot decide it. Who can: director: parks-director",
        ),
        (("approve", "T1", "--as", "clerk@city.example"), "no approver of T1-h1"),
        (("approve", "T1", "--as", DIRECTOR, "--digest", "beef"), "another message"),
        (("reject", "T1", "--as", DIRECTOR, "--reason", " "), "needs a reason"),
        (("release", "T1", "--as", DIRECTOR), "use «hold approve»"),
        (("show", "T1", "--body"), "--as ADDRESS"),
        (("show", "T1", "--body", "--as", "it-director@city.example"), "no approver"),
        (("withdraw", "T1", "--as", DIRECTOR), "did not send"),
        (("attest", "T1", "--as", GARDENER), "does not wait for its sender's confirmation"),
        (("comment", "T1", "--as", "clerk@city.example", "--text", "x"), "no approver"),
        (("allow", "T1", "--as", DIRECTOR, "--until", "7d"), "knows no exceptions"),
        (("allow", "T1", "--as", DIRECTOR, "--until", "soon"), "not a time"),
        (("release", "T1", "--as", DIRECTOR, "--only", "x@y.example"), "not for x@y.example"),
        (("release", "T1", "--as", DIRECTOR, "--only", "x@y.example", "--rest", "reject"), "needs a reason"),
        (("list", "--older-than", "yesterday"), "--older-than yesterday"),
    ],
)
def test_errors_say_what_to_do(say: Say, words: tuple[str, ...], complaint: str) -> None:
    """Exit code 1, one sentence on standard error, nothing on standard output, nothing done."""
    code, out, err = say("hold", *words)
    assert (code, out) == (1, "")
    assert complaint in err
    assert "Traceback" not in err
    assert len(json.loads(say("hold", "history", "T1", "--json")[1])) == 1


def test_subject_and_body_are_for_approvers(say: Say) -> None:
    """Anybody at the console sees metadata; an approver the subject and the body, and the view is recorded."""
    for words in (("list",), ("show", "T1"), ("list", "--json"), ("show", "T1", "--json")):
        out = say("hold", *words)[1]
        assert "Picnic" not in out
        assert "needle" not in out
    assert "Subject:    Picnic" in say("hold", "show", "T1", "--as", DIRECTOR)[1]
    assert "needle" in say("hold", "show", "T1", "--as", DIRECTOR, "--body")[1]
    events = json.loads(say("hold", "history", "T1", "--json")[1])
    assert [(e["event"], e["actor"]) for e in events] == [("held", "gateway"), ("view", DIRECTOR)]
    assert events[1]["os_user"]


def test_json_everywhere(say: Say) -> None:
    """Every command prints JSON when asked, with the same facts."""
    (listed,) = json.loads(say("hold", "list", "--json")[1])
    assert (listed["id"], listed["state"], listed["people"]) == ("T1-h1", "held", 412)
    shown = json.loads(say("hold", "show", "T1", "--as", DIRECTOR, "--body", "--json")[1])
    assert (shown["subject"], bool(shown["body_base64"])) == ("Picnic", True)
    said = json.loads(say("hold", "approve", "T1", "--as", DIRECTOR, "--json")[1])
    assert (said["changed"], [n["role"] for n in said["needs"]]) == (True, ["communications-specialist"])
    gone = json.loads(say("hold", "reject", "T1", "--as", HERALD, "--reason", "no", "--json")[1])
    assert gone["state"] == "rejected"
    assert json.loads(say("hold", "verify", "--json")[1])["events"] == 4


def test_list_filters(say: Say) -> None:
    """By queue and by state; closed items only when asked for."""
    assert say("hold", "list", "--queue", "encryption")[1] == "Nothing like that is held.\n"
    say("hold", "reject", "T1", "--as", HERALD, "--reason", "no")
    assert say("hold", "list")[1] == "Nothing is held.\n"
    assert say("hold", "list", "--state", "rejected")[1].splitlines()[1].endswith("  rejected")
    assert "T1-h1" in say("hold", "list", "--state", "all")[1]


def test_more_filters(say: Say) -> None:
    """By sender, recipient, rule, a piece of text, age, and by whom it waits for."""
    for words, found in (
        (("--sender", "GARDENER"), True),
        (("--sender", "mayor"), False),
        (("--recipient", "everyone@"), True),
        (("--recipient", "gardener"), False),
        (("--rule", "city-wide"), True),
        (("--text", "t1-h1 everyone"), True),
        (("--text", "picnic"), False),
        (("--older-than", "1 h"), False),
        (("--newer-than", "1 h"), True),
        (("--waiting-for", DIRECTOR), True),
        (("--waiting-for", GARDENER), False),
        (("--sort", "expires", "--reverse", "--limit", "1"), True),
    ):
        assert ("T1-h1" in say("hold", "list", *words)[1]) is found, words
    assert max(map(len, say("hold", "list")[1].splitlines())) < 140


def test_several_at_once(say: Say) -> None:
    """Each id by itself, with its own result; the exit code says when one could not be done."""
    code, out, _ = say("hold", "approve", "T1", "T9", "--as", DIRECTOR)
    assert (code, "T1-h1  done" in out, "T9     NOT DONE" in out, "no held item T9" in out) == (1, True, True, True)
    done = json.loads(say("hold", "approve", "T1-h1", "T1", "--as", HERALD, "--json")[1])
    assert [(row["id"], row["done"], row["changed"]) for row in done] == [("T1-h1", True, True), ("T1-h1", True, False)]


def test_the_sender_s_own(say: Say) -> None:
    """The sender sees subject and body, notes a word and takes it back; every command has --json."""
    assert "Subject:    Picnic" in say("hold", "show", "T1", "--as", GARDENER)[1]
    assert "needle" in say("hold", "show", "T1", "--as", GARDENER, "--body")[1]
    noted = json.loads(say("hold", "comment", "T1", "--as", GARDENER, "--text", "It is urgent", "--json")[1])
    assert noted["state"] == "held"
    gone = json.loads(say("hold", "withdraw", "T1", "--as", GARDENER, "--comment", "typo", "--json")[1])
    assert (gone["state"], gone["changed"]) == ("withdrawn", True)
    assert "withdrawn before" in say("hold", "withdraw", "T1", "--as", GARDENER)[1]
    events = json.loads(say("hold", "history", "T1", "--json")[1])
    assert [e["event"] for e in events] == ["held", "view", "comment", "withdraw"]


def test_exceptions_from_first_to_last(say: Say) -> None:
    """Added, listed, revoked by the beginning of its id, still listed with --all."""
    words: tuple[str, ...] = ("--kind", "large-message", "--sender", "Maps@city.example", "--recipient", "@example.org")
    words += ("--until", "7d", "--reason", "Bridge plans", "--approver", "it-director@city.example")
    added = json.loads(say("exception", "add", *words, "--once", "--max-size", "200 MB", "--json")[1])
    assert (added["sender"], added["uses_left"], added["max_size"]) == ("maps@city.example", 1, 200_000_000)
    code, out, _ = say("exception", "list")
    assert (code, "1 left" in out, "large-message" in out) == (0, True, True)
    assert "is revoked" in say("exception", "revoke", added["id"][:6])[1]
    assert "No exception holds now" in say("exception", "list")[1]
    assert "revoked" in say("exception", "list", "--all")[1]
    code, _, err = say("exception", "revoke", added["id"])
    assert (code, "already" in err) == (1, True)
    for bad in (("--until", "yesterday"), ("--sender", "nobody"), ("--max-size", "huge")):
        code, _, err = say("exception", "add", *words, *bad)
        assert (code, bool(err)) == (1, True), bad


def test_until() -> None:
    """A date means its end, a time is local unless it says otherwise, a span counts from now."""
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert exception.parse_until("7d", now) - now == timedelta(days=7)
    assert exception.parse_until("48 h", now) - now == timedelta(days=2)
    assert exception.parse_until("2026-12-01T17:00+01:00", now) == datetime(2026, 12, 1, 16, 0, tzinfo=UTC)
    assert exception.parse_until("2026-12-01", now) == datetime(2026, 12, 1, 23, 59, 59).astimezone()
    for nonsense in ("soon", "", "7 weeks", "2026-13-01"):
        with pytest.raises(OperatorError, match="not a time"):
            exception.parse_until(nonsense, now)


def test_an_exception_that_no_rule_asks_for_is_noted(say: Say) -> None:
    """A slip in --kind, or a stranger as approver, is said at once: else the approval would silently not count."""
    words = ("exception", "add", "--kind", "large-mesage", "--sender", "a@city.example", "--recipient", "*")
    code, out, err = say(*words, "--until", "7d", "--reason", "x", "--approver", "nobody@far.example", "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "large-mesage"
    assert "large-mesage" in err
    assert "large-message" in err
    assert "nobody@far.example" in err


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_was_wider_than_a_terminal(say: Say, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line fits and the id stays whole; a program gets addresses whole."""
    assert GARDENER in say("hold", "list")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    row = ("T" * 21, "all-city", "a" * 40, "b" * 40, "999 kB", "99 min", "47 h")
    out = table(("ID", "QUEUE", "FROM", "TO", "SIZE", "AGE", "LEFT"), [row])
    assert max(map(len, out.splitlines())) <= columns
    assert out.splitlines()[1].startswith("T" * 21)
    assert max(map(len, say("hold", "list")[1].splitlines())) <= columns


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "now"), (99, "99 min"), (100, "1 h"), (71 * 60 + 59, "71 h"), (72 * 60, "3 d")]
)
def test_ages_in_one_unit(minutes: int, text: str) -> None:
    """Narrow, and exact enough to see what is urgent."""
    assert span(timedelta(minutes=minutes)) == text
