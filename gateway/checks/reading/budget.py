"""What reading the attachments of one message may cost: octets, members, depth, text, time.

Counts what really comes out, never what a file declares. Refuses to go on beyond a limit, with the finding's code.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.checks.reading.values import FactCode, LimitReached

if TYPE_CHECKING:
    from gateway.checks.reading.pictures import Pictures

FREE = 16 * 1024 * 1024
"""Unpacked octets up to which the ratio of an attachment is not looked at: small texts of zeros are no bombs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings of reading, in plain numbers."""

    depth: int = 8
    """Containers in containers; an attachment is at depth 0."""
    members: int = 10_000
    """A message."""
    expansion: int = 200
    """Unpacked octets for each octet of the attachment."""
    unpacked: int = 500_000_000
    """Octets a message, of all members at all depths."""
    text: int = 100_000_000
    """Characters of text a message."""
    seconds: float = 45.0
    """A message; the process is killed later (``inspection.timeout``), should a library not come back."""


class Budget:
    """What is left for one message. ``clock``: seconds, never backwards."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._members = 0
        self._unpacked = 0
        self._text = 0
        self._size = 0
        self._of_this = 0
        self.pictures: Pictures | None = None
        """What reads the words in pictures; None: nobody asks for them."""

    def pause(self, seconds: float) -> None:
        """So many seconds went by that have a deadline of their own."""
        self._deadline += seconds

    def begin(self, size: int) -> None:
        """A new attachment of so many octets: the ratio is counted anew."""
        self._size = size
        self._of_this = 0
        self.check_time()

    def check_time(self) -> None:
        """Raise :class:`LimitReached` (``content-unreadable``) when the time is over."""
        if self._clock() > self._deadline:
            detail = f"attachments take over {self.limits.seconds:g} s"
            raise LimitReached(FactCode.CONTENT_UNREADABLE, detail)

    def member(self) -> None:
        """One more member."""
        self._members += 1
        if self._members > self.limits.members:
            raise LimitReached(FactCode.ARCHIVE_LIMIT, f"more than {self.limits.members} members")
        self.check_time()

    def unpack(self, octets: int) -> None:
        """So many octets came out of a container."""
        self._unpacked += octets
        self._of_this += octets
        if self._unpacked > self.limits.unpacked:
            raise LimitReached(FactCode.ARCHIVE_LIMIT, f"more than {self.limits.unpacked} octets unpacked")
        if self._of_this > FREE and self._of_this > self._size * self.limits.expansion:
            raise LimitReached(FactCode.ARCHIVE_LIMIT, f"more than {self.limits.expansion} times its size unpacked")

    def metered(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, each counted before it is passed on, with a look at the clock."""
        for piece in pieces:
            self.unpack(len(piece))
            self.check_time()
            yield piece

    def text(self, characters: int) -> int:
        """How many of so many characters may still be looked at; raises once there is no room at all."""
        room = self.limits.text - self._text
        if room <= 0:
            raise LimitReached(FactCode.TEXT_TRUNCATED, f"more than {self.limits.text} characters of text")
        self._text += characters
        self.check_time()
        return min(room, characters)
