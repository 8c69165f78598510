"""Heads with a hematoma of known volume, from files to result files: the results say what was there.

Everything is the shipped one: reader, gates, baseline bundle, composer. The results are read back with highdicom.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ichnode.imaging.prediction import Prediction
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.volume import Mask, Volume
from ichnode.inference.bundle import load_bundle, shipped_bundles
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import Predictor
from ichnode.phantom import IRREGULAR, REGULAR, REVERSED, THIN, TILTED, Geometry, head_ct
from ichnode.results.provenance import ResultProfile, Role, RunContext
from ichnode.stages.analyser import AnalysisRequest
from ichnode.stages.analysis import Models, analyse
from tests.results_factory import SERIES_NUMBERS
from tests.series_factory import stored_series

GEOMETRIES = {"regular": REGULAR, "tilted": TILTED, "irregular": IRREGULAR, "thin": THIN, "reversed": REVERSED}
TOLERANCE = {2: 0.25, 10: 0.15, 40: 0.15, 120: 0.15}  # of the volume in mL that is found, by the volume that is there
EVERYTHING = ResultProfile(
    objects=frozenset(Role),
    series_numbers=SERIES_NUMBERS,
    followup_sop="sc",
    sr_class="comprehensive_3d",
    device_serial_number="node-1",
)
CONTEXT = RunContext(run_at=datetime(2026, 1, 2, 3, 4, 5), config_sha256="c" * 64, rule="head ct")
CEREBRAL_HEMORRHAGE = Code("274100004", "SCT", "Cerebral hemorrhage")


class RememberingPredictor(Predictor):
    """Keeps what it predicted last: a second prediction would take as long again."""

    last: Prediction

    def predict(self, volume: Volume) -> Prediction:
        self.last = super().predict(volume)
        return self.last


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """One analysed phantom."""

    hematoma_ml: float
    there: Mask  # (slice, row, column): voxel centres inside the ellipsoid, slices in order of acquisition
    sources: tuple[Dataset, ...]  # in order of acquisition
    volume: Volume
    prediction: Prediction
    files: dict[str, bytes]  # the result files by role

    @property
    def segmentation(self) -> hd.seg.Segmentation:
        return hd.seg.segread(self.files[Role.SEGMENTATION])

    @property
    def report(self) -> Any:
        """The content of the measurement report: a highdicom.sr.MeasurementReport."""
        return hd.sr.srread(self.files[Role.MEASUREMENT_REPORT]).content

    @property
    def reported_ml(self) -> float:
        (group,) = self.report.get_volumetric_roi_measurement_groups()
        volume = group.get_measurements(codes.SCT.Volume)[0]
        assert volume.unit == Code("ml", "UCUM", "milliliter")
        return float(volume.value)

    def segmented(self, sop_instance_uids: list[str]) -> Mask:
        """What the segmentation shows on these source instances, (slice, row, column)."""
        segmentation = self.segmentation
        shown = {uid for _, _, uid in segmentation.get_source_image_uids()}
        mask = np.zeros((len(sop_instance_uids), *self.volume.grid.shape[1:]), bool)
        kept = [at for at, uid in enumerate(sop_instance_uids) if uid in shown]
        pixels = segmentation.get_pixels_by_source_instance(
            [sop_instance_uids[at] for at in kept], segment_numbers=[1], assert_missing_frames_are_empty=True
        )
        mask[kept] = pixels[..., 0] > 0
        return mask


@pytest.fixture(scope="session")
def predictor() -> RememberingPredictor:
    return RememberingPredictor(load_bundle(shipped_bundles() / "hematoma-baseline", "cpu", SegmenterManifest), "cpu")


def analysed(predictor: RememberingPredictor, geometry: Geometry, hematoma_ml: float, folder: Path) -> Head:
    phantom = head_ct(hematoma_ml=hematoma_ml, geometry=replace(geometry, rows=128, columns=128, field_of_view_mm=205))
    series = stored_series(phantom.datasets, folder)
    analysis = analyse(
        AnalysisRequest(series=series, run=("hematoma",), context=CONTEXT),
        models=Models(hematoma=predictor, forecasters={}),
        profile=EVERYTHING,
    )
    return Head(
        hematoma_ml=hematoma_ml,
        there=phantom.hematoma,
        sources=phantom.datasets,
        volume=read_volume(series),
        prediction=predictor.last,
        files={composed.role: composed.encoded for composed in analysis.objects},
    )


@pytest.fixture(
    scope="module",
    params=[(name, hematoma_ml) for name in GEOMETRIES for hematoma_ml in TOLERANCE],
    ids=lambda param: f"{param[0]}, {param[1]} mL",
)
def head(
    request: pytest.FixtureRequest, predictor: RememberingPredictor, tmp_path_factory: pytest.TempPathFactory
) -> Head:
    name, hematoma_ml = request.param
    return analysed(predictor, GEOMETRIES[name], hematoma_ml, tmp_path_factory.mktemp("head"))


def slice_extents_mm(sources: tuple[Dataset, ...]) -> np.ndarray:
    """From half-way to one neighbour to half-way to the other, along the normal; an end slice is symmetric."""
    along_row, along_column = np.split(np.array(sources[0].ImageOrientationPatient, float), 2)
    positions = np.array([source.ImagePositionPatient for source in sources], float)
    return np.asarray(np.abs(np.gradient(positions @ np.cross(along_row, along_column))))


def test_the_segmentation_is_the_prediction_bit_for_bit(head: Head) -> None:
    assert head.prediction.hematoma.any()
    np.testing.assert_array_equal(head.segmented([*head.volume.grid.sop_instance_uids]), head.prediction.hematoma)


def test_the_reported_volume_is_that_of_the_segmented_voxels_on_the_real_slices(head: Head) -> None:
    voxels = head.segmented([source.SOPInstanceUID for source in head.sources]).sum(axis=(1, 2))
    (measures,) = head.segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    segmented_ml = float(voxels @ slice_extents_mm(head.sources)) * float(np.prod(measures.PixelSpacing)) / 1000

    assert head.reported_ml == pytest.approx(segmented_ml, rel=0.01)


def test_the_reported_volume_is_that_of_the_hematoma(head: Head) -> None:
    assert head.reported_ml == pytest.approx(head.hematoma_ml, rel=TOLERANCE[int(head.hematoma_ml)])


def test_the_segmentation_lies_where_the_hematoma_is(head: Head) -> None:
    found = head.segmented([source.SOPInstanceUID for source in head.sources])

    assert 2 * (found & head.there).sum() / (found.sum() + head.there.sum()) > 0.8  # Dice


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_head_without_hematoma_gets_a_report_that_says_no_and_no_segmentation(
    geometry: Geometry, predictor: RememberingPredictor, tmp_path: Path
) -> None:
    head = analysed(predictor, geometry, 0, tmp_path)

    assert head.files.keys() == {Role.MEASUREMENT_REPORT, Role.SUMMARY_PAGE}
    (group,) = head.report.get_image_measurement_groups()
    (answer,) = group.get_qualitative_evaluations(CEREBRAL_HEMORRHAGE)
    assert answer.value == codes.SCT.No
    assert group.get_measurements() == []
    assert group.finding_type is None


def test_the_same_files_give_the_same_prediction_and_the_same_results(
    predictor: RememberingPredictor, tmp_path: Path
) -> None:
    first = analysed(predictor, TILTED, 40, tmp_path)
    again = analysed(predictor, TILTED, 40, tmp_path)

    np.testing.assert_array_equal(again.prediction.hematoma, first.prediction.hematoma)
    assert again.files == first.files
