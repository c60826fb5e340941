"""Output for people: aligned columns, ages in words, JSON for programs; nothing that a terminal would obey."""

import os
import pwd
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson

_NARROWEST = 8


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, each column as wide as its widest cell (cells are cut at 40 characters).

    On a terminal the widest columns but the first, which is for copying, are cut until a line fits.
    """
    cells = [[shown(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(head))]
    if sys.stdout.isatty():
        _narrow(widths, shutil.get_terminal_size().columns)
    return "\n".join(
        "  ".join(shown(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _narrow(widths: list[int], most: int) -> None:
    """Take from the widest column, one character at a time; none gets too narrow to be of use."""
    while sum(widths) + 2 * (len(widths) - 1) > most:
        widest = max(range(1, len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def shown(text: str, most: int = 40) -> str:
    """One line, printable, not longer than ``most``."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def span(duration: timedelta) -> str:
    """For narrow columns, one unit: ``5 d``, ``47 h``, ``90 min``, ``now``."""
    minutes = int(duration.total_seconds()) // 60
    if minutes < 1:
        return "now"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h" if minutes < 72 * 60 else f"{minutes // 1440} d"


def moment(at: datetime) -> str:
    """The machine's local time, with its zone."""
    return f"{at.astimezone():%Y-%m-%d %H:%M %Z}"


def print_json(value: object) -> None:
    """Indented JSON on standard output."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def complain(text: str) -> int:
    """An error for the person at the terminal; returns the exit code 1."""
    print(f"civicgate: {text}", file=sys.stderr)
    return 1


def os_user() -> str:
    """The login behind the command; under sudo, both."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER", "")
    return f"{name} (sudo by {before})" if before else name
