"""Dependencies are explained, locked with hashes, and the locks are those of ``pyproject.toml``."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements: list[str]) -> list[str]:
    return [_normal(match[0]) for text in requirements if (match := _NAME.match(text))]


RUNTIME = _names(_PROJECT["dependencies"])
DEVELOPMENT = _names(_PROJECT["optional-dependencies"]["dev"])
QUALITY = _names(_PROJECT["optional-dependencies"]["quality"])


def _locked(file: str) -> dict[str, str]:
    """Package -> version of a lock."""
    found = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE
    )
    return {_normal(name): version for name, version in found}


def test_every_dependency_is_explained() -> None:
    """A dependency without a row in docs/dependencies.md fails."""
    rows = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    explained = {_normal(name) for name in re.findall(r"^\| ([A-Za-z0-9._-]+) \|", rows, re.MULTILINE)}
    assert [name for name in RUNTIME + DEVELOPMENT if name not in explained] == []
    assert [name for name in QUALITY if name not in explained] == []


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for stands in the lock; `make lock` was not forgotten."""
    assert [name for name in RUNTIME if name not in _locked("requirements.lock")] == []
    assert [name for name in RUNTIME + DEVELOPMENT if name not in _locked("requirements-dev.lock")] == []
    assert [name for name in RUNTIME + QUALITY if name not in _locked("requirements-quality.lock")] == []


def test_development_runs_on_what_is_shipped() -> None:
    """All locks name the same versions of what is shipped."""
    for file in ("requirements-dev.lock", "requirements-quality.lock"):
        other = _locked(file)
        assert {name: other.get(name) for name in _locked("requirements.lock")} == _locked("requirements.lock")


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock", "requirements-quality.lock"])
def test_locks_hold_versions_and_hashes_only(file: str) -> None:
    """Every line is a pinned package or its hash: no index, no link, no option."""
    wrong = [
        line
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?|[a-z0-9-]+==\S+( ; [^\\]+)? \\", line)
    ]
    assert wrong == []
