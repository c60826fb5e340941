"""Documents lead where they say they lead, and no tracked file tells about the machine that it was written on."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in names.decode().split("\0") if name and (path := ROOT / name).is_file()]


DOCUMENTS = sorted(path for path in _tracked() if path.suffix == ".md")
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)>\s]+)>?\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def _anchors(text: str) -> set[str]:
    """The names that headings get: lower case, punctuation gone, spaces to hyphens."""
    titles = re.findall(r"^#+\s+(.*?)\s*$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document: Path) -> None:
    """Every relative link names a file that is tracked or a folder, and a heading that is in it."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(link)
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target.read_text(encoding="utf-8")):
            broken.append(link)
    assert broken == []


def test_readme_opens_with_two_commands() -> None:
    """Before anything else a newcomer reads `make run` and `make test`, and no other command."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    assert [command.split("#")[0].strip() for command in commands[:2]] == ["make run", "make test"]
    assert "`" not in text[: text.index("make run")]


# Put together here, so that this file does not hold what it looks for.
_PLACES = [
    "/" + "work/",
    "/tmp" + "/w/",
    "/" + "root/",
    "/opt" + "/pypi",
    "pypi" + r"\.org",
    "files.python" + "hosted",
    "deb" + r"\.debian\.org",
    "security" + r"\.debian\.org",
    "registry.npm" + "js",
    "docker" + r"\.io\b",
    "ghcr" + r"\.io\b",
    "quay" + r"\.io\b",
]
_TELLTALE = re.compile("|".join(_PLACES))


def test_no_tracked_file_names_a_machine_path_or_a_registry() -> None:
    """Where packages come from, and where the work was done, is the machine's business."""
    found = []
    for path in _tracked():
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            if match := _TELLTALE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_no_tracked_file_holds_the_eicar_string() -> None:
    """A scanner on a developer's machine must not take the source tree for infected."""
    needle = b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE"
    assert [str(path.relative_to(ROOT)) for path in _tracked() if needle in path.read_bytes()] == []
