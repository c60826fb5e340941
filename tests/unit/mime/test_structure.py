"""Malformed and ambiguous structure: each shape has its defect, and its reading is the one documented."""

import pytest

from gateway.mime import DefectCode, Message, fields_named, header_bounds, line_ending, parse, part_field

D = DefectCode
MULTI = b"Content-Type: multipart/mixed; boundary=AAA\r\n\r\n"
TWO = MULTI + b"pre\r\n--AAA\r\n\r\none\r\n--AAA\r\n\r\ntwo\r\n--AAA--\r\n"

SHAPES: list[tuple[str, bytes, set[DefectCode]]] = [
    ("good", TWO, set()),
    ("good with LF", TWO.replace(b"\r\n", b"\n"), set()),
    ("white space after delimiters", TWO.replace(b"--AAA\r\n\r\ntwo", b"--AAA \t \r\n\r\ntwo"), set()),
    ("white space after the close", TWO.replace(b"--AAA--", b"--AAA--  "), set()),
    ("quoted boundary", TWO.replace(b"=AAA", b'="AAA"'), set()),
    ("comment in the type", TWO.replace(b"/mixed;", b"/mixed (a (b) c);"), set()),
    ("folded type", TWO.replace(b"; bound", b";\r\n\tbound"), set()),
    ("UTF-8 in the header", "Subject: grüß\r\n\r\nx".encode(), set()),
    ("no body", b"Subject: x\r\n", set()),
    ("nothing", b"", set()),
    ("missing boundary", b"Content-Type: multipart/mixed\r\n\r\n--AAA\r\n\r\nx", {D.MISSING_BOUNDARY}),
    ("no delimiter", MULTI + b"nothing here", {D.NO_DELIMITER}),
    ("no end", TWO.replace(b"--AAA--", b""), {D.UNTERMINATED_MULTIPART}),
    ("boundary with a space at its end", TWO.replace(b"=AAA", b'="AAA "'), {D.MALFORMED_BOUNDARY}),
    ("foreign characters", TWO.replace(b"AAA", b"{A}"), {D.MALFORMED_BOUNDARY}),
    ("71 characters", TWO.replace(b"AAA", b"A" * 71), {D.MALFORMED_BOUNDARY}),
    ("line that goes on", TWO.replace(b"one", b"one\r\n--AAAB"), {D.BOUNDARY_AMBIGUOUS}),
    ("close that goes on", TWO.replace(b"one", b"one\r\n--AAA--x"), {D.BOUNDARY_AMBIGUOUS}),
    ("epilogue", TWO + b"more", {D.EPILOGUE_TEXT}),
    ("parts after the close", TWO + b"--AAA\r\n\r\nthree\r\n--AAA--\r\n", {D.PARTS_AFTER_CLOSE}),
    ("boundary used again", MULTI + b"--AAA\r\n" + TWO, {D.BOUNDARY_REPEATED, D.NO_DELIMITER}),
    ("RFC 2231 boundary", TWO.replace(b"boundary=AAA", b"boundary*=utf-8''AA%41"), {D.MALFORMED_BOUNDARY}),
    (
        "boundary like an encoded word",
        TWO.replace(b"=AAA", b'="=?utf-8?q?A?="').replace(b"--AAA", b"--=?utf-8?q?A?="),
        set(),
    ),
    ("two boundaries", TWO.replace(b"=AAA", b"=AAA; boundary=BBB"), {D.DUPLICATE_PARAMETER}),
    ("encoded multipart", b"Content-Transfer-Encoding: base64\r\n" + TWO, {D.ENCODED_MULTIPART}),
    ("harmless quoted-printable on a multipart", b"Content-Transfer-Encoding: quoted-printable\r\n" + TWO, set()),
    (
        "quoted-printable that hides a delimiter",
        b"Content-Transfer-Encoding: quoted-printable\r\n" + TWO.replace(b"two", b"=2D-AAA"),
        {D.ENCODED_MULTIPART},
    ),
    (
        "encoded message",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==",
        {D.ENCODED_MESSAGE},
    ),
    ("fragment", b"Content-Type: message/partial; id=x; number=1\r\n\r\nx", {D.MESSAGE_PARTIAL}),
    ("two types", b"Content-Type: text/html\r\n" + TWO, {D.DUPLICATE_CONTENT_TYPE}),
    ("one type said twice", b"Content-Type: text/html;\r\n x=y\r\nContent-type:  text/html; x=y\r\n\r\nx", set()),
    ("one charset said twice", b"Content-Type: text/plain; charset=utf-8; charset=UTF-8\r\n\r\nx", set()),
    ("two charsets", b"Content-Type: text/plain; charset=utf-8; charset=utf-16\r\n\r\nx", {D.DUPLICATE_PARAMETER}),
    ("no encoding, sloppily", b"Content-Transfer-Encoding: 8-bit\r\n\r\nx", set()),
    ("no encoding, emptily", b"Content-Transfer-Encoding:\r\n\r\nx", set()),
    (
        "two encodings",
        b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nx",
        {D.DUPLICATE_CONTENT_TRANSFER_ENCODING},
    ),
    (
        "two dispositions",
        b"Content-Disposition: inline\r\nContent-Disposition: attachment\r\n\r\nx",
        {D.DUPLICATE_CONTENT_DISPOSITION},
    ),
    ("two From fields", b"From: a@b\r\nFrom: c@d\r\n\r\nx", {D.DUPLICATE_FIELD}),
    ("malformed type", b"Content-Type: text\r\n\r\nx", {D.MALFORMED_CONTENT_TYPE}),
    ("malformed parameter", b"Content-Type: text/plain; name=a b\r\n\r\nx", {D.MALFORMED_PARAMETER}),
    ("unclosed quote", b'Content-Type: text/plain; name="a\r\n\r\nx', {D.MALFORMED_PARAMETER}),
    ("unclosed quote after an escape", b'Content-Type: text/plain; name="a\\"\r\n\r\nx', {D.MALFORMED_PARAMETER}),
    ("escaped quote", b'Content-Type: text/plain; name="a\\"b"\r\n\r\nx', set()),
    ("unknown encoding", b"Content-Transfer-Encoding: rot13\r\n\r\nx", {D.BAD_ENCODING}),
    ("encoding with a comment", b"Content-Transfer-Encoding: 7bit (plain)\r\n\r\nx", set()),
    ("unknown charset", b"Content-Type: text/plain; charset=klingon\r\n\r\nx", {D.UNKNOWN_CHARSET}),
    ("a codec that is no charset", b"Content-Type: text/plain; charset=zlib\r\n\r\nx", {D.UNKNOWN_CHARSET}),
    ("utf-7", b"Content-Type: text/plain; charset=UTF-7\r\n\r\n+AGE-", {D.UNSAFE_CHARSET}),
    ("8-bit header", b"Subject: gr\xfc\xdf\r\n\r\nx", {D.EIGHT_BIT_IN_HEADER}),
    ("space before the colon", b"Subject : x\r\n\r\nx", {D.MALFORMED_FIELD}),
    ("no name", b"Subject: x\r\n: y\r\n\r\nx", {D.MALFORMED_FIELD}),
    ("line that is no field", b"Subject: x\r\nthis is body\r\n\r\nx", {D.MISSING_SEPARATOR}),
    ("fold of nothing", b"Subject: x\r\n \r\nTo: a@b\r\n\r\nx", {D.WHITESPACE_LINE}),
    ("mbox line", b"From jane Sat Nov 21\r\nSubject: x\r\n\r\nx", {D.MBOX_FROM}),
    ("bare LF", b"Subject: x\r\n\r\na\nb\r\n", {D.BARE_NEWLINE}),
    ("bare CR", b"Subject: x\r\n\r\na\rb\r\n", {D.BARE_CR}),
    ("NUL", b"Subject: x\r\n\r\na\0b\r\n", {D.NUL}),
    ("body elsewhere", b"Content-Type: message/external-body; access-type=x\r\n\r\n\r\n", {D.EXTERNAL_BODY}),
]


@pytest.mark.parametrize(("data", "codes"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_each_shape_has_its_defects(data: bytes, codes: set[DefectCode]) -> None:
    """Exactly the named defects, no more and no less."""
    assert {defect.code for defect in parse(data).defects} == codes


def test_every_defect_code_is_shown_by_some_test() -> None:
    """The shapes here and the limits (test_robustness) cover all codes."""
    limits = {D.TOO_DEEP, D.TOO_MANY_PARTS, D.HEADER_TOO_LARGE, D.TOO_MANY_FIELDS}
    assert set[DefectCode]().union(*(codes for _, _, codes in SHAPES)) | limits == set(DefectCode)


def _bodies(message: Message, data: bytes) -> list[bytes]:
    return [data[part.body.start : part.body.end] for part in message.walk() if not part.children]


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_parts_preamble_and_epilogue_are_cut_exactly(newline: bytes) -> None:
    """The line ending before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1), with CRLF and with LF."""
    data = (TWO + b"epi\r\n").replace(b"\r\n", newline)
    message = parse(data)
    root = message.root
    assert _bodies(message, data) == [b"one", b"two"]
    assert data[root.preamble.start : root.preamble.end] == b"pre"
    assert data[root.epilogue.start : root.epilogue.end] == b"epi" + newline
    assert message.newline == line_ending(data) == newline


def test_empty_parts_are_parts() -> None:
    """Delimiters that follow each other enclose parts without header and body."""
    data = MULTI + b"--AAA\r\n--AAA\r\n\r\n--AAA--"
    assert _bodies(parse(data), data) == [b"", b""]


def test_inner_boundary_may_extend_the_outer_one() -> None:
    """Delimiters of a part inside that begin with the outer boundary are no ambiguity."""
    inner = b"Content-Type: multipart/mixed; boundary=AAAB\r\n\r\n--AAAB\r\n\r\nin\r\n--AAAB--\r\n"
    data = MULTI + b"--AAA\r\n" + inner + b"--AAA\r\n\r\nout\r\n--AAA--\r\n"
    message = parse(data)
    assert message.defects == ()
    assert _bodies(message, data) == [b"in", b"out"]


def test_digest_parts_are_messages_by_default() -> None:
    """RFC 2046 section 5.1.5."""
    data = TWO.replace(b"mixed", b"digest").replace(b"\r\n\r\none", b"\r\n\r\nSubject: s\r\n\r\none")
    message = parse(data)
    nested = message.part("1")
    assert nested is not None
    assert nested.media_type == "message/rfc822"
    assert part_field(data, nested.children[0], "Subject") == "s"


def test_body_begins_where_the_header_breaks_off() -> None:
    """A line that is no field opens the body: nothing of it is lost to those who read texts."""
    data = b"Subject: x\r\nthis is body\r\nContent-Type: text/html\r\n\r\nx"
    root = parse(data).root
    assert data[root.body.start :].startswith(b"this is body")
    assert root.media_type == "text/plain"


@pytest.mark.parametrize(
    ("data", "sealed"),
    [
        (TWO, []),
        (TWO.replace(b"mixed", b"signed"), ["", "1", "2"]),
        (TWO.replace(b"mixed", b"encrypted"), ["", "1", "2"]),
        (b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nx", ["1"]),
        (b"Content-Type: Application/X-PKCS7-MIME\r\n\r\nx", ["1"]),
        (b"Subject: x\r\n\r\nhi\r\n-----BEGIN PGP MESSAGE-----\r\nabc", ["1"]),
        (b"Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nabc", ["1"]),
        (b"Subject: x\r\n\r\nhe wrote:\r\n> -----BEGIN PGP MESSAGE-----\r\nabc", []),
        (
            MULTI.replace(b"AAA", b"B")
            + b"--B\r\nContent-Type: message/rfc822\r\n\r\n"
            + TWO.replace(b"mixed", b"signed")
            + b"--B\r\n\r\nplain\r\n--B--\r\n",
            ["1.TEXT", "1.1", "1.2"],
        ),
    ],
)
def test_signed_and_encrypted_parts_are_sealed(data: bytes, sealed: list[str]) -> None:
    """What is signed or encrypted, and all inside it, is marked; its surroundings are not."""
    assert [part.path for part in parse(data).walk() if part.sealed] == sealed


def test_top_header_helpers_find_block_fields_and_line_ending() -> None:
    """What the transforms insert by: the block's bounds, all fields of a name with their spans, the line ending."""
    data = b"From x\nReceived: a\n b\nSubject: s\nReceived: c\n\nbody\n"
    root = parse(data).root
    assert header_bounds(data) == root.header
    assert data[root.header.start : root.header.end] == b"Received: a\n b\nSubject: s\nReceived: c\n"
    spans = [data[f.span.start : f.span.end] for f in fields_named(root, "RECEIVED")]
    assert spans == [b"Received: a\n b\n", b"Received: c\n"]
    values = [data[f.value.start : f.value.end] for f in fields_named(root, "received")]
    assert values == [b" a\n b", b" c"]
    assert line_ending(data) == b"\n"
    assert line_ending(b"no end") == line_ending(b"a\r\nb\n") == b"\r\n"


def test_header_bounds_are_those_of_the_parse_when_the_header_breaks_off() -> None:
    """What a transform inserts at the header's end stands above the line that broke it off."""
    data = b"Subject: s\r\nno field\r\n\r\nbody"
    assert header_bounds(data) == parse(data).root.header == (0, 12)


def test_parameters_and_names() -> None:
    """RFC 2231 continuations and charsets, RFC 2047 in names, and every name that some reader shows."""
    data = (
        b'Content-Type: application/pdf; name="=?utf-8?q?r=C3=A9sum=C3=A9=2Epdf?="; x=1\r\n'
        b"Content-Disposition: Attachment; filename=short.pdf;\r\n"
        b" filename*0*=utf-8'en'long%20; filename*1=\"na me\"; filename*2*=%C3%A9.exe\r\n\r\n"
    )
    root = parse(data).root
    assert root.disposition == "attachment"
    assert root.filenames == ("long na meé.exe", "short.pdf", "résumé.pdf")
    assert root.filename == "long na meé.exe"
    assert root.parameter("x") == "1"
    assert root.parameter("y") is None


def test_unquoted_name_with_spaces_has_both_readings() -> None:
    """Some readers stop at the space, some do not."""
    root = parse(b"Content-Disposition: attachment; filename=evil.exe .txt\r\n\r\n").root
    assert root.filenames == ("evil.exe .txt", "evil.exe")
