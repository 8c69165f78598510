"""Fixtures that every kind of test may use."""

from pathlib import Path

import pytest

from ichnode.storage.schema import open_engine
from tests.real_data import real_data


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real head CT."""
    return real_data()


@pytest.fixture
def engine(tmp_path):
    """A ledger of its own, on real SQLite."""
    engine = open_engine(f"sqlite:///{tmp_path}/ichnode.db")
    yield engine
    engine.dispose()
