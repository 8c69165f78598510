"""Head: what all forecasters read of one patient, each grid made once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ichnode.domain.findings import HemorrhageType
from ichnode.imaging.cavity import brain_in, cavity_of
from ichnode.imaging.head_box import grid_in_the_middle, head_box
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_canonical
from ichnode.imaging.skull import with_bone
from ichnode.imaging.volume import FloatArray, Mask, Volume
from ichnode.inference.manifest import ForecasterManifest

Wanted = tuple[tuple[float, float, float], tuple[int, int, int]]  # spacing in mm and shape, z, y, x


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """A head on the grid of a network; masks are (z, y, x)."""

    grid: CanonicalGrid
    hu: FloatArray  # (z, y, x)

    @cached_property
    def cavity(self) -> Mask:
        """What lies inside the skull; all where no skull is found."""
        cavity = cavity_of(self.hu, self.grid.spacing_mm)
        return np.asarray(cavity | ~cavity.any(), np.bool_)

    @cached_property
    def brain(self) -> Mask:
        """The brain, as networks are told of it; all where no skull is found."""
        return brain_in(self.cavity, self.grid.spacing_mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A head CT, the hematoma that was found in it, and what else is known of the patient."""

    volume: Volume
    now: Prediction
    find: Callable[[Volume], Prediction]  # as the hematoma of this one was found
    known: Mapping[str, float] = field(default_factory=dict)  # by the names of `inference.expansion.CLINICAL`
    after_thrombectomy: bool = False
    _sights: dict[Wanted, Sight] = field(init=False, default_factory=dict)

    @property
    def parenchymal(self) -> Mask:
        """(slice, row, column). All of the hematoma is parenchymal where the model tells no types apart."""
        return self.now.hematoma if self.now.types is None else self._of_type(HemorrhageType.IPH)

    @property
    def ventricular(self) -> Mask:
        """(slice, row, column)."""
        return self._of_type(HemorrhageType.IVH)

    @property
    def growing_ml(self) -> float:
        """Parenchymal and ventricular blood."""
        return self.volume.grid.volume_ml(self.parenchymal | self.ventricular)

    def seen_by(self, manifest: ForecasterManifest) -> Sight:
        """The head in the middle of a grid like that a network was trained on."""
        wanted = (manifest.grid_spacing_mm, manifest.shape)
        if wanted not in self._sights:
            whole = canonical_grid_for(self.volume.grid, manifest.grid_spacing_mm)
            box = head_box(to_canonical(self._shown, whole), whole.spacing_mm)
            grid = grid_in_the_middle(whole, box, manifest.shape)
            self._sights[wanted] = Sight(grid=grid, hu=to_canonical(self._shown, grid))
        return self._sights[wanted]

    @cached_property
    def _shown(self) -> Volume:
        return with_bone(self.volume)

    def _of_type(self, name: HemorrhageType) -> Mask:
        if self.now.types is None or name not in self.now.classes:
            return np.zeros_like(self.now.hematoma)
        number = self.now.classes.index(name) + 1
        return np.asarray(self.now.hematoma & (self.now.types == number), np.bool_)
