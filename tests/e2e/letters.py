"""Messages and certificates that the end-to-end tests use."""

import base64
import itertools
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

CLERK = "clerk@city.example"
MAYOR = "mayor@city.example"
EVERYONE = "everyone@city.example"
CONTRACTOR = "contractor@city.example"
PARTNER = "partner@example.org"
STRANGER = "stranger@example.net"
DIRECTOR = "manager@city.example"
SPECIALIST = "communications@city.example"
SSN = "-".join(("536", "90", "4399"))
CONFIDENTIAL = f"Her Social Security number is {SSN}."
LEGEND = (
    "THIS MESSAGE CONTAINS CONFIDENTIAL INFORMATION",
    "OF THE CITY OF EXAMPLE.",
    "UNAUTHORIZED USE OR DISCLOSURE IS PROHIBITED.",
)
_EICAR = "".join(("X5O!P%@AP[4", "\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE", "!$H+H*"))
EICAR = _EICAR.encode()
"""The EICAR test file, put together here so that no scanner takes the source tree for infected."""

_numbers = itertools.count(1)


def mark(about: str) -> str:
    """A word that no other message of this run has."""
    return f"{about}-{next(_numbers)}-mark"


def letter(
    name: str, text: str = "Hello.\n", sender: str = CLERK, to: str = MAYOR, *fields: str, subject: str = "A letter"
) -> bytes:
    """A plain message; ``name`` is its X-First field and the local part of its Message-ID."""
    head = [
        f"X-First: {name}",
        f"From: {sender}",
        f"To: {to}",
        f"Subject: {subject}",
        f"Message-ID: <{name}@test.example>",
    ]
    return ("\r\n".join([*head, *fields]) + "\r\n\r\n" + text.replace("\r\n", "\n").replace("\n", "\r\n")).encode()


def attached(name: str, octets: int, sender: str = CLERK, to: str = MAYOR) -> bytes:
    """A message with one attachment of noise (no program, no text), about so many octets in all."""
    head = letter(name, "", sender, to, "MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="b-b"')
    head += b"\r\n--b-b\r\nContent-Type: text/plain\r\n\r\nSee the plans.\r\n--b-b\r\n"
    head += b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
    head += b'Content-Disposition: attachment; filename="plans.dat"\r\n\r\n'
    noise = base64.b64encode(random.Random(7).randbytes(57 * 1000))
    lines = b"".join(noise[n : n + 76] + b"\r\n" for n in range(0, len(noise), 76))
    return head + lines * (octets // len(lines)) + b"--b-b--\r\n"


def named(name: str) -> bytes:
    """The field by which :func:`letter`'s message is found."""
    return f"X-First: {name}\r\n".encode()


@dataclass(frozen=True)
class Certificate:
    """Somebody's certificate and key."""

    file: Path
    key: Path

    def open(self, content: bytes) -> bytes:
        """What is inside an S/MIME message, opened by openssl. Raises CalledProcessError."""
        command = ["openssl", "cms", "-decrypt", "-recip", str(self.file), "-inkey", str(self.key)]
        return subprocess.run(command, input=content, capture_output=True, check=True, timeout=30).stdout


def certificate(folder: Path, keys: Path, address: str) -> Certificate:
    """A certificate for ``address`` in ``folder``, its key in ``keys``, both made by openssl."""
    made = Certificate(folder / f"{address}.pem", keys / f"{address}.key")
    fresh = keys / f"{address}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={address}",
         "-addext", f"subjectAltName=email:{address}", "-addext", "keyUsage=keyEncipherment,digitalSignature",
         "-addext", "extendedKeyUsage=emailProtection", "-keyout", str(made.key), "-out", str(fresh)],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    fresh.rename(made.file)
    return made
