"""Numbers that people and programs type. Refuses those that only begin like one in range: all of the text counts."""

from gateway.source import parse_size

MOST_DAYS = 366
"""Days for which an exception may be granted at most."""
MOST_USES = 100_000
MOST_SIZE = 1_000_000_000_000
"""Octets; no message is larger, and every database can count so far."""


def whole(text: str, most: int) -> int | None:
    """A whole number from 1 to ``most`` in ASCII digits, without leading zeros; else None."""
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if plain and text[0] != "0" and int(text) <= most else None


def octets(text: str) -> int | None:
    """A size like ``80 MB``, up to :data:`MOST_SIZE`; None for anything else."""
    if len(text) > 40:
        return None
    try:
        found = parse_size(text)
    except ValueError:
        return None
    return found if 1 <= found <= MOST_SIZE else None
