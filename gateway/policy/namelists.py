"""Lists of words by which names of persons are told from other words with a capital.

Values only; :mod:`gateway.checks.names` reads texts with them. Refuses nothing: the files are read, and refused, by
:mod:`gateway.policy.wordlists`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NameLists:
    """Words in any case."""

    given: tuple[str, ...]
    """Given names."""
    family: tuple[str, ...]
    """Family names."""
    ordinary: tuple[str, ...]
    """Ordinary words: no names by themselves, and dropped at the beginning of a sentence."""
    never: tuple[str, ...]
    """Places, peoples, days: what holds one is no name."""
    behind: tuple[str, ...]
    """Streets, companies: what ends in one, or stands before one, is no name."""
