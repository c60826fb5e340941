"""The readers as an inspection knows them: one walk and one budget a message, limits from the settings.

To be imported where files may be read only: it loads the libraries.
"""

from collections.abc import Iterator

from gateway.checks.handout import Handout
from gateway.checks.inside import Attachment, ReadAttachment
from gateway.checks.reading.budget import Budget, Limits
from gateway.checks.reading.pictures import Pictures, PicturesElsewhere, Sight
from gateway.checks.reading.values import Found
from gateway.checks.reading.walk import Walk
from gateway.settings import InspectionSettings


def open_reader(
    settings: InspectionSettings, out: Handout | None = None, pictures: bool | None = None
) -> ReadAttachment:
    """A reader for the attachments of one message. Its clock starts now.

    ``out``: takes what the virus control has to scan apart. ``pictures``: their words are read; False: they are to be
    read in another process, and the first one raises :class:`NeedsPicturesError`; None: nobody asks for them.
    """
    budget = Budget(limits_of(settings))
    if pictures is not None:
        sight = Sight(settings.ocr_timeout, settings.ocr_pixels, settings.ocr_pages, settings.ocr_languages)
        budget.pictures = Pictures(sight, budget.pause) if pictures else PicturesElsewhere(sight, budget.pause)
    walk = Walk(budget, out)

    def read(attachment: Attachment) -> Iterator[Found]:
        return walk.attachment(attachment.pieces, attachment.size, attachment.name, attachment.declared)

    return read


def limits_of(settings: InspectionSettings) -> Limits:
    """The limits that the settings name."""
    return Limits(
        depth=settings.archive_depth,
        members=settings.archive_members,
        expansion=settings.archive_expansion,
        unpacked=settings.archive_unpacked,
        text=settings.attachment_text,
        seconds=settings.attachment_timeout,
    )
