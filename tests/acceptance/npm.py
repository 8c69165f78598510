"""Files of npm packages, each fetched once into ~/.cache/ichnode-tests."""

import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.peers import missing, program, run


def fetched(package: str, inner: str, name: str) -> Path:
    """The file or folder `inner` of `package` (with its version), kept under `name`."""
    kept = Path.home() / ".cache" / "ichnode-tests" / name
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    npm = program("npm", "npm")
    with TemporaryDirectory(dir=kept.parent) as folder:
        done = run([npm, "pack", "--pack-destination", folder, package], timeout_s=300)
        if done.returncode != 0:
            missing(package, f"npm pack said {done.stdout[-500:]}")
        [archived] = Path(folder).glob("*.tgz")
        with tarfile.open(archived) as archive:
            archive.extractall(folder, filter="data")
        shutil.move(Path(folder) / "package" / inner, kept)
    return kept
