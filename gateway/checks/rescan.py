"""From doubt to a second scan: walks over what a scan of the raw message may have missed and hands it out.

Called by the inspection, in its process, and by the walk through attachments. Refuses to do it in the gateway's own
process: :data:`ELSEWHERE` stands there for a handout and sends the message to an inspection process.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from gateway.checks.doubtful import Suspect, TooLargeError, in_text, suspects
from gateway.checks.handout import Handout
from gateway.checks.inside import Attachment, NeedsReader, ReadAttachment
from gateway.checks.parts import Reading
from gateway.checks.reading.kinds import HEAD, Kind, kind_of
from gateway.checks.reading.octets import hold, pieces_of
from gateway.mime.parser import parse
from gateway.mime.tree import Buffer, Limits

CLOSED = frozenset(
    {
        *(Kind.CMS, Kind.CALENDAR, Kind.MESSAGE, Kind.ZIP, Kind.GZIP, Kind.BZIP2, Kind.XZ, Kind.TAR, Kind.ARCHIVE),
        *(Kind.TNEF, Kind.OLE, Kind.PICTURE, Kind.MACINTOSH, Kind.CODED, Kind.ACTIVEMIME),
    }
)
"""Kinds of files that can hold one which clamd does not get to see."""
TOO_LARGE = "an odd message too large to be read in other ways"
_LIMITS = Limits(max_depth=20, max_parts=1000)


class _Elsewhere(Handout):
    """Stands for a handout where none may be made."""

    def add(self, _pieces: object) -> bool:
        """Raise :class:`NeedsReader`."""
        raise NeedsReader


ELSEWHERE: Handout = _Elsewhere(0, 0)


def hand_out(reading: Reading, out: Handout, open_read: Callable[[], ReadAttachment] | None) -> None:
    """Everything of a message that has to be scanned apart, but for what stands in its ordinary attachments.

    ``open_read``: gives the reader for what turns out to be a container; None: containers stay shut. Raises what it
    raises, and :class:`NeedsReader` when ``out`` is :data:`ELSEWHERE`.
    """
    read: ReadAttachment | None = None
    try:
        for pieces, is_file in suspects(reading.buffer, reading.message):
            if out is ELSEWHERE:
                raise NeedsReader
            first = next(pieces, b"")
            if not is_file or open_read is None or kind_of(first[:HEAD]) not in CLOSED:
                out.add(chain((first,), pieces))
            else:
                data = hold(chain((first,), pieces))
                if out.add(pieces_of(data)):
                    read = read or open_read()
                    deque(read(Attachment(iter(pieces_of(data)), len(data), "", "")), maxlen=0)
            if out.cut:
                return
    except TooLargeError:
        if out is ELSEWHERE:
            raise NeedsReader from None
        out.cut = TOO_LARGE


def hidden_in(data: Buffer, kind: Kind) -> Iterator[Suspect]:
    """The same of one file inside an attachment, but for its members. Raises :class:`TooLargeError`."""
    if kind is Kind.MESSAGE:
        yield from suspects(data, parse(data, _LIMITS))
    elif kind in (Kind.MARKUP, Kind.TEXT):
        yield from in_text(data, kind is Kind.MARKUP)
