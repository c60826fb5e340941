"""What fuzzing found worth keeping still holds: every input of the corpora through its harness, without atheris."""

import importlib
from pathlib import Path

import pytest

from tests.fuzz.__main__ import NAMES

CORPORA = Path(__file__).resolve().parent / "corpora"


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    """No promise of the harness is broken by what it begins with, by what it learnt, or by what once broke one."""
    harness = importlib.import_module(f"tests.fuzz.{name}")
    inputs = [path.read_bytes() for path in sorted((CORPORA / name).iterdir())]
    assert len(inputs) >= 10, "the corpus is missing"
    for data in (*harness.seeds(), *inputs):
        harness.check(data)
