"""What a message's own HTML and plain texts hold for a reader's program: links, scripts, forms.

One pass over each document for both; documents within attachments are the readers' (``reading/plaintext.py``). Refuses
to decode a plain text in which nothing begins like a link.
"""

from collections.abc import Iterator

from gateway.checks.links import Links
from gateway.checks.parts import Reading, is_attachment
from gateway.checks.reading.kinds import Kind, kind_of
from gateway.checks.smuggling import active_content
from gateway.checks.tags import tags_of
from gateway.mime.tree import Part
from gateway.model.finding import Check, Finding

_SNIFFED = 4096
_MARKUP = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml"})
_IDENTITY = frozenset({"7bit", "8bit", "binary"})


def look_at_markup(reading: Reading, links: Links | None, active: bool, domains: tuple[str, ...]) -> Iterator[Finding]:
    """Active content as structure findings, when ``active``; links go to ``links``."""
    for part in reading.parts:
        if part.is_multipart or part.children or not part.body.size:
            continue
        if part.media_type in _MARKUP or (is_attachment(part) and _is_markup(reading, part)):
            data = reading.text_of(part)[0].encode("utf-8", "replace")
            tags = tags_of(data)
            if links is not None:
                links.read_html(data, tags, part.path)
            for fact in active_content(data, tags, domains) if active else ():
                yield Finding(Check.STRUCTURE, fact.code, part=part.path, offset=part.body.start, evidence=fact.detail)
        elif links is not None and part.is_text:
            _plain(reading, part, links)
    for path, inner in reading.inner():
        for finding in look_at_markup(inner, links, active, domains):
            yield Finding(finding.check, finding.kind, part=path, evidence=finding.evidence)


def _is_markup(reading: Reading, part: Part) -> bool:
    return kind_of(reading.head(part, _SNIFFED), part.filename, part.media_type) is Kind.MARKUP


def _plain(reading: Reading, part: Part, links: Links) -> None:
    """Links of plain text; decoded only when there may be any."""
    if part.encoding in _IDENTITY:
        if reading.buffer.find(b"://", part.body.start, part.body.end) < 0:
            return
        stop = min(part.body.end, part.body.start + reading.cap)
        links.read_text(bytes(reading.buffer[part.body.start : stop]), part.path)
    else:
        links.read_text(reading.text_of(part)[0].encode("utf-8", "replace"), part.path)
