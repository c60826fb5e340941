"""Log lines: one line an event whatever strangers write, and nothing that reads as another field."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.records.log import logger
from gateway.settings import LogSettings

NAMES = ("id", "to", "problem")
ANY = st.text(st.one_of(st.sampled_from('\r\n\t\0\x1b\x85\u2028\u202e\ud800"\\= <>a'), st.characters()), max_size=60)
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)")
_PAIR = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^ "=]*))(?: |$)')


@pytest.fixture(autouse=True, scope="module")
def _as_before() -> Iterator[None]:
    """The default set-up again for who comes after."""
    yield
    logger(LogSettings(level="error"))


def _written(form: Literal["keyvalue", "json"], event: str, level: str = "info", **fields: Any) -> str:
    with redirect_stderr(io.StringIO()) as stream:
        getattr(logger(LogSettings(format=form)), level)(event, **fields)
    return stream.getvalue()


def _pairs(rest: str) -> dict[str, str]:
    """Read a key=value line strictly: every octet of it must belong to a pair."""
    found, at = {}, 0
    while at < len(rest):
        match = _PAIR.match(rest, at)
        assert match is not None, rest[at:]
        value = _ESCAPE.sub(_character, match[2]) if match[2] is not None else match[3]
        assert match[1] not in found
        found[match[1]], at = value, match.end()
    return found


def _character(escape: re.Match[str]) -> str:
    name = escape[1]
    return chr(int(name[1:], 16)) if name[0] in "xuU" else {"n": "\n", "r": "\r", "t": "\t"}.get(name, name)


@settings(deadline=None)
@given(st.tuples(ANY, ANY, ANY))
@example(('\\" disposition=pass x="', "a\nb", "\\"))
def test_any_text_in_every_field_is_one_line_of_exactly_those_pairs(values: tuple[str, str, str]) -> None:
    """key=value: one line, printable, and it reads back as exactly the fields that were given and no other."""
    line = _written("keyvalue", "message", **dict(zip(NAMES, values, strict=True)))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    when, level, event, *rest = line[:-1].split(" ", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
    assert (level, event) == ("info", "message")
    expected = {name: value for name, value in zip(NAMES, values, strict=True) if value}
    assert _pairs(rest[0] if rest else "") == expected


@settings(deadline=None)
@given(st.tuples(ANY, ANY, ANY))
def test_any_text_is_one_line_of_json(values: tuple[str, str, str]) -> None:
    """JSON: one line, one object, exactly the values that were given."""
    line = _written("json", "message", **dict(zip(NAMES, values, strict=True)))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    read = json.loads(line)
    assert {name: read[name] for name in NAMES} == dict(zip(NAMES, values, strict=True))
    assert read["event"] == "message"
    assert set(read) == {*NAMES, "event", "time", "level"}


@settings(deadline=None)
@given(ANY)
def test_an_event_from_outside_is_one_line_too(text: str) -> None:
    """Remarks that quote a neighbour's words cannot break the line."""
    assert _written("keyvalue", text, "warning")[:-1].isprintable()


def test_a_backslash_before_a_quote_does_not_end_the_value() -> None:
    r"""Regression: «\"» was written as «\\"», which a reader takes for the end of the value."""
    line = _written("keyvalue", "message", to='x\\" disposition=pass y="')
    assert _pairs(line.rstrip("\n").split(" ", 3)[3]) == {"to": 'x\\" disposition=pass y="'}


@pytest.mark.parametrize("form", ["keyvalue", "json"])
def test_the_lines_of_a_traceback_are_escaped_once(form: Literal["keyvalue", "json"]) -> None:
    r"""They were escaped, and then the backslashes of that as well, so that every line end read «\\n»."""
    line = _written(form, "mishap", trace='File "x.py"\n  raise\n')
    assert line[:-1].isprintable()
    assert r'File \"x.py\"\n  raise\n"' in line
    assert r"\\n" not in line


def test_numbers_are_written_as_they_are() -> None:
    """Sizes and times need no quotes; zero is a value, the empty text is none."""
    assert _written("keyvalue", "message", size=0, time_ms=1.25, to="").endswith(" info message size=0 time_ms=1.25\n")
    assert json.loads(_written("json", "message", size=0))["size"] == 0


def test_the_level_is_kept() -> None:
    """What is below the level is not written."""
    with redirect_stderr(io.StringIO()) as stream:
        log = logger(LogSettings(level="warning"))
        log.info("no")
        log.warning("yes")
    assert "no" not in stream.getvalue()
    assert "yes" in stream.getvalue()
