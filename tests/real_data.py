"""Real head CT for tests, kept outside the project: found, or visibly missing."""

import os
from pathlib import Path

from tests.acceptance.peers import missing

_BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


def real_data(folder: str = "") -> Path:
    """A folder of the test data; without it the test is skipped, or fails where ICHNODE_REQUIRE_PEERS=1."""
    root = Path(os.environ.get("ICHNODE_TEST_DATA", _BESIDE_THE_PROJECT))
    path = root / (folder or "ge_head_nct")
    if not path.is_dir():
        missing(str(path), "set ICHNODE_TEST_DATA to the folder with the test data")
    return path if folder else root
