"""A folder per bad ``gateway.yaml``; ``error.txt`` beside it is exactly what the administrator must read."""

from pathlib import Path

import pytest

from gateway.errors import ConfigErrors
from gateway.settings import load_settings

HERE = Path(__file__).parent / "settings"


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.iterdir()))
def test_bad_settings_give_exactly_their_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bad file is refused with file, line, column and words, all problems at once and in the file's order."""
    monkeypatch.chdir(HERE / name)
    with pytest.raises(ConfigErrors) as refused:
        load_settings(Path("gateway.yaml"))
    assert str(refused.value) + "\n" == (HERE / name / "error.txt").read_text("utf-8")
