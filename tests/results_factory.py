"""Made-up sources, predictions and findings for the tests of the results: plain numbers in place of models."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from ichnode.domain.findings import (
    Caveat,
    Estimate,
    EstimateName,
    Findings,
    GcsCategory,
    Hematoma,
    ModelEstimates,
    ModelIdentity,
    RiskClass,
    Side,
)
from ichnode.imaging.prediction import PredictedFollowUp, Prediction, Saliency
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume
from ichnode.phantom import REGULAR, Geometry, head_ct
from ichnode.results.compose import compose_results
from ichnode.results.provenance import (
    Result,
    ResultProfile,
    Role,
    RunContext,
)
from tests.real_data import real_data

SMALL = replace(REGULAR, rows=128, columns=128)
MODEL = ModelIdentity(
    name="hematoma-threshold",
    version="1.0.0",
    weights_sha256="a" * 64,
    family="classical",
    trained_on="nothing",
)
FOLLOWUP_MODEL = replace(MODEL, name="followup-stand-in", weights_sha256="b" * 64, trained_on="simulated patients")
CONTEXT = RunContext(run_at=datetime(2026, 1, 2, 3, 4, 5), config_sha256="c" * 64, rule="head ct")
SERIES_NUMBERS = {role.value: 9101 + i for i, role in enumerate(Role)}  # as the configuration has them
PROFILE = ResultProfile(
    objects=frozenset(Role),
    series_numbers=SERIES_NUMBERS,
    followup_sop="sc",
    sr_class="comprehensive_3d",
    device_serial_number="node-1",
)
ESTIMATES = (
    Estimate(name=EstimateName.EXPANSION_PROBABILITY, value=23.0, low=12.0, high=40.0, category=RiskClass.MODERATE),
    Estimate(name=EstimateName.EXPANSION_3_ML_PROBABILITY, value=31.0, low=19.0, high=47.0),
    Estimate(name=EstimateName.PREDICTED_VOLUME, value=36.5, low=30.0, high=44.25),
)
PROGNOSIS_MODEL = replace(MODEL, name="prognosis-stand-in", weights_sha256="d" * 64, trained_on="simulated patients")
PROGNOSIS = (
    Estimate(name=EstimateName.POOR_OUTCOME_PROBABILITY, value=None, note="no cohort to calibrate on"),
    Estimate(
        name=EstimateName.LOW_GCS_PROBABILITY,
        value=11.0,
        low=8.0,
        high=14.0,
        category=GcsCategory.MODERATE,
        note="simulated",
    ),
)
EXPLAINED = {
    Role.FOLLOWUP_SALIENCY: FOLLOWUP_MODEL,
    Role.EXPANSION_SALIENCY: FOLLOWUP_MODEL,
    Role.PROGNOSIS_SALIENCY: PROGNOSIS_MODEL,
    Role.VOLUME_SURVIVAL_SALIENCY: PROGNOSIS_MODEL,
}
PREDICTIONS = (
    ModelEstimates(model=FOLLOWUP_MODEL, estimates=ESTIMATES),
    ModelEstimates(model=PROGNOSIS_MODEL, estimates=PROGNOSIS),
)


class Case:
    """A study and what a model says about it; `results()` composes, anything may be replaced before."""

    def __init__(self, datasets: Iterable[Dataset], mask: Mask | None = None, *, followup: bool = True) -> None:
        """`mask` is (slice, row, column) in the order of `datasets`; without one, an ellipsoid in the middle."""
        datasets = list(datasets)
        self.volume, self.sources, order = read(datasets)
        self.mask = _ellipsoid(self.volume.grid.shape) if mask is None else mask[order]
        self.model = MODEL
        self.profile, self.context = PROFILE, CONTEXT
        self.followup = followup
        self.grow_by_pixels = 1
        self.hematoma: Hematoma | None = None  # measured from the mask unless given
        self.predictions: tuple[ModelEstimates, ...] = PREDICTIONS if followup else ()
        self.caveats: tuple[Caveat, ...] = ()

    @property
    def prediction(self) -> Prediction:
        followup = None
        if self.followup:
            hu, grown = grow(self.volume.hu, self.mask, self.grow_by_pixels)
            followup = PredictedFollowUp(model=FOLLOWUP_MODEL, hu=hu, hematoma=grown)
        probability = np.where(self.mask, 0.9, 0.05).astype(np.float32)
        saliency = tuple(
            Saliency(model=model, role=role, about="what speaks for it", heat=probability)
            for role, model in EXPLAINED.items()
            if self.followup
        )
        return Prediction(
            model=self.model, probability=probability, hematoma=self.mask, followup=followup, saliency=saliency
        )

    @property
    def findings(self) -> Findings:
        hematoma = self.hematoma or (measured(self.volume.grid, self.mask) if self.mask.any() else None)
        return Findings(model=self.model, hematoma=hematoma, predictions=self.predictions, caveats=self.caveats)

    def results(self) -> tuple[Result, ...]:
        return compose_results(
            sources=self.sources,
            volume=self.volume,
            prediction=self.prediction,
            findings=self.findings,
            profile=self.profile,
            context=self.context,
        )

    def become_enhanced(self) -> None:
        """Make the series one Enhanced CT instance whose frames are in the order of acquisition."""
        first, grid = self.sources[0], self.volume.grid
        enhanced = without_pixels(first)
        enhanced.SOPClassUID = EnhancedCTImageStorage
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            del enhanced[keyword]
        grid = replace(
            grid,
            sop_instance_uids=(str(first.SOPInstanceUID),) * len(self.sources),
            frame_numbers=tuple(int(source.InstanceNumber) for source in self.sources),
        )
        self.sources, self.volume = (enhanced,), Volume(hu=self.volume.hu, grid=grid)

    def result(self, role: Role) -> Dataset:
        """The one object of a role."""
        (found,) = [result.dataset for result in self.results() if result.role == role]
        return found


def phantom_case(hematoma_ml: float = 30, geometry: Geometry = SMALL, **options: bool) -> Case:
    phantom = head_ct(hematoma_ml=hematoma_ml, geometry=geometry)
    return Case(phantom.datasets, phantom.hematoma, **options)


def read(datasets: list[Dataset]) -> tuple[Volume, tuple[Dataset, ...], list[int]]:
    """Volume, headers without pixels in its order, and that order: a plain stand-in for the series reader."""
    across, down = np.split(np.array(datasets[0].ImageOrientationPatient, float), 2)
    positions = np.array([ds.ImagePositionPatient for ds in datasets], float)
    order = [int(i) for i in np.argsort(positions @ np.cross(across, down))]
    ordered = [datasets[i] for i in order]
    grid = AcquisitionGrid(
        rows=int(ordered[0].Rows),
        columns=int(ordered[0].Columns),
        positions_lps=positions[order],
        row_direction_lps=across,
        column_direction_lps=down,
        pixel_spacing_mm=(float(ordered[0].PixelSpacing[0]), float(ordered[0].PixelSpacing[1])),
        slice_thickness_mm=np.array([float(ds.get("SliceThickness") or 0) for ds in ordered]),
        sop_instance_uids=tuple(str(ds.SOPInstanceUID) for ds in ordered),
        frame_numbers=(1,) * len(ordered),
    )
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in ordered])
    return Volume(hu=hu.astype(np.float32), grid=grid), tuple(without_pixels(ds) for ds in ordered), order


def without_pixels(dataset: Dataset) -> Dataset:
    header = Dataset()
    for element in dataset:
        if element.keyword != "PixelData":
            header.add(element)
    return header


def measured(grid: AcquisitionGrid, mask: Mask) -> Hematoma:
    """Findings of a mask: real volume and area, the rest made up."""
    areas = mask.sum(axis=(1, 2))
    largest = int(np.argmax(areas))
    volume_ml = grid.volume_ml(mask)
    return Hematoma(
        volume_ml=volume_ml,
        volume_low_ml=0.9 * volume_ml,
        volume_high_ml=1.15 * volume_ml,
        abc2_ml=1.05 * volume_ml,
        probability=0.9,
        side=Side.LEFT,
        component_count=1,
        largest_slice_uid=grid.sop_instance_uids[largest],
        largest_area_mm2=float(areas[largest] * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1]),
        long_axis_mm=47.5,
        short_axis_mm=29.25,
    )


def grow(hu: FloatArray, mask: Mask, pixels: int) -> tuple[FloatArray, Mask]:
    """A follow-up whose hematoma is some pixels wider in the plane, and 64 HU there."""
    grown = mask.copy()
    for axis, step in ((1, pixels), (1, -pixels), (2, pixels), (2, -pixels)):
        grown |= np.roll(mask, step, axis)
    changed = hu.copy()
    changed[grown & ~mask] = 64
    return changed, grown


def _ellipsoid(shape: tuple[int, int, int]) -> Mask:
    z, y, x = (np.arange(n) for n in shape)
    slices, rows, columns = shape
    inside: Mask = (
        ((z[:, None, None] - slices * 0.6) / (slices * 0.15)) ** 2
        + ((y[None, :, None] - rows * 0.5) / (rows * 0.12)) ** 2
        + ((x[None, None, :] - columns * 0.62) / (columns * 0.09)) ** 2
    ) <= 1
    return inside


def shared_data(folder: str) -> list[Dataset]:
    """The instances of a folder of the test data."""
    return [pydicom.dcmread(file) for file in sorted(real_data(folder).iterdir()) if file.is_file()]


def save(result: Result, path: Path) -> Path:
    result.dataset.save_as(path, enforce_file_format=True)
    return path
