"""Our trace field under hostile names, transaction ids, and what is read of strangers' headers."""

import email.policy
import re
from email import message_from_bytes
from email.utils import parsedate_to_datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.model.envelope import Client
from gateway.pipeline.trace import TransactionIds, header_facts, received_field

NOW = 1_795_000_000.0
HOSTILE = st.text(
    st.one_of(st.sampled_from('\r\n\t\0 <>()[];:@"\\,.-_aZ9é\u2028\ud800\x7f'), st.characters()), max_size=300
)
FIELD = re.compile(
    rb"Received: from [A-Za-z0-9.:_/+-]{1,255} \([A-Za-z0-9.:_/+-]{1,255} \[[A-Za-z0-9.:_/+-]{1,260}\]\)"
    rb"(\r\n\t\(using [A-Za-z0-9.:_/+-]{1,255}\))?"
    rb"\r\n\tby gateway\.city\.example \(Civicgate\) with (SMTP|ESMTPS?A?) id 0123ABC"
    rb"(\r\n\tfor <[^\r\n<>\x00-\x1f\x7f]*>)?"
    rb";\r\n\t(?P<date>[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000)\r\n"
)


def _field(client: Client, *recipients: str, now: float = NOW) -> bytes:
    return received_field("gateway.city.example", "0123ABC", client, recipients, now)


@settings(deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.lists(HOSTILE, max_size=2))
@example("a\r\nX: y", "b\r\n\r\nbody", "fe80::1%\r\nX: y", "", "HTTP/1.1\r\n", "TLS\r\nX: y", ["a@b>\r\nX: <"])
def test_whatever_a_client_says_it_is_one_well_formed_field(
    helo: str, name: str, address: str, login: str, protocol: str, tls: str, recipients: list[str]
) -> None:
    """HELO, names, addresses, logins and recipients never end the field, nor add one, nor leave RFC 5321's form."""
    client = Client(address, 0, name, helo, login, protocol, tls)
    field = _field(client, *recipients)
    match = FIELD.fullmatch(field)
    assert match is not None, field
    assert parsedate_to_datetime(match["date"].decode()).timestamp() == NOW
    parsed = message_from_bytes(field + b"Subject: x\r\n\r\nbody", policy=email.policy.compat32)
    assert parsed.keys() == ["Received", "Subject"]
    assert all(len(row) <= 998 for row in field.split(b"\r\n"))


def test_the_field_says_who_from_where_how_and_for_whom() -> None:
    """The whole field for an ordinary client."""
    client = Client("2001:db8::7", 25, "mail.other.example", "mail.other.example", "", "ESMTP", "TLSv1.3 AES256")
    assert _field(client, "clerk@city.example") == (
        b"Received: from mail.other.example (mail.other.example [IPv6:2001:db8::7])\r\n"
        b"\t(using TLSv1.3/AES256)\r\n"
        b"\tby gateway.city.example (Civicgate) with ESMTPS id 0123ABC\r\n"
        b"\tfor <clerk@city.example>;\r\n"
        b"\tWed, 18 Nov 2026 11:06:40 +0000\r\n"
    )


def test_a_second_recipient_is_not_betrayed() -> None:
    """With more than one recipient there is no «for»: it could show a Bcc."""
    assert b"for <" not in _field(Client("192.0.2.1"), "a@city.example", "secret@city.example")


def test_a_clients_words_for_its_protocol_do_not_stand() -> None:
    """The words are those of RFC 3848, made from what was seen."""
    assert b" with SMTP id" in _field(Client("192.0.2.1", protocol="SMTP"))
    assert b" with ESMTPSA id" in _field(Client("192.0.2.1", login="a", tls="TLSv1.3", protocol="SMTP"))
    assert b" with ESMTPA id" in _field(Client("192.0.2.1", login="a"))


def test_the_date_follows_the_clock() -> None:
    """The text kept for a second is not used for the next one, nor for one before."""
    client = Client("192.0.2.1")
    dates = [parsedate_to_datetime(_field(client, now=now).rsplit(b"\t", 1)[1].decode().strip()).timestamp()
             for now in (NOW, NOW + 0.9, NOW + 1, NOW - 5)]  # fmt: skip
    assert dates == [NOW, NOW, NOW + 1, NOW - 5]


# --- ids -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=200), st.integers(0, 2**25 - 1))
def test_ids_of_one_process_are_unique_and_sort_by_time(steps: list[int], process: int) -> None:
    """Whatever the clock's steps, no id comes twice; a later millisecond sorts behind an earlier one."""
    times = [NOW + sum(steps[: n + 1]) / 1000 for n in range(len(steps))]
    clock = iter(times)
    ids = TransactionIds(process, lambda: next(clock))
    made = [ids.next() for _ in times]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{18}", ident) for ident in made)


def test_ids_of_two_processes_never_meet() -> None:
    """The same millisecond and the same counter, another process: another id."""
    one, two = TransactionIds(1, lambda: NOW), TransactionIds(2, lambda: NOW)
    assert {one.next() for _ in range(100)}.isdisjoint({two.next() for _ in range(100)})


# --- header facts ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_octets_have_facts(octets: bytes) -> None:
    """Reading the header never raises, and what is kept for the log is one short line."""
    facts = header_facts(octets)
    assert facts.hops >= 0
    assert "\n" not in facts.message_id
    assert "\r" not in facts.message_id
    assert isinstance(facts.subject, str)
    assert isinstance(facts.authors, tuple)
    assert facts.automatic in (True, False)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"Received: from a\r\n\tby b; date", b"RECEIVED : x", b"Subject: Received: no", b"X-Received: no",
             b"To: a\r\n Received: folded, not a field", b"Receive: no", b"received:\r\n"]
        ),
        max_size=30,
    )
)  # fmt: skip
def test_hops_are_the_received_fields_of_the_header_alone(lines: list[bytes]) -> None:
    """Folded lines, other fields and the body do not count; case and a space before the colon do not matter."""
    expected = sum(line[:8].lower() == b"received" for line in lines)
    header = b"".join(line.removesuffix(b"\r\n") + b"\r\n" for line in [b"From: a@city.example", *lines])
    assert header_facts(header + b"\r\nReceived: in the body\r\nReceived: again\r\n").hops == expected


def test_received_lines_at_the_start_of_a_body_without_header_are_no_hops() -> None:
    """Regression: a message that begins with the empty line has no header; its text was counted as one."""
    facts = header_facts(b"\r\n" + b"Received: by x\r\n" * 60 + b"Subject: in the body\r\n\r\n")
    assert (facts.hops, facts.subject) == (0, "")


def test_a_message_without_a_body_has_a_header() -> None:
    """No empty line: everything is header."""
    facts = header_facts(b"Received: by x\r\nMessage-ID: <1@x>\r\nSubject: s\r\n")
    assert (facts.hops, facts.message_id, facts.subject) == (1, "<1@x>", "s")


def test_the_first_message_id_counts_on_one_line_and_not_too_long() -> None:
    """Folded, doubled and endless Message-IDs make one value of at most 250 characters."""
    assert header_facts(b"Message-ID:\r\n <1@x>\r\nMessage-Id: <2@x>\r\n\r\n").message_id == "<1@x>"
    assert len(header_facts(b"Message-ID: <" + b"a" * 5000 + b"@x>\r\n\r\n").message_id) == 250


def test_subject_authors_and_automatic_are_read_when_asked() -> None:
    """Decoded words, every From and Sender, and the marks of automatic mail."""
    facts = header_facts(
        b"From: A <a@city.example>, b@city.example\r\nSender: c@city.example\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"
        b"Auto-Submitted: auto-replied\r\n\r\nFrom: body@x\r\n"
    )
    assert facts.subject == "café"
    assert facts.authors == ("a@city.example", "b@city.example", "c@city.example")
    assert facts.automatic is True
    assert header_facts(b"Subject: x\r\n\r\n").automatic is False


def test_a_hundred_thousand_fields_do_not_hide_who_wrote_it() -> None:
    """From and Subject behind any number of other fields are found: an approver must not be the author."""
    facts = header_facts(
        b"X-A: b\r\n" * 100_000 + b"from : Clerk\r\n <clerk@city.example>\r\nSubject: a\r\n b\r\n\r\nx\r\n"
    )
    assert facts.authors == ("clerk@city.example",)
    assert facts.subject == "a b"
