"""Every metric, rule key and command is documented, and nothing is documented that is not there."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import metrics
from gateway.cli.main import parser
from gateway.policy import schema

ROOT = Path(__file__).resolve().parents[3]


def _text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def _labels() -> list[tuple[str, str]]:
    """(metric, label) of all."""
    collectors = {c for c in vars(metrics).values() if hasattr(c, "_labelnames") and hasattr(c, "_name")}
    return sorted((c._name, label) for c in collectors for label in c._labelnames)


@pytest.mark.parametrize("name", metrics.metric_names())
def test_every_metric_is_documented(name: str) -> None:
    """A metric without a row in docs/metrics.md fails."""
    assert f"| `{name}` |" in _text("metrics.md")


@pytest.mark.parametrize(("name", "label"), _labels())
def test_every_label_is_documented(name: str, label: str) -> None:
    """A label that its metric's row does not name fails."""
    rows = [row for row in _text("metrics.md").splitlines() if re.match(rf"\| `{name}(_total)?` \|", row)]
    assert len(rows) == 1
    assert f"`{label}`" in rows[0].split("|")[3]


def test_no_metric_is_documented_that_is_not_there() -> None:
    """What the page names, the program has."""
    named = set(re.findall(r"\bcivicgate_[a-z_]+", _text("metrics.md")))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= set(metrics.metric_names())


def _keys(node: Any) -> Iterator[str]:
    """Every property name in a JSON Schema, references aside: they stand under ``$defs``."""
    if isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in node.values():
            yield from _keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from _keys(value)


def test_walk_of_the_rule_schema_reaches_nested_keys() -> None:
    """Else the test below would pass on nothing."""
    assert {"id", "when", "city_wide", "approvers", "on_failure", "cases"} <= set(_keys(schema()))


@pytest.mark.parametrize("key", sorted(set(_keys(schema()))))
def test_every_rule_key_is_documented(key: str) -> None:
    """A key of rule files that docs/rules.md does not name fails."""
    assert re.search(
        rf"`[^`\n]*\b{re.escape(key)}\b[^`\n]*`|^\s*(- )?{re.escape(key)}:", _text("rules.md"), re.MULTILINE
    )


def _commands(of: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(command line, its options), sub-commands included."""
    options = tuple(
        next(name for name in action.option_strings if name.startswith("--"))
        for action in of._actions
        if any(name.startswith("--") for name in action.option_strings)
        and action.help is not argparse.SUPPRESS
        and "--help" not in action.option_strings
    )
    below = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield " ".join(words), options
    for action in below:
        for name, inner in action.choices.items():
            yield from _commands(inner, (*words, name))


COMMANDS = tuple(_commands(parser()))


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_every_command_is_documented(command: str, options: tuple[str, ...]) -> None:
    """A command without a heading in docs/commands.md, or an option that its section does not name, fails."""
    section = re.search(
        rf"^## civicgate {re.escape(command)}\n(.*?)(?=^## |\Z)", _text("commands.md"), re.MULTILINE | re.DOTALL
    )
    assert section is not None, f"docs/commands.md has no heading «## civicgate {command}»"
    assert [option for option in options if f"{option}" not in section[1]] == []


def test_no_command_is_documented_that_is_not_there() -> None:
    """Every heading of docs/commands.md is a command."""
    headings = set(re.findall(r"^## civicgate (.+)$", _text("commands.md"), re.MULTILINE))
    assert headings == {command for command, _ in COMMANDS}
