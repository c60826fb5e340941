"""Words in pictures, read by the real tesseract in the real inspection process; hostile pictures end in time."""

import base64
import io
import os
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas

from gateway.checks.inspector import Inspector
from gateway.checks.reading import pictures
from gateway.errors import ConfigErrors
from gateway.model.finding import Check, Confidence, Finding, Questions
from gateway.policy.types import InformationType
from gateway.preflight import preflight
from gateway.settings import InspectionSettings, Settings, load_settings
from gateway.spool import SpooledMessage
from tests.unit.checks.conftest import ENVELOPE
from tests.unit.checks.reading.making import SSN, docx, with_files, zipped

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.real,
    pytest.mark.skipif(bool(pictures.missing("eng")), reason="tesseract-ocr is not installed"),
]
DEADLINE = 2.0
"""Seconds, short enough to wait for."""
ASKED = Questions(checks=frozenset({Check.CONTENT, Check.STRUCTURE}), types=frozenset({"us-ssn"}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sighted(types: tuple[InformationType, ...]) -> AsyncIterator[Inspector]:
    """An inspector that reads pictures, with time enough for a busy machine."""
    one = Inspector(InspectionSettings.model_validate({"ocr": True, "ocr_timeout": "25 s", "ocr_pages": 3}), types)
    yield one
    await one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(types: tuple[InformationType, ...]) -> AsyncIterator[Inspector]:
    """One with hardly any."""
    one = Inspector(InspectionSettings.model_validate({"ocr": True, "ocr_timeout": f"{DEADLINE:g} s"}), types)
    yield one
    await one.close()


def drawn(*lines: str, size: tuple[int, int] = (900, 260)) -> Image.Image:
    """Black words on white."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines or ("Personnel file", f"SSN: {SSN}")):
        pen.text((40, 40 + 90 * number), line, font=ImageFont.load_default(34), fill="black")
    return image


def saved(form: str, image: Image.Image | None = None, more: tuple[Image.Image, ...] = ()) -> bytes:
    """A picture file."""
    out = io.BytesIO()
    if more:
        (image or drawn()).save(out, form, save_all=True, append_images=list(more))
    else:
        (image or drawn()).save(out, form)
    return out.getvalue()


def scanned(pages: int = 1) -> bytes:
    """A PDF of scanned pages: pictures and no text."""
    out = io.BytesIO()
    page = canvas.Canvas(out)
    for number in range(pages):
        page.drawImage(ImageReader(drawn(f"Page {number + 1}", f"SSN: {SSN}")), 72, 500, 450, 130)
        page.showPage()
    page.save()
    return out.getvalue()


async def look(inspector: Inspector, data: bytes, name: str) -> tuple[Finding, ...]:
    """Findings in a message with this attachment."""
    message = (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=" + name.encode()
        + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(data).replace(b"\n", b"\r\n")
    )  # fmt: skip
    spooled = SpooledMessage.of(message)
    try:
        found = await inspector.inspect(spooled, ENVELOPE, ASKED)
    finally:
        spooled.close()
    assert not found.failures
    return found.items


def parts(items: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    """Part, evidence and place of the numbers that were found."""
    return [(f.part, f.evidence, f.marks[0]) for f in items if f.kind == "us-ssn" and f.confidence is Confidence.HIGH]


def unread(items: tuple[Finding, ...]) -> list[str]:
    """What could not be read, and why."""
    return [f.evidence for f in items if f.kind == "content-unreadable"]


SEEN = ("***-**-4399", "attachment")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
async def test_a_number_in_a_picture_is_found(sighted: Inspector, form: str) -> None:
    """In each kind of picture file that people scan and photograph to."""
    assert parts(await look(sighted, saved(form), "scan.bin")) == [("1/picture", *SEEN)]


@pytest.mark.parametrize(
    ("data", "name", "part"),
    [
        pytest.param(scanned, "scan.pdf", "1/page 1, picture", id="scanned page"),
        pytest.param(
            lambda: saved("TIFF", drawn("Cover", "sheet"), (drawn(),)), "fax.tif", "1/page 2, picture", id="second page"
        ),
        pytest.param(
            lambda: zipped({"scan.png": saved("PNG")}), "a.zip", "1/scan.png, picture", id="in an archive"
        ),
        pytest.param(
            lambda: with_files(docx("See below."), {"word/media/image1.png": saved("PNG")}), "a.docx",
            "1/word/media/image1.png, picture", id="pasted into a document",
        ),
    ],
)  # fmt: skip
async def test_pictures_are_found_where_they_are(
    sighted: Inspector, data: Callable[[], bytes], name: str, part: str
) -> None:
    """Scanned pages, later pages, members of archives, pictures pasted into documents."""
    assert parts(await look(sighted, data(), name)) == [(part, *SEEN)]


async def test_nobody_looks_at_pictures_unless_asked(types: tuple[InformationType, ...]) -> None:
    """The setting is off by default: nothing is found, and nothing is said to be unreadable."""
    blind = Inspector(InspectionSettings(), types)
    try:
        assert await look(blind, saved("PNG"), "scan.png") == ()
        assert await look(blind, scanned(), "scan.pdf") == ()
    finally:
        await blind.close()


def png(width: int, height: int, rows: bytes, cut: int | None = None) -> bytes:
    """A grey PNG of declared size with these rows, compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b""))[:cut]


def endless_tiff() -> bytes:
    """A TIFF whose only directory says that it is followed by itself."""
    data = bytearray(saved("TIFF"))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


def lying_gif() -> bytes:
    """A GIF whose screen is one pixel and whose frame is 65,000 pixels wide and high."""
    data = bytearray(saved("GIF"))
    struct.pack_into("<HH", data, 6, 1, 1)
    at = data.index(b",\0\0\0\0", 13)
    struct.pack_into("<HH", data, at + 5, 65000, 65000)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(lambda: png(60_000, 60_000, b""), "pixels", id="declared: 3.6 gigapixels"),
        pytest.param(lambda: png(20_000, 20_000, bytes(20_001 * 2000)), "pixels", id="40 MB of zeros in 40 KB"),
        pytest.param(lambda: saved("PNG")[:200], "decoded", id="truncated PNG"),
        pytest.param(lambda: saved("TIFF")[:90], "decoded", id="truncated TIFF"),
        pytest.param(lambda: b"\xff\xd8\xff\xe0" + bytes(100), "decoded", id="no JPEG"),
        pytest.param(lambda: b"BM" + os.urandom(5000), "", id="no BMP"),
        pytest.param(lying_gif, "", id="a frame larger than the screen"),
        pytest.param(endless_tiff, "", id="a directory that follows itself"),
    ],
)  # fmt: skip
async def test_a_hostile_picture_ends_in_time(sighted: Inspector, data: Callable[[], bytes], why: str) -> None:
    """It costs its own words, as a finding that says why; the process reads the next one."""
    items = await look(sighted, data(), "scan.bin")
    said = unread(items)
    if why:
        assert any(why in text for text in said), items
    assert parts(await look(sighted, saved("PNG"), "scan.png")) == [("1/picture", *SEEN)]


async def test_a_picture_that_takes_for_ever_is_given_up(hasty: Inspector) -> None:
    """12 megapixels of noise: the process that reads it is killed at the deadline, and the message is not held up."""
    content = saved("JPEG", Image.effect_noise((3500, 3500), 90))
    started = time.monotonic()
    items = await look(hasty, content, "scan.jpg")
    assert time.monotonic() - started < DEADLINE + 15  # the machine may be busy
    assert any("take over" in text for text in unread(items)), items


async def test_a_bomb_does_not_hide_the_picture_beside_it(sighted: Inspector) -> None:
    """Each picture has a process of its own."""
    both = zipped({"a.png": png(60_000, 60_000, b""), "b.jpg": b"\xff\xd8\xff\xe0" + bytes(100), "c.png": saved("PNG")})
    items = await look(sighted, both, "all.zip")
    assert parts(items) == [("1/c.png, picture", *SEEN)]
    assert len(unread(items)) == 1  # one finding a part, with how many there are


async def test_pages_beyond_the_limit_are_said_to_be_unread(sighted: Inspector) -> None:
    """Three are read, the fourth is a finding."""
    items = await look(sighted, scanned(4), "scan.pdf")
    assert [part for part, *_ in parts(items)] == ["1/page 1, picture"]
    assert ["more than 3 pictures" in text for text in unread(items)] == [True]


async def test_deadlines_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """The process would be killed before the pictures' time is over."""
    (tmp_path / "gateway.yaml").write_text("inspection: {ocr: true, ocr_timeout: 40 s}\n", encoding="utf-8")
    with pytest.raises(ConfigErrors, match="together"):
        load_settings(tmp_path / "gateway.yaml")


async def test_a_language_that_is_missing_is_said_at_start() -> None:
    """By its name, before any mail, as an inspection process sees it."""
    for languages, said in (("eng+tlh", "«eng+tlh»"), ("eng", "")):
        settings = Settings.model_validate({"inspection": {"ocr": True, "ocr_languages": languages}})
        errors = [error for error in (await preflight(settings, "gateway.city.example")).errors if "ocr" in error]
        assert len(errors) == bool(said)
        assert all(said in error for error in errors)
