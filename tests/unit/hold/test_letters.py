"""Notices and returns as mail."""

import email
from datetime import UTC, datetime
from email import policy
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigErrors
from gateway.hold.letters import (
    NAMES,
    PAGES,
    Original,
    Refusal,
    Sheet,
    Templates,
    notice,
    report,
    status,
    wants_failure,
)
from gateway.hold.values import MessageFacts
from gateway.model.envelope import Client, Direction, Recipient
from gateway.model.reply import Reply

TEMPLATES = Path(__file__).parents[3] / "config" / "templates"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def facts(*parameters: str) -> MessageFacts:
    """A message."""
    return MessageFacts(
        "T1", NOW, Client(""), "a@city.example", parameters, 10, "00", "b", "<1@x>", "Picnic", (), automatic=False
    )


def sheet(subject: str = "Hello", answers: str = "") -> Sheet:
    """Where a letter goes."""
    return Sheet("T1-h1-wait1", "civicgate@city.example", ("a@city.example",), NOW, subject, answers)


def test_shipped_templates_are_good() -> None:
    """Every template of config/templates can be read and filled."""
    templates = Templates(TEMPLATES)
    for name in NAMES:
        subject, text = templates.fill(name, {"subject": "Picnic"})
        assert subject.startswith("[Civicgate]")
        assert text.strip()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Subject: x\n\nHello $nobody\n", r"unknown placeholder «\$nobody»"),
        ("Subject: x\n\nIt costs $5\n", "begins no placeholder"),
        ("Hello\n\nworld\n", "must be a line «Subject: …»"),
        ("Subject: x\nBcc: y@x\n\nworld\n", "must be a line «Subject: …»"),
        ("Subject: x\n\n", "must be a line «Subject: …»"),
        ("Subject: ${id.__class__}\n\nx\n", "begins no placeholder"),
    ],
)
def test_a_bad_template_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    """A template that cannot be used is refused when it is read, with its file's name and the reason."""
    for path in TEMPLATES.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "returned.txt").write_text(text)
    with pytest.raises(ConfigErrors, match=complaint) as caught:
        Templates(tmp_path)
    assert [Path(e.file).name for e in caught.value.errors] == ["returned.txt"]


def test_values_are_not_templates() -> None:
    """A subject with placeholders in it is printed as it is."""
    subject, text = Templates(TEMPLATES).fill("held-sender", {"subject": "$id ${city}", "id": "T1"})
    assert "$id ${city}" in subject
    assert "$id" not in text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_no_subject_breaks_out_of_its_field(subject: str) -> None:
    """Whatever the subject holds, the notice has exactly the header fields that we wrote."""
    filled, text = Templates(TEMPLATES).fill("held-sender", {"subject": subject})
    data = notice(sheet(filled, "<1@x>"), text).data
    parsed = email.message_from_bytes(data, policy=policy.default)
    assert parsed.keys() == [
        "Date",
        "From",
        "To",
        "Subject",
        "Message-ID",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "In-Reply-To",
        "References",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    ]
    assert not parsed.defects
    assert b"\n" not in data.replace(b"\r\n", b"")


def test_an_answer_says_so_and_a_notice_says_so() -> None:
    """RFC 3834 section 5: what answers a message is auto-replied and refers to it, else auto-generated."""
    answer = email.message_from_bytes(notice(sheet(answers="<1@x>"), "x").data)
    assert (answer["Auto-Submitted"], answer["In-Reply-To"]) == ("auto-replied", "<1@x>")
    other = email.message_from_bytes(notice(sheet(), "x").data)
    assert (other["Auto-Submitted"], other["In-Reply-To"]) == ("auto-generated", None)


def test_a_forged_message_id_is_not_repeated() -> None:
    """A Message-ID with line breaks does not come back in our header."""
    answer = notice(sheet(answers="<1@x>\r\nBcc: victim@x"), "x").data
    assert b"Bcc" not in answer


def test_a_report_is_what_rfc_3464_asks_for() -> None:
    """Three parts: words, status with one group a recipient, the original untouched."""
    original = b"Subject: Picnic\r\n\r\nk\xc3\xa4se\r\n"
    refusal = Refusal(
        Recipient("all@city.example", Direction.INTERNAL, ("ORCPT=rfc822;all@city.example",)),
        Reply.of(550, "5.7.1", "Not approved"),
    )
    letter = report(
        sheet(), "Words.\n", facts("ENVID=abc"), "gw.city.example", [refusal], Original(original, complete=True)
    )
    assert letter.parameters == ("BODY=8BITMIME",)
    parsed = email.message_from_bytes(letter.data, policy=policy.default)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    words, found, whole = parsed.iter_parts()
    assert words.get_content().strip() == "Words."
    head, recipient = (part for part in found.get_payload() if isinstance(part, Message))
    assert head["Reporting-MTA"] == "dns; gw.city.example"
    assert head["Original-Envelope-Id"] == "abc"
    assert recipient["Final-Recipient"] == "rfc822; all@city.example"
    assert recipient["Original-Recipient"] == "rfc822;all@city.example"
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.7.1")
    assert whole.get_content_type() == "message/rfc822"
    assert original in letter.data


def test_parameters_are_named_as_they_were_before_they_were_parameters() -> None:
    """Regression: ENVID and ORCPT stood in the report as xtext (RFC 3461 section 4); a line break makes no line."""
    refusal = Refusal(
        Recipient("all+x@city.example", Direction.INTERNAL, ("orcpt=rfc822;all+2Bx@city.example",)),
        Reply.of(550, "5.7.1", "Not approved"),
    )
    letter = report(sheet(), "Words.\n", facts("ENVID=a+3Db+0D+0AAction:+20relayed"), "gw", [refusal], None)
    _, found = email.message_from_bytes(letter.data, policy=policy.default).iter_parts()
    head, recipient = (part for part in found.get_payload() if isinstance(part, Message))
    assert head["Original-Envelope-Id"].startswith("a=b?")
    assert head["Action"] is None
    assert recipient["Original-Recipient"] == "rfc822;all+x@city.example"
    assert recipient["Final-Recipient"] == "rfc822; all+x@city.example"


def test_a_large_original_comes_back_as_its_header() -> None:
    """RFC 6522: only the header, and marked as such."""
    letter = report(sheet(), "x", facts(), "gw", [], Original(b"Subject: Picnic\r\n", complete=False))
    *_, last = email.message_from_bytes(letter.data, policy=policy.default).iter_parts()
    assert last.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply.of(550, "5.1.1", "no such user"), "5.1.1"),
        (Reply(550, "", ("5.1.1 no such user",)), "5.1.1"),
        (Reply(550, "", ("no such user",)), "5.0.0"),
        (Reply.of(451, "4.4.1", "down"), "5.4.1"),
        (Reply(550, "", ("5.x.1 odd",)), "5.0.0"),
    ],
)
def test_status(reply: Reply, expected: str) -> None:
    """The status of a failure is the next hop's enhanced code, as a permanent one."""
    assert status(reply) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ((), True),
        (("NOTIFY=NEVER",), False),
        (("notify=success,failure",), True),
        (("NOTIFY=SUCCESS",), False),
        (("ORCPT=rfc822;x",), True),
    ],
)
def test_notify(parameters: tuple[str, ...], expected: bool) -> None:
    """RFC 3461 section 4.1: who did not want to hear of failures does not."""
    assert wants_failure(Recipient("x@y", Direction.OUTBOUND, parameters)) is expected


def test_long_lines_are_wrapped() -> None:
    """A long reason is broken at spaces to 78 columns with its indent; the commands to copy stay on one line."""
    reason = "  " + "word " * 60
    link = f"  Approve: https://mail.city.example/civicgate/decide/{'x' * 43}?choice=approve"
    commands = f"  civicgate hold show {'1' * 60} --as YOUR-ADDRESS --body\n{link}"
    _subject, text = Templates(TEMPLATES).fill("held-approver", {"reason": reason, "decide": commands, "action": "x"})
    rows = text.split("\n")
    assert max(len(row) for row in rows if not row.startswith(("  civicgate ", "  Approve:"))) <= 78
    assert link in rows
    assert sum(row.startswith("  word") for row in rows) > 3
    assert f"  civicgate hold show {'1' * 60} --as YOUR-ADDRESS --body" in rows


@pytest.mark.parametrize("field", ["subject", "address", "answers"])
def test_an_encoded_line_break_stays_inside_its_field(field: str) -> None:
    """An encoded word that hides CR LF in a subject, an address or a Message-ID never becomes a line of the header."""
    word = "=?utf-8?q?=0D=0ABcc:_evil=40far.example=0D=0A=0D=0AClick?="
    values = {"subject": "s", "address": "a@city.example", "answers": "<1@city.example>"}
    values[field] = {"subject": word, "address": f"{word}@city.example", "answers": f"<{word}@far.example>"}[field]
    there = Sheet("T1", "g@city.example", (values["address"],), NOW, values["subject"], values["answers"])
    refusal = Refusal(Recipient("b@city.example", Direction.INTERNAL), Reply.of(550, "5.7.1", "no"))
    for letter in (notice(there, "text\n"), report(there, "text\n", facts(), "gw.example", [refusal], None)):
        head = letter.data.partition(b"\r\n\r\n")[0]
        assert b"\nBcc" not in head.replace(b"\r", b"\n")
        assert b"Click" not in letter.data.partition(b"\r\n\r\n")[2]
        assert b"MIME-Version" in head


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<p>Hello</p>", "must begin with <!doctype html>"),
        ("<!doctype html><p>$nobody</p>", r"unknown placeholder «\$nobody»"),
        ('<!doctype html><img alt="" src="https://far.example/x.png">', "must load nothing"),
        ("<!doctype html><style>p { background: url(x.png) }</style>", "must load nothing"),
        ("<!doctype html><script>alert(1)</script>", "must load nothing"),
        ('<!doctype html><form action="https://far.example">', "must load nothing"),
    ],
    ids=["no-doctype", "placeholder", "image", "style", "script", "form"],
)
def test_a_bad_page_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    """HTML that would load or run something stops the start, with its file's name."""
    for path in TEMPLATES.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "attest-sender.html").write_text(text)
    with pytest.raises(ConfigErrors, match=complaint) as caught:
        Templates(tmp_path)
    assert [Path(e.file).name for e in caught.value.errors] == ["attest-sender.html"]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=100))
def test_no_value_becomes_markup(value: str) -> None:
    """Whatever a subject, an address or a reason holds, the page has exactly the tags of its template."""
    templates = Templates(TEMPLATES)
    values = {"subject": value, "sender": value, "recipients": f"  {value}", "attestation": value, "reason": value}
    for name in PAGES:
        page, plain = templates.page(name, values), templates.page(name, dict.fromkeys(values, "x"))
        counts = [
            {tag: found.count(f"<{tag}") for tag in ("a", "p", "td", "img", "script", "h1")} for found in (page, plain)
        ]
        assert counts[0] == counts[1]
    assert templates.page("returned", values) == ""
