"""The sample messages of the demonstration: one for each control and outcome, and what must become of them.

Each sample says the reply that its client must read and who must get it in which form; :class:`Outcome` holds that
against what really came. Uses the people and lists of ``config/directory.yaml`` as they are shipped. The EICAR test
file is put together here and stands in no file, so that no scanner takes the source tree for infected.
"""

import io
import re
import smtplib
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.dev.mail_server import Received, printable

STAFF = "clerk@city.example"
COLLEAGUE = "mayor@city.example"
CONTRACTOR = "contractor@city.example"
ALL_CITY = "everyone@city.example"
APPROVERS = ("manager@city.example", "communications@city.example")
"""Who decides about mail of :data:`STAFF` to :data:`ALL_CITY`: the director and the Communications Specialist."""
CITIZEN = "citizen@example.org"
"""Outside; the demonstration makes a certificate for this address."""
VENDOR = "billing@vendor.example"
"""Outside, without a certificate."""
RESIDENT = "resident@example.net"
"""Outside."""

_EICAR = "".join(("X5O!P%@AP[4", "\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE", "!$H+H*"))
_SSN = "-".join(("536", "90", "4399"))
_CARD = " ".join(("4111", "1111", "1111", "1111"))
MEGABYTE = 1_000_000


class Form(StrEnum):
    """How a message arrives."""

    PLAIN = "as sent"
    ENCRYPTED = "encrypted"
    LEGEND = "legend on top"


@dataclass(frozen=True, slots=True)
class Sample:
    """One message, and what must become of it."""

    title: str
    sender: str
    recipients: tuple[str, ...]
    content: Callable[["Sample"], bytes]
    """Made when it is sent; some are large."""
    reply: str
    """How the last reply that the client reads must begin."""
    arrives: tuple[tuple[str, Form], ...] = ()
    """Recipients who must get it, and how. Nobody else may."""
    parameters: tuple[str, ...] = ()
    """MAIL parameters."""
    marker: str = ""
    """A word of the text that proves whether it is readable."""
    id: str = ""
    """Its Message-ID, by which what arrives is recognised."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A recipient's certificate and key, with which what was encrypted is opened again."""

    file: Path
    key: Path

    def open(self, content: bytes) -> bytes:
        """What is inside an S/MIME message; ``b""`` when openssl is missing or cannot open it."""
        command = ["openssl", "cms", "-decrypt", "-recip", str(self.file), "-inkey", str(self.key)]
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(command, input=content, capture_output=True, check=True, timeout=30).stdout
        return b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sample."""

    sample: Sample
    reply: str
    forms: tuple[tuple[str, Form], ...]
    number: int = 0
    """Of the first message that arrived, 0 when none did."""

    @classmethod
    def of(cls, sample: Sample, reply: str, received: Sequence[Received], certificate: Certificate) -> "Outcome":
        """Find the sample's messages among all that was received, by Message-ID."""
        mine = [r for r in received if r.message().get("Message-ID", "").strip() == sample.id]
        forms = [(who, _form(sample, r, certificate)) for r in mine for who in r.recipients]
        return cls(sample, reply, tuple(sorted(forms)), min((r.number for r in mine), default=0))

    @property
    def all_there(self) -> bool:
        """True when everybody who must get it has got it."""
        return {who for who, _ in self.sample.arrives} <= {who for who, _ in self.forms}

    @property
    def held(self) -> str:
        """Id under which the message is held, ``""`` when it is not."""
        found = re.search(r"\bheld\b.* as (\w+)", self.reply)
        return found[1] if found else ""

    def cells(self) -> tuple[str, str, str]:
        """For the table: message, reply, what arrived."""
        arrived = "\n".join(f"{who}: {form}" for who, form in self.forms) or "nothing"
        good = "" if not list(self.problems()) else "  ← NOT AS IT MUST BE"
        return self.sample.title, printable(self.reply), arrived + good

    def problems(self) -> Iterator[str]:
        """What is not as it must be, in words."""
        if not self.reply.startswith(self.sample.reply):
            yield f"{self.sample.title}: the reply is «{self.reply}», not «{self.sample.reply} …»"
        if self.forms != tuple(sorted(self.sample.arrives)):
            yield f"{self.sample.title}: arrived {_words(self.forms)}, not {_words(self.sample.arrives)}"


def _words(forms: Sequence[tuple[str, Form]]) -> str:
    return ", ".join(f"{who} {form}" for who, form in sorted(forms)) or "nowhere"


def _form(sample: Sample, received: Received, certificate: Certificate) -> Form:
    message = received.message()
    if message.get_content_type() == "application/pkcs7-mime":
        secret = sample.marker.encode()
        hidden = secret not in received.content and secret in certificate.open(received.content)
        return Form.ENCRYPTED if hidden else Form.PLAIN
    body = message.get_body(("plain",))
    text = body.get_content().lstrip() if body is not None else ""
    first = text.splitlines()[0] if text else ""
    return Form.LEGEND if first.isupper() and "CONFIDENTIAL" in first else Form.PLAIN


# --- The messages --------------------------------------------------------------------------------------------------


def _letter(
    subject: str,
    text: str,
    *fields: tuple[str, str],
    attach: Callable[[], tuple[str, str, bytes]] | None = None,
) -> Callable[[Sample], bytes]:
    """A message with a text and at most one attachment (file name, media type, octets)."""

    def content(sample: Sample) -> bytes:
        message = EmailMessage()
        message["From"] = sample.sender or "postmaster@example.org"
        message["To"] = ", ".join(sample.recipients)
        message["Subject"] = subject
        message["Date"] = datetime.now(UTC)
        message["Message-ID"] = sample.id
        for name, value in fields:
            message[name] = value
        message.set_content(text)
        if attach is not None:
            name, kind, octets = attach()
            maintype, _, subtype = kind.partition("/")
            message.add_attachment(octets, maintype=maintype, subtype=subtype, filename=name)
        return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    return content


def _large(sample: Sample) -> bytes:
    """51 MB, of which the client says nothing beforehand."""
    head = _letter("The plans, as scanned", "The whole of the plans follows.\n")(sample)
    line = b"0123456789abcdef" * 4 + b"\r\n"
    return head + line * (51 * MEGABYTE // len(line))


def _zip() -> tuple[str, str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("invoice.com", _EICAR)
    return "invoice.zip", "application/zip", buffer.getvalue()


SAMPLES = (
    Sample(
        "An ordinary message",
        STAFF,
        (RESIDENT,),
        _letter("Library hours", "The library is open until eight on Thursdays.\n"),
        "250",
        ((RESIDENT, Form.PLAIN),),
    ),
    Sample(
        "51 MB, the client says so (MAIL SIZE=)",
        STAFF,
        (RESIDENT,),
        _letter("The plans", "They are large.\n"),
        "552 5.3.4",
        parameters=(f"SIZE={51 * MEGABYTE}",),
    ),
    Sample("51 MB, the client does not say so", STAFF, (RESIDENT,), _large, "552 5.3.4"),
    Sample(
        "To all of the city, and to one colleague",
        STAFF,
        (ALL_CITY, COLLEAGUE),
        _letter("The picnic is on Saturday", "Everybody is invited.\n"),
        "250",
        ((COLLEAGUE, Form.PLAIN),),
    ),
    Sample(
        "A Social Security number to a resident whose certificate is known",
        STAFF,
        (CITIZEN,),
        _letter("Your application", f"We have you down with the Social Security number {_SSN}.\n"),
        "250",
        ((CITIZEN, Form.ENCRYPTED),),
        marker=_SSN,
    ),
    Sample(
        "The same to a resident and a colleague",
        STAFF,
        (CITIZEN, COLLEAGUE),
        _letter("Your application", f"We have you down with the Social Security number {_SSN}.\n"),
        "250",
        ((CITIZEN, Form.ENCRYPTED), (COLLEAGUE, Form.LEGEND)),
        marker=_SSN,
    ),
    Sample(
        "A card number to a vendor without a certificate",
        STAFF,
        (VENDOR,),
        _letter("Our payment", f"Please charge the credit card {_CARD}, it expires 12/29.\n"),
        "250",
        marker=_CARD,
    ),
    Sample(
        "Marked confidential, to a colleague",
        STAFF,
        (COLLEAGUE,),
        _letter("The shortlist", "CITY CONFIDENTIAL. Three candidates are left.\n"),
        "250",
        ((COLLEAGUE, Form.LEGEND),),
    ),
    Sample(
        "The EICAR test virus, attached",
        RESIDENT,
        (STAFF,),
        _letter(
            "Invoice", "See attachment.\n", attach=lambda: ("invoice.com", "application/octet-stream", _EICAR.encode())
        ),
        "554 5.7.1",
    ),
    Sample(
        "The EICAR test virus, zipped",
        RESIDENT,
        (STAFF,),
        _letter("Invoice", "See attachment.\n", attach=_zip),
        "554 5.7.1",
    ),
    Sample(
        "A contractor who does not say so",
        CONTRACTOR,
        (RESIDENT,),
        _letter("The survey of your street", "We start on Monday.\n\n-- \nPat Doe\nPublic Works\n"),
        "550 5.7.1",
    ),
    Sample(
        "A contractor who says so",
        CONTRACTOR,
        (RESIDENT,),
        _letter(
            "The survey of your street",
            "We start on Monday.\n\n-- \nPat Doe\nContractor (non-city employee)\n",
        ),
        "250",
        ((RESIDENT, Form.PLAIN),),
    ),
    Sample(
        "An automatic reply (null reverse-path)",
        "",
        (STAFF,),
        _letter("Out of office: Library hours", "I am back on Monday.\n", ("Auto-Submitted", "auto-replied")),
        "250",
        ((STAFF, Form.PLAIN),),
    ),
)


def samples(run: str) -> tuple[Sample, ...]:
    """All of them, each with its Message-ID. ``run`` tells those of one run from those of another."""
    return tuple(
        replace(sample, id=f"<{number}.{run}@samples.city.example>") for number, sample in enumerate(SAMPLES, 1)
    )


# --- Sending -------------------------------------------------------------------------------------------------------


def send(sample: Sample, host: str, port: int) -> str:
    """Send it as a mail client would; the last reply that the client reads, on one line."""
    try:
        with smtplib.SMTP(host, port, local_hostname="desk.city.example", timeout=120) as smtp:
            smtp.ehlo()
            return _transaction(smtp, sample)
    except (OSError, smtplib.SMTPException) as error:
        return f"--- {type(error).__name__}: {error}"


def _transaction(smtp: smtplib.SMTP, sample: Sample) -> str:
    code, text = smtp.mail(sample.sender, sample.parameters)
    if code != 250:
        return _reply(code, text)
    replies = [smtp.rcpt(recipient) for recipient in sample.recipients]
    if all(code >= 400 for code, _ in replies):
        return _reply(*replies[-1])
    try:
        return _reply(*smtp.data(sample.content(sample)))
    except smtplib.SMTPDataError as error:
        return _reply(error.smtp_code, error.smtp_error)


def _reply(code: int, text: bytes | str) -> str:
    """One line; the enhanced code, which stands on each line of a long reply, once."""
    lines = (text if isinstance(text, str) else text.decode("utf-8", "replace")).splitlines()
    enhanced = lines[0].split(" ", 1)[0] if lines else ""
    rest = [line.removeprefix(enhanced).strip() for line in lines] if enhanced[:1].isdigit() else lines
    return " ".join([str(code), *([enhanced] if enhanced[:1].isdigit() else []), *rest])


def make_certificate(folder: Path, keys: Path) -> Certificate:
    """The citizen's certificate in ``folder``, where the gateway looks, and the key in ``keys``; kept for a month."""
    certificate, key = folder / f"{CITIZEN}.pem", keys / f"{CITIZEN}.key"
    if certificate.exists() and key.exists():
        expires = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        if expires > datetime.now(UTC) + timedelta(days=1):
            return Certificate(certificate, key)
    folder.mkdir(parents=True, exist_ok=True)
    keys.mkdir(parents=True, exist_ok=True)
    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate.write_bytes(_self_signed(private).public_bytes(serialization.Encoding.PEM))
    return Certificate(certificate, key)


def _self_signed(private: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A citizen, for the demonstration")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(CITIZEN)]), critical=False)
        .sign(private, hashes.SHA256())
    )
