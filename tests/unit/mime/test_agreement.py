"""On well-formed mail the parser agrees with the standard library's."""

import email
import string
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.mime import Message, Part, addresses, decode, field_value, fields_named, parse, part_field, raw_value, text

WORDS = st.text(alphabet=string.ascii_letters + string.digits + "äöüßéñ€漢字 .,-_'()", min_size=1, max_size=60)
LINES = st.lists(
    st.text(alphabet=string.ascii_letters + "äöü€漢 =?.-_>\t", max_size=120).map(str.rstrip), min_size=1, max_size=8
).map(lambda rows: "\n".join(rows) + "\n")
LOCAL = st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1, max_size=12)
NAMES = st.text(alphabet=string.ascii_letters + "äß漢 -_()'", min_size=1, max_size=80).map(lambda n: n.strip() + ".pdf")


@st.composite
def leaves(draw: st.DrawFn) -> MIMEPart:
    """A text, an HTML text or an attachment."""
    part = MIMEPart(policy=policy.SMTP)
    kind = draw(st.sampled_from(["plain", "html", "file"]))
    if kind == "file":
        disposition = draw(st.sampled_from(["attachment", "inline"]))
        part.set_content(
            draw(st.binary(max_size=300)),
            maintype="application",
            subtype="pdf",
            disposition=disposition,
            filename=draw(NAMES),
            cte="base64",
        )
    else:
        part.set_content(
            draw(LINES), subtype=kind, charset="utf-8", cte=draw(st.sampled_from(["base64", "quoted-printable"]))
        )
    return part


def containers(children: st.SearchStrategy[MIMEPart]) -> st.SearchStrategy[MIMEPart]:
    """Multiparts and nested messages around other parts."""
    return st.one_of(
        st.tuples(st.sampled_from(["mixed", "alternative", "related"]), st.lists(children, min_size=1, max_size=3)).map(
            _multipart
        ),
        children.map(_nested),
    )


def _multipart(drawn: tuple[str, list[MIMEPart]]) -> MIMEPart:
    part = MIMEPart(policy=policy.SMTP)
    part["Content-Type"] = f"multipart/{drawn[0]}"
    part.set_payload(list(drawn[1]))
    return part


def _nested(inner: MIMEPart) -> MIMEPart:
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = "inner"
    for name, value in inner.items():
        message[name] = value
    message.set_payload(inner.get_payload())
    part = MIMEPart(policy=policy.SMTP)
    part["Content-Type"] = "message/rfc822"
    part.set_payload([message])
    return part


def _names(message: EmailMessage) -> list[list[str]]:
    """Names of sender and recipients. Folding some of them, the library writes what it does not read back itself."""
    found = (message[name].addresses for name in ("From", "To"))
    return [[word for one in each for word in (*one.display_name.split(), one.addr_spec)] for each in found]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A whole well-formed message, CRLF or LF."""
    body = draw(st.recursive(leaves(), containers, max_leaves=6))
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = draw(WORDS).strip() or "x"
    sender = Address(draw(WORDS).strip(), draw(LOCAL), "city.example")
    to = tuple(Address(draw(WORDS).strip(), draw(LOCAL), "example.org") for _ in range(draw(st.integers(1, 3))))
    message["From"], message["To"] = sender, to
    message["Message-ID"] = "<1@city.example>"
    for name, value in body.items():
        message[name] = value
    message.set_payload(body.get_payload())
    for number, part in enumerate(part for part in message.walk() if part.get_content_maintype() == "multipart"):
        part.set_boundary("=_b" + "1" * number)  # each is a prefix of those inside and after it
    data = message.as_bytes()
    assume(_names(email.message_from_bytes(data, policy=policy.default)) == _names(message))
    return data if draw(st.booleans()) else data.replace(b"\r\n", b"\n")


def _both(data: bytes) -> tuple[Message, list[tuple[Part, EmailMessage]]]:
    ours = parse(data)
    theirs = email.message_from_bytes(data, policy=policy.default)
    parts = list(ours.walk())
    standard = list(theirs.walk())
    assert len(parts) == len(standard)
    return ours, list(zip(parts, standard, strict=True))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages())
def test_tree_and_bodies_agree_with_the_standard_library(data: bytes) -> None:
    """Same parts in the same order: media type, charset, disposition, file name, decoded octets and text."""
    ours, pairs = _both(data)
    assert ours.defects == ()
    for part, standard in pairs:
        assert part.media_type == standard.get_content_type()
        assert (part.charset or None) == standard.get_content_charset()
        assert (part.disposition or None) == standard.get_content_disposition()
        assert (part.filename or None) == standard.get_filename()
        assert (part.boundary or None) == standard.get_boundary()
        if not part.children:
            assert b"".join(decode(data, part)) == standard.get_payload(decode=True)
            if part.is_text:
                read, cut = text(data, part, 1_000_000)
                assert read == standard.get_payload(decode=True).decode("utf-8")  # type: ignore[union-attr]  # the stubs know lists too
                assert not cut


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages())
def test_header_values_agree_with_the_standard_library(data: bytes) -> None:
    """Same fields in the same order, same decoded subject, same addresses and display names."""
    ours, pairs = _both(data)
    for part, standard in pairs:
        assert [field.name for field in part.fields] == [name.lower() for name in standard]
    theirs = pairs[0][1]
    assert part_field(data, ours.root, "SUBJECT") == str(theirs["subject"])
    for name in ("from", "to"):
        (field,) = fields_named(ours.root, name)
        found = addresses(raw_value(data, field))
        assert [(m.display, m.address) for m in found] == [
            (a.display_name, a.addr_spec) for a in theirs[name].addresses
        ]
        assert field_value(data, field)


def test_paths_are_those_of_imap() -> None:
    """A nested multipart's children count on from the part that holds the message (RFC 9051 section 6.4.5)."""
    inner = b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\na\r\n--i\r\n\r\nb\r\n--i--\r\n"
    data = (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\ntext\r\n--o\r\n"
        b"Content-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--o\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: leaf\r\n\r\nx\r\n--o--\r\n"
    )
    message = parse(data)
    assert [part.path for part in message.walk()] == ["", "1", "2", "2.TEXT", "2.1", "2.2", "3", "3.1"]
    assert parse(b"Subject: x\r\n\r\nbody").root.path == "1"
    leaf = message.part("3.1")
    assert leaf is not None
    assert data[leaf.body.start : leaf.body.end] == b"x"
    assert message.part("9") is None
