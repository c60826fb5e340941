"""Recipients' certificates from a folder: ``ADDRESS.pem``, or ``@DOMAIN.pem`` for a whole domain's gateway.

The folder is the trust: who may write there decides to whom mail is encrypted, and no chain is checked. Refuses
certificates that are out of their dates, weak, or not made for encryption. Holds no private keys.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID

from gateway.errors import TransformError
from gateway.model.envelope import domain_of, fold

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]{1,40000}-----END CERTIFICATE-----")
_LARGEST = 1_000_000
_WEAKEST_RSA = 2048
_WEAKEST_EC = 256


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, read and judged once but for its dates."""

    pem: bytes
    not_before: datetime
    not_after: datetime
    unfit: str
    """Why it can never encrypt mail, ``""`` when it can."""
    authority: bool
    """Marked as a certification authority: used only when its file holds no other (chains get pasted into files)."""

    def refusal(self, now: datetime) -> str:
        """Why it cannot be used now, ``""`` when it can."""
        if self.unfit:
            return self.unfit
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d}"
        if now > self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d}"
        return ""


class CertificateFolder:
    """The certificates of a folder. Files are read again when they change."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._clock = clock
        self._names: dict[str, Path] = {}
        self._listed = (-1, -1)
        self._read: dict[Path, tuple[tuple[int, int], tuple[Certificate, ...]]] = {}

    def find(self, recipients: Iterable[str]) -> tuple[bytes, ...]:
        """The distinct certificates (PEM) of all recipients.

        An address's own file decides for it, usable or not; else its domain's. Raises TransformError
        ``no-certificate`` that names every recipient without one, and why.
        """
        found: dict[bytes, None] = {}
        missing: list[str] = []
        for recipient in recipients:
            usable, why = self._usable(fold(recipient))
            found.update(dict.fromkeys(usable))
            if not usable:
                missing.append(f"{recipient}: {why}")
        if missing or not found:
            raise TransformError("no-certificate", "; ".join(missing) or "there is no recipient to encrypt to")
        return tuple(found)

    def _usable(self, address: str) -> tuple[list[bytes], str]:
        path = self._path(address)
        if path is None:
            return [], "no certificate"
        try:
            certificates = self._load(path)
        except OSError as error:
            return [], f"{path.name} cannot be read: {error.strerror}"
        if not certificates:
            return [], f"{path.name} holds no certificate"
        now = self._clock()
        refusals = [certificate.refusal(now) for certificate in certificates]
        fit = [certificate for certificate, why in zip(certificates, refusals, strict=True) if not why]
        people = [certificate for certificate in fit if not certificate.authority]
        return [certificate.pem for certificate in people or fit], f"{path.name}: {', '.join(filter(None, refusals))}"

    def _path(self, address: str) -> Path | None:
        """Looked up in the folder's listing, never made from the address."""
        try:
            state = self._folder.stat()
            if (state.st_mtime_ns, state.st_ino) != self._listed:
                files = (path for path in self._folder.iterdir() if path.suffix == ".pem")
                self._names = {f"{fold(path.stem)}.pem": path for path in files}
                self._listed = (state.st_mtime_ns, state.st_ino)
        except OSError:
            return None
        return self._names.get(f"{address}.pem") or self._names.get(f"@{domain_of(address)}.pem")

    def _load(self, path: Path) -> tuple[Certificate, ...]:
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            with path.open("rb") as file:
                known = (stamp, read_certificates(file.read(_LARGEST)))
            self._read[path] = known
        return known[1]


def read_certificates(pem: bytes) -> tuple[Certificate, ...]:
    """All certificates of a PEM file; one that does not parse is unfit, not absent."""
    return tuple(_judge(match[0]) for match in _PEM.finditer(pem))


def _judge(pem: bytes) -> Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        unfit = _unfit(certificate)
        authority = _is_authority(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as error:
        epoch = datetime.fromtimestamp(0, UTC)
        return Certificate(pem, epoch, epoch, f"not a valid certificate ({type(error).__name__})", authority=False)
    clean = certificate.public_bytes(Encoding.PEM)
    return Certificate(clean, certificate.not_valid_before_utc, certificate.not_valid_after_utc, unfit, authority)


def _unfit(certificate: x509.Certificate) -> str:
    """RFC 8551 section 4.4.1 and RFC 8550 section 4.4.2, with the key sizes of section 4.3's SHOULD."""
    if not _for_mail(certificate):
        return "extended key usage without emailProtection"
    pss = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
    return "an RSA-PSS key, which can only sign" if pss else _unfit_key(certificate)


def _unfit_key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    usage = _usage(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _WEAKEST_RSA:
            return f"RSA key of only {key.key_size} bits"
        return "" if usage is None or usage.key_encipherment else "key usage without keyEncipherment"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < _WEAKEST_EC:
            return f"elliptic curve key of only {key.key_size} bits"
        return "" if usage is None or usage.key_agreement else "key usage without keyAgreement"
    return "a kind of key that cannot encrypt mail"


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _for_mail(certificate: x509.Certificate) -> bool:
    """RFC 8550 section 4.4.4: who says what the key is for, must say mail or anything."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return not {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.isdisjoint(purposes)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
