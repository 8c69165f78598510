"""Store: simulated heads on disk, for trainings that show the same patients, and for the next run of one.

Each lies in the folder of the program that made it: a changed simulator makes its own.
"""

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from ichnode.imaging.resample import CanonicalGrid
from training import simulate
from training.fit.recent import KeptHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Heads of one style on one grid in `folder`; several processes may use it."""

    folder: Path
    grid: CanonicalGrid
    style: str  # its name

    def head(self, name: str, make: Callable[[], KeptHead]) -> KeptHead:
        """The one of that name, unique among its style's; `make` makes it if none is there, or none that can be read.

        It lies on the CPU, or where it was made. Raises OSError where nothing can be written.
        """
        path = self._path(name)
        try:
            with np.load(path) as kept:
                return KeptHead(hu=torch.from_numpy(kept["hu"]), occupancy=torch.from_numpy(kept["occupancy"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            head = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, hu=head.hu.cpu().numpy(), occupancy=head.occupancy.cpu().numpy())
        unfinished.rename(path)
        return head

    def _path(self, name: str) -> Path:
        sizes = "x".join(map(str, self.grid.shape)), "x".join(f"{mm:g}" for mm in self.grid.spacing_mm)
        return self.folder / _program() / "-".join([self.style.replace(" ", "_"), *sizes]) / f"{name}.npz"


@cache
def _program() -> str:
    """Begin of the SHA-256 of the simulator's source."""
    digest = sha256()
    for source in sorted(Path(simulate.__path__[0]).glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
