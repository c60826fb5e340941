"""Mail that the gateway writes itself: notices from templates, and returns as delivery status notifications.

Refuses a template with a placeholder that it does not know, anything that would break out of a header field or become
markup in a page, and to quote a body to anyone. What may be written to whom is decided in :mod:`gateway.hold.post`.
"""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from string import Template
from textwrap import wrap

from gateway.errors import ConfigError, ConfigErrors
from gateway.hold.links import NewLink
from gateway.hold.values import MessageFacts
from gateway.model.envelope import Recipient
from gateway.model.reply import Reply
from gateway.store.text import plain
from gateway.wire.command import decode_xtext

NAMES = (
    "held-approver",
    "held-sender",
    "approved-sender",
    "decided-approver",
    "rule-notice",
    "returned",
    "undeliverable",
    "damaged",
    "attest-sender",
    "withdrawn-sender",
    "no-approver",
)
PAGES = ("held-approver", "attest-sender")
"""Letters that are there as HTML too, beside the text (RFC 2046 section 5.1.4)."""
PLACEHOLDERS = frozenset(
    {"id", "sender", "recipients", "lists", "people", "subject", "size", "message_id", "queue", "rules", "clauses"}
    | {"reason", "roles", "expires", "action", "actor", "comment", "city", "transfer_service", "decision", "received"}
    | {"digest", "occasion", "fired", "mine", "decide", "attestation", "attested"}
)
WIDTH = 78
"""Columns of a notice (RFC 5322 section 2.1.1)."""
MAX_VALUE = 4000
"""Characters of one value in a notice; the rest is cut."""


_REMOTE = re.compile(r"<\s*(?:img|link|script|iframe|object|embed|form|base)\b|\bsrc\s*=|url\(|@import", re.IGNORECASE)
"""What a reader's program would fetch or run."""
_PLAIN = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@[\w.-]+\Z")
_ANSWERED = re.compile(r"<[!-;=?-~]+>\Z")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the gateway's own, ready for the outbox. Its reverse-path is null."""

    id: str
    recipients: tuple[str, ...]
    data: bytes
    parameters: tuple[str, ...] = ()
    """MAIL parameters that the content needs."""
    link: NewLink | None = None
    """A one-time link that stands in it: the store learns of it in the transaction that sends the letter."""
    to_sender: bool = False
    """It goes to whose message is held, not to somebody who decides."""


@dataclass(frozen=True, slots=True)
class Original:
    """What is given back of a message: all of it, its header only, or (damaged) nothing."""

    data: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """One recipient that does not get it, and the reply or reason."""

    recipient: Recipient
    reply: Reply


class Templates:
    """The texts, read once."""

    def __init__(self, folder: Path) -> None:
        """Read all. Raises ConfigErrors that name each file and what is wrong with it."""
        errors: list[ConfigError] = []
        self._texts: dict[str, tuple[Template, Template]] = {}
        self._pages: dict[str, Template] = {}
        for name in NAMES:
            try:
                self._texts[name] = _read(folder / f"{name}.txt")
                if name in PAGES:
                    self._pages[name] = _read_page(folder / f"{name}.html")
            except ConfigError as error:
                errors.append(error)
        if errors:
            raise ConfigErrors(errors)

    def fill(self, name: str, values: Mapping[str, str]) -> tuple[str, str]:
        """Subject and text. Values are data: nothing in them is substituted again."""
        safe = dict.fromkeys(PLACEHOLDERS, "") | {key: _safe(value) for key, value in values.items()}
        subject, text = self._texts[name]
        return plain(subject.substitute(safe))[:300], _wrapped(text.substitute(safe))

    def page(self, name: str, values: Mapping[str, str]) -> str:
        """The letter as HTML; ``""`` for one that is text only. Values are data, but for :class:`Markup`."""
        if name not in self._pages:
            return ""
        return self._pages[name].substitute(
            dict.fromkeys(PLACEHOLDERS, "") | {key: _marked_up(value) for key, value in values.items()}
        )


class Markup(str):
    """HTML of our own making: a value that is not escaped."""

    __slots__ = ()


def _marked_up(value: str) -> str:
    """Escaped; several lines, or an indented one, as a list."""
    if isinstance(value, Markup):
        return value
    rows = [html.escape(row.strip()) for row in _safe(value).split("\n") if row.strip()]
    if len(rows) > 1 or value.startswith("  "):
        return "<ul>" + "".join(f"<li>{row}</li>" for row in rows) + "</ul>"
    return "".join(rows)


def _safe(value: str) -> str:
    """Keep line breaks that we made ourselves (lists); everything else that is not printable becomes a space."""
    return "\n".join(plain(row) for row in value[:MAX_VALUE].split("\n"))


def _wrapped(text: str) -> str:
    """Long lines broken at spaces to :data:`WIDTH`, indented as they began; commands and ids stay whole."""
    rows = []
    for row in text.split("\n"):
        indent = row[: len(row) - len(row.lstrip())]
        if len(row) <= WIDTH or row.startswith("  civicgate ") or "://" in row:
            rows.append(row)
        else:
            rows += wrap(row, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(rows)


def _read(path: Path) -> tuple[Template, Template]:
    try:
        head, _, text = path.read_text("utf-8").partition("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", str(path)) from error
    if not head.startswith("Subject: ") or "\n" in head or not text.strip():
        raise ConfigError("must be a line «Subject: …», an empty line, and the text", str(path), 1, 1)
    return _checked(head.removeprefix("Subject: "), path), _checked(text, path)


def _read_page(path: Path) -> Template:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", str(path)) from error
    if not text.lstrip().lower().startswith("<!doctype html>"):
        raise ConfigError("must begin with <!doctype html>", str(path), 1, 1)
    if _REMOTE.search(text):
        raise ConfigError("must load nothing: no src, no url(), no link, script, image or form", str(path))
    return _checked(text, path)


def _checked(text: str, path: Path) -> Template:
    template = Template(text)
    if not template.is_valid():
        raise ConfigError("has a «$» that begins no placeholder; write $$ for a dollar sign", str(path))
    for name in template.get_identifiers():
        if name not in PLACEHOLDERS:
            known = ", ".join(sorted(PLACEHOLDERS))
            raise ConfigError(f"has an unknown placeholder «${name}»; known are {known}", str(path))
    return template


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where a letter comes from and goes to."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    now: datetime
    subject: str
    answers: str = ""
    """Message-ID of the message that is answered: makes the letter an automatic reply (RFC 3834 section 5)."""


def notice(sheet: Sheet, text: str, page: str = "", link: NewLink | None = None) -> Letter:
    """A notice as text; with ``page``, as HTML beside it."""
    utf8 = not all(address.isascii() for address in sheet.recipients)
    body = EmailMessage(policy=SMTPUTF8 if utf8 else SMTP)
    for name, value in _fields(sheet, "auto-replied" if sheet.answers else "auto-generated"):
        body[name] = value
    body.set_content(text, cte="quoted-printable" if not text.isascii() else "7bit")
    if page:
        body.add_alternative(page, subtype="html", cte="quoted-printable")
    return Letter(sheet.id, sheet.recipients, body.as_bytes(), ("SMTPUTF8",) if utf8 else (), link, bool(sheet.answers))


def report(
    sheet: Sheet,
    text: str,
    message: MessageFacts,
    hostname: str,
    refusals: Sequence[Refusal],
    original: Original | None,
) -> Letter:
    """A delivery status notification (RFC 3464) with the original, or its header (RFC 6522), attached."""
    data = original.data if original is not None else b""
    utf8 = "SMTPUTF8" in {p.upper() for p in message.parameters}
    eight = not data.isascii()
    boundary = f"=_civicgate_{hashlib.sha256(sheet.id.encode() + data).hexdigest()[:32]}"
    policy = SMTPUTF8 if utf8 else SMTP
    head = EmailMessage(policy=policy)
    for name, value in (
        *_fields(sheet, "auto-replied"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary}"'),
        ("Content-Transfer-Encoding", "8bit" if eight else "7bit"),
    ):
        head[name] = value
    words = EmailMessage(policy=SMTP)
    words.set_content(text, cte="quoted-printable" if not text.isascii() else "7bit")
    parts = [words.as_bytes().replace(b"MIME-Version: 1.0\r\n", b""), _status(message, hostname, refusals, utf8)]
    if original is not None:
        parts.append(_attached(original, utf8=utf8, eight=eight))
    lines = b"".join(policy.fold_binary(name, value) for name, value in head.raw_items())
    content = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    parameters = (("BODY=8BITMIME",) if eight else ()) + (("SMTPUTF8",) if utf8 else ())
    data = b"%b\r\n%b--%b--\r\n" % (lines, content, boundary.encode())
    return Letter(sheet.id, sheet.recipients, data, parameters, to_sender=True)


def _inert(text: str) -> str:
    """Text in which nothing is an encoded word (RFC 2047): the email package would decode it, line breaks and all."""
    return text.replace("=?", "= ?")


def _to(addresses: Sequence[str]) -> str:
    """The field's value; who has an address that a header parser could read otherwise is in the envelope only."""
    if all(_PLAIN.match(address) and "=?" not in address for address in addresses):
        return ", ".join(addresses)
    return "undisclosed-recipients:;"


def _fields(sheet: Sheet, auto: str) -> list[tuple[str, str]]:
    domain = sheet.sender.rpartition("@")[2]
    fields = [
        ("Date", format_datetime(sheet.now)),
        ("From", f"Civicgate <{plain(sheet.sender)}>"),
        ("To", _to(sheet.recipients)),
        ("Subject", _inert(plain(sheet.subject))),
        ("Message-ID", f"<{plain(sheet.id)}@{domain}>"),
        ("Auto-Submitted", auto),
        ("X-Auto-Response-Suppress", "All"),
    ]
    if _ANSWERED.match(sheet.answers) and "=?" not in sheet.answers:
        fields += [("In-Reply-To", sheet.answers), ("References", sheet.answers)]
    return fields


def _attached(original: Original, *, utf8: bool, eight: bool) -> bytes:
    if original.complete:
        kind = b"message/global" if utf8 else b"message/rfc822"
    else:
        kind = b"message/global-headers" if utf8 else b"text/rfc822-headers"
    encoding = b"8bit" if eight else b"7bit"
    head = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\nContent-Disposition: inline\r\n\r\n"
    return head % (kind, encoding) + original.data


def _status(message: MessageFacts, hostname: str, refusals: Sequence[Refusal], utf8: bool) -> bytes:
    envid = decode_xtext(_parameter(message.parameters, "ENVID"))
    rows = [f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {format_datetime(message.received)}"]
    rows += [f"Original-Envelope-Id: {envid}"] if envid else []
    scheme = "utf-8" if utf8 else "rfc822"
    for refusal in refusals:
        kind, mark, original = _parameter(refusal.recipient.parameters, "ORCPT").partition(";")
        orcpt = f"{kind};{decode_xtext(original) if kind.lower() != 'utf-8' else original}" if mark else ""
        rows += ["", *([f"Original-Recipient: {orcpt}"] if orcpt else [])]
        rows += [
            f"Final-Recipient: {scheme}; {refusal.recipient.address}",
            "Action: failed",
            f"Status: {status(refusal.reply)}",
            f"Diagnostic-Code: smtp; {str(refusal.reply)[:900]}",
        ]
    named = "global-delivery-status" if utf8 else "delivery-status"
    text = "".join(f"{plain(row)}\r\n" for row in rows)
    return f"Content-Type: message/{named}\r\n\r\n{text}".encode("utf-8" if utf8 else "ascii", "replace")


def _parameter(parameters: Sequence[str], name: str) -> str:
    return next((p[len(name) + 1 :] for p in parameters if p.upper().startswith(f"{name}=")), "")


def wants_failure(recipient: Recipient) -> bool:
    """Whether the sender asked to hear of failures for this recipient (RFC 3461 section 4.1; absent means yes)."""
    wanted = _parameter(recipient.parameters, "NOTIFY")
    return not wanted or "FAILURE" in wanted.upper().split(",")


def wants_header_only(message: MessageFacts) -> bool:
    """RET=HDRS (RFC 3461 section 4.3)."""
    return _parameter(message.parameters, "RET").upper() == "HDRS"


def status(reply: Reply) -> str:
    """The RFC 3463 code of a failure: from the reply, or from the start of a verbatim reply's text; class 5."""
    word = reply.enhanced or (reply.lines[0].split(" ", 1)[0] if reply.lines else "")
    digits = word.split(".")
    if len(digits) == 3 and all(d.isdigit() and len(d) < 4 for d in digits):
        return f"5.{digits[1]}.{digits[2]}"
    return "5.0.0"
