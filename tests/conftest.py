"""Fixtures that every kind of test may use."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ichnode.storage.dialect import new_engine
from ichnode.storage.schema import open_engine
from tests.postgres import Cluster, cluster
from tests.real_data import real_data


def pytest_configure() -> None:
    """Shells have background jobs ignore SIGINT, and the programs that tests start would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real head CT."""
    return real_data()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of this test run."""
    with cluster() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Cluster) -> str:
    """A PostgreSQL database with the tables and no rows, to be copied."""
    name = postgres.database()
    open_engine(postgres.url(name)).dispose()
    return name


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """A ledger of its own, on real SQLite, in `tmp_path / "ichnode.db"`."""
    engine = open_engine(f"sqlite:///{tmp_path}/ichnode.db")
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A ledger of its own, on real SQLite and on real PostgreSQL in turn."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_engine")
        return
    postgres, migrated = request.getfixturevalue("postgres"), request.getfixturevalue("migrated")
    name = postgres.database(template=migrated)
    engine = new_engine(postgres.url(name))
    yield engine
    engine.dispose()
    postgres.drop(name)
