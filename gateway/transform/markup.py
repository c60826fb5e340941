"""HTML: where on top a legend goes, where a signature block goes, and how lines become markup.

Refuses to put anything inside a comment, a tag or a style sheet; where no body element can be found, the top is right,
since readers open the body themselves. What is put is ASCII: all else becomes numeric entities.
"""

import html
import re
import textwrap
from collections.abc import Sequence

from gateway.mime.quoting import split_quoted_html
from gateway.mime.rounds import behind

_TOP = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?P<hidden>style|script|title|noscript|template)\b[^>]*(?:>|\Z).*?(?:</(?P=hidden)\b|\Z)"
    r"|<(?P<body>body)(?=[\s>/])"
    r"|<(?P<head>/head|html|!doctype)\b[^>]*>",
    re.IGNORECASE | re.DOTALL,
)
_HIDDEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|(?P<open_comment>\Z)))"
    r"|<(?P<hidden>style|script|title|noscript|template)\b.*?(?:</(?P=hidden)\s{0,9}>|(?P<open_element>\Z))",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(r"</(?:body|html)\b", re.IGNORECASE)
_IN_TAG = re.compile(r"""(?:[^"'>]++|"[^"]*+"|'[^']*+'){1,1000}""")

_LEGEND = (
    "border:2px solid #000000;padding:8px;margin:0 0 12px 0;font-weight:bold;color:#000000;background-color:#ffffff"
)
_BANNER = (
    "border:1px solid #9c6500;padding:8px;margin:0 0 12px 0;font-weight:normal;color:#000000;background-color:#fff4ce"
)
_SOURCE_LINE = 100
"""Characters a source line, so that entities cannot make it longer than SMTP's 998 octets."""
STYLES = {"legend": _LEGEND, "banner": _BANNER}


def top_of_body(source: str) -> int:
    """The position after ``<body …>``; else after the head, the html tag or the doctype; else 0."""
    fallback = 0
    for match in _TOP.finditer(source):
        if match["body"]:
            end = behind(_IN_TAG, source, match.end())
            return end + 1 if source.startswith(">", end) else fallback
        if match["head"]:
            fallback = match.end()
    return fallback


def foot_of_own(source: str) -> int:
    """The position above the quoted part, or, without one, before the closing tags; never inside what is not shown."""
    at = split_quoted_html(source)
    if at == len(source):
        end = next(_END.finditer(source, max(0, len(source) - 2000)), None)
        at = end.start() if end else at
    for hidden in _HIDDEN.finditer(source):
        if hidden.start() >= at:
            break
        if at < hidden.end() or hidden.lastgroup in ("open_comment", "open_element"):
            return hidden.start()
    return at


def box(kind: str, lines: Sequence[str]) -> str:
    """A legend or banner as a bordered block: ASCII, LF line ends."""
    return f'<div class="civicgate-{kind}" style="{STYLES[kind]}">{_rows(lines)}</div>\n'


def signature(lines: Sequence[str]) -> str:
    """A signature block as its own block: ASCII, LF line ends."""
    return f'<div class="civicgate-signature-block"><br>-- <br>{_rows(lines)}</div>\n'


def _rows(lines: Sequence[str]) -> str:
    rows = ("\n".join(textwrap.wrap(line, _SOURCE_LINE)) for line in lines)
    text = "<br>\n".join(html.escape(row) for row in rows)
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
