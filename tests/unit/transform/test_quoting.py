"""Own text, quoted text, the signature block, wordings and legends: the pure logic that checks and transforms share."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mime.legends import legend_present
from gateway.mime.quoting import (
    has_wording,
    html_text,
    quoting,
    signature_block,
    split_quoted,
    split_quoted_html,
)

QUOTES = [
    "On Mon, Jan 5, 2026 at 10:00 AM Bob <b@x> wrote:\n\n> q\n",
    "On Mon, Jan 5, 2026 at 10:00 AM Bob With A Long Name\n<bob@a-long-domain.example> wrote:\n\n> q\n",
    "On Monday Bob wrote:\n> q\n",
    "Am 5.1.2026 um 10:00 schrieb Bob:\n> q\n",
    "El 5 ene 2026, Bob escribió:\nq\n",
    "-----Original Message-----\nFrom: Bob\n",
    "---------- Forwarded message ---------\nFrom: Bob\n",
    "Begin forwarded message:\n\nFrom: Bob\n",
    "From: Bob\nSent: Monday\nTo: Ann\nSubject: x\n\nq\n",
    "*From:* Bob\n*Date:* Monday\n*To:* Ann\n*Subject:* x\n\nq\n",
    "________________________________\nFrom: Bob\nSent: Monday\nTo: Ann\nSubject: x\n\nq\n",
    "> q\n>> r\n",
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", QUOTES)
def test_every_habit_of_quoting(quote: str, newline: str) -> None:
    """Above each kind of quote stands the own text, whole, and below it all is quoted."""
    own, quoted = "Yes.\n\nAnn\n\n".replace("\n", newline), quote.replace("\n", newline)
    assert split_quoted(own + quoted) == (own, quoted)


@pytest.mark.parametrize(
    "text",
    [
        "On Monday we met.\nHe wrote a letter.\n",
        "On 5 January he wrote: nothing.\n",
        "From: here to there\nis a long way\n",
        "The sign > means greater.\n",
        "See the Original Message below the fold.\n",
        "",
    ],
)
def test_what_only_looks_like_a_quote(text: str) -> None:
    """Near misses are own text."""
    assert split_quoted(text) == (text, "")


def test_inline_replies_are_own_text() -> None:
    """Lines between quoted lines are own when a blank line is beside them, and a wrapped quoted line is not."""
    text = "On 1/1/26 Bob wrote:\n> a?\n\nYes.\n\n> a very long\nline\n> c?\n\nNo.\n-- \nAnn\n"
    own, quoted = split_quoted(text)
    assert own == "Yes.\n\nNo.\n-- \nAnn\n"
    assert "line\n" in quoted
    assert quoting(text).end_of_own == len(text)


@given(st.text("ab>\n -:OnFromSetwre1_", max_size=200))
def test_no_line_is_lost(text: str) -> None:
    """Own and quoted text together have every line of the text, whatever it is."""
    own, quoted = split_quoted(text)
    assert sorted((own + quoted).replace("\n", "")) == sorted(text.replace("\n", ""))
    assert len(own) + len(quoted) == len(text)
    assert 0 <= quoting(text).end_of_own <= len(text)


@pytest.mark.parametrize(
    ("own", "block"),
    [
        ("Hi\n\nBody.\n-- \nAnn\nDesk\n", "Ann\nDesk"),
        ("Hi\n\nBody.\n\nKind regards,\nAnn\nDesk\n", "Kind regards,\nAnn\nDesk"),
        ("Thank you\n\nAnn", "Thank you\n\nAnn"),
        ("Hi\n" + "x\n" * 30 + "Ann\nDesk\n\n", "\n".join(["x"] * 6 + ["Ann", "Desk"])),
        ("\n \n", ""),
        ("", ""),
        ("a\n--\n", "a\n--"),
    ],
)
def test_the_signature_block(own: str, block: str) -> None:
    """After the delimiter, else from the closing line, else the last lines."""
    assert signature_block(own) == block


@pytest.mark.parametrize(
    ("text", "wording", "stands"),
    [
        ("I am a Non‑City  Employee.", "non-city employee", True),
        ("NON CITY\nEMPLOYEE", "non-city employee", True),
        ("Acme’s contractor", "Acme's contractor", True),
        ("Acmés", "Acme\u0301s", True),
        ("Acme\u0301s", "Acmés", True),
        ("zero\u200bwidth con\u00adtractor", "contractor", True),
        ("subcontractor", "contractor", False),
        ("a city employee", "non-city employee", False),
        ("anything", "", False),
        ("anything", "--", False),
    ],
)
def test_wordings(text: str, wording: str, stands: bool) -> None:
    """Case, spacing, dashes, apostrophes and composed accents do not matter; whole words do."""
    assert has_wording(text, [wording]) is stands
    assert has_wording(text, ["never said", wording]) is stands


def test_legends() -> None:
    """Present in any layout, quoted at any depth; not when a word is missing, nor when it has none."""
    lines = ("THIS IS CONFIDENTIAL.", "DO NOT DISCLOSE.")
    assert legend_present("a\n>> This is confidential.\n>> Do not\n>> disclose.\n", lines)
    assert legend_present(html_text("<div>THIS IS <b>CONFIDENTIAL</b>.<br>DO NOT DISCLOSE.</div>"), lines)
    assert not legend_present("THIS IS CONFIDENTIAL. DO DISCLOSE.", lines)
    assert not legend_present(html_text("<!-- THIS IS CONFIDENTIAL. DO NOT DISCLOSE. -->"), lines)
    assert not legend_present("anything", ("", "--"))


def test_html_as_text() -> None:
    """Blocks are lines, inline tags vanish, what is not shown is not there, entities are letters."""
    source = (
        "<html><head><title>t</title><style>x{}</style></head><body><p>a <b>b</b>c&nbsp;&eacute;</p>"
        "<pre>x\n  y</pre><script>no</script>&#99999999999999;<td>1</td><td>2</td><!-- no --></body>"
    )
    assert html_text(source).split() == ["a", "bc", "é", "x", "y", "�", "1", "2"]
    assert "x\n  y" in html_text(source)


def test_html_indentation_is_no_quote() -> None:
    """Gmail indents own text with a borderless blockquote; a cited one is a quote."""
    source = '<p>a</p><blockquote style="margin:0 0 0 40px;border:none">own</blockquote><blockquote type="cite">q'
    assert source[split_quoted_html(source) :] == '<blockquote type="cite">q'
    assert split_quoted_html("<p>none</p>") == len("<p>none</p>")


SHAPES = [
    *("-" * 300_000, "From: \n" * 40_000, "on \n" * 80_000, "<" * 300_000, "<div " * 60_000, "<!--" * 80_000),
    *(">\n" * 150_000, ">\n\na\n" * 50_000, "<b>from:" * 40_000, "<script>" * 40_000, "&#" * 150_000),
    *("&#" + "9" * 300_000, "a" + "\u0301\u0316" * 150_000, "thanks " * 40_000, " " * 300_000, "_" * 300_000),
    *(("<div " + "a" * 1990) * 150, "<blockquote " + "class= " * 40_000, "\n" * 300_000),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: repr(shape[:8]))
def test_hostile_text_takes_linear_time(shape: str) -> None:
    """300 KB of what would make careless code quadratic: all five functions in well under a second together."""
    before = time.process_time()
    quoting(shape)
    split_quoted_html(shape)
    signature_block(shape)
    has_wording(shape, ["a b"])
    html_text(shape)
    assert time.process_time() - before < 1.0
