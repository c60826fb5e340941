"""Files of words and values that IT edits: one a line, ``#`` begins a comment, empty lines do not count.

Refuses what is not UTF-8, is larger than :data:`MAX_BYTES`, holds nothing, or has a line without letter or digit; each
with file, line and column.
"""

from pathlib import Path

from gateway.errors import ConfigError, ConfigErrors

MAX_BYTES = 1024 * 1024
LONGEST = 200
"""Characters of one line."""


def read_words(path: Path, asked: ConfigError) -> tuple[str, ...]:
    """Words and phrases of a file, white space collapsed, in order, each once.

    ``asked``: where the file is named; its place is the error's when the file cannot be read. Raises ConfigErrors.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        detail = f"{path.as_posix()} cannot be read: {error.strerror}"
        raise ConfigErrors([ConfigError(detail, asked.file, asked.line, asked.column)]) from error
    if len(raw) > MAX_BYTES:
        raise ConfigErrors([ConfigError(f"is larger than {MAX_BYTES} bytes", path.as_posix())])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([ConfigError("is not UTF-8", path.as_posix(), line, 1)]) from error
    words: dict[str, None] = {}
    errors = []
    for number, row in enumerate(text.split("\n"), 1):
        written = " ".join(_without_comment(row).split())
        if not written:
            continue
        column = len(row) - len(row.lstrip()) + 1
        if not any(c.isalnum() for c in written):
            errors.append(ConfigError(f"«{written}» has neither letter nor digit", path.as_posix(), number, column))
        elif len(written) > LONGEST:
            errors.append(ConfigError(f"is longer than {LONGEST} characters", path.as_posix(), number, column))
        words[written] = None
    if not words and not errors:
        errors.append(ConfigError("has no words", path.as_posix(), 1, 1))
    if errors:
        raise ConfigErrors(errors)
    return tuple(words)


def _without_comment(row: str) -> str:
    """The row up to a ``#`` that begins it or follows white space («C#» is a word)."""
    stripped = row.lstrip()
    if stripped.startswith("#"):
        return ""
    return row.split(" #", 1)[0].split("\t#", 1)[0]
