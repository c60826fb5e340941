"""``config/gateway.yaml`` is the documentation of the settings: complete, commented, and true to the defaults."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.settings import Endpoint, Settings, load_settings
from gateway.source import read_yaml

FILE = Path("config/gateway.yaml")
ROOT = Path(__file__).resolve().parents[3]


def _fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Path of every setting; slices are walked, lists of slices too (index 0)."""
    for name, info in model.model_fields.items():
        inner = _slice_in(info.annotation)
        yield (*path, name)
        if inner is not None:
            many = inner is not info.annotation
            yield from _fields(inner, (*path, name, "0") if many else (*path, name))


def _slice_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) and annotation is not Endpoint else None
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _slice_in(arg))), None)


SETTINGS = tuple(_fields(Settings))
DEFAULTS = Settings().model_dump(mode="json")
POSITIONS = read_yaml(ROOT / FILE).positions
LINES = (ROOT / FILE).read_text(encoding="utf-8").splitlines()


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        data = data[int(step)] if step.isdigit() else data[step]
    return data


def test_walk_reaches_nested_settings() -> None:
    """The walk sees lists and slices, else the tests below would pass on nothing."""
    assert {("workers",), ("smtp", "max_hops"), ("listeners", "0", "proxy_protocol")} <= set(SETTINGS)
    assert len(SETTINGS) > 80


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_every_setting_stands_in_the_file_under_a_comment(path: tuple[str, ...]) -> None:
    """A setting that is missing from the file, or that no words explain, fails."""
    if _is_empty(path):  # of what there is none as shipped, the comment above the list names each key
        listed = POSITIONS[path[: path.index("0")]][0] - 1
        words = itertools.takewhile(lambda line: line.lstrip().startswith("#"), reversed(LINES[:listed]))
        assert any(re.match(rf"\s*#   {path[-1]}  ", line) for line in words), f"{'.'.join(path)} is not explained"
        return
    position = POSITIONS.get(tuple(int(step) if step.isdigit() else step for step in path))
    assert position is not None, f"{'.'.join(path)} is missing from {FILE}"
    line, above = LINES[position[0] - 1], LINES[position[0] - 2]
    assert above.lstrip().startswith("#") or _pair(above, line), f"{'.'.join(path)} has no comment above it in {FILE}"


def _is_empty(path: tuple[str, ...]) -> bool:
    """Whether it is a key of a list that is empty as shipped."""
    return "0" in path and not _at(DEFAULTS, path[: path.index("0")])


def _pair(above: str, line: str) -> bool:
    """Neighbours whose names begin alike (tls_certificate and tls_key) may share one comment."""
    return "_" in line and above.strip().partition("_")[0] == line.strip().partition("_")[0]


def test_values_in_the_file_are_the_defaults() -> None:
    """What the file shows is what holds when a line is removed."""
    shown = load_settings(ROOT / FILE).model_dump(mode="json")
    wrong = [".".join(path) for path in SETTINGS if not _is_empty(path) and _at(shown, path) != _at(DEFAULTS, path)]
    assert wrong == []
