"""Words in pictures and on scanned pages, through tesseract, when it is installed and the settings ask for it.

tesseract and leptonica are C libraries that decode hostile pictures: each picture is read by a process forked for it,
which is as confined as its parent, ends when its parent does, and is killed at the deadline. So a picture that takes
for ever or breaks the decoder costs its own words and no others'. Refuses pictures of too many pixels, by what their
header says, before they are decoded.
"""

import contextlib
import ctypes
import hashlib
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from typing import Any, NamedTuple

from gateway.checks.inside import NeedsPicturesError
from gateway.checks.reading.budget import Budget
from gateway.checks.reading.octets import pointer
from gateway.checks.reading.values import Fact, FactCode, Item, Text
from gateway.mime.tree import Buffer

_SMALLEST = 1200
"""Pixels below which nothing is legible: rules, icons, pictures that count readers."""
_ENLARGED = 1_000_000
"""Pictures of fewer pixels are also read twice as large: tesseract wants 200 dots an inch, screens have 96, and large
letters are misread when they are enlarged."""
_PPI = 200
_MOST_TEXT = 1_000_000
_PIECE = 65_536
_PAGE_MODE = 3
"""Layout is found by itself."""
_SILENT = 6
_PR_SET_PDEATHSIG = 1
_MARKS = (
    b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ",
)  # fmt: skip
_TIFF = (b"II*\0", b"MM\0*")
_GIF = b"GIF8"


@dataclass(frozen=True, slots=True)
class Sight:
    """The settings of reading pictures, in plain numbers."""

    seconds: float = 20.0
    """All pictures of a message."""
    pixels: int = 40_000_000
    """A picture, or a page as it is drawn."""
    pages: int = 20
    """Pictures and pages a message."""
    languages: str = "eng"
    """As tesseract names them, with ``+`` between."""


class Grey(NamedTuple):
    """A picture of one octet a pixel, row by row."""

    octets: bytes
    width: int
    height: int


class Pictures:
    """Reads the pictures of one message. ``on_time``: told of the seconds that each one took."""

    def __init__(self, sight: Sight, on_time: Callable[[float], None], clock: Callable[[], float] = time.monotonic):
        self.sight = sight
        self._on_time = on_time
        self._clock = clock
        self._used = 0.0
        self._pages = 0
        self._seen: set[bytes] = set()

    def read(self, data: Buffer) -> Iterator[Item]:
        """The words of a picture file; of a TIFF file those of all its pages. What is no picture of these has none."""
        if not is_legible(bytes(data[:16])):
            return
        digest = hashlib.sha256(data).digest()
        if digest in self._seen:
            return
        self._seen.add(digest)
        for number in range(self.sight.pages + 1 if bytes(data[:4]) in _TIFF else 1):
            found = list(
                self._one(partial(_Engine.file, data=data, page=number, most=self.sight.pixels), _place(number))
            )
            yield from found
            if not found or isinstance(found[0], Fact):
                return

    def page(self, draw: Callable[[], Grey | None], place: str) -> Iterator[Item]:
        """The words of a page that ``draw`` draws."""
        yield from self._one(lambda engine: engine.grey(draw()), f"{place}, picture")

    def _one(self, look: "Callable[[_Engine], str | None]", place: str) -> Iterator[Item]:
        """Its words, or why they are not known. Nothing: there is no such page."""
        engine = engine_of(self.sight.languages)
        left = self.sight.seconds - self._used
        if engine is None:
            outcome, text = _Outcome.NO_ENGINE, ""
        elif self._pages >= self.sight.pages:
            outcome, text = _Outcome.TOO_MANY, ""
        elif left <= 0:
            outcome, text = _Outcome.LATE, ""
        else:
            started = self._clock()
            outcome, text = _apart(lambda: look(engine), left)
            self._used += self._clock() - started
            self._on_time(self._clock() - started)
            self._pages += outcome is not _Outcome.NOTHING
        if outcome is _Outcome.READ:
            yield Text(place, text)
        elif outcome is not _Outcome.NOTHING:
            why = _WHY[outcome].format(self.sight)
            yield Fact(FactCode.CONTENT_UNREADABLE, f"{place}: {why}")


class PicturesElsewhere(Pictures):
    """Stands where pictures may not be read: raises :class:`NeedsPicturesError` for the first one."""

    def _one(self, look: object, place: str) -> Iterator[Item]:
        raise NeedsPicturesError(place)


def read_picture(data: Buffer, budget: Budget) -> Iterator[Item]:
    """The words of a picture, when somebody asks for them."""
    if budget.pictures is not None:
        yield from budget.pictures.read(data)


def is_legible(head: bytes) -> bool:
    """Whether a file that begins so is a picture of a kind that is read."""
    return head.startswith(_MARKS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def missing(languages: str) -> str:
    """Why pictures cannot be read on this machine, ``""`` when they can. Takes a tenth of a second."""
    if _library() is None:
        return "tesseract is not installed (Debian package tesseract-ocr)"
    if engine_of(languages) is None:
        return f"tesseract has no data for «{languages}» (Debian packages tesseract-ocr-…)"
    return ""


def missing_here(_buffer: Buffer, languages: str) -> str:
    """:func:`missing`, as an inspection process is asked."""
    return missing(languages)


def _place(number: int) -> str:
    return f"page {number + 1}, picture" if number else "picture"


class _Outcome(Enum):
    READ = b"R"
    NOTHING = b"N"
    """No such page."""
    TOO_LARGE = b"L"
    BROKEN = b"B"
    LATE = b"T"
    TOO_MANY = b"M"
    NO_ENGINE = b"E"


_WHY = {
    _Outcome.TOO_LARGE: "more than {0.pixels} pixels",
    _Outcome.BROKEN: "cannot be decoded",
    _Outcome.LATE: "pictures take over {0.seconds:g} s",
    _Outcome.TOO_MANY: "more than {0.pages} pictures",
    _Outcome.NO_ENGINE: "tesseract, or its data for {0.languages}, is not installed",
}


class _TooLargeError(Exception):
    pass


class _BrokenError(Exception):
    pass


# --- A process for each picture -------------------------------------------------------------------------------------


def _apart(look: Callable[[], str | None], seconds: float) -> tuple[_Outcome, str]:
    """What ``look`` returns, found out in a process of its own; LATE: that was killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _say(look, theirs, seconds)
    os.close(theirs)
    try:
        answer = _hear(ours, time.monotonic() + seconds)
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        return _Outcome.LATE, ""
    if not answer:  # it ended without a word: killed by the kernel, or a mistake of the decoder
        return _Outcome.BROKEN, ""
    return _Outcome(answer[:1]), answer[1:].decode("utf-8", "replace")


def _say(look: Callable[[], str | None], channel: int, seconds: float) -> None:
    """The forked process: look, say what was seen, end. Never returns."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        try:
            text = look()
            answer = _Outcome.NOTHING.value if text is None else _Outcome.READ.value + text.encode()[:_MOST_TEXT]
        except _TooLargeError:
            answer = _Outcome.TOO_LARGE.value
        except _BrokenError:
            answer = _Outcome.BROKEN.value
        view = memoryview(answer)
        while view:
            view = view[os.write(channel, view) :]
    finally:
        os._exit(0)


def _hear(channel: int, deadline: float) -> bytes | None:
    """All that is said before the deadline; None: it was not over by then."""
    pieces = bytearray()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while len(pieces) <= _MOST_TEXT:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        piece = os.read(channel, _PIECE)
        if not piece:
            break
        pieces += piece
    return bytes(pieces)


# --- The libraries --------------------------------------------------------------------------------------------------

_HANDLE, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_INTS = ctypes.POINTER(ctypes.c_int)
_TAKES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TessBaseAPICreate": (_HANDLE, ()),
    "TessBaseAPIInit3": (_INT, (_HANDLE, _TEXT, _TEXT)),
    "TessBaseAPIGetLoadedLanguagesAsVector": (ctypes.POINTER(_TEXT), (_HANDLE,)),
    "TessBaseAPISetVariable": (_INT, (_HANDLE, _TEXT, _TEXT)),
    "TessBaseAPISetPageSegMode": (None, (_HANDLE, _INT)),
    "TessBaseAPISetSourceResolution": (None, (_HANDLE, _INT)),
    "TessBaseAPISetImage": (None, (_HANDLE, _TEXT, _INT, _INT, _INT, _INT)),
    "TessBaseAPISetImage2": (None, (_HANDLE, _HANDLE)),
    "TessBaseAPIGetUTF8Text": (_TEXT, (_HANDLE,)),
    "setMsgSeverity": (_INT, (_INT,)),
    "pixReadHeaderMem": (_INT, (_HANDLE, _SIZE, _INTS, _INTS, _INTS, _INTS, _INTS, _INTS)),
    "readHeaderMemTiff": (_INT, (_HANDLE, _SIZE, _INT, _INTS, _INTS, _INTS, _INTS, _INTS, _INTS, _INTS)),
    "pixReadMem": (_HANDLE, (_HANDLE, _SIZE)),
    "pixReadMemTiff": (_HANDLE, (_HANDLE, _SIZE, _INT)),
    "pixRemoveAlpha": (_HANDLE, (_HANDLE,)),
    "pixConvertTo8": (_HANDLE, (_HANDLE, _INT)),
    "pixScale": (_HANDLE, (_HANDLE, ctypes.c_float, ctypes.c_float)),
    "pixGetWidth": (_INT, (_HANDLE,)),
    "pixGetHeight": (_INT, (_HANDLE,)),
}
"""Functions of tesseract and of leptonica, on which it stands: result, arguments."""


@lru_cache(maxsize=1)
def _library() -> Any:
    """Tesseract 4 or 5 with its leptonica, None when it is not installed."""
    os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # one picture, one core; read when the library is loaded
    for name in ("libtesseract.so.5", "libtesseract.so.4"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            for function, (result, arguments) in _TAKES.items():
                entry = getattr(library, function)
                entry.restype, entry.argtypes = result, arguments
            library.setMsgSeverity(_SILENT)
            return library
    return None


@lru_cache(maxsize=2)
def engine_of(languages: str) -> "_Engine | None":
    """Tesseract with the languages, loaded once a process; None: it, or the data of one of them, is missing."""
    library = _library()
    if library is None:
        return None
    handle = library.TessBaseAPICreate()
    library.TessBaseAPISetVariable(handle, b"debug_file", b"/dev/null")
    if library.TessBaseAPIInit3(handle, None, languages.encode()) != 0:
        return None
    loaded, number = library.TessBaseAPIGetLoadedLanguagesAsVector(handle), 0
    wanted = set(languages.encode().split(b"+"))
    while loaded[number] is not None:
        wanted.discard(loaded[number])
        number += 1
    if wanted:
        return None
    library.TessBaseAPISetVariable(handle, b"debug_file", b"/dev/null")
    library.TessBaseAPISetPageSegMode(handle, _PAGE_MODE)
    return _Engine(library, handle)


class _Engine:
    """tesseract, ready. Its methods decode: to be called in a forked process only."""

    def __init__(self, library: Any, handle: int) -> None:
        self._library, self._handle = library, handle

    def file(self, data: Buffer, page: int, most: int) -> str | None:
        """The words of a picture file of at most so many pixels. Raises _TooLargeError, _BrokenError.

        None: there is no such page.
        """
        octets = pointer(data)
        at = ctypes.addressof(octets)
        sizes = self._header(at, len(data), page, bytes(data[:10]))
        if sizes is None:
            if page:
                return None
            raise _BrokenError
        if sizes[0] * sizes[1] > most:
            raise _TooLargeError
        if sizes[0] * sizes[1] < _SMALLEST:
            return ""
        library = self._library
        is_tiff = bytes(data[:4]) in _TIFF
        picture = library.pixReadMemTiff(at, len(data), page) if is_tiff else library.pixReadMem(at, len(data))
        if not picture:
            raise _BrokenError
        return self._words(picture)

    def grey(self, drawn: Grey | None) -> str | None:
        """The words of a drawn page. Raises _BrokenError."""
        if drawn is None:
            raise _BrokenError
        self._library.TessBaseAPISetImage(self._handle, drawn.octets, drawn.width, drawn.height, 1, drawn.width)
        return self._recognised()

    def _header(self, at: int, size: int, page: int, head: bytes) -> tuple[int, int] | None:
        """Width and height that the file declares."""
        if head.startswith(_GIF):  # leptonica does not tell
            return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
        found = [ctypes.c_int() for _ in range(7)]
        refs = [ctypes.byref(value) for value in found]
        if head.startswith(_TIFF):
            failed = self._library.readHeaderMemTiff(at, size, page, *refs)
            width, height = found[0].value, found[1].value
        else:
            failed = self._library.pixReadHeaderMem(at, size, *refs[:6])
            width, height = found[1].value, found[2].value
        return None if failed or width <= 0 or height <= 0 else (width, height)

    def _words(self, picture: int) -> str:
        library = self._library
        steps: tuple[Callable[[int], int], ...] = (library.pixRemoveAlpha, lambda p: library.pixConvertTo8(p, 0))
        for step in steps:
            picture = step(picture)
            if not picture:
                raise _BrokenError
        library.TessBaseAPISetImage2(self._handle, picture)
        words = self._recognised()
        if library.pixGetWidth(picture) * library.pixGetHeight(picture) < _ENLARGED:
            enlarged = library.pixScale(picture, 2.0, 2.0)
            if enlarged:
                library.TessBaseAPISetImage2(self._handle, enlarged)
                again = self._recognised()
                words += "" if again == words else f"\n\n{again}"
        return words

    def _recognised(self) -> str:
        self._library.TessBaseAPISetSourceResolution(self._handle, _PPI)
        found = self._library.TessBaseAPIGetUTF8Text(self._handle)
        if found is None:
            raise _BrokenError
        return bytes(found).decode("utf-8", "replace")
