"""Repeated groups of an expression, taken a thousand rounds at a time.

Python keeps 130 octets for each round of a repeated group until the whole expression has matched: 45 MB of short lines
would take gigabytes. A possessive group keeps nothing, but before 3.11.5 (Debian 12 has 3.11.2) it loses its place when
its last round matches in part (CPython issues 100061, 106052). Refuses nothing; linear in the input.
"""

import re
from typing import Any, overload

from gateway.mime.tree import Buffer


@overload
def behind(rounds: re.Pattern[str], text: str, position: int, end: int | None = None) -> int: ...
@overload
def behind(rounds: re.Pattern[bytes], text: Buffer, position: int, end: int | None = None) -> int: ...
def behind(rounds: re.Pattern[Any], text: Any, position: int, end: int | None = None) -> int:
    """The position behind as many rounds as stand one after another at a position of a text, which ends at ``end``.

    ``rounds`` is a group and ``{1,1000}``, nothing behind it. No round is empty, and none has two ways to match.
    """
    stop = len(text) if end is None else end
    while match := rounds.match(text, position, stop):
        position = match.end()
    return position
