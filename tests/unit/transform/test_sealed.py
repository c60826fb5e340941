"""Signed and encrypted messages pass through every transform but encryption without a changed octet inside."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.mime import parse
from gateway.model.verdict import Transform, TransformKind
from gateway.transform import TransformFailed, plan
from tests.unit.transform.making import apply, certificate, join, legend, read

SIGN = Transform(TransformKind.SIGNATURE_BLOCK, "contractors", lines=("Not a city employee",), wordings=("contractor",))
HEADER = Transform(TransformKind.HEADER, "marks", name="X-Class", value="public")


@pytest.fixture
def signed(tmp_path: Path, openssl: Callable[..., bytes]) -> bytes:
    """A message that openssl has clear-signed."""
    (tmp_path / "signer.pem").write_bytes(certificate())
    body = b"Content-Type: text/plain; charset=utf-8\r\n\r\nAgreed.\r\n"
    made = openssl("cms", "-sign", "-signer", "signer.pem", "-crlfeol", "-md", "sha256", data=body)
    return b"From: a@city.example\r\nSubject: contract\r\n" + made


def test_a_real_signature_still_verifies(signed: bytes, tmp_path: Path, openssl: Callable[..., bytes]) -> None:
    """Legend and header go into the header; openssl still verifies the signature of what leaves."""
    planned = plan(signed, (legend(), HEADER))
    result = join(signed, planned)
    assert result.endswith(signed)
    assert result != signed
    assert "CONFIDENTIAL" in read(result)["X-Civicgate-Legend"]
    assert "signed or encrypted" in planned.notes[0]
    (tmp_path / "signer.pem").write_bytes(certificate())
    verified = openssl("cms", "-verify", "-noverify", "-certfile", "signer.pem", data=result)
    assert verified == b"Content-Type: text/plain; charset=utf-8\r\n\r\nAgreed.\r\n"


def test_a_signature_that_is_touched_does_not_verify(signed: bytes, openssl: Callable[..., bytes]) -> None:
    """The near miss: one octet more in the signed part, and openssl says no (so the test above can fail)."""
    with pytest.raises(AssertionError):
        openssl("cms", "-verify", "-noverify", data=signed.replace(b"Agreed.", b"Agreed!"))


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nAAAA\r\n",
        b"Content-Type: text/plain\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHi\r\n",
        b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nHi\r\n--b--\r\n",
    ],
)
def test_no_signature_block_into_sealed_parts(body: bytes) -> None:
    """Where the signature block cannot go, the transform fails with its rule, so that on_failure acts."""
    with pytest.raises(TransformFailed) as failure:
        plan(body, (SIGN,))
    assert failure.value.code == "sealed"
    assert failure.value.transform == SIGN


def test_a_sealed_part_beside_the_body_stays() -> None:
    """A signed attachment in a plain message: the body gets the legend, the signed part keeps every octet."""
    seal = (
        b"Content-Type: multipart/signed; boundary=s; protocol=x; micalg=y\r\n\r\n--s\r\n\r\nsigned text\r\n--s\r\n"
        b"Content-Type: application/pkcs7-signature\r\n\r\nAAAA\r\n--s--\r\n"
    )
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nbody\r\n--b\r\n" + seal + b"--b--\r\n"
    result = apply(message, legend())
    assert seal in result
    kept = parse(result).part("1")
    assert kept is not None
    assert result[kept.body.start : kept.body.end].endswith(b"PROHIBITED.\r\n\r\nbody")
