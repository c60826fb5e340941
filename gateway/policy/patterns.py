"""Names and patterns as rules write them: ``*`` stands for anything, ``?`` for one character, case does not count.

Refuses every other wildcard: a bracket stands for itself.
"""

import fnmatch
import re
from collections.abc import Iterable


class Names:
    """Folded names to match against: exact ones in a set, ``*`` and ``?`` patterns as one expression."""

    __slots__ = ("exact", "pattern", "words")

    def __init__(self, values: Iterable[str]) -> None:
        folded = [value.lower() for value in values]
        self.words = ", ".join(folded)
        self.exact = frozenset(v for v in folded if "*" not in v and "?" not in v)
        globs = [v for v in folded if v not in self.exact]
        # fnmatch's translation is free of exponential backtracking; a bracket stands for itself here.
        joined = "|".join(fnmatch.translate(g.replace("[", "[[]")) for g in globs)
        self.pattern = re.compile(joined) if globs else None

    def match(self, folded: str) -> bool:
        """True when ``folded`` is one of the names or fits a pattern."""
        return folded in self.exact or (self.pattern is not None and self.pattern.match(folded) is not None)

    def match_any(self, values: Iterable[str]) -> bool:
        """True when one of the values, folded here, matches."""
        return any(self.match(value.lower()) for value in values)
