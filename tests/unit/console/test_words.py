"""Times, sizes and strangers' text in words; charts as numbers."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.console.pages import charts, words
from gateway.hold import Event, State

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=20), "in a moment"),
        (timedelta(minutes=1), "in 1 minute"),
        (timedelta(minutes=89), "in 89 minutes"),
        (timedelta(hours=5, minutes=50), "in 5 hours"),
        (timedelta(hours=47), "in 47 hours"),
        (timedelta(days=3), "in 3 days"),
        (timedelta(seconds=-20), "just now"),
        (timedelta(hours=-30), "30 hours ago"),
    ],
    ids=["moment", "minute", "minutes", "hours", "many hours", "days", "just now", "ago"],
)
def test_times_are_told_from_now(span: timedelta, said: str) -> None:
    """One unit, the coarsest that still says enough."""
    assert words.relative(NOW + span, NOW) == said


def test_an_end_that_is_near_is_set_off() -> None:
    """Within six hours, and when it is over; other times never are."""
    kinds = [words.when(NOW + timedelta(hours=hours), NOW, end=True).kind for hours in (-1, 3, 30)]
    assert kinds == ["past", "soon", ""]
    assert words.when(NOW, NOW).kind == ""


@pytest.mark.parametrize(
    ("octets", "said"),
    [(1, "1 byte"), (999, "999 bytes"), (1234, "1.2 KB"), (45_000_000, "45 MB"), (7_200_000_000, "7.2 GB")],
    ids=["one", "bytes", "KB", "MB", "GB"],
)
def test_sizes_are_told_as_mail_programs_do(octets: int, said: str) -> None:
    """Decimal units, one decimal below ten."""
    assert words.size(octets) == said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plan\u202efdp.exe", "plan[U+202E]fdp.exe"),
        ("a\u200bb", "a[U+200B]b"),
        ("a\r\nb\x1b[31m", "a[U+000D][U+000A]b[U+001B][31m"),
        ("שלום Grüße 日本", "שלום Grüße 日本"),
        ("👩\u200d🚒", "👩\u200d🚒"),
        ("\ud800", "[U+D800]"),
    ],
    ids=["turned", "hidden", "control", "scripts", "emoji", "surrogate"],
)
def test_what_is_not_seen_is_written_out(text: str, shown: str) -> None:
    """Characters that hide or turn others become visible; letters of all scripts stay."""
    assert words.harmless(text) == shown


def test_every_state_and_event_has_words() -> None:
    """Nothing shows by its program's name."""
    assert {str(state) for state in State} <= set(words.STATES)
    assert {str(event) for event in Event} <= set(words.EVENTS)


def test_columns_stand_on_the_base_line_and_below_the_top() -> None:
    """Stacked amounts add up; the axis ends with a round number; an empty chart is one."""
    found = charts.columns(
        [charts.Column("a", ((3, "a", "3"), (4, "b", "4"))), charts.Column("b", ((0, "a", "0"),))], "seven"
    )
    assert found.top == 10
    assert [bar.kind for bar in found.bars] == ["a", "b"]
    first, second = found.bars
    assert first.y + first.height == pytest.approx(found.base, abs=0.2)
    assert second.y + second.height == pytest.approx(first.y, abs=0.2)
    assert min(bar.y for bar in found.bars) >= found.upper
    assert charts.columns([], "nothing").bars == ()
