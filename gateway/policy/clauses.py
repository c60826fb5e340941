"""The texts of the policies' clauses, for people: clause id to one sentence.

Refuses, with file, line and column, what is not a mapping of ids to texts; and names the rules and types whose
``source`` is a clause that has none.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.errors import ConfigError, ConfigErrors
from gateway.source import read_yaml

_ID = re.compile(r"\A[a-z][a-z0-9]*/[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


def load_clauses(path: Path) -> Mapping[str, str]:
    """All clauses of one file. Raises :class:`ConfigErrors`."""
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise ConfigErrors([document.error((), "is not a mapping of clause ids to texts")])
    errors = [
        document.error((key,), "is not CITY/CLAUSE: a text")
        for key, text in document.data.items()
        if not isinstance(key, str) or not _ID.match(key) or not isinstance(text, str) or not text.strip()
    ]
    if errors:
        raise ConfigErrors(errors)
    return {str(key): " ".join(str(text).split()) for key, text in document.data.items()}


def unknown_clauses(folder: Path, known: Mapping[str, str]) -> Iterable[ConfigError]:
    """Clauses that rules and types below ``folder`` name and that are not ``known``: nobody could look them up.

    Raises :class:`ConfigErrors` for a file that cannot be read.
    """
    for path in sorted(folder.rglob("*.yaml")):
        document = read_yaml(path)
        named = document.data.get("source") if isinstance(document.data, dict) else None
        for n, clause in enumerate(named if isinstance(named, list) else [named]):
            if isinstance(clause, str) and clause not in known:
                close = difflib.get_close_matches(clause, sorted(known), n=1)
                hint = f", did you mean «{close[0]}»?" if close else ""
                yield document.error(("source", n), f"clause «{clause}» is not known{hint}")
