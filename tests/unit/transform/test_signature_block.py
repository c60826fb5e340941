"""Signature blocks: below the own text, above the quoted one, and only when it does not say so already."""

import base64
import quopri

import pytest

from gateway.mime.quoting import has_wording, html_text, signature_block, split_quoted, split_quoted_html
from gateway.model.verdict import Transform, TransformKind
from gateway.transform import TransformFailed, plan
from tests.unit.transform.making import apply, join, legend, read

SIGN = Transform(
    TransformKind.SIGNATURE_BLOCK, "contractors", lines=("Ann Doe", "Contractor, not a city employee"),
    wordings=("not a city employee", "non-city employee"),
)  # fmt: skip
BLOCK = "-- \r\nAnn Doe\r\nContractor, not a city employee\r\n"
ATTRIBUTION = "On Tue, Jan 6, 2026 at 10:00 AM Bob <b@x> wrote:\r\n"

OUTLOOK = "________________________________\r\nFrom: B\r\nSent: now\r\nTo: A\r\nSubject: s\r\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Hi.\r\n", "Hi.\r\n\r\n" + BLOCK),
        ("Hi.", "Hi.\r\n\r\n" + BLOCK),
        ("", BLOCK),
        (f"Yes.\r\n\r\n{ATTRIBUTION}> q\r\n", f"Yes.\r\n\r\n{BLOCK}\r\n{ATTRIBUTION}> q\r\n"),
        (f"Yes.\r\n{ATTRIBUTION}> q\r\n", f"Yes.\r\n\r\n{BLOCK}\r\n{ATTRIBUTION}> q\r\n"),
        (
            "Yes.\r\n\r\n-----Original Message-----\r\nFrom: B\r\n",
            f"Yes.\r\n\r\n{BLOCK}\r\n-----Original Message-----\r\nFrom: B\r\n",
        ),
        (
            f"Yes.\r\n\r\n{OUTLOOK}",
            f"Yes.\r\n\r\n{BLOCK}\r\n{OUTLOOK}",
        ),
        (
            f"{ATTRIBUTION}> a?\r\n\r\nYes.\r\n\r\n> b?\r\n\r\nNo.\r\n",
            f"{ATTRIBUTION}> a?\r\n\r\nYes.\r\n\r\n> b?\r\n\r\nNo.\r\n\r\n{BLOCK}",
        ),
        ("Hi.\r\n-- \r\nAnn\r\n", "Hi.\r\n-- \r\nAnn\r\nAnn Doe\r\nContractor, not a city employee\r\n"),
    ],
    ids=["plain", "no-newline", "empty", "gmail", "tight", "original", "outlook", "inline", "has-delimiter"],
)
def test_where_it_goes_in_plain_text(body: str, expected: str) -> None:
    """After the own text and above whatever kind of quote; at the bottom of inline replies."""
    head = b"Subject: a\r\n\r\n"
    assert apply(head + body.encode(), SIGN) == head + expected.encode()


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64"])
@pytest.mark.parametrize(
    ("html", "before"),
    [
        ('<html><body>Hi<br><div class="gmail_quote">q</div></body></html>', '<div class="gmail_quote">'),
        ('<body><p>Hi</p><blockquote type="cite">q</blockquote></body>', '<blockquote type="cite">'),
        ('<body>Hi<hr><div id="divRplyFwdMsg"><b>From:</b> x</div></body>', '<div id="divRplyFwdMsg">'),
        ('<body>Hi<div class="moz-cite-prefix">On x</div></body>', '<div class="moz-cite-prefix">'),
        ("<html><body><p>Hi</p></body></html>", "</body>"),
        ('<p style="border:none">Hi</p>', ""),
    ],
)
def test_where_it_goes_in_html(html: str, before: str, encoding: str) -> None:
    """Just before the quoted part in every transfer encoding; without one before the closing tags or at the end."""
    octets = html.encode()
    if encoding == "base64":
        octets = base64.encodebytes(octets)
    elif encoding == "quoted-printable":
        octets = quopri.encodestring(octets)
    head = f"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    content = read(apply(head + octets.replace(b"\n", b"\r\n"), SIGN)).get_content()
    at = html.index(before) if before else len(html)
    assert content.startswith(html[:at] + '<div class="civicgate-signature-block">')
    put, rest = content[at:].split("</div>", 1)
    assert put.replace("\r\n", "").endswith("Ann Doe<br>Contractor, not a city employee")
    assert rest.strip() == html[at:]


@pytest.mark.parametrize(
    "body",
    [
        "Hi.\r\n\r\nRegards,\r\nAnn\r\nContractor (Non‑City  Employee)\r\n",
        "Hi.\r\n-- \r\nAnn, not a\r\ncity employee\r\n",
        f"Hi.\r\n\r\nAnn\r\nnot a city employee\r\n\r\n{ATTRIBUTION}> q\r\n",
    ],
)
def test_nothing_is_put_where_it_says_so_already(body: str) -> None:
    """A wording in the signature block, however spaced and dashed, is enough."""
    message = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode()
    planned = plan(message, (SIGN,))
    assert not planned.edits
    assert planned.notes == ("signature-block: already in 1",)


@pytest.mark.parametrize(
    "body",
    [
        f"Hi.\r\n\r\n{ATTRIBUTION}> not a city employee\r\n",
        "not a city employee\r\n" + "line\r\n" * 20 + "Regards,\r\nAnn\r\n",
        "Hi.\r\nRegards,\r\nAnn, a city employee\r\n",
    ],
)
def test_elsewhere_it_does_not_count(body: str) -> None:
    """The wording in quoted text, far above the signature block, or without its «not», does not count."""
    assert plan(b"Subject: a\r\n\r\n" + body.encode(), (SIGN,)).edits


def test_legend_and_block_in_a_tiny_base64_body() -> None:
    """Both insertions fall into one group of four letters: it is written once, with both."""
    for body in (b"", b"H", b"Hi", b"Hi.", b"Hi.\r", b"Hi.\r\n", b"\xef\xbb\xbfHi"):
        head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        result = apply(head + base64.b64encode(body), SIGN, legend("TOP"))
        rows = read(result).get_content().lstrip("\ufeff").split()
        own = body.removeprefix(b"\xef\xbb\xbf").split()
        assert rows == ["TOP", *(o.decode() for o in own), *BLOCK.split()]


def test_no_text_no_block() -> None:
    """A message of nothing but a file cannot carry the block: the rule's on_failure decides."""
    with pytest.raises(TransformFailed) as failure:
        plan(b"Content-Type: application/pdf\r\n\r\nx", (SIGN,))
    assert failure.value.code == "no-text"


def test_the_blocks_put_are_recognised() -> None:
    """What the transform puts, the check's logic finds: text and HTML."""
    plain = apply(f"Subject: a\r\n\r\nHi\r\n\r\n{ATTRIBUTION}> q\r\n".encode(), SIGN).decode()
    own, quoted = split_quoted(plain.partition("\r\n\r\n")[2])
    assert has_wording(signature_block(own), SIGN.wordings)
    assert quoted == f"{ATTRIBUTION}> q\r\n"
    html = apply(b"Content-Type: text/html\r\n\r\n<p>Hi</p><blockquote>q</blockquote>", SIGN).decode()
    source = html.partition("\r\n\r\n")[2]
    assert has_wording(signature_block(html_text(source[: split_quoted_html(source)])), SIGN.wordings)


def test_outlook_quotes_without_a_class() -> None:
    """Outlook's bordered «From: Sent:» block begins the quote although nothing names it."""
    source = (
        '<div>Hi</div><div><div style="border:none;border-top:solid #E1E1E1 1.0pt"><p><b>From:</b> x</p></div></div>'
    )
    assert source[split_quoted_html(source) :].startswith('<div style="border:none;border-top')
    other = "<p>Hi</p><p class=MsoNormal><b>From:</b> a<br><b>Sent:</b> b</p>"
    assert other[split_quoted_html(other) :].startswith("<p class=MsoNormal>")
    assert join(b"", plan(b"", ())) == b""


@pytest.mark.parametrize("tail", ["<!-- never closed <body>", "<!--<blockquote>q</blockquote>", "<style>x</body>"])
def test_never_inside_what_is_not_shown(tail: str) -> None:
    """A comment or style sheet that is never closed swallows the end of a page: the block goes above it."""
    result = apply(f"Content-Type: text/html\r\n\r\n<p>Hi</p>{tail}".encode(), SIGN).decode()
    assert result.endswith("city employee</div>\r\n" + tail)


def test_base64_that_ends_in_half_a_group() -> None:
    """A place that malformed base64 hides: the transform fails, nothing is guessed."""
    with pytest.raises(TransformFailed) as failure:
        plan(b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+SGk8L3A+P\r\n", (SIGN,))
    assert failure.value.code == "unreadable"
