"""Expressions of the gateway: what Python before 3.11.5 reads wrongly stands in none of them."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gateway

ROOT = Path(gateway.__file__).parent
_PARSER: Any = importlib.import_module("re._parser")
_SINGLE = {"LITERAL", "NOT_LITERAL", "IN", "ANY", "CATEGORY"}
_WRITTEN = re.compile(r"[^(]\)(?:[*+?]|\{[0-9]*,?[0-9]*\})\+|\(\?>")
"""A group that is repeated possessively, or is atomic, as it is written. Alphabets hold ``()*+``."""
_NO_MODULES = ("gateway.__main__", "gateway.store.migrations")
"""What does something when it is imported."""


def _faults(tree: Any) -> Iterator[str]:
    for name, rest in ((str(operation), rest) for operation, rest in tree):
        if name == "ATOMIC_GROUP":
            yield "an atomic group"
        if name == "POSSESSIVE_REPEAT" and (len(rest[2]) != 1 or str(rest[2][0][0]) not in _SINGLE):
            yield "a possessive group"
        waiting = [rest]
        while waiting:
            part = waiting.pop()
            if isinstance(part, _PARSER.SubPattern):
                yield from _faults(part)
            elif isinstance(part, list | tuple):
                waiting.extend(part)


def faults(pattern: str | bytes, flags: int = 0) -> list[str]:
    """What an expression holds that Python before 3.11.5 may read wrongly (CPython issues 100061, 106052)."""
    return list(_faults(_PARSER.parse(pattern, flags)))


def _patterns(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _patterns(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _patterns(key)
            yield from _patterns(item)


def test_no_compiled_expression_repeats_a_group_possessively() -> None:
    """Every expression that a module holds, however it was put together; some hundreds are seen."""
    seen = 0
    wrong: list[tuple[str, str]] = []
    for module in pkgutil.walk_packages([str(ROOT)], "gateway."):
        if module.name.startswith(_NO_MODULES):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for pattern in _patterns(value):
                seen += 1
                wrong += [(f"{module.name}.{name}", fault) for fault in faults(pattern.pattern, pattern.flags)]
    assert not wrong
    assert seen > 200


def test_no_expression_is_written_that_repeats_a_group_possessively() -> None:
    """The same for those that are compiled later: no string of the sources looks like one."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if _WRITTEN.search(node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (r"(?:ab?c)*+", 1),
        (r"(?:ab){2,}+c", 1),
        (r"(?:a|bc)?+", 1),
        (r"x(?:y(?:ab)++)*", 1),
        (r"(?>a+)b", 1),
        (r"(a|(?=(?:bc)++))", 1),
        (r"a*+[b-d]++\s{2,}+.?+(?:e)++", 0),
        (r"(?:ab)*(?:cd)+?", 0),
    ],
    ids=["star", "counted", "maybe", "inner", "atomic", "ahead", "single", "greedy"],
)
def test_what_counts_as_one(pattern: str, count: int) -> None:
    """Groups of more than one character; single characters may be possessive."""
    assert len(faults(pattern)) == count
    assert bool(_WRITTEN.search(pattern)) == bool(count) or pattern.endswith("(?:e)++")
