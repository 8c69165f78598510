"""An installation without any index: the wheel holds what the node needs, and pip finds the rest in the wheelhouse.

The other wheels here are empty: names, versions and what they want, as they are installed here.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """ichnode's own."""
    pytest.importorskip("hatchling", reason="needs the extra dev")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    ran = run(sys.executable, "-m", "pip", "wheel", *options, ROOT)
    assert ran.returncode == 0, ran.stderr
    return next(folder.glob("ichnode-*.whl"))


def required(metadata: str) -> set[str]:
    """Names of what a METADATA file wants without extras."""
    lines = re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)
    wanted = [Requirement(line) for line in lines]
    return {w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})}


def stub(name: str, folder: Path) -> str:
    """A wheel of an installed distribution with nothing but its METADATA, which is returned."""
    found = distribution(name)
    metadata = "\n".join(
        [f"Metadata-Version: 2.1\nName: {found.name}\nVersion: {found.version}"]
        + [f"Requires-Dist: {line}" for line in found.requires or ()]
    )
    stem = f"{re.sub('[-_.]+', '_', found.name)}-{found.version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        file.writestr(f"{stem}.dist-info/METADATA", metadata)
        file.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{stem}.dist-info/RECORD", "")
    return metadata


@pytest.fixture
def wheelhouse(wheel, tmp_path):
    """What `make wheelhouse` collects, the wheels of others empty."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    shutil.copy(wheel, folder)
    with zipfile.ZipFile(wheel) as file:
        (name,) = [n for n in file.namelist() if n.endswith(".dist-info/METADATA")]
        open_ones = required(file.read(name).decode())
    done: set[str] = set()
    while open_ones - done:
        name = (open_ones - done).pop()
        done.add(name)
        open_ones |= required(stub(name, folder))
    sums = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}" for f in sorted(folder.glob("*.whl"))]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


def install(wheelhouse, prefix):
    return run("make", "install-offline", f"WHEELHOUSE={wheelhouse}", f"PREFIX={prefix}", cwd=ROOT)


def test_the_wheel_holds_what_the_node_reads(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    bundles = {f"models/bundles/{f.parent.name}/{f.name}" for f in (ROOT / "models" / "bundles").glob("*/*")}
    assert {"ichnode/ichnode.service", "ichnode/example.toml", "ichnode/simulated_patient.zip"} | bundles <= names


def test_pip_finds_everything_in_the_wheelhouse_and_asks_no_index(wheelhouse, tmp_path):
    ran = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index"),
        *("--target", tmp_path / "nowhere", "--find-links", wheelhouse, "ichnode"),
    )
    assert ran.returncode == 0, ran.stderr
    assert "Would install" in ran.stdout
    assert len(re.search("Would install (.*)", ran.stdout)[1].split()) == len(list(wheelhouse.glob("*.whl")))


def test_make_installs_from_the_wheelhouse(wheelhouse, tmp_path):
    ran = install(wheelhouse, tmp_path / "venv")
    assert ran.returncode == 0, ran.stderr
    assert "ichnode" in run(tmp_path / "venv" / "bin" / "pip", "list", "--format=freeze").stdout
    assert (tmp_path / "venv" / "bin" / "ichnode").exists()


def test_nothing_is_installed_from_a_wheel_that_was_altered(wheelhouse, tmp_path):
    with next(wheelhouse.glob("torch-*.whl")).open("ab") as file:
        file.write(b"\0")
    ran = install(wheelhouse, tmp_path / "venv")
    assert ran.returncode != 0
    assert "FAILED" in ran.stdout + ran.stderr
    assert not (tmp_path / "venv").exists()
