"""Messages, transforms and certificates for the transforms' tests."""

import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from gateway.model.verdict import Transform, TransformKind
from gateway.transform import Planned, plan

LEGEND_LINES = (
    "THIS MESSAGE CONTAINS CONFIDENTIAL INFORMATION",
    "OF THE CITY OF EXAMPLE.",
    "DISCLOSURE IS PROHIBITED.",
)
_KEYS: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey] = {}


def legend(*lines: str) -> Transform:
    """A legend, the usual one without arguments."""
    return Transform(TransformKind.LEGEND, "legend-rule", id="confidential", lines=lines or LEGEND_LINES)


def apply(message: bytes, *transforms: Transform) -> bytes:
    """The message with the edits that planning gives."""
    return join(message, plan(message, transforms))


def join(message: bytes, planned: Planned) -> bytes:
    """The edited message."""
    return b"".join(bytes(piece) for piece in planned.edits.pieces(message))


def read(message: bytes) -> EmailMessage:
    """As Python's own parser sees it."""
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def _key(kind: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    if kind not in _KEYS:
        if kind.startswith("rsa"):
            _KEYS[kind] = rsa.generate_private_key(65537, int(kind[3:]))
        else:
            _KEYS[kind] = (
                ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
            )
    return _KEYS[kind]


def certificate(
    name: str = "Ann", kind: str = "rsa2048", days: tuple[int, int] = (-1, 30), usage: str = "", authority: bool = False
) -> bytes:
    """A certificate and its key in one PEM. ``days`` from now; ``usage``: ``encipher``, ``agree``, ``sign`` or none."""
    key = _key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signer = _key("rsa2048")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0])).not_valid_after(now + timedelta(days=days[1]))
    )  # fmt: skip
    if usage:
        flags = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
            False,
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=usage == "sign",
                key_encipherment=usage == "encipher",
                key_agreement=usage == "agree",
                **flags,
            ),
            critical=True,
        )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    assert not isinstance(signer, ed25519.Ed25519PrivateKey)
    made = builder.sign(signer, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
