"""Fixtures that every kind of test may use."""

import os
from pathlib import Path

import pytest

from ichnode.storage.schema import open_engine

_BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real head CT; tests that need it skip visibly without it."""
    folder = Path(os.environ.get("ICHNODE_TEST_DATA", _BESIDE_THE_PROJECT))
    if not (folder / "ge_head_nct").is_dir():
        pytest.skip(f"no test data in {folder}; set ICHNODE_TEST_DATA")
    return folder


@pytest.fixture
def engine(tmp_path):
    """A ledger of its own, on real SQLite."""
    engine = open_engine(f"sqlite:///{tmp_path}/ichnode.db")
    yield engine
    engine.dispose()
