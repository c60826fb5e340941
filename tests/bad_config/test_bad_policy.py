"""A folder per bad rule, type or directory; ``error.txt`` beside it is exactly what the administrator must read."""

from pathlib import Path

import pytest

from gateway.directory import load_directory
from gateway.errors import ConfigErrors
from gateway.policy import load_rules, load_types

HERE = Path(__file__).parent
TYPES = frozenset({"us-ssn", "payment-card"})
ROLES = frozenset({"director", "it-director"})


def _folders(kind: str) -> list[str]:
    return sorted(f"{kind}/{path.name}" for path in (HERE / kind).iterdir() if path.is_dir())


def _load(kind: str) -> None:
    if kind == "rules":
        load_rules(Path(), TYPES, {"transfer_service": "https://files.city.example"}, ROLES)
    elif kind == "types":
        load_types(Path())
    else:
        load_directory(Path("directory.yaml"))


@pytest.mark.parametrize("name", [*_folders("rules"), *_folders("types"), *_folders("directory")])
def test_bad_config_gives_exactly_its_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bad file is refused with file, line, column and the words beside it, all problems at once."""
    monkeypatch.chdir(HERE / name)
    with pytest.raises(ConfigErrors) as refused:
        _load(name.partition("/")[0])
    assert str(refused.value) + "\n" == (HERE / name / "error.txt").read_text("utf-8")
