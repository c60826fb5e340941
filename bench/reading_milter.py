"""A milter on Sendmail's libmilter through pymilter that reads every message and changes none: ``… unix:PATH``.

It runs in Debian's interpreter, for which Debian packages pymilter (python3-milter).
"""

import sys

import Milter  # type: ignore[import-not-found]


class Reading(Milter.Base):  # type: ignore[misc]
    """Takes all of a message."""

    def __init__(self) -> None:
        self.octets = 0

    @Milter.noreply  # type: ignore[untyped-decorator]
    def header(self, name: str, value: str) -> int:
        """One field."""
        self.octets += len(name) + len(value)
        return int(Milter.CONTINUE)

    @Milter.noreply  # type: ignore[untyped-decorator]
    def body(self, chunk: bytes) -> int:
        """A piece of the body."""
        self.octets += len(chunk)
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        """All of it."""
        return int(Milter.ACCEPT)


Milter.factory = Reading
Milter.runmilter("reading", sys.argv[1], 300)
