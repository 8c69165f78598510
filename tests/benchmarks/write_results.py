"""The results of one study to files: everything ichnode writes, and its segmentation beside stock highdicom's."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from ichnode.phantom import REGULAR
from ichnode.results.compose import compose_results
from ichnode.results.provenance import Role
from ichnode.storage.files import FileStore
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios
from tests.results_factory import Case, phantom_case

TITLE = "Results of one study, composed, encoded and kept with fsync of file and folder"
HIGHDICOM = "highdicom"
GOAL = "<= 0.3 s"  # "plus fsync" of each object where there are many


def measure(*, size: int = 512, rounds: int = 5) -> list[Row]:
    """Seconds for all objects, with and without a predicted follow-up, and for the segmentation alone."""
    geometry = replace(REGULAR, rows=size, columns=size)
    predicted, plain = phantom_case(geometry=geometry), phantom_case(geometry=geometry, followup=False)
    alone = phantom_case(geometry=geometry, followup=False)
    alone.profile = replace(alone.profile, objects=frozenset({Role.SEGMENTATION}))
    with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder:
        store = FileStore(Path(folder))
        writers: dict[str, Callable[[], int]] = {
            "plain": _composing(plain, store),
            "predicted": _composing(predicted, store),
            "predicted, not kept": _composing(predicted, None),
            "segmentation": _composing(alone, store),
            HIGHDICOM: partial(_stock_segmentation, alone, store),
        }
        objects = {name: write() for name, write in writers.items()}  # the first round is not measured
        seconds = alternated({name: partial(_seconds, write) for name, write in writers.items()}, rounds=rounds)
    case = f"{len(geometry.offsets_mm)} slices of {size}"
    return [
        _row(f"{case}: all {objects['plain']} objects", seconds["plain"], goal=GOAL),
        _row(f"{case}: all {objects['predicted']} objects, with a predicted follow-up", seconds["predicted"]),
        _row(
            f"{case}: the same, encoded only",
            seconds["predicted, not kept"],
            setting="compose_results, save_as",
            goal=GOAL,
        ),
        _row(f"{case}: segmentation alone", seconds["segmentation"]),
        _row(
            f"{case}: segmentation alone",
            seconds[HIGHDICOM],
            contestant=HIGHDICOM,
            setting="stock seg.Segmentation with every slice, save_as, FileStore.keep",
            ratio=ratios(seconds["segmentation"], seconds[HIGHDICOM]),
        ),
    ]


def _row(case: str, seconds: Sequence[float], **more: Any) -> Row:
    ours = {"contestant": ICHNODE, "setting": "compose_results, save_as, FileStore.keep", "unit": "s"}
    return Row(case=case, value=median(seconds), **(ours | more))


def _composing(case: Case, store: FileStore | None) -> Callable[[], int]:
    """Composes everything of a case, whose prediction and findings exist already, and keeps it; how many objects."""
    prediction, findings = case.prediction, case.findings

    def write() -> int:
        results = compose_results(
            sources=case.sources,
            volume=case.volume,
            prediction=prediction,
            findings=findings,
            profile=case.profile,
            context=case.context,
        )
        for result in results:
            _keep(result.dataset, store)
        return len(results)

    return write


def _stock_segmentation(case: Case, store: FileStore) -> int:
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="hematoma",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Hemorrhage,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="benchmark", version="1", family=codes.DCM.ArtificialIntelligence
        ),
    )
    segmentation = hd.seg.Segmentation(
        source_images=case.sources,
        pixel_array=case.mask,
        segmentation_type="BINARY",
        segment_descriptions=[description],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="benchmark",
        manufacturer_model_name="benchmark",
        software_versions="1",
        device_serial_number="1",
    )
    _keep(segmentation, store)
    return 1


def _keep(dataset: Dataset, store: FileStore | None) -> None:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    if store:
        store.keep([buffer.getvalue()])


def _seconds(write: Callable[[], int]) -> float:
    began = perf_counter()
    write()
    return perf_counter() - began
