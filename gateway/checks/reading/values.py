"""What a reader yields: texts, facts, and members that are files of their own. And what stops it.

Refuses to judge: whether an encrypted archive may pass is the policy's business.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from gateway.mime.tree import Buffer

if TYPE_CHECKING:
    from gateway.checks.reading.budget import Budget


class FactCode(StrEnum):
    """Structure findings of reading. Codes are stable: rules name them (docs/rules.md)."""

    ARCHIVE_LIMIT = "archive-limit"
    """Deeper, more members, more octets or a higher ratio than the limits, or members that share their octets."""
    ARCHIVE_ENCRYPTED = "archive-encrypted"
    """An archive, or a member of it, that needs a password."""
    CONTENT_ENCRYPTED = "content-encrypted"
    """A document that needs a password, or a file encrypted for somebody (age, PGP file)."""
    SMIME_ENCRYPTED = "smime-encrypted"
    PGP_ENCRYPTED = "pgp-encrypted"
    UNREADABLE = "unreadable"
    """A document or archive that is damaged, or of a kind that nothing here reads."""
    CONTENT_UNREADABLE = "content-unreadable"
    """Reading took too long or ended the process: what it would have found is not known."""
    TEXT_TRUNCATED = "text-truncated"
    """More text than the limit; the rest was not searched."""
    OFFICE_MACROS = "office-macros"
    PDF_JAVASCRIPT = "pdf-javascript"
    PDF_LAUNCH = "pdf-launch"
    """A PDF that starts a program."""
    EMBEDDED_OBJECT = "embedded-object"
    """An OLE object in a document: a file inside it that a double click opens."""
    REMOTE_TEMPLATE = "remote-template"
    """An Office file that loads its template, or an object, from elsewhere."""
    OFFICE_AUTOEXEC = "office-autoexec"
    """Macros that run when the document is opened or closed."""
    OFFICE_XLM = "office-xlm"
    """A sheet of Excel 4.0 macros."""
    OFFICE_DDE = "office-dde"
    """A field, cell or link that asks another program for its value, and so can start it (DDE)."""
    DISK_IMAGE = "disk-image"
    SHORTCUT = "shortcut"
    """A file that points at a program, a folder or a page, and opens it at a click."""
    SCRIPT_FILE = "script-file"
    """A file that a script host of the system runs, by content or by name."""
    ACTIVE_DOCUMENT = "active-document"
    """A document of a kind that carries programs: OneNote, compiled help, remote desktop and query files."""
    HTML_SCRIPT = "html-script"
    HTML_SMUGGLING = "html-smuggling"
    """HTML or SVG that hands its reader a file which it carries within."""
    HTML_LOGIN_FORM = "html-login-form"
    """HTML with a field for a password that goes elsewhere."""
    HIDDEN_MEMBER = "hidden-member"
    """A member that stands in an archive but not in its directory: some programs see it, some do not."""


class Text(NamedTuple):
    """Some text of a file."""

    place: str
    """Where: ``page 3``, ``sheet Budget (hidden)``, ``comments``; ``""`` for the file's main text."""
    text: str


class Fact(NamedTuple):
    """Something about a file that rules may use."""

    code: FactCode
    detail: str = ""
    """A few words for people; never content."""
    format: str = ""
    """Of what is encrypted: see ``Check.ENCRYPTION``."""
    keys: tuple[str, ...] = ()
    """Ids of the keys that it is encrypted for."""


class Link(NamedTuple):
    """A link in a file."""

    url: str
    words: bytes = b""
    """What a reader sees of it: HTML, UTF-8."""


class Member(NamedTuple):
    """A file inside a file."""

    name: str
    """Its path as the container gives it."""
    pieces: Iterable[bytes] | None
    """Its octets, read before the next item is asked for; None: they cannot be had (encrypted)."""
    listed: bool = True
    """False: not a file that a person would see (a picture in a document); reported only for what stands in it."""
    media_type: str = ""
    """As the container declares it."""
    seen: bool = True
    """False: clamd does not unpack it from such a container (docs/virus.md), so it has to be scanned apart."""


Item: TypeAlias = Text | Fact | Link | Member
Reader: TypeAlias = Callable[[Buffer, "Budget"], Iterator[Item]]


class File(NamedTuple):
    """A file that was found inside another."""

    path: str
    name: str
    """As the container gives it, for rules; not made printable."""
    media_type: str
    """By content; ``""`` when it is encrypted."""
    size: int
    declared: str = ""


class Found(NamedTuple):
    """A text, a fact, a link or a file, and the path of what it was found in: ``pay.zip/staff.xlsx, sheet 2``."""

    path: str
    item: Text | Fact | Link | File


class MalformedError(Exception):
    """A file that is not what it claims to be, or damaged beyond reading. Never leaves this package."""


class LimitReached(Exception):
    """A limit of the budget. ``code`` says which kind of finding it is. Never leaves this package."""

    def __init__(self, code: FactCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
