"""A 45 MB message with a Word document of 30 MB in it, from end to end, and small messages beside it.

The document's text is random words, some 70 MB of XML unpacked. Everything goes through a running gateway with one
worker, as ``bench.latency`` and ``bench.memory`` measure, to a last server that lets no session wait for another.
"""

import base64
from dataclasses import dataclass

from bench import latency, memory, messages
from bench.documents import MEGABYTE, docx, words
from bench.latency import Latencies
from bench.load import Source, reading_time
from bench.messages import RECIPIENT, SENDER, SIZES
from bench.rows import Setup

DOCUMENT = 30 * MEGABYTE
_STEP = 4 * MEGABYTE
"""Octets of text that are repeated: far more than deflate looks back over."""
SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Passing:
    """What was measured with one choice of rules."""

    size: int
    document: int
    seconds: float
    worker: int
    """Octets, the highest resident size of the worker."""
    own: int
    """Of that, anonymous memory."""
    inspector: int
    """Octets, the highest resident size of its inspection process."""
    alone: Latencies
    beside: Latencies


def document() -> bytes:
    """A Word document of about 30 MB."""
    one = len(docx(_STEP)) - 1000
    return docx(_STEP, max(1, DOCUMENT // one))


def message(content: bytes) -> bytes:
    """The whole message with LF line ends: a text, the document, a text file that fills it up to 45 MB."""
    boundary = "=_civicgate-bench-passing"
    head = (
        f"From: Chris Clerk <{SENDER}>\nTo: A Partner <{RECIPIENT}>\nSubject: minutes of the year\n"
        "Date: Thu, 19 Nov 2026 09:12:44 +0100\nMessage-ID: <passing@city.example>\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/mixed; boundary="{boundary}"\n'
    )
    encoded = base64.encodebytes(content)
    room = max(0, 45 * MEGABYTE - len(encoded) - len(encoded) // 77 - 10_000)
    filler = words(min(room, 8 * MEGABYTE), 7).encode()
    parts = (
        b"Content-Type: text/plain; charset=utf-8\n\nPlease find the minutes.\n\n-- \nChris Clerk\nCity of Example\n",
        b"Content-Type: application/vnd.openxmlformats-officedocument.wordprocessingml.document; name=minutes.docx\n"
        b"Content-Disposition: attachment; filename=minutes.docx\nContent-Transfer-Encoding: base64\n\n" + encoded,
        b"Content-Type: text/plain; charset=utf-8\nContent-Disposition: attachment; filename=notes.txt\n\n" + filler,
    )
    opened = f"\n--{boundary}\n".encode()
    return head.encode() + b"".join(opened + part for part in parts) + f"\n--{boundary}--\n".encode()


def measure(setup: Setup, rules: str) -> Passing:
    """Through the gateway with ``rules`` (``local``: without clamd's, or ``all``). Raises NotMeasuredError and such."""
    path = setup.folder / "passing.eml"
    content = document()
    if not path.exists():
        path.write_bytes(message(content))
    source = Source(path, 1, reading_time(path))
    server = setup.gateway(1, rules)
    small = messages.content(SIZES[0])
    latency.steady(server.port, small, 1.0)  # warm
    source.send(server.port, 1)  # the inspection process of the large ones starts with the first one
    found = memory.measure(server.pid, server.port, source, 1)
    alone = latency.steady(server.port, small, SECONDS)
    beside = Latencies()
    for _ in range(2):
        beside.add(latency.measure(server.port, small, source, SECONDS))
    size = path.stat().st_size
    return Passing(
        size, len(content), found.seconds, found.resident, found.anonymous, found.inspector, alone, beside
    )  # fmt: skip
