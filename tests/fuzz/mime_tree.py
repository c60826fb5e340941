"""Any octets as a message: the tree, transfer decoding, fields, addresses, HTML, quotations, edits."""

import mmap
import re
from collections.abc import Iterator
from itertools import islice

from gateway.mime.charsets import to_text
from gateway.mime.decoding import decode, decoded_size, text
from gateway.mime.edits import Edit, EditPlan
from gateway.mime.fields import field_value, header_bounds, raw_value
from gateway.mime.hypertext import html_to_text, visible_text
from gateway.mime.legends import legend_present
from gateway.mime.mailboxes import addresses
from gateway.mime.parser import parse
from gateway.mime.quoting import html_text, quoting, signature_block, split_quoted_html
from gateway.mime.tree import Limits, Message, Part
from tests.fuzz.bounds import in_time, one_in, stretched

LONGEST = 8192
TOKENS = (
    *(b"\r\n\r\n", b"\n\n", b"\r\n ", b"--AAA\r\n", b"--AAA--\r\n", b"--AAAB\r\n", b"Content-Type: ", b"boundary=AAA"),
    *(b"multipart/mixed; boundary=AAA\r\n", b"multipart/alternative; boundary=AAAB\r\n", b"multipart/digest", b"From "),
    *(b"message/rfc822", b"message/partial", b"multipart/signed", b"text/html", b"text/plain", b"charset=", b"utf-7"),
    *(b"Content-Transfer-Encoding: ", b"base64\r\n", b"quoted-printable\r\n", b"x-uuencode\r\n", b"begin 644 x\r\n"),
    *(b"Content-Disposition: attachment; filename=", b"*0*=", b"*1=", b"utf-8''", b"=?utf-8?b?", b"=?utf-8?q?", b"?="),
    *(
        b"=3D",
        b"=\r\n",
        b"= \t",
        b"=0A",
        b"QUJD",
        b"==",
        b"<!--",
        b"-->",
        b"<![endif]-->",
        b"<!--[if mso]>",
        b"<style>",
    ),
    *(
        b"</style>",
        b"<script",
        b"<pre>",
        b"<p>",
        b"<br>",
        b"<td>",
        b"<template",
        b"display:none",
        b" alt=",
        b" title='",
    ),
    *(b"&#", b"&#x", b"&lt;", b"&nbsp;", b"<blockquote", b"-----Original Message-----", b"From:", b"Sent:", b"To:"),
    *(b"On Mon, wrote:\n", b">", b"-- \n", b"Regards,", b"From: ", b"To: ", b"<a@b.example>", b"(", b")", b"\\", b'"'),
    *(b"iso-2022-jp", b"utf-16", b"-----BEGIN PGP MESSAGE-----", b"\0", b"\xff", b"\xc3\xa9", b"\xe2\x80\xae"),
)
_LIMITS = (Limits(), Limits(), Limits(3, 3, 100, 3), Limits(1, 1, 0, 0), Limits(200, 8, 400, 1000))
_PATH = re.compile(r"(?:(?:\d+(?:\.\d+)*)?(?:(?:\.|\A)TEXT)?)*\Z")


def check(data: bytes) -> None:
    """Raise AssertionError (or anything else) when a promise is broken."""
    limits = _LIMITS[len(data) % len(_LIMITS)]
    with in_time(8 * len(data)):
        message = parse(data, limits)
        _tree(data, message, limits)
        for part in message.walk():
            _part(data, part)
        _edits(data, message)
        _agreement(data, message, limits)
    stretched(data, _whole)


def _whole(data: bytes) -> None:
    """What an inspection does, at its least."""
    message = parse(data)
    for part in islice(message.walk(), 50):
        shown = html_to_text(text(data, part, 1 << 20)[0])
        quoting(shown)
        for field in islice(part.fields, 200):
            addresses(raw_value(data, field))


def _tree(data: bytes, message: Message, limits: Limits) -> None:
    root = message.root
    assert root.header.start in (0, (data.find(b"\n") + 1) or len(data))
    _nested(root, 0, len(data))
    parts = list(message.walk())
    paths = [part.path for part in parts]
    assert len(set(paths)) == len(paths), "two parts with one path"
    assert all(_PATH.match(path) for path in paths)
    assert len(parts) <= limits.max_parts + limits.max_depth + 1
    assert _depth(root) <= limits.max_depth
    assert sum(part.header.size for part in parts) <= limits.max_header_bytes
    assert sum(len(part.fields) for part in parts) <= limits.max_fields
    for defect in message.defects:
        assert -1 <= defect.offset <= len(data)
        assert len(defect.detail) <= 80
    if limits == Limits():
        assert header_bounds(data) == root.header


def _nested(part: Part, start: int, end: int) -> None:
    assert start <= part.header.start <= part.header.end <= part.body.start <= part.body.end <= end
    assert part.body.start - part.header.end <= 2, "octets between header and body that belong to neither"
    position = part.header.start
    for field in part.fields:
        assert field.start == position
        assert field.start <= field.value_start <= field.value_end <= field.end <= part.header.end
        position = field.end
    assert position == part.header.end, "octets in a header that belong to no field"
    assert part.body.start <= part.preamble.start <= part.preamble.end <= part.body.end
    assert part.body.start <= part.epilogue.start <= part.epilogue.end <= part.body.end
    position = part.preamble.end
    for child in part.children:
        _nested(child, position, part.epilogue.start if part.is_multipart else part.body.end)
        assert child.sealed or not part.sealed
        position = child.body.end


def _depth(part: Part) -> int:
    return 1 + max(map(_depth, part.children), default=0)


def _part(data: bytes, part: Part) -> None:
    whole = b"".join(decode(data, part))
    assert len(whole) <= part.body.size
    assert b"".join(decode(data, part, 7)) == whole, "decoding depends on where pieces end"
    assert b"".join(decode(data, part, 64)) == whole, "decoding depends on where pieces end"
    size = decoded_size(data, part)
    assert 0 <= size <= part.body.size
    read, cut = text(data, part, 200)
    assert cut == (len(whole) > 200)
    assert len(read) <= 201 if not cut else len(read) <= 200
    for field in islice(part.fields, 30):
        value = field_value(data, field)
        assert not {"\n", "\r"} & set(value), "a value on more than one line"
        assert len(value) <= field.value.size
        found = addresses(raw_value(data, field))
        assert all(box.display or box.address for box in found)
        assert sum(len(box.display) + len(box.address) for box in found) <= 2 * field.value.size
    for name in part.filenames:
        assert name
        assert len(name) <= part.header.size
    if not part.children:
        _markup(to_text(whole, part.charset))


def _markup(source: str) -> None:
    for shown in (html_to_text(source), visible_text(source) or "", html_text(source)):
        assert len(shown) <= len(source) + 2
    found = quoting(source)
    assert len(found.own) + len(found.quoted) == len(source)
    assert sorted(found.own.splitlines() + found.quoted.splitlines()) == sorted(source.splitlines())
    assert 0 <= found.end_of_own <= len(source)
    assert 0 <= split_quoted_html(source) <= len(source)
    assert set(signature_block(found.own).split("\n")) <= {"", *(line.strip() for line in found.own.splitlines())}
    assert legend_present(source + "\n> STRICTLY \nCONFIDENTIAL.", ("Strictly", "confidential"))


def _edits(data: bytes, message: Message) -> None:
    """Edits of nothing, and edits that put back what stands there, give the very octets."""
    assert b"".join(EditPlan().pieces(data)) == data
    leaves = (part for part in message.walk() if not part.children)
    same = [Edit(part.body.start, part.body.end, data[part.body.start : part.body.end]) for part in leaves]
    same += [Edit(f.start, f.end, data[f.start : f.end]) for f in message.root.fields]
    plan = EditPlan(same)
    assert plan.delta == 0
    assert b"".join(plan.pieces(data)) == data
    blank = EditPlan(Edit(edit.start, edit.end, b"") for edit in plan.edits)
    assert len(b"".join(blank.pieces(data))) == len(data) + blank.delta


def _agreement(data: bytes, message: Message, limits: Limits) -> None:
    """A mapped file is read like octets in memory."""
    if data and one_in(data, 8):
        with mmap.mmap(-1, len(data)) as mapped:
            mapped[:] = data
            assert parse(mapped, limits) == message


def seeds() -> Iterator[bytes]:
    """Messages to begin with when there is no corpus."""
    yield (
        b"From: =?utf-8?q?J=C3=A4ne?= <j@city.example>\r\nTo: a@b.example, g: c@d.example (x);\r\nSubject: hello\r\n"
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary="AAA"\r\n\r\npreamble\r\n--AAA\r\n'
        b"Content-Type: multipart/alternative; boundary=AAAB\r\n\r\n--AAAB\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=\r\n=C3=9Fe\r\n--AAAB\r\n"
        b"Content-Type: text/html\r\n\r\n<p title='x'>hi<b>!</b> &amp;<!-- no --></p>\r\n--AAAB--\r\n--AAA\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--AAA\r\n"
        b"Content-Type: application/pdf; name*0*=utf-8''a%20; name*1=b.pdf\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="x (y).pdf"\r\n\r\nQUJD\r\nREVG\r\n--AAA--\r\nepilogue\r\n'
    )
    yield (
        b"From: a@b.example\r\nSubject: Re: x\r\n\r\nYes.\r\n\r\nRegards,\r\nJane\r\n\r\n"
        b"On Mon, 1 Jan 2024, B wrote:\r\n> No?\r\n>> Maybe.\r\n\r\nInline.\r\n\r\n> More\r\n"
        b"-----Original Message-----\r\nFrom: B\r\nSent: Monday\r\nTo: A\r\nSubject: x\r\n\r\nold\r\n"
    )
    yield (
        b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<html><style>p{}</style><body><div style='display:none'>h"
        b'</div><table><tr><td>a<td>b</table><!--[if mso]>o<![endif]--><img alt="t">'
        b"<blockquote type=cite>q</blockquote>"
    )
    yield (b"Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 a.txt\n#0V%T\n`\nend\n")
    yield b"From x\r\nContent-Type: multipart/digest; boundary=A\r\n\r\n--A\r\n\r\nSubject: a\r\n\r\nb\r\n--A--\r\n"
