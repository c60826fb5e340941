"""Reads one reply of clamd (clamd(8)). Pure. Refuses to see «clean» in anything but exactly ``…: OK``.

What clamd 1.4 says to FILDES and INSTREAM, inside a session with the request's number in front::

    fd[10]: OK                            stream: OK
    fd[10]: NAME FOUND                    stream: NAME(HASH:SIZE) FOUND      (ExtendedDetectionInfo)
    1: INSTREAM size limit exceeded. ERROR
    fd[10]: lstat() failed: … ERROR       UNKNOWN COMMAND                    COMMAND READ TIMED OUT
"""

import re

from gateway.errors import ControlError

_OK = re.compile(rb"(?:fd\[\d+\]|stream): OK")
_FOUND = re.compile(rb"(?:fd\[\d+\]|stream): ([!-~]{1,512}) FOUND")
_DETAILS = re.compile(r"\([0-9a-f]{32,128}:\d+\)\Z")
_LIMIT_NAMES = ("Heuristics.Limits.Exceeded", "Heuristics.XZ.DicSizeLimit")
"""Signatures by which clamd says that it did not look at everything (clamd.conf(5), AlertExceedsMax)."""
_LIMIT_ERROR = re.compile(rb"size limit exceeded|Exceeded (?:time limit|max (?:recursion|scan))")
"""clamd's own limit on INSTREAM, and libclamav's errors for a limit (cl_strerror)."""


def read_reply(reply: bytes, number: int | None = None) -> str | None:
    """The signature's name, None for clean. ``reply`` is without its end mark; ``number`` is the session's request.

    Raises ControlError: ``limit`` (a limit kept clamd from looking at everything), ``crashed`` (clamd reports an
    error of its own), ``protocol`` (this is no answer to what was asked).
    """
    text = reply
    if number is not None:
        head = b"%d: " % number
        if not reply.startswith(head):
            raise ControlError("protocol", f"clamd's reply is not to request {number}: {shown(reply)}")
        text = reply[len(head) :]
    if _OK.fullmatch(text):
        return None
    found = _FOUND.fullmatch(text)
    if found:
        name = _DETAILS.sub("", found[1].decode("ascii"))
        if name.startswith(_LIMIT_NAMES):
            raise ControlError("limit", f"clamd reached a limit: {name}")
        return name
    if text.endswith(b"ERROR"):
        raise ControlError("limit" if _LIMIT_ERROR.search(text) else "crashed", f"clamd reports {shown(text)}")
    raise ControlError("protocol", f"clamd's reply makes no sense: {shown(text)}")


def shown(reply: bytes) -> str:
    """A reply for the log: at most 120 octets, nothing unprintable."""
    text = reply[:120].decode("ascii", "replace")
    return "«" + "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text) + "»"
