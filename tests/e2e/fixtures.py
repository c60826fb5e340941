"""Fixtures that end-to-end and fault tests share; each is started once in a test process, when first asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.clamd import clamd_program, running_clamd
from tests.e2e.running import CityGateway, Nursery, Sink, running_city

__all__ = ["city", "clamd", "nursery", "sink"]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks gateways and commands."""
    one = Nursery()
    yield one
    one.close()


@pytest.fixture(scope="session")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a real clamd with the shipped configuration."""
    if clamd_program() is None:
        pytest.skip("clamd is not installed")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as socket:
        yield socket


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """The mail server behind the shared gateway."""
    with Sink() as one:
        yield one


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, sink: Sink, clamd: Path) -> Iterator[CityGateway]:
    """Two workers with the default rules, the default directory and clamd, in front of ``sink``."""
    folder = tmp_path_factory.mktemp("city")
    with running_city(folder, nursery, sink.port, clamd={"address": f"unix:{clamd}"}) as gateway:
        yield gateway
