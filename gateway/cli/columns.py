"""Output for people: aligned columns, ages in words, JSON for programs; nothing that a terminal would obey."""

import os
import pwd
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, each column as wide as its widest cell (cells are cut at 40 characters)."""
    cells = [[shown(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def shown(text: str, most: int = 40) -> str:
    """One line, printable, not longer than ``most``."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def span(duration: timedelta) -> str:
    """``3 d 4 h``, ``4 h 10 min``, ``12 min``, ``now``."""
    minutes = int(duration.total_seconds()) // 60
    if minutes < 1:
        return "now"
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


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
