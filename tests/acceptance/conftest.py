"""Where the acceptance tests leave their pictures."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pictures of the viewer are kept in; ICHNODE_SCREENSHOTS, or a temporary one."""
    given = os.environ.get("ICHNODE_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
