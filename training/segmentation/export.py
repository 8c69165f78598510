"""Export of the segmenter: how it is to be used, beside its weights."""

from datetime import date
from pathlib import Path

import torch

from ichnode.inference.manifest import SegmenterManifest, Thresholds
from models.segmenter import WINDOWS_HU
from training.data.manifest import TYPES
from training.fit.checkpoint import read
from training.fit.export import INTENDED_USE, write_bundle
from training.segmentation.system import SegmenterSystem

ARCHITECTURE = "segmenter:Segmenter"


def export_bundle(
    checkpoint: Path,
    folder: Path,
    *,
    version: str,
    card: str,
    trained_on: str,
    thresholds: Thresholds,
    temperature: float,
    second_look: bool,
    min_volume_ml: float,
    created: date,
    reference: str,
) -> SegmenterManifest:
    """Raises ValidationError for values that no manifest has, and what `write_bundle` raises."""
    stored = read(checkpoint, SegmenterSystem)
    weights = {**stored["average"], "temperature": torch.tensor(temperature)}
    return write_bundle(
        folder,
        weights,
        card,
        lambda weights_sha256: SegmenterManifest(
            kind="segmenter",
            name=folder.name,
            version=version,
            architecture=ARCHITECTURE,
            weights_sha256=weights_sha256,
            family="neural network",
            trained_on=trained_on,
            intended_use=INTENDED_USE,
            classes=TYPES,
            grid_spacing_mm=stored["recipe"]["system"]["spacing_mm"],
            windows=WINDOWS_HU,
            second_look=second_look,
            thresholds=thresholds,
            min_volume_ml=min_volume_ml,
            created=created,
            reference=reference,
        ),
    )
