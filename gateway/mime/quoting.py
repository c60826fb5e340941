"""Which part of a body its writer wrote: own text against quoted text, the signature block, wordings, HTML as text.

Mail has no grammar for quoting, only habits; the habits of the usual programs are written down here once, for the
checks that read and the transforms that insert. Refuses to guess at more: text that shows no habit is own text. Every
function takes time linear in its input, whatever the input.
"""

import html as entities
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from gateway.mime.anyof import AnyOf

_SEPARATOR = (
    r"(?<!-)-{2,40}[ \t]{0,9}(?:original (?:message|appointment)|forwarded (?:message|by)"
    r"|mensaje (?:original|reenviado)|message d'origine|ursprüngliche nachricht|weitergeleitete nachricht)\b"
)
_MARKERS = re.compile(
    rf"^(?:(?P<separator>[ \t]*(?:{_SEPARATOR}|begin forwarded message:))"
    r"|(?P<block>[ \t]*\*?(?:from|von|de):\*?[ \t])"
    r"|(?P<attribution>[ \t]*(?:on|am|el|le)[ \t])"
    r"|(?P<mark>[ \t]?>))",
    re.IGNORECASE | re.MULTILINE,
)
_BLOCK_DATE = re.compile(r"[ \t]*\*?(?:sent|date|gesendet|datum|enviado|fecha|envoyé):", re.IGNORECASE)
_BLOCK_REST = re.compile(r"[ \t]*\*?(?:to|cc|subject|an|betreff|para|asunto|à|objet):", re.IGNORECASE)
_WROTE = re.compile(r"(?:wrote|schrieb[^\n]{0,80}|escribió|a écrit)[ \t]?:[ \t]*\Z", re.IGNORECASE)
_RULE = re.compile(r"[ \t]*[_-]{5,}[ \t]*\Z")
_DIGIT = re.compile(r"\d")

_CLOSING = re.compile(
    r"(?:(?:with )?(?:my |our )?(?:best|kind|kindest|warm|warmest|many|sincere)? ?(?:regards|wishes|thanks|greetings)"
    r"|(?:very )?(?:sincerely|respectfully|cordially|truly|faithfully)(?: yours)?"
    r"|yours(?: very)? (?:sincerely|truly|faithfully)|thank you(?: (?:very much|so much|again|in advance))?"
    r"|thanks(?: (?:a lot|again|so much|in advance))?|thanks and regards|all the best|best|cheers|v/?r|rgds|regards"
    r"|respectfully submitted|saludos(?: cordiales)?|atentamente|gracias)[ \t]*[,.!;:–—-]*[ \t]*\Z",
    re.IGNORECASE,
)
_CLOSING_LINES = 15
_LAST_LINES = 8
_LONGEST = 60
_may_quote = AnyOf(
    (
        *(">", "from:", "von:", "de:", "wrote", "schrieb", "escribi", "crit", "original", "forwarded", "reenviado"),
        *("origine", "nachricht"),
    )
)
"""One of these stands in whatever the patterns above find a quotation by; looking for words is far faster."""
_CANDIDATES = 1000
"""Lines that look like a quote's head and are none, after which we stop looking: each costs some microseconds."""

_HTML_MARKERS = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?:style|script)\b.*?(?:</(?:style|script)|\Z)"
    r"|<(?P<quote>blockquote)\b(?P<attributes>[^<>]{0,2000})"
    r"|<(?P<box>(?:div|span|hr|table|p|section|a)\b[^<>]{0,2000}?"
    r"(?:gmail_quote|gmail_attr|divrplyfwdmsg|appendonsend|moz-cite-prefix|moz-email-headers|moz-forward-container"
    r"|yahoo_quoted|outlookmessageheader|replyforwardmessage|_messagereplysection|zmail_extra"
    r"|border-top: ?solid #(?:e1e1e1|b5c4df)))"
    rf"|(?P<separator>{_SEPARATOR})"
    r"|(?P<block><(?:b|strong)\b[^<>]{0,300}>\s{0,20}(?:<span\b[^<>]{0,300}>\s{0,20})?(?:from|von|de):)",
    re.IGNORECASE | re.DOTALL,
)
_html_may_quote = AnyOf(
    (
        *("<blockquote", "gmail_quote", "gmail_attr", "divrplyfwdmsg", "appendonsend", "moz-cite-prefix"),
        *("moz-email-headers", "moz-forward-container", "yahoo_quoted", "outlookmessageheader", "replyforwardmessage"),
        *("_messagereplysection", "zmail_extra", "border-top:", "from:", "von:", "de:"),
        *("original message", "original appointment", "forwarded message", "forwarded by", "mensaje original"),
        *("mensaje reenviado", "message d'origine", "nachricht"),
    )
)
"""One of these stands in whatever ``_HTML_MARKERS`` finds a quotation by; most bodies have none."""
_HTML_DATE = re.compile(r"(?:sent|date|gesendet|enviado):", re.IGNORECASE)
_INDENT = re.compile(r"border\s{0,3}:\s{0,3}(?:none|0)", re.IGNORECASE)
_CITED = re.compile(r"type\s{0,3}=\s{0,3}[\"']?cite|class\s{0,3}=[^=]{0,80}quote|\bcite\s{0,3}=", re.IGNORECASE)
_OPENERS = re.compile(r"<(?:div|p|table)\b", re.IGNORECASE)

_MARKUP = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?P<hidden>script|style|title|template)\b[^>]*(?:>|\Z).*?(?:</(?P=hidden)\b[^>]*(?:>|\Z)|\Z)"
    r"|<(?P<close>/?)(?P<name>[a-z][a-z0-9:-]{0,30})[^>]*(?:>|\Z)"
    r"|<[!?/][^>]*(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BREAKING = re.compile(
    r"(?:address|article|aside|blockquote|body|br|center|d[dlt]|div|fieldset|figure|footer|form|h[1-6r]|header|li|main"
    r"|nav|ol|p|pre|section|table|t(?:body|foot|head|r)|ul)\Z"
)
_SPACE = re.compile(r"[ \t\r\n\f]+")
_ENDLESS_NUMBER = re.compile(r"&#[0-9]{9,};?")

_INVISIBLE = {ord(c): None for c in "'’‘ʼ‛′´`＇\u00ad\u200b\u200c\u200d\u2060\ufeff"}
_NOT_WORDS = re.compile(r"[\W_]+")


class Quoting(NamedTuple):
    """Where the own text of a body is. Offsets in characters."""

    own: str
    quoted: str
    end_of_own: int
    """Where a signature block belongs: after the last own line above the quoted text, or, when there is nothing
    above it (inline and bottom replies), after the last own line of all."""


def split_quoted(text: str) -> tuple[str, str]:
    """Own text and quoted text of a ``text/plain`` body, lines kept whole and in order; joined they have every line.

    Lines between ``>`` lines are own text when a blank line is beside them (inline replies), else a quoted line that
    some program has wrapped. After «-----Original Message-----» or a From/Sent/To/Subject block all is quoted.
    """
    found = quoting(text)
    return found.own, found.quoted


def quoting(text: str) -> Quoting:
    """As :func:`split_quoted`, and where a signature block belongs."""
    start, hard = _first_quote(text) if _may_quote(text) else (len(text), True)
    if hard or start == len(text):
        return Quoting(text[:start], text[start:], _end_of_text(text, start))
    own, quoted, last = _woven(text, start)
    above = text[:start]
    end = _end_of_text(text, start) if above.strip() or last < 0 else last
    return Quoting(above + own, quoted, end)


def split_quoted_html(html: str) -> int:
    """Offset of the tag (or separator line) with which the quoted part of an HTML body begins; its length if none."""
    date = -1
    if not _html_may_quote(html):
        return len(html)
    for match in _HTML_MARKERS.finditer(html):
        kind = match.lastgroup
        if kind == "attributes":
            given = match["attributes"]
            if _CITED.search(given) or not _INDENT.search(given):
                return match.start()
        elif kind == "block":
            if date < match.end():  # each stretch is searched once, whatever the number of candidates
                found = _HTML_DATE.search(html, match.end())
                date = found.start() if found else len(html) + 1500
            if date < match.end() + 1500 and date < len(html):
                return _opener_before(html, match.start())
        elif kind is not None:
            return match.start()
    return len(html)


def signature_block(own: str) -> str:
    """The signature block at the end of own text, ``""`` when there is no text at all.

    After the last ``-- `` line (RFC 3676 section 4.3) among the last 60; else from the first closing line
    («Regards,») among the last 15 lines that are not blank; else the last 8 such lines, since many people sign with
    nothing but their name.
    """
    lines = [line.strip() for line in own.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    filled: list[int] = []
    for n in range(len(lines) - 1, -1, -1):
        if lines[n] in ("--", "—") and len(lines) - _LONGEST <= n < len(lines) - 1:
            return "\n".join(lines[n + 1 :])
        if lines[n]:
            filled.append(n)
    closings = [n for n in filled[:_CLOSING_LINES] if len(lines[n]) <= 60 and _CLOSING.match(lines[n])]
    if closings:
        return "\n".join(lines[closings[-1] :])
    return "\n".join(lines[n] for n in reversed(filled[:_LAST_LINES]))


def has_wording(text: str, wordings: Sequence[str]) -> bool:
    """True when one of the phrases stands in the text as whole words.

    Compared without case, with any white space, punctuation or dash between the words, and without apostrophes, so
    that «Non‑City  Employee» is «non city employee». An empty phrase stands nowhere.
    """
    folded = fold_words(text)
    return any(form in folded for wording in wordings for form in phrase_forms(wording))


def fold_words(text: str) -> str:
    """The words of a text, folded, each with one space before it, and one after the last."""
    return f" {_NOT_WORDS.sub(' ', text.translate(_INVISIBLE).casefold()).strip()} "


@lru_cache(maxsize=1024)
def phrase_forms(phrase: str) -> tuple[str, ...]:
    """The forms in which a phrase may stand in :func:`fold_words`: accents composed or apart. () when it has no word.

    The phrase is normalised and not the text: normalising is quadratic in runs of combining characters.
    """
    forms = (fold_words(unicodedata.normalize(form, phrase)) for form in ("NFC", "NFD"))
    return tuple(dict.fromkeys(form for form in forms if form.strip()))


def html_text(html: str) -> str:
    """What a reader sees of HTML, one line a block: no comments, styles, scripts or tags; entities decoded."""
    return entities.unescape(_ENDLESS_NUMBER.sub("\ufffd", "".join(_runs(html))))


def _runs(html: str) -> Iterator[str]:
    position = preformatted = 0
    for match in _MARKUP.finditer(html):
        run = html[position : match.start()]
        if run:
            yield run if preformatted else _SPACE.sub(" ", run)
        position = match.end()
        name = (match["name"] or "").lower()
        if name == "pre":
            preformatted = max(0, preformatted + (-1 if match["close"] else 1))
        if _BREAKING.match(name):
            yield "\n"
        elif name in ("td", "th"):
            yield " "
    run = html[position:]
    yield run if preformatted else _SPACE.sub(" ", run)


def _first_quote(text: str) -> tuple[int, bool]:
    """Offset of the first quoted line (length when none) and whether all that follows it is quoted."""
    for match in islice(_MARKERS.finditer(text), _CANDIDATES):
        kind, start = match.lastgroup, match.start()
        if kind == "separator":
            return start, True
        if kind == "mark":
            return start, False
        if kind == "block" and _is_block(text, start):
            return _with_rule_above(text, start), True
        if kind == "attribution":
            end = _attribution_end(text, start)
            if end >= 0:
                after = text[end : end + 500].lstrip()
                if after.startswith(">"):
                    return start, False
                if _DIGIT.search(text, start, end):
                    return start, True
    return len(text), True


def _is_block(text: str, start: int) -> bool:
    """A From: line with a date line and one of To/Cc/Subject among the next five."""
    lines = _next_lines(text, start, 6)[1:]
    return any(_BLOCK_DATE.match(line) for line in lines) and any(_BLOCK_REST.match(line) for line in lines)


def _attribution_end(text: str, start: int) -> int:
    """Where «On … wrote:» ends when it is one, within three lines; else -1."""
    end = start
    for line in _next_lines(text, start, 3):  # without their line feeds
        end += len(line) + 1
        if _WROTE.search(line.rstrip("\r")[-120:]):
            return min(end, len(text))
        if not line.strip() or line.lstrip().startswith(">"):
            return -1
    return -1


def _next_lines(text: str, start: int, count: int) -> list[str]:
    """The next lines without their line feeds; what lies beyond 400 characters a line is not looked at."""
    return text[start : start + 400 * count].split("\n", count)[:count]


def _with_rule_above(text: str, start: int) -> int:
    """The offset of a line of underscores just above (Outlook), else ``start``."""
    lines = text[max(0, start - 200) : start].splitlines(keepends=True)
    at = start
    while lines and not lines[-1].strip():
        at -= len(lines.pop())
    return at - len(lines[-1]) if lines and _RULE.match(lines[-1].rstrip("\r\n")) else start


def _woven(text: str, start: int) -> tuple[str, str, int]:
    """Own and quoted lines from the first quoted one on, and the offset after the last own one (-1: none)."""
    stop = _hard_quote(text, start)
    own: list[str] = []
    quoted: list[str] = []
    run: list[str] = []
    position, last, run_end = start, -1, 0
    blank_before = False
    attribution = True
    for line in text[start:stop].splitlines(keepends=True):
        position += len(line)
        bare = line.strip()
        if bare.startswith(">"):
            if run and (blank_before or not run[-1].strip()):
                own.extend(run)
                last = run_end
            else:
                quoted.extend(run)
            run, blank_before, attribution = [], False, False
            quoted.append(line)
        elif attribution or (not bare and not run):
            quoted.append(line)
            blank_before = True
        else:
            run.append(line)
            run_end = position if bare else run_end
    if run and (blank_before or not run[-1].strip() or len(run) > 2):
        own.extend(run)
        last = run_end
    else:
        quoted.extend(run)
    quoted.append(text[stop:])
    return "".join(own), "".join(quoted), last


def _hard_quote(text: str, start: int) -> int:
    """Offset of the first separator or From: block from ``start`` on, the length when there is none."""
    heads = islice((m for m in _MARKERS.finditer(text, start) if m.lastgroup in ("separator", "block")), _CANDIDATES)
    return next((m.start() for m in heads if m.lastgroup == "separator" or _is_block(text, m.start())), len(text))


def _end_of_text(text: str, stop: int) -> int:
    """Offset after the last line above ``stop`` that is not blank, with its line end; 0 when there is none."""
    end = len(text[:stop].rstrip())
    if not end:
        return 0
    newline = text.find("\n", end, stop)
    return stop if newline < 0 else newline + 1


def _opener_before(html: str, offset: int) -> int:
    """The nearest opening div, p or table before ``offset`` within 600 characters, so that nothing lands inside it."""
    floor = max(0, offset - 600)
    starts = [m.start() for m in _OPENERS.finditer(html, floor, offset)]
    return starts[-1] if starts else offset
