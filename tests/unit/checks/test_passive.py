"""One inspection: only what is asked, headers, structure, legend, signature block; hostile input never raises."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.checks.passive import PASSIVE, inspect
from gateway.checks.scanner import Scanner
from gateway.model.envelope import Envelope
from gateway.model.finding import Check, Finding, Questions
from gateway.settings import InspectionSettings

Inspect = Callable[..., tuple[Finding, ...]]
LEGEND = "THIS MESSAGE CONTAINS CONFIDENTIAL INFORMATION"


def both(plain: str, html: str) -> bytes:
    """A message with a plain and an HTML alternative."""
    return (
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}\r\n"
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--b--\r\n"
    ).encode()


def test_nothing_asked_nothing_done(envelope: Envelope) -> None:
    """Without questions there are no findings, not even of structure."""
    assert inspect(b"\0broken", envelope, Questions(), None, InspectionSettings()) == ()
    only_virus = Questions(checks=frozenset({Check.VIRUS}))
    assert inspect(b"\0broken", envelope, only_virus, None, InspectionSettings()) == ()


@pytest.mark.parametrize("check", sorted(PASSIVE))
def test_each_check_answers_alone(look: Inspect, everything: Questions, check: Check) -> None:
    """Asked for one check, an inspection reports nothing of another, except what it could not read."""
    questions = Questions(
        frozenset({check}), everything.headers, everything.types, everything.legends, everything.signature_wordings
    )
    sealed = "-----BEGIN PGP MESSAGE-----\r\n\r\nwV4D\r\n-----END PGP MESSAGE-----"
    plain = f"SSN 536-90-4399\r\n{sealed if check is Check.ENCRYPTION else ''}"
    data = both(plain, "<p>SSN 536-90-4399 <a href='http://127.1'>").replace(
        b"--b--", b"--b\r\nContent-Type: a/b\r\n\r\n\0"
    )
    found = look(data, questions=questions)
    assert {f.check for f in found} == {check}


def test_header_fields_asked_for_are_reported_decoded(look: Inspect) -> None:
    """Each occurrence of an asked name, decoded and unfolded; fields of nested messages are not the message's."""
    data = (
        b"X-Tag: one\r\nFrom: =?utf-8?q?J=C3=B6rg?= <j@x.example>\r\nx-tag: two\r\n folded\r\nX-Other: no\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx"
    )
    found = look(data, Check.HEADER)
    assert sorted((f.kind, f.value, f.offset) for f in found) == [
        ("from", "Jörg <j@x.example>", 12), ("x-tag", "one", 0), ("x-tag", "two folded", data.index(b"x-tag")),
    ]  # fmt: skip


def test_a_field_repeated_endlessly_is_counted(look: Inspect) -> None:
    """The findings of one name are capped; the last one carries the count of the rest."""
    found = look(b"X-Tag: a\r\n" * 5000 + b"\r\nx", Check.HEADER, "x-tag")
    assert len(found) == 200
    assert sum(f.count for f in found) == 5000


def test_defects_are_structure_findings_by_code(look: Inspect) -> None:
    """A defect's code is the finding's kind, many of one code are one finding with a count."""
    data = b"Subject: a\r\nSubject: b\r\nSubject: c\r\n\r\na\0b\rc"
    found = {f.kind: f for f in look(data, Check.STRUCTURE)}
    assert set(found) == {"duplicate-field", "nul", "bare-cr"}
    assert (found["duplicate-field"].count, found["duplicate-field"].evidence) == (2, "subject")
    assert look(b"Subject: a\r\n\r\nhello\r\n", Check.STRUCTURE) == ()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (f"Subject: x\r\n\r\n{LEGEND}\r\n\r\nhello".encode(), "present"),
        (f"Subject: x\r\n\r\nhello\r\n\r\n> {LEGEND[:21]}\r\n> {LEGEND[21:]}".encode(), "present"),
        (f"Subject: x\r\n\r\n{LEGEND.lower()}".encode(), "present"),
        (b"Subject: x\r\n\r\nThis message contains information.", "absent"),
        (b"Subject: x\r\n\r\nit's all confidential, this message", "absent"),
        (both(LEGEND, f"<p><b>{LEGEND}</b></p>"), "present"),
        (both(LEGEND, "<p>no legend here</p>"), "absent"),
        (both("none", f"<p>{LEGEND}</p>"), "absent"),
        (both(LEGEND, f"<!-- {LEGEND} -->"), "absent"),
        (both(LEGEND, f"<p style='display:none'>{LEGEND}</p><p>hello</p>"), "absent"),
        (both(LEGEND, f"<p style='display:none'>preview</p><p>{LEGEND}</p>"), "present"),
        (f"Subject: {LEGEND}\r\nContent-Type: application/pdf\r\n\r\n{LEGEND}".encode(), "absent"),
    ],
)
def test_a_legend_is_present_when_every_reader_sees_it(look: Inspect, data: bytes, value: str) -> None:
    """All alternatives of the body must show it; attachments, comments and headers do not."""
    (found,) = look(data, Check.LEGEND)
    assert (found.kind, found.value) == ("confidential", value)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"Subject: x\r\n\r\nhello\r\n-- \r\nJane Roe\r\nContractor, Example Corp", "identified"),
        (b"Subject: x\r\n\r\nhello\r\n\r\nRegards,\r\nJane Roe\r\nNon-City   Employee", "identified"),
        (b"Subject: x\r\n\r\nhello\r\n-- \r\nJane Roe\r\nPublic Works", "present"),
        (b"Subject: x\r\n\r\nhello\r\n-- \r\nJane Roe\r\n\r\n> -- \r\n> Bob\r\n> Contractor", "present"),
        (b"Subject: x\r\n\r\n", "missing"),
        (b"Subject: x\r\nContent-Type: application/pdf\r\n\r\nContractor", "missing"),
        (both("hello\r\n-- \r\nJane", "<p>hello</p><p>-- <br>Jane<br>Contractor</p>"), "identified"),
        (both("hello\r\n-- \r\nJane", "<p>hello</p><p>-- <br>Jane</p><blockquote>Contractor</blockquote>"), "present"),
        (both("hello\r\n-- \r\nJane", "<p>hello</p><p>-- <br>Jane</p><i hidden>Contractor</i>"), "present"),
    ],
)
def test_the_signature_block_is_looked_for_in_own_text(look: Inspect, data: bytes, kind: str) -> None:
    """A wording in the sender's own block identifies, in plain text or HTML; one in quoted text does not."""
    (found,) = look(data, Check.SIGNATURE_BLOCK)
    assert found.kind == kind


_PIECES = st.sampled_from(
    [
        *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: text/html\r\n", b"\r\n", b"--b\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: base64\r\n", b"--b--\r\n", b"=\r\n", b"=3"),
        *(b"Content-Transfer-Encoding: quoted-printable\r\n", b"Subject: =?utf-8?b?//8=?=\r\n", b"\xff\xfe", b"\0"),
        *(b"Content-Type: text/plain; charset=utf-16\r\n", b"Content-Type: text/plain; charset=utf-7\r\n", b"> "),
        *(b"Content-Disposition: attachment; filename*0*=utf-8''%\r\n", b"MZ\x90", b"%PDF-", b"PK\x03\x04", b"-- \r\n"),
        *(b'Content-Type: text/plain; charset="\\"\r\n', b"begin 644 x\r\n", b"On 1 Jan x wrote:\r\n", b"card 4111"),
        *(b"<p>ssn 536-90-", b"4399", b"<script>", b"<!--", b"&#x", b"1 2 3 4 5 6 7 8 9 "),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=300), st.lists(st.one_of(_PIECES, st.binary(max_size=8)), max_size=40).map(b"".join))
)
def test_no_message_makes_an_inspection_raise(
    envelope: Envelope, scanner: Scanner, everything: Questions, data: bytes
) -> None:
    """Arbitrary octets, and arbitrary heaps of mail's own building blocks, give findings and no exception."""
    found = inspect(data, envelope, everything, scanner, InspectionSettings(max_depth=4, max_parts=20))
    for finding in found:
        assert finding.count >= 1
        assert finding.check in PASSIVE
        assert finding.evidence.isprintable()
    assert found == inspect(data, envelope, everything, scanner, InspectionSettings(max_depth=4, max_parts=20))
