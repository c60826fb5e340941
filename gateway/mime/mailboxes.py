"""Address lists: From, Sender, Reply-To, To, Cc (RFC 5322 section 3.4), read the way tolerant mail programs read them.

Takes the value with its encoded words still encoded (``raw_value``): decoded first, a comma inside a name would make
two addresses of one. Linear time. Refuses nothing; what holds no address is a mailbox with an empty one.
"""

import re
from typing import NamedTuple

from gateway.mime.fields import fields_named, raw_value
from gateway.mime.tree import Buffer, Part
from gateway.mime.words import decode_words

_SIMPLE = re.compile(
    r'\s*+(?:"([^"\\]*+)"|([^"<>,;:()\\@]*+))\s*+<([^\s<>()@,;:"\\\[\]]++@[^\s<>()@,;:"\\\[\]]++)>\s*+\Z'
)
_PIECE = re.compile(
    r"=\?[^?\s]*\?[bBqQ]\?[^?\s]*\?="  # an encoded word is one piece, commas and all
    r'|"[^"\\]*+(?:\\.[^"\\]*+)*"'
    r"|\[[^\[\]\s]*+\]"  # domain literal
    r"|\s++|[<>,;:()]|\\.?"
    r'|[^\s<>,;:()"\\\[=]++|["\[=]',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Mailbox(NamedTuple):
    """One mailbox of an address list."""

    display: str
    """The name as a reader sees it, encoded words decoded; ``""`` when there is none."""
    address: str
    """``local@domain`` as written, without comments and route; ``""`` when there is none."""


def addresses(value: str) -> tuple[Mailbox, ...]:
    """The mailboxes of an address list, group members included, group names and comments left out.

    Where brackets or quotes are broken every address that some reader might see is given.
    """
    match = _SIMPLE.match(value)
    if match:
        quoted, plain, address = match.groups()
        display = quoted if quoted is not None else " ".join(plain.split())
        return (Mailbox(decode_words(display), address),)
    reader = _Reader()
    for piece in _PIECE.finditer(value):
        reader.take(piece[0])
    reader.flush()
    return tuple(reader.found)


def part_addresses(buffer: Buffer, part: Part, name: str) -> tuple[Mailbox, ...]:
    """The mailboxes of all fields of that name (any case), in order."""
    found: list[Mailbox] = []
    for field in fields_named(part, name):
        found.extend(addresses(raw_value(buffer, field)))
    return tuple(found)


class _Reader:
    """Collects pieces until a mailbox is complete."""

    __slots__ = ("angle", "comment", "depth", "found", "glued", "in_angle", "words")

    def __init__(self) -> None:
        self.found: list[Mailbox] = []
        self.words: list[list[str]] = []
        """Words of the phrase or bare address, raw, each as its pieces, between which there is no white space."""
        self.glued = False
        self.angle: list[str] | None = None
        self.in_angle = False
        self.comment: list[str] = []
        self.depth = 0

    def take(self, piece: str) -> None:
        if self.depth or piece == "(":
            self._take_comment(piece)
        elif piece.isspace():
            self.glued = False
        elif piece == "<":
            if self.angle is not None:
                self.flush()
            self.angle, self.in_angle = [], True
        elif self.in_angle:
            self._take_inside(piece)
        elif piece in {",", ";"}:
            self.flush()
        elif piece == ":":
            if not any("@" in piece for word in self.words for piece in word):  # a group's name
                self.words = []
            else:
                self.flush()
            self.glued = False
        elif piece not in {">", ")"}:
            self._take_word(piece)

    def _take_word(self, piece: str) -> None:
        if self.angle is not None:  # text after the brackets opens the next mailbox
            self.flush()
        if self.glued and self.words:
            self.words[-1].append(piece)
        else:
            self.words.append([piece])
        self.glued = True

    def _take_comment(self, piece: str) -> None:
        if piece == "(":
            self.depth += 1
        elif piece == ")":
            self.depth -= 1
        if self.depth > 1 or (self.depth == 1 and piece != "("):
            self.comment.append(piece)

    def _take_inside(self, piece: str) -> None:
        assert self.angle is not None
        if piece == ">":
            self.in_angle = False
        elif piece == ":":  # an obsolete route ends (RFC 5322 section 4.4)
            self.angle.clear()
        elif piece in {",", ";"}:
            if not (self.angle and self.angle[0].startswith("@")):
                self.flush()
        else:
            self.angle.append(piece)

    def flush(self) -> None:
        """Close the mailbox that is open, if any."""
        if self.depth:  # the comment never closed: what it swallowed may be addresses to other readers
            swallowed, self.depth = "".join(self.comment), 0
            self.comment = []
            self._close()
            self.found.extend(addresses(swallowed.replace("(", " ").replace(")", " ")))
            return
        self._close()

    def _close(self) -> None:
        if not (self.words or self.angle or self.comment):
            self.angle, self.in_angle, self.glued = None, False, False
            return
        words, angle = ["".join(word) for word in self.words], self.angle
        if angle is not None:
            address = wider = "".join(angle)
        else:
            words, address, wider = _bare_address(words)
        display = " ".join(_plain(word) for word in words)
        if not display and self.comment:
            display = " ".join("".join(self.comment).split())
        if display or address:
            self.found.append(Mailbox(decode_words(display), address))
        if wider != address:
            self.found.append(Mailbox("", wider))
        self.words, self.angle, self.in_angle, self.comment, self.glued = [], None, False, [], False


def _bare_address(words: list[str]) -> tuple[list[str], str, str]:
    """Split words without brackets into the display's and the address; white space around ``@`` is obsolete syntax.

    So is white space around dots (RFC 5322 section 4.4), but «Dr. x@y» and «x@y. Bye» are seen, too: the third is the
    address of a reader who takes them for parts of it.
    """
    at = next((number for number, word in enumerate(words) if "@" in word and not _is_quoted(word)), -1)
    if at < 0:
        return words, "", ""
    first = at - 1 if words[at].startswith("@") and at > 0 else at
    last = at + 1 if words[at].endswith("@") and at + 1 < len(words) else at
    begin, end = first, last
    while begin > 0 and (words[begin].startswith(".") or words[begin - 1].endswith(".")):
        begin -= 1
    while end + 1 < len(words) and (words[end].endswith(".") or words[end + 1].startswith(".")):
        end += 1
    return words[:first] + words[last + 1 :], "".join(words[first : last + 1]), "".join(words[begin : end + 1])


def _is_quoted(word: str) -> bool:
    return len(word) > 1 and word[0] == '"' and word[-1] == '"'


def _plain(word: str) -> str:
    if _is_quoted(word):
        word = word[1:-1]
    return _ESCAPE.sub(r"\1", word) if "\\" in word else word
