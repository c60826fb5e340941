"""The texts of the policies' clauses, for people: clause id to one sentence.

Refuses, with file, line and column, what is not a mapping of ids to texts.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import ConfigErrors
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
