"""For whom mail is encrypted, as real programs write it: gpg, openssl, age. Damage is survived."""

import base64
import quopri
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from tempfile import TemporaryDirectory

import pyrage
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.keyids import PASSWORD, age_keys, armoured, cms_keys, openpgp_keys
from gateway.checks.passive import Means, inspect
from gateway.checks.reading.attachments import open_reader
from gateway.model.envelope import Client, Envelope, Sender
from gateway.model.finding import Check, Questions
from gateway.policy.key_ids import key_form, same_key
from gateway.settings import InspectionSettings

from .reading.making import compound, doc, pdf, rar4, xls, zipped

TEXT = b"The council meets at noon.\n" * 20
BOTH = ("clerk@city.example", "escrow@city.example")
AGE_SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"


class Gpg:
    """GnuPG with a key ring of its own: two people, each with an encryption subkey."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.chmod(0o700)
        self.run("--passphrase", "", "--quick-gen-key", BOTH[0], "future-default", "default", "never")  # ECDH
        self.run("--passphrase", "", "--quick-gen-key", BOTH[1], "rsa2048", "cert", "never")
        primary = next(r for r in self.listed(BOTH[1]) if r[0] == "fpr")[9]
        self.run("--passphrase", "", "--quick-add-key", primary, "rsa2048", "encr", "never")

    def run(self, *arguments: str, data: bytes = b"") -> bytes:
        """One call; its standard output."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--trust-model", "always"]
        done = subprocess.run([*command, *arguments], input=data, capture_output=True, check=True, timeout=60)
        return done.stdout

    def listed(self, name: str) -> list[list[str]]:
        """The rows of a listing for programs."""
        told = self.run("--with-colons", "--with-subkey-fingerprint", "--list-keys", name)
        return [row.split(":") for row in told.decode().splitlines()]

    def subkey(self, name: str) -> str:
        """Fingerprint of the encryption subkey, as an administrator would copy it."""
        rows = self.listed(name)
        place = next(n for n, row in enumerate(rows) if row[0] == "sub" and "e" in row[11])
        return next(row[9] for row in rows[place:] if row[0] == "fpr")


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    """A key ring, and an end for its agent."""
    with TemporaryDirectory(prefix="gpg") as folder:  # a short path: the agent's socket lies in it
        made = Gpg(Path(folder))
        try:
            yield made
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False, timeout=30)


@pytest.mark.parametrize("armour", [True, False], ids=["armoured", "binary"])
@pytest.mark.parametrize("people", [BOTH[:1], BOTH], ids=["one", "both"])
def test_gpg_names_its_recipients(gpg: Gpg, armour: bool, people: tuple[str, ...]) -> None:
    """The ids are those of the encryption subkeys, in the order of the packets, and match the fingerprints."""
    arguments = [option for name in people for option in ("--recipient", name)]
    sealed = gpg.run(*(["--armor"] if armour else []), "--encrypt", *arguments, data=TEXT)
    wanted = [gpg.subkey(name) for name in people]
    keys = openpgp_keys(sealed)
    assert keys is not None
    assert keys == tuple(fingerprint[-16:] for fingerprint in wanted)
    assert all(same_key(key_form(key), key_form(full)) for key, full in zip(keys, wanted, strict=True))


def test_gpg_hides_recipients_and_takes_passwords(gpg: Gpg) -> None:
    """A hidden recipient is sixteen zeros, which no rule's key equals; a password is told as one."""
    hidden = gpg.run("--armor", "--encrypt", "--hidden-recipient", BOTH[0], data=TEXT)
    assert openpgp_keys(hidden) == ("0" * 16,)
    password = gpg.run(
        "--symmetric", "--s2k-count", "1024", "--pinentry-mode", "loopback", "--passphrase", "x", data=TEXT
    )
    assert openpgp_keys(password) == (PASSWORD,)


def test_gpg_signed_alone_is_not_encrypted(gpg: Gpg) -> None:
    """What gpg calls a message may be a signature around readable text."""
    signed = gpg.run("--armor", "--sign", data=TEXT)
    assert openpgp_keys(signed) is None
    assert look(b"\r\n" + signed) == []
    assert look(attached(signed, "letter.asc")) == []
    assert look(b"\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nblah, blah\r\n-----END PGP MESSAGE-----\r\n") == []


def test_what_is_no_packet_counts_as_sealed() -> None:
    """Armour around something unknown is for nobody that is known, rather than for nobody at all."""
    block = "-----BEGIN PGP MESSAGE-----\r\n\r\nAAAAAAAA\r\n-----END PGP MESSAGE-----\r\n"
    assert look(b"\r\n" + block.encode()) == [("openpgp", "")]


def test_a_quoted_block_is_read(gpg: Gpg) -> None:
    """Inline, with words around it, quoted by a reply, two blocks in one text."""
    block = gpg.run("--armor", "--encrypt", "--recipient", BOTH[1], data=TEXT).decode()
    quoted = "".join(f"> {row}\n" for row in block.splitlines())
    text = f"Here:\n{block}\nand again\n{quoted}\nBye"
    assert [openpgp_keys(data) for data in armoured(text)] == [(gpg.subkey(BOTH[1])[-16:],)] * 2


def test_keys_of_version_six() -> None:
    """RFC 9580 section 5.1.2: the fingerprint stands in the packet."""
    fingerprint = bytes(range(32))
    body = b"\x06\x21\x06" + fingerprint + b"\x19" + bytes(60)
    data = bytes((0xC1, len(body))) + body + b"\xd2\x05\x02\x09\x02\x00\x00"
    assert openpgp_keys(data) == (fingerprint.hex().upper(),)
    assert same_key(key_form(fingerprint.hex()[:16]), key_form(fingerprint.hex()))


def certificate(folder: Path, name: str, curve: bool = False) -> x509.Certificate:
    """A certificate and its key in files."""
    key = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
    title = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "City of Example, Wisconsin"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(title).issuer_name(title).public_key(key.public_key())
        .serial_number(0xABCDEF0123456789).not_valid_before(now).not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False).sign(key, SHA256())
    )  # fmt: skip
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


def openssl(folder: Path, *arguments: str, data: bytes = b"") -> bytes:
    """One call; its standard output."""
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True, cwd=folder, timeout=60)
    return done.stdout


@pytest.mark.parametrize("stream", [False, True], ids=["der", "ber"])
@pytest.mark.parametrize("curve", [False, True], ids=["rsa", "ec"])
@pytest.mark.parametrize("keyid", [False, True], ids=["issuer", "keyid"])
def test_openssl_names_its_recipients(tmp_path: Path, stream: bool, curve: bool, keyid: bool) -> None:
    """Issuer and serial number, or the key identifier, for RSA and elliptic curves, of definite length or not."""
    made = certificate(tmp_path, "escrow", curve)
    options = ["-stream"] if stream else []
    options += ["-keyid"] if keyid else []
    sealed = openssl(
        tmp_path, "cms", "-encrypt", "-aes256", "-outform", "DER", *options, "-recip", "escrow.pem", data=TEXT
    )
    keys = cms_keys(sealed)
    if keyid:
        wanted = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    else:
        told = openssl(tmp_path, "x509", "-noout", "-serial", "-issuer", "-nameopt", "RFC2253", "-in", "escrow.pem")
        serial, issuer = (row.partition("=")[2] for row in told.decode().splitlines())
        wanted = f"{serial}@{issuer}"
    assert [key_form(key) for key in keys] == [key_form(wanted)]


def test_openssl_passwords_and_several(tmp_path: Path) -> None:
    """Several recipients and a password in one message."""
    certificate(tmp_path, "clerk")
    certificate(tmp_path, "escrow", curve=True)
    sealed = openssl(
        tmp_path, "cms", "-encrypt", "-aes256", "-outform", "DER", "-pwri_password", "x", "-recip", "clerk.pem",
        "-recip", "escrow.pem", data=TEXT,
    )  # fmt: skip
    keys = cms_keys(sealed)
    assert sorted(key.partition(",")[0].partition("CN=")[2] for key in keys) == ["", "clerk", "escrow"]
    assert PASSWORD in keys


def test_age_names_what_it_can() -> None:
    """Keys of SSH leave a tag, age's own leave their kind, a password is told."""
    identity = pyrage.x25519.Identity.generate()
    ssh = pyrage.ssh.Recipient.from_str(AGE_SSH)
    keys = age_keys(pyrage.encrypt(TEXT, [identity.to_public(), ssh]))
    assert [key.split()[0] for key in keys if key.split()[0] in ("X25519", "ssh-ed25519")] == ["X25519", "ssh-ed25519"]
    assert age_keys(b"age-encryption.org/v1\n-> scrypt c2FsdA 18\nYm9keQ\n--- bWFj\n") == (PASSWORD,)
    armour = b"-----BEGIN AGE ENCRYPTED FILE-----\n" + base64.encodebytes(b"age-encryption.org/v1\n-> X25519 a\nb\n---")
    assert age_keys(armour + b"-----END AGE ENCRYPTED FILE-----\n") == ("X25519",)


@given(st.binary(max_size=300))
def test_anything_is_survived(data: bytes) -> None:
    """Octets of all kinds give ids or none, never an exception."""
    for mark in (b"", b"0\x80\x06\x09*\x86H\x86\xf7\r\x01\x07\x03\xa0\x800\x80\x02\x01\0", b"\xc1", b"\x85\x01\x0c"):
        openpgp_keys(mark + data)
        cms_keys(mark + data)
        age_keys(mark + data)


@pytest.mark.parametrize(
    ("asked", "found", "same"),
    [
        ("0x0123456789abcdef", "0123456789ABCDEF", True),
        ("A" * 24 + "0123456789ABCDEF", "0123456789abcdef", True),
        ("A" * 24 + "0123456789ABCDEF", "AAAAAAAAAAAAAAAA", False),
        ("00:1f:2a@CN=City CA, O=City", "1F2A@cn=city ca,o=city", True),
        ("1F2A@CN=City CA", "1F2A@CN=Other CA", False),
        ("0" * 16, "0123456789ABCDEF", False),
    ],
    ids=["prefix", "fingerprint", "other-end", "serial", "issuer", "hidden"],
)
def test_ids_are_compared(asked: str, found: str, same: bool) -> None:
    """Case, spaces, colons and leading zeros do not matter; a fingerprint equals its own key id alone."""
    assert same_key(key_form(asked), key_form(found)) is same


def look(message: bytes) -> list[tuple[str, str]]:
    """Format and ids of each thing that is found encrypted."""
    envelope = Envelope("t", Client("127.0.0.1", inside=True), Sender("clerk@city.example"))
    questions = Questions(frozenset({Check.ENCRYPTION}))
    found = inspect(message, envelope, questions, None, InspectionSettings(), Means(readers=open_reader))
    return sorted({(f.kind, f.value) for f in found if f.check is Check.ENCRYPTION})


def attached(data: bytes, name: str, kind: str = "octet-stream") -> bytes:
    """A message with one attachment."""
    message = EmailMessage(policy=SMTP)
    message.set_content("See the attachment.")
    message.add_attachment(data, "application", kind, filename=name)
    return message.as_bytes()


def test_openpgp_in_a_message(gpg: Gpg) -> None:
    """PGP/MIME, inline in each encoding and in HTML, a file, a file in an archive: the same ids everywhere."""
    people = [option for name in BOTH for option in ("--recipient", name)]
    armour = gpg.run("--armor", "--encrypt", *people, data=TEXT)
    binary = gpg.run("--encrypt", *people, data=TEXT)
    wanted = [("openpgp", "\n".join(gpg.subkey(name)[-16:] for name in BOTH))]
    rows = armour.replace(b"\n", b"\r\n")
    mime = (
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b\r\n\r\n--b\r\n'
        b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" + rows + b"--b--\r\n"
    )
    assert look(mime) == wanted
    words = b"Hello\r\n\r\n" + rows + b"\r\nBye"
    quoted = (
        quopri.encodestring(words.replace(b"\r\n", b"\n"))
        .replace(b"\n", b"\r\n")
        .replace(b"-----BEGIN", b"=2D----BEGIN")
    )
    for encoding, body in (("7bit", words), ("base64", base64.encodebytes(words)), ("quoted-printable", quoted)):
        head = f"Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        assert look(head + body) == wanted, encoding
    page = b"<p>" + armour.replace(b"\n", b"<br>\r\n") + b"</p>"
    assert look(b"Content-Type: text/html\r\n\r\n" + page) == wanted
    for data in (armour, binary, zipped({"plan.gpg": binary})):
        assert look(attached(data, "plan")) == wanted


def test_one_of_two_without_the_key(gpg: Gpg) -> None:
    """Each thing is a finding of its own, so that one that lacks a key does not hide behind another."""
    first, second = (gpg.run("--encrypt", "--recipient", name, data=TEXT) for name in BOTH)
    archive = zipped({"a.gpg": first, "b.gpg": second})
    assert look(attached(archive, "both.zip")) == sorted(("openpgp", gpg.subkey(name)[-16:]) for name in BOTH)


def test_smime_in_a_message(tmp_path: Path) -> None:
    """A message that is S/MIME, and one that is attached as a file in PEM."""
    certificate(tmp_path, "escrow")
    options = ("cms", "-encrypt", "-aes256", "-recip", "escrow.pem", "-keyid")
    whole = openssl(tmp_path, *options, "-outform", "SMIME", data=TEXT).replace(b"\n", b"\r\n")
    wanted = look(whole)
    assert [kind for kind, _ in wanted] == ["smime"]
    assert len(wanted[0][1]) == 40
    pem = openssl(tmp_path, *options, "-outform", "PEM", data=TEXT)
    assert look(attached(pem, "letter.p7m", "pkcs7-mime")) == wanted


SEALED_ZIP = (
    "UEsDBBQAAQAAAIgLdl3l6KJcBgAAAAYAAAAIAAAAcGxhbi50eHRzZWNyZXRQSwECFAMUAAEAAACIC3Zd5eiiXAYAAAAGAAAACAAAAAAAAAAAAAAAgAEA"
    "AAAAcGxhbi50eHRQSwUGAAAAAAEAAQA2AAAALAAAAAAA"
)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (base64.b64decode(SEALED_ZIP), "zip"),
        (rar4("a.txt", b"x" * 40, encrypted=True), "rar"),
        (pdf(["x"], password="secret"), "pdf"),
        (doc("x" * 40, encrypted=True), "office"),
        (xls([["x"]], encrypted=True), "office"),
        (compound({"EncryptionInfo": b"x", "EncryptedPackage": b"y"}), "office"),
        (zipped({"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": b"<x/>",
                 "META-INF/manifest.xml": b"<m:manifest><m:encryption-data/></m:manifest>"}), "opendocument"),
        (b"age-encryption.org/v1\n-> scrypt c2FsdA 18\nYm9keQ\n--- bWFj\n", "age"),
    ],
    ids=["zip", "rar", "pdf", "doc", "xls", "docx", "odt", "age"],
)  # fmt: skip
def test_files_with_a_password(data: bytes, kind: str) -> None:
    """Each format is named; a password leaves no key."""
    assert look(attached(data, "plan")) == [(kind, PASSWORD if kind == "age" else "")]


def test_what_is_not_encrypted() -> None:
    """Signed mail, archives that everybody opens, words about encryption."""
    signed = (
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n"
        b"Content-Type: application/pgp-signature\r\n\r\n"
        b"-----BEGIN PGP SIGNATURE-----\r\n\r\nx\r\n-----END PGP SIGNATURE-----\r\n--b--"
    )
    assert look(signed) == []
    assert look(attached(zipped({"a.txt": b"x"}), "a.zip")) == []
    assert look(b"\r\nIt begins with BEGIN PGP MESSAGE, they say.") == []


def test_time_is_linear() -> None:
    """Beginnings of messages without an end, a hundred thousand times."""
    started = time.process_time()
    assert len(list(armoured("-----BEGIN PGP MESSAGE-----\n" * 100_000))) == 1
    assert len(list(armoured("-----BEGIN PGP MESSAGE-----\n-----END PGP\n" * 50_000))) == 2000
    age_keys(b"age-encryption.org/v1\n" + b"-> a b" * 100_000)
    assert time.process_time() - started < 1
