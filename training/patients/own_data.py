"""Own patients: numbered batches from a manifest, in the middle of a network's grid as simulated patients are.

Follow-up CTs are brought onto the first ones; pairs of which that cannot be done are left out by name. Hemorrhage of
unknown type counts as parenchymal, which the four systems are about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import cos, isnan, nan, prod, sin
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ichnode.errors import RefusedSeries
from ichnode.imaging.resample import OUTSIDE_HU, CanonicalGrid
from training.data.alignment import Head, NotAligned, alignment
from training.data.load import Case, case
from training.data.manifest import ANY, LABEL_VALUES, UNKNOWN, DataError, Row, Split
from training.data.masks import Labels
from training.patients.batch import Patients, expands, told
from training.patients.frame import Frame
from training.simulate.draw import Draw

_SEED = 2_000_000_000  # no simulated patient has it or a higher one
_TOLD = 500_000_000  # so far from the seed of a showing lies that of what is told
_IPH, _IVH = LABEL_VALUES["IPH"], LABEL_VALUES["IVH"]
_LATEST_H = 72.0
_TURN = 0.17  # radians in the plane, at most
_NOISE_HU = 3.0  # deviation, at most; of the first CT alone, which is read
_POOR_MRS = 4  # modified Rankin scale, and worse


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPatient:
    """A first CT, and the earliest follow-up within 72 hours."""

    first: Row
    later: Row | None


def own_patients(rows: Sequence[Row], split: Split, *, followup: bool, masks: bool) -> list[OwnPatient]:
    """Those of a split. `followup`: who have one; `masks`: whose hemorrhage is known on every CT that is needed.

    A follow-up whose hours are not known is none.
    """
    laters: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.paired_with is not None and row.t_hours is not None and 0 < row.t_hours <= _LATEST_H:
            laters.setdefault((row.source, row.paired_with), []).append(row)
    found = []
    for first in (row for row in rows if row.split == split and row.paired_with is None):
        later = min(laters.get((first.source, first.study), []), key=lambda row: row.t_hours or 0.0, default=None)
        needed = [first, later] if followup else [first]
        if all(row and (not masks or row.mask or row.types == ()) for row in needed):
            found.append(OwnPatient(first=first, later=later if followup else None))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """Both CTs on one grid, (z, y, x); without a follow-up the second is the first.

    As arrays: each tensor would take a file descriptor on its way to those who make batches.
    """

    hu: NDArray[np.float16]
    labels: Labels
    later_hu: NDArray[np.float16]
    later_labels: Labels
    brain: NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class OwnPatients:
    """Each once in every round. In training mirrored, turned and noisier; else as they are, in their order.

    All that was read is kept in memory, 2.4 MB for each pair on the grid of the shipped networks.
    """

    patients: Sequence[OwnPatient]
    grid: CanonicalGrid
    finds_brain: bool = False  # as Frame, and the next; the two after them as SimulatedPatients
    stripped: bool = False
    unknown: float = 0.0
    header_alone: float = 0.0
    masks: bool = False  # whether every voxel must be known
    heads: int = 1
    as_they_are: bool = False
    _kept: dict[int, _Seen] = field(default_factory=dict, init=False)

    def aligned(self, tell: Callable[[str], None]) -> Self:
        """With all pairs brought onto each other, without those that cannot be, of whom `tell` gets a line each.

        Raises DataError that names a row that cannot be read, and where more than half of all are left out.
        """
        kept, left_out = list[int](), list[str]()
        for place, patient in enumerate(self.patients):
            try:
                if patient.later is not None:
                    self._seen(place)
                kept.append(place)
            except NotAligned as problem:
                left_out.append(str(problem))
                tell(f"left out: {problem}")
        if 2 * len(left_out) > len(self.patients):
            raise DataError(f"{len(left_out)} of {len(self.patients)} own patients cannot be aligned: {left_out[-1]}")
        found = replace(self, patients=[self.patients[place] for place in kept])
        found._kept |= {new: self._kept[old] for new, old in enumerate(kept) if old in self._kept}
        return found

    def batch(self, number: int) -> Patients:
        """The batch of that number. Raises DataError that names the row."""
        each = [self._shown(number * self.heads + index) for index in range(self.heads)]
        batch = Patients(**{name: torch.stack([one[name] for one in each]) for name in each[0]})
        draw = Draw(seed=_SEED + _TOLD + number)
        known_bn = told(batch.known_bn, draw, unknown=self.unknown, header_alone=self.header_alone)
        return replace(batch, known_bn=known_bn)

    def _shown(self, number: int) -> dict[str, Tensor]:
        round_, place = divmod(number, len(self.patients))
        if not self.as_they_are:
            place = int(np.random.default_rng(_SEED + round_).permutation(len(self.patients))[place])
        patient, seen = self.patients[place], self._seen(place)
        shown = {
            "hu_bdhw": torch.from_numpy(seen.hu).float(),
            "labels_bdhw": torch.from_numpy(seen.labels),
            "later_hu_bdhw": torch.from_numpy(seen.later_hu).float(),
            "later_labels_bdhw": torch.from_numpy(seen.later_labels),
            "brain_bdhw": torch.from_numpy(seen.brain),
        }
        known, became = truth_of(
            patient, shown["labels_bdhw"], shown["later_labels_bdhw"], prod(self.grid.spacing_mm) / 1000
        )
        if not self.as_they_are:
            shown = _moved(shown, Draw(seed=_SEED + number), outside_hu=0.0 if self.stripped else OUTSIDE_HU)
        return shown | {"known_bn": torch.tensor(known), "became_bn": torch.tensor(became)}

    def _seen(self, place: int) -> _Seen:
        if place not in self._kept:
            patient = self.patients[place]
            rows = [patient.first, *([patient.later] if patient.later else [])]
            try:
                self._kept[place] = self._read(*(case(row, self.grid.spacing_mm) for row in rows))
            except (DataError, RefusedSeries, OSError) as problem:
                named = " and ".join(f"{row.source}/{row.study}" for row in rows)
                kind = NotAligned if isinstance(problem, NotAligned) else DataError
                raise kind(f"{named}: {problem}") from problem
        return self._kept[place]

    def _read(self, first: Case, later: Case | None = None) -> _Seen:
        if self.masks and any((each.labels_dhw == UNKNOWN).any() for each in (first, later) if each):
            raise DataError("a part of a mask is unknown")
        later_hu, later_labels = (first.hu_dhw, first.labels_dhw) if later is None else _onto(first, later)
        frame = Frame.of(
            torch.from_numpy(first.hu_dhw), self.grid, finds_brain=self.finds_brain, stripped=self.stripped
        )

        def hu(hu_dhw: np.ndarray) -> NDArray[np.float16]:
            return frame.hu(torch.from_numpy(hu_dhw)).half().numpy()

        def labels(labels_dhw: Labels) -> Labels:
            return frame.labels(torch.from_numpy(np.where(labels_dhw == ANY, _IPH, labels_dhw))).numpy()

        return _Seen(
            hu=hu(first.hu_dhw),
            labels=labels(first.labels_dhw),
            later_hu=hu(later_hu),
            later_labels=labels(later_labels),
            brain=frame.brain.numpy(),
        )


def _onto(first: Case, later: Case) -> tuple[np.ndarray, Labels]:
    """HU and labels of the follow-up on the grid of the first CT. Raises NotAligned."""
    found = alignment(Head(hu=first.hu_dhw, grid=first.grid), Head(hu=later.hu_dhw, grid=later.grid))
    labels = np.zeros(first.grid.shape, np.uint8)
    for value in (int(value) for value in np.unique(later.labels_dhw) if value):
        labels[found.mask(later.labels_dhw == value)] = value
    return found.hu(later.hu_dhw), labels


def truth_of(
    patient: OwnPatient, labels: Tensor, later_labels: Tensor, voxel_ml: float
) -> tuple[list[float], list[float]]:
    """What is known of the patient, as KNOWN, and what became of them, as BECAME; NaN where it is not known.

    Expansion is that of spontaneous parenchymal hemorrhage, late hemorrhage that after thrombectomy.
    """
    row, later = patient.first, patient.later
    first_ml, later_ml = (_parenchymal_ml(x, voxel_ml) for x in (labels, later_labels))
    known = [
        _number(row.onset_hours),
        first_ml if not isnan(first_ml) else _number(row.volume_ml if row.types == ("IPH",) else None),
        _number(row.anticoagulant),
        _number(row.systolic_mmhg),
        _number(row.age),
        _number(row.gcs),
    ]
    grown = (nan, nan)
    if later is not None and first_ml > 0 and not isnan(later_ml) and not row.thrombectomy:
        grown = expands(first_ml, later_ml)
    bleeds = nan
    if later is not None and row.thrombectomy:
        bleeds = float(len(later.types) > 0) if later.types is not None else _any(later_labels)
    return known, [*grown, *outcome_of(row), bleeds]


def outcome_of(row: Row) -> tuple[float, float]:
    """Death in 30 days and poor outcome, 0 or 1; NaN where it is not known."""
    if row.outcome is None:
        return nan, nan
    died = float(row.outcome.value) if row.outcome.type == "death_30d" else nan
    poor = {
        "mrs_90d": float(row.outcome.value >= _POOR_MRS),
        "poor_prognosis": float(row.outcome.value),
    }.get(row.outcome.type, nan)
    return died, poor


def _number(value: float | None) -> float:
    return nan if value is None else float(value)


def _parenchymal_ml(labels: Tensor, voxel_ml: float) -> float:
    return nan if bool((labels == UNKNOWN).any()) else float((labels == _IPH).sum()) * voxel_ml


def _any(labels: Tensor) -> float:
    return nan if bool((labels == UNKNOWN).any()) else float((labels > 0).any())


def _moved(shown: dict[str, Tensor], draw: Draw, *, outside_hu: float) -> dict[str, Tensor]:
    """Both CTs alike; noise on the first alone, which is read. Nothing changes its size: volumes are learned."""
    angle, is_mirrored = draw.uniform("turn", -_TURN, _TURN), draw.chance("mirrored", 0.5)
    moved = {}
    for name, x_dhw in shown.items():
        is_hu = "hu" in name
        turned = _turned(x_dhw.float() - (outside_hu if is_hu else 0.0), angle, "bilinear" if is_hu else "nearest")
        turned = turned + outside_hu if is_hu else turned.to(x_dhw.dtype)
        moved[name] = turned.flip(-1) if is_mirrored else turned
    hu = moved["hu_bdhw"]
    noise = draw.normals("noise", *hu.shape) * draw.uniform("noise level", 0, _NOISE_HU)
    return moved | {"hu_bdhw": hu + noise.where(hu != outside_hu, 0.0)}


def _turned(x_dhw: Tensor, angle: float, mode: str) -> Tensor:
    """In the plane; 0 comes in from outside."""
    rows, columns = x_dhw.shape[1:]
    theta = torch.tensor([[cos(angle), -sin(angle) * rows / columns, 0], [sin(angle) * columns / rows, cos(angle), 0]])
    place = functional.affine_grid(theta[None], [1, 1, rows, columns], align_corners=False)
    return functional.grid_sample(x_dhw[None], place, mode=mode, align_corners=False)[0]
