"""The controls from end to end: real processes, the rules and the directory as they are shipped, the command line."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.e2e.letters import (
    CLERK,
    CONFIDENTIAL,
    CONTRACTOR,
    DIRECTOR,
    EVERYONE,
    LEGEND,
    MAYOR,
    PARTNER,
    SPECIALIST,
    SSN,
    STRANGER,
    attached,
    certificate,
    letter,
    mark,
    named,
)
from tests.e2e.running import (
    RULES,
    CityGateway,
    Nursery,
    Sink,
    own_octets,
    running_city,
    said,
    transact,
    transaction_of,
    until,
)

pytestmark = pytest.mark.real
MEGABYTE = 1_000_000


def read(content: bytes) -> EmailMessage:
    """A message as a mail program reads it."""
    return message_from_bytes(content, policy=policy.default)


def texts(content: bytes) -> list[str]:
    """Every text of a message, decoded."""
    return [str(part.get_content()) for part in read(content).walk() if part.get_content_maintype() == "text"]


def legends(content: bytes) -> int:
    """How often the legend's first line is in a message, in any encoding."""
    return sum(text.count(LEGEND[0]) for text in texts(content))


# --- size ----------------------------------------------------------------------------------------------------------


def test_size_is_refused_at_mail(city: CityGateway) -> None:
    """A client that declares 51 MB is refused at MAIL, with the other way to send a file."""
    with city.connect() as client:
        code, text = client.mail(CLERK, ("SIZE=51000000",))
    reply = said(code, text)
    assert reply.startswith("552 5.3.4")
    assert "https://files.city.example" in reply


def test_size_is_refused_while_receiving(city: CityGateway, sink: Sink) -> None:
    """A client that does not declare it is refused at 50 MB: nothing is kept, nothing arrives."""
    name = mark("large")
    content = letter(name) + b"0123456789abcdef" * 4 * (51 * MEGABYTE // 64) + b"\r\n"
    reply = city.send(CLERK, [PARTNER], content)
    assert reply.startswith("552 5.3.4")
    assert not sink.having(named(name))
    assert list((city.folder / "spool").iterdir()) == []


def test_an_exception_lets_a_large_message_through_until_it_is_revoked(city: CityGateway, sink: Sink) -> None:
    """«civicgate exception add» for one sender and recipient counts within a second or two, and ends with «revoke»."""
    sender, recipient, name = "works-director@city.example", "builder@example.org", mark("exception")
    added = city.cli(
        *("exception", "add", "--kind", "large-message", "--sender", sender, "--recipient", recipient),
        *("--until", "1d", "--reason", "plans", "--approver", DIRECTOR, "--max-size", "60 MB"),
    )
    ident = added.partition(":")[0]
    content = attached(name, 51 * MEGABYTE, sender, recipient)
    assert len(content) > 50 * MEGABYTE

    def declared(size: int) -> str:
        with city.connect() as client:
            code, text = client.mail(sender, (f"SIZE={size}",))
            if code == 250:
                code, text = client.rcpt(recipient)
            return said(code, text)

    def says(answer: str) -> bool:
        """Each worker reads exceptions for itself, and the kernel chooses which of the two answers."""
        return all(declared(len(content)).startswith(answer) for _ in range(16))

    until(lambda: says("250"), 5, "the exception does not count")
    assert city.send(sender, [recipient], content).startswith("250 2.0.0 queued as SINK1")
    assert own_octets(sink.wait(named(name))[0].content) == content
    assert declared(61 * MEGABYTE).startswith("552 5.3.4"), "larger than the exception allows"
    with city.connect() as client:
        client.mail(CLERK, (f"SIZE={len(content)}",))
        assert client.rcpt(recipient)[0] != 250, "another sender's"
    city.cli("exception", "revoke", ident)
    until(lambda: says("552 5.3.4"), 5, "the revoked exception still counts")


# --- city-wide lists -----------------------------------------------------------------------------------------------


def test_mail_to_the_city_needs_two_people(city: CityGateway, sink: Sink) -> None:
    """Held for the list, sent at once to the others; approvers are told; delivered after two said yes."""
    name, secret = mark("city"), mark("cake")
    content = letter(name, f"There is {secret}.\n", subject="Picnic")
    reply = city.send(CLERK, [EVERYONE, MAYOR], content)
    assert reply.startswith("250 2.0.0 Accepted, held for a decision as ")
    assert own_octets(sink.wait_to(MAYOR, named(name)).content) == content
    (item,) = city.held_of(transaction_of(reply))
    for approver in (DIRECTOR, SPECIALIST):
        notice = sink.wait_to(approver, item["id"].encode()).content
        assert b"Picnic" in notice
        assert secret.encode() not in notice, "the body is for who asks for it"
    assert not sink.to(EVERYONE, named(name))
    assert "still needed: communications-specialist" in city.cli("hold", "approve", item["id"], "--as", DIRECTOR)
    city.cli("hold", "approve", item["id"], "--as", DIRECTOR)  # the same person again changes nothing
    city.cli("hold", "approve", item["id"], "--as", CLERK, code=1)  # the sender cannot
    assert city.held_of(item["transaction"])[0]["state"] == "held"
    city.cli("hold", "approve", item["id"], "--as", SPECIALIST)
    arrived = sink.wait_to(EVERYONE, named(name))
    assert arrived.content.endswith(content)
    assert f"X-Civicgate-Released: {item['id']}".encode() in arrived.content
    until(lambda: city.held_of(item["transaction"])[0]["state"] == "released", 5)
    assert len(sink.to(EVERYONE, named(name))) == 1
    assert "none altered" in city.cli("hold", "verify")


def test_a_rejected_message_returns_to_its_sender(city: CityGateway, sink: Sink) -> None:
    """«hold reject» sends it back with the reason and the original, and never to the list."""
    name = mark("rejected")
    reply = city.send(CLERK, [EVERYONE], letter(name))
    (item,) = city.held_of(transaction_of(reply))
    city.cli("hold", "reject", item["id"], "--as", SPECIALIST, "--reason", "Not city business.")
    returned = sink.wait_to(CLERK, named(name)).content
    assert b"Not city business." in returned
    assert read(returned).get_content_type() == "multipart/report"
    assert not sink.to(EVERYONE, named(name))


# --- encryption ----------------------------------------------------------------------------------------------------


def test_confidential_mail_leaves_encrypted(city: CityGateway, sink: Sink, tmp_path: Path) -> None:
    """The outside gets S/MIME that openssl opens, the inside the plain text; no clear copy leaves."""
    recipient, name = "encrypted@example.org", mark("secret")
    owner = certificate(city.certificates, tmp_path, recipient)
    city.cli("check")
    content = letter(name, CONFIDENTIAL + "\n", to=f"{recipient}, {MAYOR}")
    assert city.send(CLERK, [recipient, MAYOR], content).startswith("250")
    inside = sink.wait_to(MAYOR, named(name)).content
    assert SSN.encode() in inside
    outside = until(lambda: sink.to(recipient), 15)[0]
    assert SSN.encode() not in outside.content
    opened = owner.open(outside.content)
    assert SSN.encode() in opened
    assert legends(opened) == 1
    assert "AES-256" in city_cipher(outside.content)


def city_cipher(content: bytes) -> str:
    """What openssl calls the content's cipher."""
    shown = subprocess.run(
        ["openssl", "cms", "-cmsout", "-print", "-noout"], input=content, capture_output=True, check=True, timeout=30
    )
    return shown.stdout.decode("utf-8", "replace").upper()


def test_without_a_certificate_it_waits_for_one(city: CityGateway, sink: Sink, tmp_path: Path) -> None:
    """No certificate: held, and the sender told. A certificate and «hold release»: delivered, encrypted."""
    recipient, name = "later@example.org", mark("waiting")
    reply = city.send(CLERK, [recipient], letter(name, CONFIDENTIAL + "\n", to=recipient))
    assert reply.startswith("250 2.0.0 Accepted, held")
    (item,) = city.held_of(transaction_of(reply))
    assert b"certificate" in sink.wait_to(CLERK, item["id"].encode()).content
    assert not sink.to(recipient)
    owner = certificate(city.certificates, tmp_path, recipient)
    city.cli("hold", "release", item["id"], "--as", approver_of(city, item["id"]))
    arrived = until(lambda: sink.to(recipient), 15)[0]
    assert SSN.encode() in owner.open(arrived.content)


def approver_of(city: CityGateway, ident: str) -> str:
    """The first person who can decide about an item."""
    needs = re.search(r"^Needs:\s+[^:]+: ([^,\s]+)", city.cli("hold", "show", ident), re.MULTILINE)
    assert needs is not None
    return needs[1]


def test_nothing_confidential_ever_arrived_outside_in_clear(city: CityGateway, sink: Sink) -> None:
    """Whatever this run sent: no message to an outside recipient has the number in it, plain or base64."""
    assert city.send(CLERK, [STRANGER], letter(mark("clear"), CONFIDENTIAL + "\n", to=STRANGER)).startswith("250")
    time.sleep(0.5)
    for one in sink.all():
        if any("@city.example>" not in rcpt for rcpt in one.rcpts):
            assert SSN.encode() not in one.content
            assert not any(SSN in text for text in texts(one.content))


# --- legend --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_the_legend_stands_on_top_of_text_and_html(city: CityGateway, sink: Sink, encoding: str) -> None:
    """Both bodies begin with the three lines, each in its own charset and transfer encoding; attachments are left."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = CLERK, MAYOR, "Äpfel"
    name = mark("legend")
    message["X-First"] = name
    message.set_content(f"{CONFIDENTIAL} {'' if encoding == '7bit' else 'Grüße, 道.'}\n", cte=encoding)
    message.add_alternative(f"<html><body><p>{CONFIDENTIAL}</p></body></html>\n", subtype="html", cte=encoding)
    message.add_attachment("name;number\nA;1\n", filename="list.csv")
    content = message.as_bytes(policy=policy.SMTP)
    assert city.send(CLERK, [MAYOR], content).startswith("250")
    arrived = read(sink.wait(named(name))[0].content)
    plain, html = arrived.get_body(("plain",)), arrived.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().splitlines()[:3] == list(LEGEND)
    assert plain.get_content().count(LEGEND[0]) == 1
    assert plain["Content-Transfer-Encoding"] in (encoding, None)
    shown = re.sub(r"<[^>]*>|\s+", " ", html.get_content()).split()
    assert " ".join(shown).startswith(" ".join(LEGEND))
    assert CONFIDENTIAL in html.get_content()
    (attached,) = arrived.iter_attachments()
    assert "name;number" in attached.get_content()
    assert LEGEND[0] not in attached.get_content()


def test_a_reply_carries_the_legend_once(city: CityGateway, sink: Sink) -> None:
    """A reply that quotes the marked message is not marked again."""
    name = mark("first")
    assert city.send(CLERK, [MAYOR], letter(name, CONFIDENTIAL + "\n")).startswith("250")
    marked = texts(sink.wait(named(name))[0].content)[0]
    quoted = "".join(f"> {line}\n" for line in marked.splitlines())
    answer = mark("answer")
    text = f"Thank you.\n\nOn Monday, {CLERK} wrote:\n{quoted}"
    fields = (f"In-Reply-To: <{name}@test.example>", f"References: <{name}@test.example>")
    content = letter(answer, text, MAYOR, CLERK, *fields, subject="Re: A letter")
    assert city.send(MAYOR, [CLERK], content).startswith("250")
    assert legends(sink.wait(named(answer))[0].content) == 1


def test_a_signed_message_is_not_touched(city: CityGateway, sink: Sink, tmp_path: Path) -> None:
    """What openssl signed verifies behind the gateway; a header field says what stands nowhere else."""
    owner = certificate(tmp_path, tmp_path / ".", "signer@city.example")
    inner = f"Content-Type: text/plain\r\n\r\n{CONFIDENTIAL}\r\n".encode()
    signed = subprocess.run(
        ["openssl", "cms", "-sign", "-signer", str(owner.file), "-inkey", str(owner.key), "-crlfeol"],
        input=inner, capture_output=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    signed = signed.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    name = mark("signed")
    content = f"X-First: {name}\r\nFrom: {CLERK}\r\nTo: {MAYOR}\r\n".encode() + signed
    assert city.send(CLERK, [MAYOR], content).startswith("250")
    arrived = sink.wait(named(name))[0].content
    body = content.partition(b"\r\n\r\n")[2]
    assert arrived.endswith(body)
    head = arrived.partition(b"\r\n\r\n")[0]
    assert LEGEND[0].encode() in head
    verified = subprocess.run(
        ["openssl", "cms", "-verify", "-CAfile", str(owner.file), "-purpose", "any"],
        input=arrived, capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr


# --- contractors ---------------------------------------------------------------------------------------------------


def test_a_contractor_must_say_so(city: CityGateway, sink: Sink) -> None:
    """Without the wording: refused, with the line to paste. With it below the name, in text and HTML: passed."""
    without = letter(mark("without"), "Done.\n\n-- \nPat Doe\nPublic Works\n", CONTRACTOR, PARTNER)
    reply = city.send(CONTRACTOR, [PARTNER], without)
    assert reply.startswith("550 5.7.1")
    assert "Contractor (non-city employee)" in reply
    block = "Pat Doe\nContractor (non-city employee)\n"
    name = mark("with")
    content = letter(name, f"Done.\n\n-- \n{block}", CONTRACTOR, PARTNER)
    assert city.send(CONTRACTOR, [PARTNER], content).startswith("250")
    assert own_octets(sink.wait(named(name))[0].content) == content
    message = EmailMessage()
    name = mark("html")
    message["X-First"], message["From"], message["To"] = name, CONTRACTOR, PARTNER
    message.set_content(f"Done.\n\n-- \n{block}")
    message.add_alternative(
        "<html><body><p>Done.</p><p>-- <br>Pat Doe<br>Contractor (non-city employee)</p></body></html>\n",
        subtype="html",
    )
    assert city.send(CONTRACTOR, [PARTNER], message.as_bytes(policy=policy.SMTP)).startswith("250")


# --- rules that are off as shipped, and expiry ---------------------------------------------------------------------


def switched(source: Path, target: Path, **modes: str) -> Path:
    """A copy of the shipped rules with some of them in another mode."""
    yaml = YAML()
    shutil.copytree(source, target)
    for file in target.rglob("*.yaml"):
        data = yaml.load(file)
        if data["id"] in modes:
            data["mode"] = modes.pop(data["id"])
            with file.open("w", encoding="utf-8") as out:
                yaml.dump(data, out)
    assert not modes
    return target


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink, clamd: Path) -> Iterator[CityGateway]:
    """A city that wants banners and inserted signature blocks, and waits for approvers one second only."""
    folder = tmp_path_factory.mktemp("other")
    modes = {
        "caution-banner": "enforce",
        "contractor-signature-block": "off",
        "contractor-signature-block-insert": "enforce",
    }
    rules = switched(RULES, folder / "policy", **modes)
    changes = {"clamd": {"address": f"unix:{clamd}"}, "hold": {"expires_after": "1 s"}, "workers": 1}
    with running_city(folder, nursery, sink.port, rules, **changes) as gateway:
        yield gateway


def test_an_undecided_message_returns_to_its_sender(other: CityGateway, sink: Sink) -> None:
    """Past hold.expires_after it goes back with the reason; approval comes too late."""
    name = mark("expired")
    reply = other.send(CLERK, [EVERYONE], letter(name))
    returned = sink.wait_to(CLERK, named(name), seconds=20).content
    assert b"expired" in returned.lower()
    (item,) = other.held_of(transaction_of(reply))
    other.cli("hold", "approve", item["id"], "--as", DIRECTOR, code=1)
    assert not sink.to(EVERYONE, named(name))


def test_mail_from_outside_carries_the_banner(other: CityGateway, sink: Sink) -> None:
    """The caution stands on top of inbound mail, and not on mail between colleagues."""
    name, inside = mark("banner"), mark("no-banner")
    with other.connect() as client:
        client.docmd("XFORWARD", "ADDR=203.0.113.7")
        assert transact(client, STRANGER, [CLERK], letter(name, sender=STRANGER)).startswith("250")
    assert other.send(CLERK, [MAYOR], letter(inside)).startswith("250")
    assert texts(sink.wait(named(name))[0].content)[0].startswith("CAUTION: ")
    assert "CAUTION" not in texts(sink.wait(named(inside))[0].content)[0]


def test_the_signature_block_is_inserted(other: CityGateway, sink: Sink) -> None:
    """Where the city prefers it, the line is put below the contractor's name instead of a refusal."""
    name = mark("inserted")
    content = letter(name, "Done.\n\n-- \nPat Doe\n", CONTRACTOR, PARTNER)
    assert other.send(CONTRACTOR, [PARTNER], content).startswith("250")
    assert "non-city employee" in texts(sink.wait(named(name))[0].content)[0].lower()


def test_a_client_that_hangs_up_in_the_middle_sends_nothing(city: CityGateway, sink: Sink) -> None:
    """Half a message that no rule would hold leaves no trace at the next hop, in the store or in the spool."""
    name = mark("half")
    client = city.connect()
    client.mail(CLERK)
    client.rcpt(MAYOR)
    assert client.docmd("DATA")[0] == 354
    client.send(letter(name) + b"x" * 600_000)
    client.close()  # the socket and the file that smtplib keeps on it: without that the line stays open
    spool = city.folder / "spool"
    until(lambda: list(spool.iterdir()) == [], 5, f"{[path.name for path in spool.iterdir()]}")
    assert not sink.having(named(name))
