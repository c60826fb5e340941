"""One text body as the transforms see it: its octets, its charset, and what already stands in it.

Positions found in text become positions in decoded octets. Refuses charsets in which that cannot be done with
certainty; text beyond :data:`LOOK` octets is not looked at.
"""

import codecs
import re
import unicodedata
from collections.abc import Sequence

from gateway.mime import Buffer, Part, decode, to_text
from gateway.mime.charsets import codec_of, is_unsafe
from gateway.mime.quoting import html_text
from gateway.transform.placing import NotPlaceable

LOOK = 4_000_000
_WORD = re.compile(r"[A-Za-z0-9]{4,}")
_PROBE = "<>/ab-\n"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—―−", "-"),
        "…": "...", "•": "*", "·": "*", "€": "EUR", "§": "Sec. ", "©": "(c)", "®": "(R)", "™": "(TM)",
        "ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "đ": "d",
    }
)  # fmt: skip


class TextBody:
    """A text/plain or text/html body, decoded once."""

    __slots__ = ("_visible", "bom", "codec", "data", "html", "part", "superset", "truncated", "undeclared")

    def __init__(self, buffer: Buffer, part: Part) -> None:
        self.part = part
        self.html = part.media_type == "text/html"
        self.data, self.truncated = _read(buffer, part)
        known = "ascii-only" if is_unsafe(part.charset) else codec_of(part.charset)
        self.undeclared = known in ("", "ascii")
        self.codec, self.bom = _codec("ascii" if known in (None, "", "ascii-only") else known, self.data)
        self.superset = _is_superset(self.codec)
        self._visible: str | None = None

    def visible(self) -> str:
        """What a reader sees."""
        if self._visible is None:
            source = to_text(self.data, self.part.charset)
            self._visible = html_text(source) if self.html else source
        return self._visible

    def may_hold(self, lines: Sequence[str]) -> bool:
        """False when the longest ASCII word of the lines stands nowhere, so that a closer look is not needed."""
        word = max(_WORD.findall(" ".join(lines)), key=len, default="")
        return not (word and self.superset) or word.lower().encode("ascii") in self.data.lower()

    def source(self) -> str:
        """The body for finding positions: one character an octet where the charset holds ASCII, else decoded.

        Raises :class:`NotPlaceable` for octets that do not decode.
        """
        if self.superset:
            return self.data[self.bom :].decode("latin-1")
        try:
            return self.data[self.bom :].decode(self.codec)
        except UnicodeDecodeError as error:
            raise NotPlaceable(f"not valid {self.codec}") from error

    def octets(self, source: str, position: int) -> int:
        """The position in decoded octets of a position in :meth:`source`."""
        return self.bom + (position if self.superset else len(source[:position].encode(self.codec)))

    def newline(self, message: bytes) -> str:
        """The line end to use: the message's, or in an encoded body the one that stands there."""
        if self.part.encoding == "base64" and self.data:
            sample = self.source_sample()
            return "\n" if "\n" in sample and "\r\n" not in sample else "\r\n"
        return message.decode("ascii")

    def source_sample(self) -> str:
        """The first characters, decoded loosely."""
        return self.data[self.bom : self.bom + 8000].decode("latin-1" if self.superset else self.codec, "replace")

    def encode(self, text: str) -> tuple[bytes, bool]:
        """Text in the body's charset, and whether it had to be transliterated for that."""
        try:
            return text.encode(self.codec), False
        except UnicodeEncodeError:
            return transliterate(text).encode(self.codec, "replace"), True


def transliterate(text: str) -> str:
    """The nearest ASCII: plain quotes and dashes, letters without accents, ``?`` for the rest."""
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


def _read(buffer: Buffer, part: Part) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    for piece in decode(buffer, part):
        pieces.append(piece)
        size += len(piece)
        if size > LOOK:
            return b"".join(pieces)[:LOOK], True
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), False


def _codec(name: str, data: bytes) -> tuple[str, int]:
    """The codec without byte order mark, and the mark's length."""
    for mark, codec in _BOMS:
        if data.startswith(mark) and (codec[:5] == name[:5] or (name == "ascii" and codec[:6] != "utf-32")):
            return codec, len(mark)
    if name in ("utf-16", "utf-32"):
        return name + ("-be" if data[:1] == b"\0" else "-le"), 0
    return ("utf-8" if name == "utf-8-sig" else name), 0


def _is_superset(codec: str) -> bool:
    try:
        return _PROBE.encode(codec) == _PROBE.encode("ascii")
    except (LookupError, UnicodeError):
        return False
