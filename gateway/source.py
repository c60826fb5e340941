"""Reads a YAML 1.2 file into a pydantic model and keeps file, line and column of every value.

Refuses duplicate keys, unknown keys, more than one document, YAML tags and anchors that expand beyond the file's own
size; every refusal is a :class:`~gateway.errors.ConfigError` that says where.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.errors import ConfigError, ConfigErrors

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[str | int, ...]

MAX_BYTES = 4 * 1024 * 1024
"""No file of settings is larger; a mistaken path to a mailbox is answered at once."""
_MAX_DEPTH = 64
"""Levels of nesting; an anchor that contains itself has no end of them."""
_MOST_SHOWN = 200
_KEPT_FILES, _KEPT_LENGTH = 512, 64 * 1024
"""Files that are remembered, and their characters at most: a rule has some thousand, and takes ten milliseconds."""
_NO_TAGS = "YAML tags and dates are not used here: put the value in quotes"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: plain data, and where each value stands."""

    file: str
    data: Any
    positions: Mapping[Path_, tuple[int, int]]
    """Path of keys and indices -> (line, column), both from 1, of the key or item."""

    def error(self, path: Path_, message: str) -> ConfigError:
        """An error at the deepest known ancestor of ``path``."""
        at = path
        while at and at not in self.positions:
            at = at[:-1]
        line, column = self.positions.get(at, (1, 1))
        return ConfigError(message, self.file, line, column)


def read_yaml(path: Path, name: str | None = None) -> Document:
    """Read one file. ``name`` is what errors call it (default: the path as given).

    Raises :class:`ConfigErrors` when the file cannot be read or is not one YAML 1.2 document.
    """
    file = name or str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigErrors([ConfigError(f"cannot be read: {error.strerror}", file)]) from error
    if len(raw) > MAX_BYTES:
        raise ConfigErrors([ConfigError(f"is larger than {MAX_BYTES} bytes", file)])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([ConfigError("is not UTF-8", file, line, 1)]) from error
    return parse_yaml(text, file)


def parse_yaml(text: str, file: str) -> Document:
    """As :func:`read_yaml`, from text. What has been read before is not parsed again: a reload costs what changed."""
    if len(text) > _KEPT_LENGTH:
        return _parsed(text, file)
    try:
        known = _kept(text)
    except ConfigErrors:
        return _parsed(text, file)  # the errors are to name the file
    return replace(known, file=file, data=deepcopy(known.data))


@lru_cache(maxsize=_KEPT_FILES)
def _kept(text: str) -> Document:
    return _parsed(text, "")


def _parsed(text: str, file: str) -> Document:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join((error.problem or "is not YAML").split("\n")[0].split())
        if problem == "but found another document":
            problem = "begins a second document: one file is one document"
        raise ConfigErrors([ConfigError(problem, file, *where)]) from error
    except RecursionError as error:
        raise ConfigErrors([ConfigError("is nested too deeply", file, 1, 1)]) from error
    except Exception as error:  # odd tags make the parser raise KeyError and worse
        own = isinstance(error, YAMLError | ValueError)
        problem = (" ".join(str(error).split("\n")[0].split()) if own else "") or "is not YAML"
        raise ConfigErrors([ConfigError(problem, file, 1, 1)]) from error
    reading = _Reading(file, len(text) + 1)
    return Document(file, reading.plain(tree, ()), reading.positions)


class _Reading:
    """Strips ruamel's round-trip types, noting positions on the way. ``budget``: nodes that there may be at most."""

    def __init__(self, file: str, budget: int) -> None:
        self.file = file
        self.positions: dict[Path_, tuple[int, int]] = {}
        self._budget = budget

    def plain(self, node: Any, path: Path_) -> Any:
        """The node as plain data. Raises ConfigErrors."""
        self._budget -= 1
        if self._budget < 0 or len(path) > _MAX_DEPTH:
            raise self._refusal(path, "anchors expand too far" if self._budget < 0 else "is nested too deeply")
        if isinstance(node, CommentedMap | CommentedSeq):
            return self._collection(node, path)
        if isinstance(node, bool) or node is None:
            return node
        for kind in (str, int, float):
            if isinstance(node, kind):
                return kind(node)
        raise self._refusal(path, _NO_TAGS)

    def _collection(self, node: CommentedMap | CommentedSeq, path: Path_) -> Any:
        if node.tag.value is not None or isinstance(node, CommentedOrderedMap):
            raise self._refusal(path, _NO_TAGS)
        if isinstance(node, CommentedSeq):
            return [self._at(node.lc.item(n), value, (*path, n)) for n, value in enumerate(node)]
        if node.merge:
            raise self._refusal(path, "merge keys (<<) are not used here: write the keys out")
        return {key: self._at(node.lc.key(key), value, (*path, key)) for key, value in node.items()}

    def _at(self, where: tuple[int, int], node: Any, path: Path_) -> Any:
        line, column = where
        self.positions[path] = (line + 1, column + 1)
        return self.plain(node, path)

    def _refusal(self, path: Path_, message: str) -> ConfigErrors:
        return ConfigErrors([ConfigError(message, self.file, *self.positions.get(path, (1, 1)))])


def validate(document: Document, model: type[Model], path: Path_ = ()) -> Model:
    """The document, or its part at ``path``, as a ``model``. Raises :class:`ConfigErrors`: all problems at once."""
    data = document.data
    for step in path:
        data = data[step]
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise ConfigErrors(_located(document, error, model, path)) from error


def _located(document: Document, error: ValidationError, model: type[BaseModel], path: Path_) -> list[ConfigError]:
    found = []
    for item in error.errors():
        location = _own_steps(document, (*path, *item["loc"]))
        found.append(document.error(location, _words(item, location, document, model)))
    unique = {(e.line, e.column, e.message): e for e in found}
    return sorted(unique.values(), key=lambda e: (e.line, e.column))


def _own_steps(document: Document, location: Path_) -> Path_:
    """Drop the steps that pydantic adds for unions and validators; keep those that are in the file, plus a last key."""
    kept: Path_ = ()
    data = document.data
    for n, step in enumerate(location):
        if isinstance(data, Mapping) and step in data:
            kept, data = (*kept, step), data[step]
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(step, int) and step < len(data):
            kept, data = (*kept, step), data[step]
        elif n == len(location) - 1 and isinstance(step, str) and isinstance(data, Mapping):
            kept = (*kept, step)
    return kept


def _words(item: Any, location: Path_, document: Document, model: type[BaseModel]) -> str:
    """One problem in the administrator's words rather than pydantic's."""
    where = ".".join(str(step) for step in location)
    kind, message = item["type"], item["msg"]
    if kind == "extra_forbidden":
        return f"unknown key «{location[-1] if location else ''}»{_suggestion(str(location[-1]), model)}"
    if kind == "missing":
        return f"missing key «{item['loc'][-1]}»"  # of an empty file ``location`` has nothing
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in ("value_error", "assertion_error"):
        return f"{where}: {message}" if where else str(message)
    given = item.get("input")
    shown = f", not {_cut(repr(given))}" if isinstance(given, (str, int, float, bool)) else ""
    words = "should be a mapping of keys" if kind == "model_type" else f"{message[:1].lower()}{message[1:]}"
    return f"{where}: {words}{shown}" if where else f"{words}{shown}"


def _cut(text: str) -> str:
    """A value as it is shown: a whole mailbox given as a rule makes no log line of its size."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def _suggestion(key: str, model: type[BaseModel]) -> str:
    """«, did you mean «x»?» from every key that the model tree knows."""
    known = _keys(model, set())
    if key in known:
        return ", which belongs elsewhere"
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.75)
    return f", did you mean «{close[0]}»?" if close else ""


def _keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    if model in seen:
        return set()
    seen.add(model)
    keys = set()
    for name, info in model.model_fields.items():
        keys.add(info.alias or name)
        for inner in _models_in(info.annotation):
            keys |= _keys(inner, seen)
    return keys


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]


_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|[kKMG]B|[KMG]iB)?\s*\Z")
_SIZE_UNITS = {
    None: 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*\Z")
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: object) -> int:
    """``50 MB`` -> 50,000,000 and ``50 MiB`` -> 52,428,800 octets; a bare number is octets. Raises ValueError."""
    match = _SIZE.match(str(value)) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError("is not a size like 50 MB, 256 KiB or 1000000")
    try:
        return int(float(match[1]) * _SIZE_UNITS[match[2]])
    except OverflowError as error:
        raise ValueError("is larger than any message can be") from error


def parse_duration(value: object) -> timedelta:
    """``48 h`` -> two days; units ms, s, min, h, d. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _TIME.match(str(value))
    if match is None:
        raise ValueError("is not a time like 300 ms, 30 s, 5 min, 48 h or 7 d")
    try:
        return timedelta(seconds=float(match[1]) * _TIME_UNITS[match[2]])
    except OverflowError as error:
        raise ValueError("is longer than time goes on") from error
