"""Many messages of every kind, for suites that send the same mail along two ways.

From the cases of the shipped rules (every control, every outcome), and odd ones of their own: structure, charsets,
sizes, null senders, many recipients with different verdicts.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.model.envelope import domain_of
from gateway.policy.cases import message_of
from gateway.policy.loader import load_rules
from gateway.policy.types import load_types
from tests.e2e.letters import EICAR

RULES = Path(__file__).parents[2] / "rules"
INSIDE, OUTSIDE = "127.0.0.1", "203.0.113.9"
CLERK, MAYOR, PARTNER = "clerk@city.example", "mayor@city.example", "partner@elsewhere.example"
EVERYONE, PARKS = "everyone@city.example", "parks-team@city.example"
SSN = "Her Social Security number is 536-90-4399."
_LARGEST = 300_000
_HOP = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
_IDENT = re.compile(rb"(?im)^message-id:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")


@dataclass(frozen=True)
class Mail:
    """One message with its envelope."""

    name: str
    """A word that stands in its Message-ID and nowhere else."""
    about: str
    client: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def parameters(self) -> tuple[str, ...]:
        """Of MAIL."""
        return () if all(address.isascii() for address in (self.sender, *self.recipients)) else ("SMTPUTF8",)


def every_message() -> list[Mail]:
    """All of them, each with a Message-ID of its own."""
    found: list[Mail] = []
    for number, (about, client, sender, recipients, content) in enumerate([*_of_the_rules(), *_odd()]):
        name = f"many-{number}-mark"
        found.append(Mail(name, about, client, sender, recipients, _named(content, name)))
    return found


def _named(content: bytes, name: str) -> bytes:
    """Its own Message-ID is put in the place of another, or on top."""
    field = f"Message-ID: <{name}@test.example>\r\n".encode()
    head, blank, body = content.partition(b"\r\n\r\n")
    if not blank or content.startswith(b"\r\n"):
        return field + content
    changed, times = _IDENT.subn(field.replace(b"\\", b""), head + b"\r\n", count=1)
    return (changed if times else field + head + b"\r\n") + b"\r\n" + body


Plain = tuple[str, str, str, tuple[str, ...], bytes]


def _of_the_rules() -> Iterator[Plain]:
    """The messages of the cases, as a client of that place would send them."""
    types = frozenset(kind.id for kind in load_types(RULES / "types"))
    values = {"city_name": "City of Example", "transfer_service": "https://files.city.example"}
    for rule in load_rules(RULES, types, values).rules:
        for case in rule.spec.cases:
            message = case.message
            if message.size is not None:
                continue
            content = message_of(message, Path(rule.file).parent)
            if len(content) > _LARGEST:
                continue
            inside = case.given.inside if case.given.inside is not None else _in_city(message.from_)
            to = tuple(dict.fromkeys(message.to))
            if not inside and not all(map(_in_city, to)):
                continue  # who may send through a server, the server decides
            yield f"{rule.id}: {case.it}", INSIDE if inside else OUTSIDE, message.from_, to, content


def _in_city(address: str) -> bool:
    return domain_of(address) in ("city.example", "")


def _head(*fields: str, sender: str = CLERK, to: str = MAYOR) -> bytes:
    return "".join(f"{field}\r\n" for field in (f"From: {sender}", f"To: {to}", "Subject: A letter", *fields)).encode()


def _odd() -> Iterator[Plain]:
    """What breaks line-by-line code, and what one envelope can ask for at once."""
    yield from _structures()
    yield from _envelopes()
    for charset in ("utf-8", "iso-8859-1", "windows-1252", "utf-16", "utf-7", "koi8-r", "shift_jis", "no-such-charset"):
        for encoding in ("7bit", "8bit", "quoted-printable", "base64", "x-odd"):
            text = f"Grüße. {SSN}\r\n".encode("utf-16" if charset == "utf-16" else "latin-1", "replace")
            if charset == "utf-16" and encoding in ("7bit", "8bit", "x-odd"):
                continue
            body = base64.encodebytes(text).replace(b"\n", b"\r\n") if encoding == "base64" else text
            if encoding == "quoted-printable":
                body = text.replace(b"=", b"=3D").replace(b"\xfc", b"=FC").replace(b"\xdf", b"=DF")
                if charset == "utf-16":
                    continue
            fields = (f"Content-Type: text/plain; charset={charset}", f"Content-Transfer-Encoding: {encoding}")
            head = _head("MIME-Version: 1.0", *fields, to=PARTNER)
            yield f"{charset} in {encoding}", INSIDE, CLERK, (PARTNER, MAYOR), head + b"\r\n" + body


def _structures() -> Iterator[Plain]:
    multipart = "Content-Type: multipart/mixed; boundary=b"
    message = "Content-Type: message/rfc822"
    part = b"--b\r\nContent-Type: text/plain\r\n\r\nwords\r\n"
    kinds: dict[str, bytes] = {
        "no body": _head() + b"\r\n",
        "no header but ours": b"\r\nwords\r\n",
        "one empty line": _head() + b"\r\n\r\n",
        "no line end at the end": _head() + b"\r\nwords",
        "dots": _head() + b"\r\n.\r\n..\r\n.words\r\n",
        "many empty lines": _head() + b"\r\n" * 5000,
        "one long line": _head() + b"\r\n" + b"x" * 50_000 + b"\r\n",
        "a long header field": _head("X-Long: " + "y" * 20_000) + b"\r\nwords\r\n",
        "folded fields": _head("X-Folded: one\r\n two\r\n\tthree\r\n  four") + b"\r\nwords\r\n",
        "many fields": _head(*(f"X-{n}: {n}" for n in range(1500))) + b"\r\nwords\r\n",
        "fields twice": _head("Subject: another", "To: x@city.example", "X-A: 1", "x-a: 2") + b"\r\nwords\r\n",
        "an empty field": _head("X-Empty:", "X-Blank: ") + b"\r\nwords\r\n",
        "two spaces behind the colon": _head("X-Two:  words", "X-None:words") + b"\r\nwords\r\n",
        "encoded words": _head("X-Word: =?utf-8?q?J=C3=A4ne?= =?bad?=") + b"\r\nwords\r\n",
        "eight bits in a field": _head("X-Eight: Grüße") + b"\r\nwords\r\n",
        "no end of parts": _head("MIME-Version: 1.0", multipart) + b"\r\n" + part,
        "no parts": _head("MIME-Version: 1.0", multipart) + b"\r\nwords\r\n",
        "preamble and epilogue": _head("MIME-Version: 1.0", multipart) + b"\r\na\r\n" + part + b"--b--\r\nb\r\n",
        "two boundaries": _head("MIME-Version: 1.0", multipart, multipart) + b"\r\n" + part + b"--b--\r\n",
        "no boundary": _head("MIME-Version: 1.0", "Content-Type: multipart/mixed") + b"\r\nwords\r\n",
        "a message in a message": _head("MIME-Version: 1.0", message) + b"\r\n" + _head() + b"\r\nw\r\n",
        "eicar": _head() + b"\r\n" + EICAR + b"\r\n",
        "eicar in base64": _head("MIME-Version: 1.0", "Content-Transfer-Encoding: base64")
        + b"\r\n"
        + base64.encodebytes(EICAR).replace(b"\n", b"\r\n"),
        "only spaces": _head() + b"\r\n   \r\n\t\r\n",
        "control characters": _head() + b"\r\n\x01\x02\x1b[31m\x7f\r\n",
        "hops": _HOP * 20 + _head() + b"\r\nw\r\n",
        "a loop": _HOP * 60 + _head() + b"\r\nw\r\n",
        "two hundred thousand octets": _head() + b"\r\n" + b"0123456789 words of a letter.\r\n" * 7000,
    }  # fmt: skip
    for about, content in kinds.items():
        yield about, INSIDE, CLERK, (MAYOR,), content
        yield f"{about}, from outside", OUTSIDE, "far@elsewhere.example", (MAYOR, CLERK), content
        yield f"{about}, to the outside", INSIDE, CLERK, (PARTNER,), content


def _envelopes() -> Iterator[Plain]:
    secret = _head("X-Kind: secret", to=PARTNER) + f"\r\n{SSN}\r\n".encode()
    plain = _head("X-Kind: plain") + b"\r\nA picnic on Friday.\r\n"
    yield "inside and outside", INSIDE, CLERK, (PARTNER, MAYOR), secret
    yield "two outside", INSIDE, CLERK, (PARTNER, "second@elsewhere.example"), secret
    yield "no certificate", INSIDE, CLERK, ("nobody@nowhere.example",), secret
    yield "no certificate for one of three", INSIDE, CLERK, (PARTNER, "nobody@nowhere.example", MAYOR), secret
    yield "a list and a person", INSIDE, CLERK, (EVERYONE, MAYOR), plain
    yield "a list, a person, the outside", INSIDE, CLERK, (EVERYONE, MAYOR, PARTNER), plain
    yield "a secret to all of them", INSIDE, CLERK, (EVERYONE, PARKS, MAYOR, PARTNER), secret
    yield "a null sender", INSIDE, "", (MAYOR,), plain
    yield "a null sender to a list", INSIDE, "", (EVERYONE,), plain
    yield "a null sender from outside", OUTSIDE, "", (MAYOR, CLERK), plain
    yield "fifty recipients", INSIDE, CLERK, tuple(f"person{n}@city.example" for n in range(50)), plain
    yield "fifty outside", INSIDE, CLERK, tuple(f"person{n}@elsewhere.example" for n in range(5)), secret
    yield "one twice", INSIDE, CLERK, (MAYOR, MAYOR), plain
    yield "one in two spellings", INSIDE, CLERK, (MAYOR, "mayor@CITY.example"), plain
    yield "a contractor", INSIDE, "contractor@city.example", (PARTNER, MAYOR), plain
    yield "a sender beyond ASCII", INSIDE, "jürgen@city.example", (MAYOR,), plain
    yield "a recipient beyond ASCII", INSIDE, CLERK, ("jürgen@city.example", MAYOR), plain
    yield "a domain beyond ASCII", INSIDE, CLERK, ("info@bücher.example", PARTNER), secret
    yield "plus address", INSIDE, CLERK, ("mayor+a@city.example",), plain
