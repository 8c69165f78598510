"""OHIF, a real web viewer: the files that its server gives.

It is the npm package @ohif/app, fetched once into ~/.cache/ichnode-tests (ICHNODE_OHIF_DIST names another build).
"""

import os
from pathlib import Path

from tests.acceptance.npm import fetched

OHIF_VERSION = "3.12.10"
_APP_CONFIG = Path(__file__).parent / "ohif" / "app-config.js"


def ohif_dist() -> Path:
    """Folder of the built viewer; fetched with npm the first time (48 MB, 200 MB unpacked)."""
    if given := os.environ.get("ICHNODE_OHIF_DIST"):
        return Path(given)
    return fetched(f"@ohif/app@{OHIF_VERSION}", "dist", f"ohif-{OHIF_VERSION}")


def ohif_file(path: str) -> Path:
    """The file at `path` of the viewer's URL; its single page where there is none."""
    if path == "app-config.js":
        return _APP_CONFIG
    dist = ohif_dist().resolve()
    file = (dist / path).resolve()
    return file if file.is_file() and file.is_relative_to(dist) else dist / "index.html"
