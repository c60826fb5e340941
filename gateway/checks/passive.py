"""All checks that read the message alone, in one parse: structure, header, attachment, content, legend, sign-off.

Does what is asked and no more. Refuses to raise for what a message holds: what is wrong with it is a finding.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from gateway.checks.active import active_kind
from gateway.checks.attachment import HEAD, TEXT_HEAD, contradicts, real_type
from gateway.checks.handout import Handout
from gateway.checks.inside import (
    TYPE_MISMATCH,
    Inside,
    NeedsReader,
    OpenReader,
    look_inside,
    names_made_to_deceive,
    parts_to_read,
    sealed_for,
    sealed_parts,
)
from gateway.checks.links import Links
from gateway.checks.markup import look_at_markup
from gateway.checks.parts import Reading, is_attachment, main_bodies, reads_as_text
from gateway.checks.plain import plain
from gateway.checks.rescan import CLOSED, hand_out
from gateway.checks.scanner import MAX_CANDIDATES, Scanner, Tally
from gateway.checks.tally import Place
from gateway.mime.decoding import decoded_size
from gateway.mime.fields import field_value
from gateway.mime.hypertext import html_to_text, visible_text
from gateway.mime.legends import legend_present
from gateway.mime.parser import parse
from gateway.mime.quoting import has_wording, signature_block, split_quoted, split_quoted_html
from gateway.mime.tree import Buffer, Defect, DefectCode, Limits, Part
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Finding, LegendText, Questions
from gateway.settings import InspectionSettings

PASSIVE = frozenset(
    {
        *(Check.STRUCTURE, Check.HEADER, Check.ATTACHMENT, Check.CONTENT, Check.LEGEND, Check.SIGNATURE_BLOCK),
        *(Check.LINK, Check.ENCRYPTION),
    }
)
"""The checks that :func:`inspect` answers."""
_NEED_READERS = frozenset({Check.ATTACHMENT, Check.LINK, Check.ENCRYPTION})
MAX_FIELDS = 200
"""Findings a field name; the last one carries the count of the rest."""
MAX_BODY_TEXT = 1_000_000
"""Octets of a body in which legends, quotations and signature blocks are looked for."""
TEXT_TRUNCATED = "text-truncated"
CANDIDATES_CAPPED = "candidates-capped"

_WORD = re.compile(r"[A-Za-z0-9]{3,}")


@dataclass(frozen=True, slots=True)
class Means:
    """What an inspection may use where it runs."""

    candidates: int = MAX_CANDIDATES
    """Matches in all that are checked exactly; more give a finding ``candidates-capped``."""
    readers: OpenReader | None = None
    """What reads documents and archives; None: they are told by type and name only."""
    parts: int | None = None
    """More parts than these are read elsewhere (:class:`NeedsReader`)."""
    disciplined: bool = False
    """The message is known to have no line end but CRLF, and no NUL: nobody needs to look."""
    out: Handout | None = None
    """Takes what the virus control has to scan apart; None: it does not ask."""


_PLAIN = Means()


def inspect(
    buffer: Buffer,
    envelope: Envelope,
    questions: Questions,
    scanner: Scanner | None,
    settings: InspectionSettings,
    means: Means = _PLAIN,
) -> tuple[Finding, ...]:
    """Every finding of the passive checks asked for, in the order of the message within each check.

    ``scanner`` may hold more types than are asked; None: no content is looked for. Raises what opening the readers
    raises.
    """
    asked = questions.checks & PASSIVE
    if not asked and means.out is None:
        return ()
    limits = Limits(
        max_depth=min(settings.max_depth, 200), max_parts=settings.max_parts, max_header_bytes=settings.max_header_bytes
    )
    message = parse(buffer, limits, disciplined=means.disciplined)
    reading = Reading(buffer, message, settings.max_text)
    if means.parts is not None and len(reading.parts) > means.parts:
        raise NeedsReader
    links = Links(questions.domains, questions.wrappers) if Check.LINK in asked else None
    inside = _inside(reading, questions, settings, means, links)
    _hand_out(reading, means, settings)
    found: list[Finding] = []
    if Check.HEADER in asked and questions.headers:
        found.extend(_headers(buffer, message.root, questions.headers))
    if Check.ATTACHMENT in asked:
        found.extend(_attachments(reading))
    if Check.ENCRYPTION in asked:
        found.extend(sealed_for(reading))
    if links is not None or Check.ATTACHMENT in asked:
        found.extend(look_at_markup(reading, links, Check.ATTACHMENT in asked, questions.domains))
    found.extend(_put_there(reading, questions))
    if Check.CONTENT in asked and scanner is not None and questions.types:
        found.extend(_content(reading, questions, scanner, means.candidates, inside))
    if inside is not None:
        found.extend(finding for finding in inside.findings() if finding.check in asked)
    if links is not None:
        found.extend(links.findings())
    found.extend(_defects(message.defects) if Check.STRUCTURE in asked else ())
    return tuple(found)


def _hand_out(reading: Reading, means: Means, settings: InspectionSettings) -> None:
    """To the virus control, when it asks."""
    if means.out is not None:
        readers = means.readers if settings.attachments else None
        hand_out(reading, means.out, partial(readers, settings) if readers else None)


def _put_there(reading: Reading, questions: Questions) -> Iterator[Finding]:
    """Legends and signature blocks of the main bodies."""
    asked = questions.checks & {Check.LEGEND, Check.SIGNATURE_BLOCK}
    bodies = main_bodies(reading.message.root) if asked else []
    if Check.LEGEND in asked:
        yield from _legends([reading.seen(part)[:MAX_BODY_TEXT] for part in bodies], questions.legends)
    if Check.SIGNATURE_BLOCK in asked:
        yield _signature(reading, bodies, questions.signature_wordings)


def _inside(
    reading: Reading, questions: Questions, settings: InspectionSettings, means: Means, links: Links | None
) -> Inside | None:
    """The inside of attachments, when something asks for it and there are any."""
    wanted = questions.checks & _NEED_READERS or (Check.CONTENT in questions.checks and questions.types)
    if means.readers is None or not settings.attachments or not (wanted or means.out is not None):
        return None
    if not wanted:  # the virus control alone: clamd opens most of them itself
        closed = [(part, kind) for part, kind in parts_to_read(reading) if kind in CLOSED]
        return Inside(reading, closed, means.readers(settings)) if closed else None
    return look_inside(reading, means.readers, settings, links)


def _defects(defects: tuple[Defect, ...]) -> Iterator[Finding]:
    """Defects by code: the first of each, with how many there are."""
    first: dict[DefectCode, Defect] = {}
    counts: dict[DefectCode, int] = {}
    for defect in defects:
        first.setdefault(defect.code, defect)
        counts[defect.code] = counts.get(defect.code, 0) + 1
    for code, defect in first.items():
        detail = "".join(c if c.isprintable() else "?" for c in defect.detail)
        yield Finding(
            Check.STRUCTURE, str(code), part=defect.part, offset=defect.offset, evidence=detail, count=counts[code]
        )


def _headers(buffer: Buffer, root: Part, asked: frozenset[str]) -> Iterator[Finding]:
    """The message's own fields with the names asked for, each occurrence."""
    seen: dict[str, list[Finding]] = {}
    surplus: dict[str, int] = {}
    for field in root.fields:
        if field.name in asked:
            same = seen.setdefault(field.name, [])
            if len(same) < MAX_FIELDS:
                value = field_value(buffer, field)
                same.append(Finding(Check.HEADER, field.name, value, offset=field.start))
            else:
                surplus[field.name] = surplus.get(field.name, 0) + 1
    for name, same in seen.items():
        yield from same[:-1]
        last = same[-1]
        more = surplus.get(name, 0)
        yield Finding(Check.HEADER, name, last.value, offset=last.offset, count=1 + more) if more else last


def _attachments(reading: Reading) -> Iterator[Finding]:
    """One finding an attachment and name, and one where name or declared type deceive."""
    for part in reading.parts:
        if not is_attachment(part):
            continue
        head = b"" if part.children else reading.head(part, HEAD)
        real = part.media_type
        if not part.children:
            real = real_type(head[:TEXT_HEAD] if reads_as_text(head[:4096]) else head)
        size = decoded_size(reading.buffer, part)
        active = active_kind(head, part.filename, reads_as_text(head[:4096]))
        if active is not None:
            yield Finding(
                Check.STRUCTURE, active.code.value, part.filename, part.path, part.body.start, evidence=active.what
            )
        for name in part.filenames or ("",):
            yield Finding(Check.ATTACHMENT, real, name, part.path, part.body.start, declared=part.media_type, size=size)
            if contradicts(part.media_type, name, real):
                yield Finding(
                    Check.STRUCTURE, TYPE_MISMATCH, name, part.path, part.body.start,
                    evidence=f"{part.media_type} is {real}", declared=part.media_type, size=size,
                )  # fmt: skip
        yield from names_made_to_deceive(part.filenames, part.path, part.body.start)
    yield from sealed_parts(reading)
    for path, inner in reading.inner():
        for finding in (*_defects(inner.message.defects), *_attachments(inner)):
            yield replace(finding, part=path, offset=-1)


def _legends(shown: list[str], legends: tuple[LegendText, ...]) -> Iterator[Finding]:
    """Present: in every alternative of the body, since nobody knows which one is shown. No body: absent."""
    for legend in legends:
        present = bool(shown) and all(_may_hold(text, legend) and legend_present(text, legend.lines) for text in shown)
        yield Finding(Check.LEGEND, legend.id, "present" if present else "absent")


def _may_hold(text: str, legend: LegendText) -> bool:
    """False when a word of the legend does not occur in the text at all: spares the full comparison."""
    if not text.isascii():
        return True
    longest = max((word for line in legend.lines for word in _WORD.findall(line)), key=len, default="")
    return not longest or longest.lower() in text.lower().replace("'", "").replace("`", "")


def _signature(reading: Reading, bodies: list[Part], wordings: tuple[str, ...]) -> Finding:
    """``identified``: some alternative's signature block holds a wording; ``present``: there is a block at all."""
    first = ""
    for part in bodies:
        block = signature_block(_own(reading, part))
        if has_wording(block, wordings):
            return Finding(Check.SIGNATURE_BLOCK, "identified", part=part.path)
        if block and not first:
            first = part.path
    return Finding(Check.SIGNATURE_BLOCK, "present" if first else "missing", part=first)


def _own(reading: Reading, part: Part) -> str:
    """What the sender wrote for his reader to see, without what is quoted."""
    text = reading.text_of(part)[0][:MAX_BODY_TEXT]
    if part.media_type == "text/html":
        seen = visible_text(text[: split_quoted_html(text)])
        if seen is not None:
            return seen
    own = _without_quotes(reading, part)
    return reading.shown(part)[:MAX_BODY_TEXT] if own is None else own


def _without_quotes(reading: Reading, part: Part) -> str | None:
    """The sender's own words of a body that quotes others; None when it quotes nobody."""
    text = reading.text_of(part)[0][:MAX_BODY_TEXT]
    if part.media_type != "text/html":
        own, quoted = split_quoted(text)
        return own if quoted else None
    end = split_quoted_html(text)
    return None if end == len(text) else html_to_text(text[:end])


def _content(
    reading: Reading, questions: Questions, scanner: Scanner, candidates: int, inside: Inside | None
) -> Iterator[Finding]:
    """Information types in topics, display names, file names and every text, distinct matches once a message."""
    tally = Tally(questions.near, questions.published, names=not scanner.names.isdisjoint(questions.types))
    for title in reading.titles():
        scanner.scan(title.data, Place(title.part, title.kind), tally, candidates)
    attached = _attached(reading.parts)
    bodies = _quoting(reading) if questions.quoted else {}
    cut = []
    for piece in reading.texts():
        kind = "attachment" if piece.part in attached else "body"
        scanner.scan(piece.data, Place(piece.part, kind, own=piece.part not in bodies), tally, candidates)
        if piece.cut:
            cut.append(piece.part)
    for path, own in bodies.items():
        scanner.scan(plain(own), Place(path, again=True), tally, candidates)
    for data, place in inside.texts() if inside is not None else ():
        scanner.scan(data, place, tally, candidates)
    yield from scanner.findings(tally, questions.types)
    if cut:
        yield Finding(Check.STRUCTURE, TEXT_TRUNCATED, part=cut[0], count=len(cut))
    if tally.unchecked:
        yield Finding(Check.STRUCTURE, CANDIDATES_CAPPED, count=tally.unchecked)


def _quoting(reading: Reading) -> dict[str, str]:
    """Own words of the main bodies that quote others, by path; a body too long to look through quotes nobody."""
    found = {}
    for part in main_bodies(reading.message.root):
        if len(reading.text_of(part)[0]) <= MAX_BODY_TEXT:
            own = _without_quotes(reading, part)
            if own is not None:
                found[part.path] = own
    return found


def _attached(parts: tuple[Part, ...]) -> frozenset[str]:
    """Paths of the attachments and of what stands in them."""
    found: set[str] = set()
    for part in parts:
        above = part.path.rpartition(".")[0]
        if above in found or is_attachment(part):
            found.add(part.path)
    return frozenset(found)
