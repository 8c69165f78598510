"""Simulated pairs of CTs: numbered, made on the fly, the same in every run.

Both CTs lie on each other exactly, which is better than an aligned pair does; each has a scanner of its own.
"""

from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ichnode.imaging.resample import CanonicalGrid
from training.fit.recent import SHOWINGS, KeptHead, Recent
from training.fit.store import Store
from training.patients.batch import Patients, became_of, known_of, told
from training.patients.frame import Frame
from training.simulate.atlas import atlas_of
from training.simulate.cohort import VALIDATION_SEEDS, patient_spec
from training.simulate.draw import Draw
from training.simulate.patient import simulate_head
from training.simulate.planes import PLANES_EACH, fine
from training.simulate.scanner import Scanned, scan
from training.simulate.spec import PatientSpec
from training.simulate.styles import Style

_PARENCHYMAL = 1  # label


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The first patients, made once and kept on disk: all are shown, again and again, each time in another order."""

    patients: int
    folder: Path

    def patient(self, number: int) -> int:
        """The one that is shown then."""
        round_, place = divmod(number, self.patients)
        order = torch.randperm(self.patients, generator=torch.Generator().manual_seed(round_))
        return int(order[place])


@dataclass(slots=True, kw_only=True)
class SimulatedPatients:
    """Patients of some kinds, in turn, in one style; on `grid`, the head in its middle."""

    grid: CanonicalGrid
    style: Style
    kinds: tuple[str, ...]  # of population.KINDS
    first_seed: int
    followup: bool = True  # else the later CT is the first
    finds_brain: bool = False  # as Frame, and the next
    stripped: bool = False
    device: str = "cpu"
    heads: int = 1
    showings: int = 3  # of each patient, on average
    recent: int = 100  # patients kept in each process, 9 MB each with a follow-up
    cohort: Cohort | None = None  # instead of always new ones
    mirrored: bool = True  # half of them
    unknown: float = 0.0  # share of what is known of the patients that the network is not told
    header_alone: float = 0.0  # share of the patients of whom it is told what a header says, and no more
    _kept: Recent[tuple[PatientSpec, list[KeptHead]]] = field(init=False)

    def __post_init__(self) -> None:
        self._kept = Recent(self.showings, self.recent)

    def batch(self, number: int) -> Patients:
        """The batch of that number."""
        numbers = range(number * self.heads, (number + 1) * self.heads)
        specs, pairs, brains = zip(*map(self._shown, numbers), strict=True)
        first, later = ([pair[when] for pair in pairs] for when in (0, -1))
        voxel_ml = prod(self.grid.spacing_mm) / 1000
        known = [
            known_of(spec, float((seen.labels == _PARENCHYMAL).sum()) * voxel_ml)
            for spec, seen in zip(specs, first, strict=True)
        ]
        return Patients(
            hu_bdhw=torch.stack([seen.hu for seen in first]),
            labels_bdhw=torch.stack([seen.labels for seen in first]),
            later_hu_bdhw=torch.stack([seen.hu for seen in later]),
            later_labels_bdhw=torch.stack([seen.labels for seen in later]),
            brain_bdhw=torch.stack(brains),
            known_bn=told(
                torch.tensor(known),
                Draw(seed=self.first_seed + 4 * SHOWINGS + number),
                unknown=self.unknown,
                header_alone=self.header_alone,
            ),
            became_bn=torch.tensor([became_of(spec) for spec in specs]),
        )

    def _shown(self, number: int) -> tuple[PatientSpec, list[Scanned], Tensor]:
        """The first CT and the follow-up, or the first alone; and where the brain is."""
        draw = Draw(seed=self.first_seed + SHOWINGS + number, device=self.device)
        cohort = self.cohort
        spec, heads = self._patient(cohort.patient(number)) if cohort else self._kept.of(number, draw, self._patient)
        seen = [
            scan(
                head.hu.float(),
                head.occupancy / 255,
                Draw(seed=self.first_seed + (2 + when) * SHOWINGS + number, device=self.device),
                planes_each=PLANES_EACH,
                pixel_mm=self.grid.spacing_mm[-1],
                archived=True,
            )
            for when, head in enumerate(heads)
        ]
        frame = Frame.of(seen[0].hu, self.grid, finds_brain=self.finds_brain, stripped=self.stripped)
        turned = [-1] if self.mirrored and draw.chance("mirrored", 0.5) else []
        shown = [
            Scanned(hu=frame.hu(each.hu).flip(turned), labels=frame.labels(each.labels).flip(turned)) for each in seen
        ]
        return spec, shown, frame.brain.flip(turned)

    def _patient(self, patient: int) -> tuple[PatientSpec, list[KeptHead]]:
        seed = self.first_seed + patient
        spec = patient_spec(seed, self.kinds[seed % len(self.kinds)])
        return spec, [self._head(spec, later) for later in ((False, True) if self.followup else (False,))]

    def _head(self, spec: PatientSpec, later: bool) -> KeptHead:
        grid = fine(self.grid)

        def made() -> KeptHead:
            atlas = atlas_of(self.style, self.device)
            return KeptHead.of(simulate_head(spec, grid, atlas, self.style, followup=later, device=self.device))

        if self.cohort is None:
            return made()
        name = f"{spec.seed}-{spec.kind}-{'later' if later else 'first'}"
        head = Store(folder=self.cohort.folder, grid=grid, style=self.style.name).head(name, made)
        return KeptHead(hu=head.hu.to(self.device), occupancy=head.occupancy.to(self.device))


def validation_of(source: SimulatedPatients, style: Style, passed_over: int = 0) -> SimulatedPatients:
    """Patients like those, of a style and with seeds that no training gets to, each shown once.

    They begin behind so many others. Of them is known what the node knows, where training has patients like that.
    """
    return replace(
        source,
        style=style,
        first_seed=VALIDATION_SEEDS + passed_over,
        heads=1,
        showings=1,
        recent=0,
        cohort=None,
        mirrored=False,
        unknown=0,
        header_alone=float(source.header_alone > 0),
    )
