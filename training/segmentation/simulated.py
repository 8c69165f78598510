"""Simulated batches for training and validation: numbered, made on the fly, the same in every run.

A new patient comes every few batches; a batch shows one of the most recent patients through a new scanner, so that one
head serves several times under different kernels, slices, noise and exports.
"""

from dataclasses import dataclass, field, replace

from ichnode.imaging.resample import CanonicalGrid
from training.fit.recent import SHOWINGS, KeptHead, Recent
from training.segmentation.showing import boxed, together
from training.segmentation.system import Heads
from training.segmentation.wider import cupped, effaced, off_scale, resliced
from training.simulate.atlas import atlas_of
from training.simulate.cohort import TRAINING_SEEDS, VALIDATION_SEEDS, patient_spec
from training.simulate.draw import Draw
from training.simulate.patient import simulate_head
from training.simulate.planes import few, fine, seen_by, slab
from training.simulate.scanner import Scanned
from training.simulate.spec import PatientSpec
from training.simulate.styles import Style

SLAB_PLANES = (12, 32)  # fewest and most
ANEMIA = (0.25, 0.33)  # hematocrit: fresh blood of 35 to 50 HU
_SDH_OR_SAH = {"sdh": 2, "sah": 1, "sah_traumatic": 1}  # kinds of patients, and how many for one another


@dataclass(slots=True, kw_only=True)
class SimulatedSource:
    """Batches of one style, made on `grid`: whole heads, slabs, or few slices as single-slice series have them."""

    grid: CanonicalGrid
    style: Style
    first_seed: int = TRAINING_SEEDS
    device: str = "cpu"
    heads: int = 1
    showings: int = 4  # of each patient, on average
    recent: int = 150  # patients kept in each process, 5 MB each
    few_slices: float = 0.15  # share of the batches
    slabs: float = 0.3
    spared: float = 0.1  # share of the patients who do not bleed, whoever they are, beside those of the population
    sdh_or_sah: float = 0.15  # share of the others whose blood is of one of these kinds, beside the same
    anemic: float = 0.25  # share of the patients whose blood is hardly denser than brain, beside the same
    wider: bool = True  # than the style's scanners: what other scanners, and how the node reads them, do to a head
    _kept: Recent[KeptHead] = field(init=False)

    def __post_init__(self) -> None:
        self._kept = Recent(self.showings, self.recent)

    def batch(self, number: int) -> Heads:
        """The batch of that number."""
        draw = Draw(seed=self.first_seed + SHOWINGS + number, device=self.device)
        kind = draw.choice(
            "shown", ("few", "slab", "whole"), (self.few_slices, self.slabs, 1 - self.few_slices - self.slabs)
        )
        shown = [self._shown(number * self.heads + index, kind) for index in range(self.heads)]
        return together(shown)

    def _shown(self, number: int, kind: str) -> Scanned:
        draw = Draw(seed=self.first_seed + 2 * SHOWINGS + number, device=self.device)
        head = self._kept.of(number, draw, self._head)
        seen = seen_by(self.style, head.hu.float(), head.occupancy / 255, draw, self.grid.spacing_mm[-1])
        if self.wider:
            seen = resliced(cupped(seen, self.grid.spacing_mm, draw), draw)
        if kind != "whole":
            seen = few(seen, draw) if kind == "few" else slab(seen, round(draw.uniform("slab", *SLAB_PLANES)), draw)
        seen = boxed(seen, self.grid.spacing_mm, draw)
        return off_scale(seen, draw) if self.wider else seen

    def _head(self, patient: int) -> KeptHead:
        spec, atlas = self._spec(self.first_seed + patient), atlas_of(self.style, self.device)
        head = simulate_head(spec, fine(self.grid), atlas, self.style, device=self.device)
        return KeptHead.of(effaced(head, Draw(seed=spec.seed, device=self.device)) if self.wider else head)

    def _spec(self, seed: int) -> PatientSpec:
        draw = Draw(seed=seed)
        spec = patient_spec(seed, self._kind(draw))
        if draw.chance("anemic", self.anemic):
            spec = replace(spec, hematocrit=draw.uniform("anemia", *ANEMIA))
        return replace(spec, staining_ml=0.0)  # no picture alone tells it from blood (decision 168)

    def _kind(self, draw: Draw) -> str | None:
        """None for one of the population."""
        if draw.chance("spared", self.spared):
            return "normal"
        if draw.chance("SDH or SAH", self.sdh_or_sah):
            return draw.choice("which of the two", list(_SDH_OR_SAH), list(_SDH_OR_SAH.values()))
        return None


def validation_source(grid: CanonicalGrid, style: Style, device: str = "cpu") -> SimulatedSource:
    """Heads of a style that no training run gets to, each shown once."""
    return SimulatedSource(
        grid=grid,
        style=style,
        first_seed=VALIDATION_SEEDS,
        device=device,
        showings=1,
        recent=0,
        spared=0,
        sdh_or_sah=0,
        anemic=0,
        wider=False,
    )
