"""Where bundles lie: the shipped ones, and those of a folder. Without torch, so that whoever only looks is quick."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ichnode.errors import BundleError, ConfigError

MANIFEST, WEIGHTS, CARD = "manifest.json", "weights.safetensors", "CARD.md"


def shipped_bundles() -> Path:
    """The folder of the bundles that come with ichnode."""
    return Path(str(files("models") / "bundles"))


def find_bundles(folders: Sequence[Path]) -> dict[str, Path]:
    """Every bundle below `folders` by name, unverified. Of two with one name the later folder's counts.

    Raises BundleError for a folder that does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BundleError(f"{folder} is not a folder")
    return {path.parent.name: path.parent for folder in folders for path in sorted(folder.glob(f"*/{MANIFEST}"))}


def configured_bundles(bundles_dir: Path | None) -> dict[str, Path]:
    """The shipped bundles and those below `inference.bundles_dir`, by name, unverified. Raises ConfigError."""
    if bundles_dir is not None and not bundles_dir.is_dir():
        raise ConfigError((f"inference.bundles_dir: no such folder: {bundles_dir}",))
    return find_bundles([shipped_bundles(), *([bundles_dir] if bundles_dir else [])])
