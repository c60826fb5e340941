"""Encryption: a real openssl decrypts what leaves, and whatever fails, nothing leaves."""

import asyncio
import os
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ControlError
from gateway.model.verdict import Disposition, Transform, TransformKind
from gateway.settings import EncryptionSettings, SpoolSettings
from gateway.spool import Spool, SpooledMessage
from gateway.transform import Planned, Transformer, TransformFailed, plan
from gateway.transform.certificates import CertificateFolder, read_certificates
from tests.unit.transform.making import certificate, legend, read

ENCRYPT = Transform(TransformKind.ENCRYPT, "confidential", methods=("smime", "pickup"))
HEADER = (
    b"Received: by gateway\r\nFrom: clerk@city.example\r\nTo: Ann@Outside.example\r\nSubject: Case\r\n of Bob\r\n"
    b"Keywords: hiv\r\nThread-Topic: Case of Bob\r\nMessage-ID: <1@city.example>\r\nDKIM-Signature: v=1\r\n"
)
RECIPIENT = ("ann@outside.EXAMPLE",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A certificate folder with a usable certificate for Ann; her key beside it for decryption."""
    pem = certificate(usage="encipher")
    (tmp_path / "key.pem").write_bytes(pem)
    made = tmp_path / "certificates"
    made.mkdir()
    (made / "Ann@outside.example.pem").write_bytes(pem.partition(b"-----BEGIN PRIVATE")[0])
    return made


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool in which even small messages are files, so that leftovers show."""
    made = Spool(SpoolSettings(directory=tmp_path / "spool", memory=10))
    made.prepare()
    return made


Build = Callable[..., Transformer]


@pytest.fixture
def build(folder: Path, spool: Spool) -> Build:
    """A transformer with settings as keywords."""

    def make(**settings: object) -> Transformer:
        return Transformer(EncryptionSettings.model_validate({"certificates": folder, **settings}), spool)

    return make


async def sealed(transformer: Transformer, message: bytes, *more: Transform) -> bytes:
    """The encrypted message."""
    outgoing = await transformer.apply(SpooledMessage.of(message), (*more, ENCRYPT), RECIPIENT, "t1")
    content = b"".join(bytes(chunk) for chunk in outgoing.chunks())
    assert len(content) == outgoing.size
    outgoing.close()
    outgoing.close()
    return content


def opened(openssl: Callable[..., bytes], message: bytes, key: str = "key.pem") -> bytes:
    """What Ann's openssl makes of it."""
    return openssl("cms", "-decrypt", "-inkey", key, data=message)


BODIES = {
    "text": b"\r\nCase 12, SSN 078-05-1120.\r\n.\r\n..\r\n",
    "empty": b"\r\n",
    "8bit": b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nna\xefve \xff\r\n",
    "mixed": (
        b'Content-Type: multipart/mixed;\r\n boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n--b\r\n"
        b'Content-Type: image/png; name="a.png"\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n'
    ),
    "long": b"\r\n" + b"x" * 200_000 + b"\r\n",
}


@pytest.mark.parametrize("kind", BODIES)
async def test_openssl_decrypts_it(kind: str, build: Build, openssl: Callable[..., bytes]) -> None:
    """The decrypted entity is the original's body octet for octet, with its Content- fields and protected header."""
    message = HEADER + b"MIME-Version: 1.0\r\n" + BODIES[kind]
    result = await sealed(build(), message)
    inner = opened(openssl, result)
    assert inner.partition(b"\r\n\r\n")[2] == message.partition(b"\r\n\r\n")[2]
    before, after = read(message), read(inner)
    assert after.get_content_type() == before.get_content_type()
    assert after.get_param("hp") == "cipher"
    assert after.get_boundary() == before.get_boundary()
    assert after["Content-Transfer-Encoding"] == before["Content-Transfer-Encoding"]


async def test_what_is_outside_and_what_inside(build: Build, openssl: Callable[..., bytes]) -> None:
    """RFC 9788: the subject and its like are inside alone; routing fields are on both sides; trace stays outside."""
    result = await sealed(build(), HEADER + b"\r\nbody\r\n")
    outer, inner = read(result), read(opened(openssl, result))
    for secret in (b"Bob", b"hiv", b"body", b"DKIM"):
        assert secret not in result
    assert outer["Subject"] == "[...]"
    assert inner["Subject"] == "Case of Bob"
    assert inner["Keywords"] == "hiv"
    assert inner["DKIM-Signature"] == "v=1"
    assert inner["Received"] is None
    for name in ("From", "To", "Message-ID"):
        assert outer[name] == inner[name]
    assert result.startswith(b"Received: by gateway\r\n")
    copies = inner.get_all("HP-Outer")
    assert copies is not None
    assert [str(copy).partition(":")[0] for copy in copies] == ["From", "To", "Subject", "Message-ID"]
    assert "Subject: [...]" in copies
    assert outer.get_content_type() == "application/pkcs7-mime"
    assert outer.get_param("smime-type") == "enveloped-data"
    assert outer.get_filename() == "smime.p7m"
    assert outer["MIME-Version"] == "1.0"
    assert b"\n" not in result.replace(b"\r\n", b"")


async def test_no_name_and_no_unknown_field_stands_outside(build: Build, openssl: Callable[..., bytes]) -> None:
    """A Social Security number in a display name or in a field of some program left in clear."""
    header = (
        b'From: "Clerk 219-09-9999" <clerk@city.example>\r\nTo: =?utf-8?q?219-09-9999?= <citizen@example.org>,\r\n'
        b" other@example.org\r\nCc: undisclosed-recipients:;\r\nX-Case: 219-09-9999\r\nX-Civicgate-Note: kept\r\n"
        b"Message-ID: <1@city.example>\r\n"
    )
    result = await sealed(build(), header + b"\r\nbody\r\n")
    assert b"219" not in result.partition(b"\r\n\r\n")[0]
    outer, inner = read(result), read(opened(openssl, result))
    assert outer["From"] == "clerk@city.example"
    assert [a.addr_spec for a in outer["To"].addresses] == ["citizen@example.org", "other@example.org"]
    assert (outer["X-Case"], outer["X-Civicgate-Note"], outer["Message-ID"]) == (None, "kept", "<1@city.example>")
    assert inner["X-Case"] == "219-09-9999"
    assert "219-09-9999" in str(inner["To"])
    assert "219-09-9999" in str(inner["From"])


async def test_edits_are_inside(build: Build, openssl: Callable[..., bytes]) -> None:
    """The legend that another rule wants is put before encrypting; LF messages become canonical inside."""
    message = HEADER.replace(b"\r\n", b"\n") + b"\nbody\n"
    result = await sealed(build(), message, legend())
    assert b"\r" not in result
    inner = opened(openssl, result)
    assert inner.endswith(b"PROHIBITED.\r\n\r\nbody\r\n")
    assert b"CONFIDENTIAL" not in result


async def test_a_malformed_header_loses_nothing(build: Build, openssl: Callable[..., bytes]) -> None:
    """Lines that are no fields are the body to our parser: they are inside, and nothing of them is outside."""
    result = await sealed(build(), b"From: a@city.example\r\nthis is no field\r\nSSN: 1\r\n\r\nmore\r\n")
    assert opened(openssl, result).endswith(b"\r\n\r\nthis is no field\r\nSSN: 1\r\n\r\nmore\r\n")
    assert b"SSN" not in result


async def test_a_signed_message_verifies_after_decryption(
    build: Build, tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    """A clear-signed message is encrypted whole: decrypted, its signature still verifies."""
    entity = openssl(
        "cms", "-sign", "-signer", "key.pem", "-crlfeol", data=b"Content-Type: text/plain\r\n\r\nAgreed.\r\n"
    )
    inner = opened(openssl, await sealed(build(), b"From: a@city.example\r\n" + entity))
    assert openssl("cms", "-verify", "-noverify", data=inner).endswith(b"Agreed.\r\n")


async def test_every_recipient_can_read_it(
    build: Build, folder: Path, tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    """Two recipients, one by her address and one by his domain's certificate (an elliptic curve key): both decrypt."""
    pem = certificate("Gate", kind="ec", usage="agree")
    (tmp_path / "gate.pem").write_bytes(pem)
    (folder / "@partner.example.pem").write_bytes(pem.partition(b"-----BEGIN PRIVATE")[0])
    outgoing = await build().apply(
        SpooledMessage.of(HEADER + b"\r\nbody\r\n"), (ENCRYPT,), (*RECIPIENT, "x/../y@Partner.example")
    )
    content = b"".join(bytes(chunk) for chunk in outgoing.chunks())
    outgoing.close()
    for key in ("key.pem", "gate.pem"):
        assert opened(openssl, content, key).endswith(b"\r\n\r\nbody\r\n")


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (certificate(days=(-9, -1), usage="encipher"), "expired on"),
        (certificate(days=(1, 9), usage="encipher"), "not valid before"),
        (certificate(kind="rsa1024", usage="encipher"), "RSA key of only 1024 bits"),
        (certificate(usage="sign"), "key usage without keyEncipherment"),
        (certificate(kind="ec", usage="encipher"), "key usage without keyAgreement"),
        (certificate(kind="ed25519"), "cannot encrypt mail"),
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a valid certificate"),
    ],
    ids=["expired", "early", "weak", "usage", "ec-usage", "kind", "empty", "garbage"],
)
async def test_unfit_certificates_are_refused(pem: bytes, why: str, build: Build, folder: Path, tmp_path: Path) -> None:
    """Each says which recipient and why, carries its transform, falls back to no domain certificate, leaves nothing."""
    (folder / "@outside.example.pem").write_bytes(certificate())
    (folder / "Ann@outside.example.pem").write_bytes(pem)
    with pytest.raises(TransformFailed) as failure:
        await sealed(build(), HEADER + b"\r\nbody\r\n")
    assert failure.value.code == "no-certificate"
    assert failure.value.detail.startswith("ann@outside.EXAMPLE: ")
    assert why in failure.value.detail
    assert failure.value.transform == ENCRYPT
    assert not list((tmp_path / "spool").iterdir())


async def test_no_certificate_names_who_lacks_one(build: Build) -> None:
    """One recipient of two without a certificate: nothing is encrypted, and that one is named."""
    with pytest.raises(TransformFailed, match=r"^bob@nowhere\.example: no certificate$"):
        await build().apply(SpooledMessage.of(HEADER + b"\r\n"), (ENCRYPT,), (*RECIPIENT, "bob@nowhere.example"))


def test_several_certificates_in_a_file() -> None:
    """All of a file's certificates are read; an authority's beside a person's is only a pasted chain."""
    both = read_certificates(certificate("A") + certificate("CA", authority=True) + certificate("B"))
    assert [c.authority for c in both] == [False, True, False]


async def test_a_changed_folder_is_seen(build: Build, folder: Path) -> None:
    """A certificate that is put in, or replaced, counts at once."""
    transformer = build()
    path = folder / "Ann@outside.example.pem"
    good = path.read_bytes()
    path.unlink()
    os.utime(folder, (1, 1))
    with pytest.raises(TransformFailed, match="no certificate"):
        await sealed(transformer, HEADER + b"\r\nbody\r\n")
    path.write_bytes(certificate(days=(-9, -1)))
    os.utime(folder, (2, 2))
    with pytest.raises(TransformFailed, match="expired"):
        await sealed(transformer, HEADER + b"\r\nbody\r\n")
    path.write_bytes(good)
    assert await sealed(transformer, HEADER + b"\r\nbody\r\n")


SCRIPTS = {
    "fails": ("cat >/dev/null; echo 'no such\nkey' >&2; exit 3", "openssl"),
    "stops reading": ("exit 0", "openssl"),
    "says nothing": ("cat >/dev/null; exit 0", "openssl"),
    "half a result": ("cat >/dev/null; printf 'A: b\\n\\nAAAA\\n'; exit 1", "openssl"),
    "gives plaintext": ("cat", "openssl"),
    "gives plaintext as base64": ("printf 'A: b\\n\\n'; base64", "openssl"),
    "hangs": ("exec sleep 60", "timeout"),
    "floods": ("exec yes", "openssl"),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_whatever_openssl_does_nothing_leaves(name: str, build: Build, tmp_path: Path) -> None:
    """A failing, silent, hanging or lying program: an error with its code, no file left, no process left."""
    script, code = SCRIPTS[name]
    program = tmp_path / "openssl.sh"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(TransformFailed) as failure:
        await sealed(build(openssl=str(program), timeout="500 ms"), HEADER + b"\r\n" + b"secret\r\n" * 50_000)
    assert failure.value.code == code
    assert "secret" not in failure.value.detail
    assert not list((tmp_path / "spool").iterdir())
    await gone(int((tmp_path / "pid").read_text()))


async def gone(pid: int) -> None:
    """Wait until the process is no more; a dead one stays in sight until the loop has asked for its exit code."""
    async with asyncio.timeout(5):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.01)


async def test_no_openssl_at_all(build: Build) -> None:
    """A program that is not there is an error like any other."""
    with pytest.raises(TransformFailed, match="cannot be started"):
        await sealed(build(openssl="/nonexistent/openssl"), HEADER + b"\r\nbody\r\n")


async def test_a_cancelled_transaction_leaves_nothing(build: Build, tmp_path: Path) -> None:
    """The client goes away while openssl works: the process is gone and so is the file."""
    program = tmp_path / "openssl.sh"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o700)
    task = asyncio.create_task(sealed(build(openssl=str(program)), HEADER + b"\r\nbody\r\n"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((tmp_path / "spool").iterdir())
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_method_that_is_not_built_in(build: Build) -> None:
    """A rule that allows only methods that we lack fails rather than sending in clear."""
    with pytest.raises(TransformFailed) as failure:
        await build().apply(
            SpooledMessage.of(HEADER + b"\r\n"),
            (Transform(TransformKind.ENCRYPT, "r", methods=("pickup",)),),
            RECIPIENT,
        )
    assert failure.value.code == "no-method"


async def test_what_is_encrypted_already_stays(build: Build) -> None:
    """Our own result goes through a second time without a changed octet, and a note says so."""
    once = await sealed(build(), HEADER + b"\r\nbody\r\n")
    outgoing = await build().apply(SpooledMessage.of(once), (ENCRYPT,), RECIPIENT)
    assert b"".join(bytes(chunk) for chunk in outgoing.chunks()) == once
    assert outgoing.notes == ("encrypt: already encrypted end to end, left alone",)


PGP = (
    b"Content-Type: multipart/encrypted; protocol=application/pgp-encrypted; boundary=b\r\n\r\n%b--b\r\n"
    b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n"
    b"-----BEGIN PGP MESSAGE-----\r\n\r\n%b\r\n-----END PGP MESSAGE-----\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("message", "real"),
    [
        (PGP % (b"", b"hQEMA0AAAAAAAAAAAQf/"), True),
        (PGP % (b"SSN 078-05-1120\r\n", b"hQEMA0AAAAAAAAAAAQf/"), False),
        (PGP % (b"", b"SSN 078-05-1120"), False),
        (b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\nSSN\r\n--b--\r\n", False),
        (b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nSSN 078-05-1120\r\n", False),
        (b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\n0\x80\x06\x09*\x86H\x86\xf7\r\n", False),
    ],
    ids=["pgp", "pgp with text beside", "pgp in name", "other", "pkcs7 in name", "pkcs7 signed"],
)
def test_only_real_encryption_counts(message: bytes, real: bool) -> None:
    """Judged by its octets: who only says that it is encrypted gets encrypted."""
    assert (plan(message, (ENCRYPT,)).encrypt is None) == real


async def test_large_messages_are_planned_by_the_runner(folder: Path, spool: Spool) -> None:
    """Above the limit the runner plans; what it gives is used, and its failure comes through."""
    seen: list[int] = []

    async def runner(message: object, transforms: tuple[Transform, ...]) -> Planned:
        assert isinstance(message, SpooledMessage)
        seen.append(message.size)
        await asyncio.sleep(0)
        return plan(message.buffer, transforms)

    transformer = Transformer(EncryptionSettings(certificates=folder), spool, runner, inline=100)
    small = await transformer.apply(SpooledMessage.of(b"A: b\r\n\r\nx\r\n"), (legend(),), ())
    large = await transformer.apply(SpooledMessage.of(b"A: b\r\n\r\n" + b"x" * 100), (legend(),), ())
    assert seen == [108]
    for outgoing in (small, large):
        twice = [b"".join(bytes(chunk) for chunk in outgoing.chunks()) for _ in range(2)]
        assert twice[0] == twice[1]
        assert len(twice[0]) == outgoing.size


@pytest.mark.parametrize("reason", ["crashed", "limit", "timeout", "unavailable"])
async def test_a_runner_that_is_gone_fails_as_the_strictest_rule_says(folder: Path, spool: Spool, reason: str) -> None:
    """It once deferred whatever the rules said: a banner that may be left out kept mail away for ever."""

    async def runner(message: object, transforms: tuple[Transform, ...]) -> Planned:
        raise ControlError(reason, "it ended")

    transformer = Transformer(EncryptionSettings(certificates=folder), spool, runner, inline=100)
    banner = Transform(TransformKind.BANNER, "banner", id="b", lines=("x",), on_failure=Disposition.PASS)
    held = replace(legend(), on_failure=Disposition.HOLD)
    message = SpooledMessage.of(b"A: b\r\n\r\n" + b"x" * 100)
    for transforms, blamed in (((banner, held, ENCRYPT), ENCRYPT), ((banner, held), held), ((banner,), banner)):
        with pytest.raises(TransformFailed) as caught:
            await transformer.apply(message, transforms, RECIPIENT)
        assert (caught.value.code, caught.value.transform) == (reason, blamed)


async def test_twenty_megabytes_in_bounded_memory(
    build: Build, folder: Path, spool: Spool, openssl: Callable[..., bytes]
) -> None:
    """20 MB are encrypted while this process grows by less than 8 MB, and openssl gets back every octet."""
    noise = random.Random(1)
    writer = spool.new("big")
    writer.write(HEADER + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n")
    for _ in range(20):
        writer.write(noise.randbytes(1_000_000).replace(b"\n", b"x"))
    message = writer.close()
    await sealed_to_nothing(build(), SpooledMessage.of(HEADER + b"\r\nx"))
    before = _anonymous()
    watch = _Watch(spool)
    outgoing = await Transformer(EncryptionSettings(certificates=folder), watch).apply(message, (ENCRYPT,), RECIPIENT)
    grown = watch.highest - before
    assert outgoing.size > 26_000_000
    inner = opened(openssl, b"".join(bytes(chunk) for chunk in outgoing.chunks()))
    assert inner[inner.index(b"\r\n\r\n") :] == bytes(message.buffer[message.buffer.find(b"\r\n\r\n") :])
    outgoing.close()
    message.close()
    assert grown < 8_000_000


class _Watch:
    """A spool that looks at this process's memory at every write; also the writer that it gives."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.highest = 0

    def new(self, transaction: str) -> "_Watch":
        self._writer = self._spool.new(transaction)
        return self

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        self.highest = max(self.highest, _anonymous())

    def close(self) -> SpooledMessage:
        return self._writer.close()

    def abort(self) -> None:
        self._writer.abort()


async def sealed_to_nothing(transformer: Transformer, message: SpooledMessage) -> None:
    """Encrypt once, so that later growth is the message's alone."""
    (await transformer.apply(message, (ENCRYPT,), RECIPIENT)).close()


def _anonymous() -> int:
    """Octets of anonymous memory that this process holds (private data, not mapped files)."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("RssAnon")) * 1024


def test_the_command_line_is_public(tmp_path: Path, folder: Path, spool: Spool) -> None:
    """What other users of the machine can see of the process names no recipient, no key, no path of ours."""
    program = tmp_path / "openssl.sh"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/seen\nexec openssl "$@"\n')
    program.chmod(0o700)
    transformer = Transformer(EncryptionSettings(certificates=folder, openssl=str(program)), spool)
    asyncio.run(sealed_to_nothing(transformer, SpooledMessage.of(HEADER + b"\r\nx")))
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("cms -encrypt -binary -stream -aes256 -outform SMIME /dev/fd/")
    assert len(seen.split()) == 8


async def test_a_certificate_named_in_the_other_form_of_its_domain_is_found(folder: Path) -> None:
    """A file named by the U-label serves mail to the A-label, and the other way round."""
    (folder / "Bob@bücher.example.pem").write_bytes(certificate())
    (folder / "@xn--caf-dma.example.pem").write_bytes(certificate())
    found = CertificateFolder(folder)
    assert found.find(["bob@XN--bcher-kva.example"]) == found.find(["bob@Bücher.example"])
    assert found.find(["eve@café.example"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"), "RSA-PSS key"),
        (("ec", "-pkeyopt", "ec_paramgen_curve:secp112r1"), "not a valid certificate"),
        (("rsa:2048", "-addext", "extendedKeyUsage=serverAuth"), "without emailProtection"),
    ],
    ids=["pss", "odd-curve", "server"],
)
async def test_one_odd_certificate_once_took_the_others_of_its_file_with_it(
    options: tuple[str, ...], why: str, build: Build, folder: Path, openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    """Alone it is refused with the reason; beside a usable one, that one is encrypted to."""
    names = ("-subj", "/CN=odd", "-keyout", "odd.key", "-out", "odd.pem")
    openssl("req", "-x509", "-nodes", *names, "-newkey", *options, data=b"")
    odd, file = (tmp_path / "odd.pem").read_bytes(), folder / "ann@outside.example.pem"
    usable = (folder / "Ann@outside.example.pem").read_bytes()
    (folder / "Ann@outside.example.pem").unlink()
    file.write_bytes(odd)
    with pytest.raises(TransformFailed, match=why):
        await sealed(build(), HEADER + b"\r\nbody\r\n")
    file.write_bytes(odd + usable)
    assert opened(openssl, await sealed(build(), HEADER + b"\r\nbody\r\n")).endswith(b"body\r\n")
