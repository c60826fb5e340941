"""PDF through pdfium: text, form fields, annotations, properties, embedded files; JavaScript and launch as facts.

Pages without text are drawn for who reads pictures. Refuses to run anything. One document at a time: pdfium is not
made for threads.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pypdfium2.raw as pdfium

from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pieces_of, pointer
from gateway.checks.reading.pictures import Grey
from gateway.checks.reading.values import Fact, FactCode, Item, Link, MalformedError, Member, Text
from gateway.mime.tree import Buffer

_SCANNED = 20
"""Characters below which a page is looked at as a picture."""
_POINT = 1 / 72
_DOTS = 200
"""An inch, of a page that is drawn."""
_MOST_ANNOTATIONS = 5000
_MOST_FILES = 1000
_MOST_LINKS = 500
"""A page."""
_LONGEST_LINK = 8192
_LONGEST = 4 * 1024 * 1024
_LAUNCH = re.compile(rb"/S\s*/Launch\b")
_SCRIPT = re.compile(rb"/JavaScript\b")
_PROPERTIES = ("Title", "Author", "Subject", "Keywords", "Creator")


def read_pdf(data: Buffer, budget: Budget) -> Iterator[Item]:
    """All texts of a PDF, page by page."""
    octets = pointer(data)
    document = pdfium.FPDF_LoadMemDocument64(octets, len(data), None)
    if not document:
        error = pdfium.FPDF_GetLastError()
        if error == pdfium.FPDF_ERR_PASSWORD:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "PDF with a password", "pdf")
            return
        if error == pdfium.FPDF_ERR_SECURITY:
            yield Fact(FactCode.CONTENT_ENCRYPTED, "PDF with an unknown protection", "pdf")
            return
        raise MalformedError(f"PDF: error {error}")
    try:
        yield from _Document(document, budget).items(data)
    finally:
        pdfium.FPDF_CloseDocument(document)


class _Document:
    """One open document."""

    def __init__(self, document: Any, budget: Budget) -> None:
        self._document = document
        self._budget = budget
        self._scripts = 0

    def items(self, data: Buffer) -> Iterator[Item]:
        said = "\n".join(filter(None, (self._property(name) for name in _PROPERTIES)))
        if said:
            yield Text("properties", said)
        form_info = pdfium.FPDF_FORMFILLINFO(version=2)
        form = pdfium.FPDFDOC_InitFormFillEnvironment(self._document, form_info)
        try:
            for number in range(pdfium.FPDF_GetPageCount(self._document)):
                self._budget.check_time()
                yield from self._page(number, form)
        finally:
            if form:
                pdfium.FPDFDOC_ExitFormFillEnvironment(form)
        yield from self._files()
        scripts = self._scripts or max(0, pdfium.FPDFDoc_GetJavaScriptActionCount(self._document))
        if scripts or _SCRIPT.search(data):
            yield Fact(FactCode.PDF_JAVASCRIPT, "the PDF holds JavaScript")
        if _LAUNCH.search(data):
            yield Fact(FactCode.PDF_LAUNCH, "the PDF starts a program")

    def _property(self, name: str) -> str:
        return _wide(partial(pdfium.FPDF_GetMetaText, self._document, name.encode()))

    def _page(self, number: int, form: Any) -> Iterator[Item]:
        page = pdfium.FPDF_LoadPage(self._document, number)
        if not page:
            yield Fact(FactCode.UNREADABLE, f"page {number + 1} of a PDF")
            return
        try:
            place = f"page {number + 1}"
            text = _text(page)
            if text:
                yield Text(place, text)
            if self._budget.pictures is not None and len(text.strip()) < _SCANNED and _shows_something(page):
                most = self._budget.pictures.sight.pixels
                yield from self._budget.pictures.page(partial(_drawn, page, most), place)
            notes = list(self._annotations(page, form))
            if notes:
                yield Text(f"{place}, fields and notes", "\n".join(notes))
            yield from self._links(page)
        finally:
            pdfium.FPDF_ClosePage(page)

    def _annotations(self, page: Any, form: Any) -> Iterator[str]:
        """Names and values of form fields, and what annotations say."""
        for number in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)):
            note = pdfium.FPDFPage_GetAnnot(page, number)
            if not note:
                continue
            try:
                if pdfium.FPDFAnnot_GetSubtype(note) == pdfium.FPDF_ANNOT_WIDGET and form:
                    yield self._field(note, form)
                for key in (b"Contents", b"RC", b"T", b"V"):
                    said = _wide(partial(pdfium.FPDFAnnot_GetStringValue, note, key))
                    if said:
                        yield said
            finally:
                pdfium.FPDFPage_CloseAnnot(note)

    def _links(self, page: Any) -> Iterator[Item]:
        """Where annotations of a page lead."""
        for number in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_LINKS)):
            note = pdfium.FPDFPage_GetAnnot(page, number)
            if not note:
                continue
            try:
                link = pdfium.FPDFAnnot_GetLink(note)
                action = pdfium.FPDFLink_GetAction(link) if link else None
                size = pdfium.FPDFAction_GetURIPath(self._document, action, None, 0) if action else 0
                if 1 < size <= _LONGEST_LINK:
                    buffer = ctypes.create_string_buffer(size)
                    pdfium.FPDFAction_GetURIPath(self._document, action, buffer, size)
                    yield Link(buffer.value.decode("utf-8", "replace"))
            finally:
                pdfium.FPDFPage_CloseAnnot(note)

    def _field(self, note: Any, form: Any) -> str:
        """A form field as «name: value», so that its name is near its value."""
        parts = [
            _wide(partial(read, form, note))
            for read in (
                pdfium.FPDFAnnot_GetFormFieldAlternateName,
                pdfium.FPDFAnnot_GetFormFieldName,
                pdfium.FPDFAnnot_GetFormFieldValue,
            )
        ]
        for event in (
            pdfium.FPDF_ANNOT_AACTION_KEY_STROKE,
            pdfium.FPDF_ANNOT_AACTION_FORMAT,
            pdfium.FPDF_ANNOT_AACTION_VALIDATE,
            pdfium.FPDF_ANNOT_AACTION_CALCULATE,
        ):
            script = _wide(partial(pdfium.FPDFAnnot_GetFormAdditionalActionJavaScript, form, note, event))
            self._scripts += bool(script)
        label = parts[0] or parts[1]
        return f"{label}: {parts[2]}"

    def _files(self) -> Iterator[Item]:
        for number in range(min(pdfium.FPDFDoc_GetAttachmentCount(self._document), _MOST_FILES)):
            file = pdfium.FPDFDoc_GetAttachment(self._document, number)
            size = ctypes.c_ulong()
            if not file or not pdfium.FPDFAttachment_GetFile(file, None, 0, size):
                continue
            name = _wide(partial(pdfium.FPDFAttachment_GetName, file))
            self._budget.unpack(size.value)
            octets = ctypes.create_string_buffer(size.value)
            pdfium.FPDFAttachment_GetFile(file, octets, size.value, size)
            yield Member(name or f"file {number + 1}", pieces_of(octets.raw))


def _shows_something(page: Any) -> bool:
    return bool(pdfium.FPDFPage_CountObjects(page) > 0)


def _drawn(page: Any, most: int) -> Grey | None:
    """The page as a picture of at most so many pixels; None: it cannot be drawn."""
    wide, high = pdfium.FPDF_GetPageWidthF(page) * _POINT, pdfium.FPDF_GetPageHeightF(page) * _POINT
    if not (wide > 0 and high > 0 and wide * high < 1e9):
        return None
    dots = min(_DOTS, (most / (wide * high)) ** 0.5)
    width, height = max(1, int(wide * dots)), max(1, int(high * dots))
    octets = ctypes.create_string_buffer(width * height)
    bitmap = pdfium.FPDFBitmap_CreateEx(width, height, pdfium.FPDFBitmap_Gray, octets, width)
    if not bitmap:
        return None
    pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xFFFFFFFF)
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT)
    return Grey(octets.raw, width, height)


def _text(page: Any) -> str:
    text_page = pdfium.FPDFText_LoadPage(page)
    if not text_page:
        return ""
    try:
        count = pdfium.FPDFText_CountChars(text_page)
        if count <= 0:
            return ""
        buffer = (ctypes.c_ushort * (2 * count + 2))()
        written = pdfium.FPDFText_GetText(text_page, 0, count, buffer)
        return bytes(buffer)[: max(0, written - 1) * 2].decode("utf-16-le", "replace").replace("\ufffe", "")
    finally:
        pdfium.FPDFText_ClosePage(text_page)


def _wide(read: Callable[[Any, int], int]) -> str:
    """A string that pdfium writes as UTF-16LE after saying how long it is."""
    size = read(None, 0)
    if not 2 < size <= _LONGEST:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    return bytes(buffer)[: size - 2].decode("utf-16-le", "replace").strip("\0")
