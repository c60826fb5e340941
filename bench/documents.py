"""Documents and archives of real size for measuring the readers, made by libraries where there is a small one.

Their text is random words, which deflate packs about as well as prose; the same octets in every run. Refuses nothing.
"""

import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

from tests.unit.checks.reading import making

_SYLLABLES = tuple(c + v + e for c in "bcdfghklmnprstvw" for v in "aeiou" for e in ("", "n", "r", "s", "l"))
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
MEGABYTE = 1_000_000


def words(octets: int, seed: int) -> str:
    """Sentences of made-up words, lines of some 80 characters."""
    rng = random.Random(seed)
    lines = []
    have = 0
    while have < octets:
        line = " ".join("".join(rng.choices(_SYLLABLES, k=rng.randrange(1, 4))) for _ in range(14)).capitalize() + "."
        lines.append(line)
        have += len(line) + 1
    return "\n".join(lines)


def lines_of(octets: int, seed: int = 1) -> list[str]:
    """The same as lines."""
    return words(octets, seed).split("\n")


def docx(octets: int, rounds: int = 1) -> bytes:
    """A Word document; ``rounds`` times the same text, too far apart for deflate to notice."""
    body = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in lines_of(octets)).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(f"<w:document {_W}><w:body>".encode())
            for _ in range(rounds):
                part.write(body)
            part.write(b"</w:body></w:document>")
    return out.getvalue()


def _xlsx(octets: int) -> bytes:
    rows = ([n, *line.split()[:6], n * 3.5] for n, line in enumerate(lines_of(2 * octets)))
    return making.xlsx(rows)


def _xls(octets: int) -> bytes:
    return making.xls([n, line[:80]] for n, line in enumerate(lines_of(octets)))


def _pptx(octets: int) -> bytes:
    text = lines_of(octets)
    slides = {}
    for n in range(0, len(text), 20):
        lines = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text[n : n + 20])
        slides[f"ppt/slides/slide{n}.xml"] = f"<p:sld xmlns:p='p' {_A}>{lines}</p:sld>".encode()
    return making.zipped({"[Content_Types].xml": b"<Types/>", **slides})


def _pdf(octets: int) -> bytes:
    return making.pdf(lines_of(octets))


def _odt(octets: int) -> bytes:
    return making.odt("</text:p><text:p>".join(map(escape, lines_of(octets))))


def _rtf(octets: int) -> bytes:
    return b"{\\rtf1\\ansi\\deff0 " + "\\par\n".join(lines_of(octets)).encode() + b"}"


def _doc(octets: int) -> bytes:
    """Word 97: one piece of 8-bit text."""
    text = words(octets, 1).replace("\n", "\r").encode("cp1252")
    main = bytearray(512) + text
    main[0:2] = b"\xec\xa5"
    struct.pack_into("<H", main, 0x0A, 0x0200)
    pieces = struct.pack("<LL", 0, len(text)) + struct.pack("<HLH", 0, 512 * 2 | 0x40000000, 0)
    table = b"\x02" + struct.pack("<L", len(pieces)) + pieces
    struct.pack_into("<LL", main, 0x01A2, 0, len(table))
    return making.compound({"WordDocument": bytes(main), "1Table": table})


def _msg(octets: int) -> bytes:
    return making.outlook("Subject", words(octets // 2, 1), {"a.txt": words(octets // 2, 2).encode()})


def _tnef(octets: int) -> bytes:
    return making.tnef(words(octets // 2, 1), {"a.txt": words(octets // 2, 2).encode()})


def _texts(octets: int) -> dict[str, bytes]:
    return {f"{n}.txt": words(octets // 10, n).encode() for n in range(10)}


def _zip(octets: int) -> bytes:
    return making.zipped(_texts(octets))


def _tgz(octets: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in _texts(octets).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _seven(octets: int, folder: Path) -> bytes:
    return making.by_libarchive(_texts(octets), "7zip", folder)


def documents(folder: Path, octets: int = MEGABYTE) -> dict[str, Callable[[], bytes]]:
    """By format, how to make one with so much text."""
    simple = {
        ".docx": docx, ".xlsx": _xlsx, ".pptx": _pptx, ".odt": _odt, ".rtf": _rtf, ".pdf": _pdf, ".doc": _doc,
        ".xls": _xls, ".msg": _msg, "winmail.dat": _tnef, ".zip": _zip, ".tar.gz": _tgz,
    }  # fmt: skip
    made: dict[str, Callable[[], bytes]] = {name: partial(make, octets) for name, make in simple.items()}
    made[".7z"] = partial(_seven, octets, folder)
    return made
