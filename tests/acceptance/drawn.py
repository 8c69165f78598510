"""The results that ichnode sends for a hematoma that is drawn instead of found: everything but the model is real."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import dcmread

from ichnode.domain.findings import Estimate, EstimateName, Findings, Hematoma, ModelEstimates, ModelIdentity, Side
from ichnode.domain.study import Series
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.prediction import PredictedFollowUp, Prediction
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import AcquisitionGrid, Mask, Volume
from ichnode.results.compose import compose_results
from ichnode.results.provenance import ResultProfile, Role, RunContext
from tests.results_factory import SERIES_NUMBERS

_MODEL = ModelIdentity(name="drawn", version="1", weights_sha256="0" * 64, family="classical", trained_on="nothing")
_PROFILE = ResultProfile(
    objects=frozenset(Role),
    series_numbers=SERIES_NUMBERS,
    followup_sop="ct",
    sr_class="comprehensive_3d",
    device_serial_number="1",
)
_CONTEXT = RunContext(run_at=datetime(2026, 1, 1, 4, 0, 0), config_sha256="0" * 64, rule="acceptance")


def disc(slices: range, *, radius_mm: float) -> Callable[[AcquisitionGrid], Mask]:
    """Draws a disc into some slices, off the middle of the picture towards the upper right."""

    def draw(grid: AcquisitionGrid) -> Mask:
        row, column = np.indices((grid.rows, grid.columns))
        down_mm = (row - 0.45 * grid.rows) * grid.pixel_spacing_mm[0]
        right_mm = (column - 0.60 * grid.columns) * grid.pixel_spacing_mm[1]
        mask = np.zeros(grid.shape, bool)
        mask[slices.start : slices.stop] = np.hypot(down_mm, right_mm) <= radius_mm
        return mask

    return draw


def write_results(files: Sequence[Path], draw: Callable[[AcquisitionGrid], Mask], folder: Path) -> list[Path]:
    """Every result object for the source series in `files`, with the hematoma that `draw` gives on its grid."""
    instances = tuple(map(instance_from_file, files))
    series = Series(
        series_instance_uid=instances[0].series_instance_uid,
        study_instance_uid=instances[0].study_instance_uid,
        instances=instances,
    )
    volume = read_volume(series)
    file_of = {instance.sop_instance_uid: instance.file for instance in instances}
    sources = tuple(dcmread(file_of[uid], stop_before_pixels=True) for uid in volume.grid.sop_instance_uids)
    hematoma = draw(volume.grid)
    results = compose_results(
        sources=sources,
        volume=volume,
        prediction=_prediction(volume, hematoma),
        findings=_findings(hematoma, volume.grid),
        profile=_PROFILE,
        context=_CONTEXT,
    )
    paths = [folder / f"{number:04}-{result.role}.dcm" for number, result in enumerate(results)]
    for path, result in zip(paths, results, strict=True):
        result.dataset.save_as(path, enforce_file_format=True)
    return paths


def _prediction(volume: Volume, hematoma: Mask) -> Prediction:
    """The hematoma as drawn; in 24 hours six pixels wider each way, and a slice taller each way."""
    shifts = [(1, 0), (-1, 0), (6, 1), (-6, 1), (6, 2), (-6, 2)]
    grown = hematoma | np.any([np.roll(hematoma, shift, axis) for shift, axis in shifts], axis=0)
    followup = PredictedFollowUp(model=_MODEL, hu=np.where(grown, np.float32(62), volume.hu), hematoma=grown)
    return Prediction(model=_MODEL, probability=hematoma.astype(np.float32), hematoma=hematoma, followup=followup)


def _findings(hematoma: Mask, grid: AcquisitionGrid) -> Findings:
    """Volume and area as they are; the other numbers are stand-ins."""
    areas = hematoma.sum(axis=(1, 2))
    volume_ml = grid.volume_ml(hematoma)
    measured = Hematoma(
        volume_ml=volume_ml,
        volume_low_ml=0.9 * volume_ml,
        volume_high_ml=1.1 * volume_ml,
        abc2_ml=volume_ml,
        probability=0.99,
        side=Side.LEFT,
        component_count=1,
        largest_slice_uid=grid.sop_instance_uids[int(areas.argmax())],
        largest_area_mm2=float(areas.max() * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1]),
        long_axis_mm=36.0,
        short_axis_mm=36.0,
    )
    expansion = Estimate(name=EstimateName.EXPANSION_PROBABILITY, value=42.0, low=30.0, high=55.0)
    return Findings(
        model=_MODEL, hematoma=measured, predictions=(ModelEstimates(model=_MODEL, estimates=(expansion,)),)
    )
