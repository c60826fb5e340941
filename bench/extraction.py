"""How long the readers take for each format, and how much memory: each document in a process of its own.

What is timed is the walk through one attachment, as inspection does it, with every text taken and none searched.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.documents import documents
from bench.processes import parse_peak, status

ROOT = Path(__file__).resolve().parents[1]
_PIECE = 262_144


@dataclass(frozen=True, slots=True)
class Row:
    """One format. Octets and seconds."""

    name: str
    file: int
    text: int
    seconds: float
    memory: int
    """Its highest resident size."""
    idle: int
    """Before it read anything."""


def measure(folder: Path, say: Callable[[str], None]) -> list[Row]:
    """All formats."""
    rows = []
    for name, make in documents(folder).items():
        say(f"extraction: {name}")
        path = folder / "document"
        path.write_bytes(make())
        command = [sys.executable, "-m", "bench.extraction", str(path), name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        rows.append(Row(**json.loads(done.stdout)))
        path.unlink()
    return rows


def read(path: Path, name: str) -> Row:
    """Read it here. ``name``: ending, or whole name."""
    from gateway.checks.inside import Attachment  # noqa: PLC0415 - what they need is not what a document needs
    from gateway.checks.reading.attachments import open_reader  # noqa: PLC0415
    from gateway.checks.reading.values import Text  # noqa: PLC0415
    from gateway.settings import InspectionSettings  # noqa: PLC0415

    size = path.stat().st_size
    settings = InspectionSettings()
    open_reader(settings)
    before = parse_peak(status(os.getpid()))  # ru_maxrss would be the starting process's

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    best, text = float("inf"), 0
    for _ in range(3):
        take = open_reader(settings)
        started = time.process_time()
        found = take(Attachment(pieces(), size, f"a{name}" if name[0] == "." else name, ""))
        text = sum(len(item.item.text) for item in found if isinstance(item.item, Text))
        best = min(best, time.process_time() - started)
    return Row(name, size, text, best, parse_peak(status(os.getpid())), before)


if __name__ == "__main__":
    row = read(Path(sys.argv[1]), sys.argv[2])
    print(json.dumps({field: getattr(row, field) for field in row.__slots__}))
