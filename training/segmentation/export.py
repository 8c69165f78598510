"""Export: the averaged weights of a checkpoint as a bundle that ichnode accepts."""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors.torch
import torch
from torch import Tensor

from ichnode.inference.bundle import CARD, MANIFEST, WEIGHTS, verify_bundle
from ichnode.inference.manifest import SegmenterManifest, Thresholds
from training.data.manifest import TYPES
from training.fit.checkpoint import read
from training.segmentation.inputs import WINDOWS_HU

ARCHITECTURE = "segmenter:Segmenter"
INTENDED_USE = "Research use only - not for clinical use"


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
    """Write the bundle `folder`, which has the name of the bundle. What was there goes only once the new one verifies.

    Raises ValidationError for values that no manifest has, BundleError and OSError.
    """
    stored = read(checkpoint)
    weights = safetensors.torch.save(_rounded(stored["average"], temperature))
    manifest = SegmenterManifest(
        kind="segmenter",
        name=folder.name,
        version=version,
        architecture=ARCHITECTURE,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
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
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        made, replaced = Path(temporary) / folder.name, Path(temporary) / "replaced"
        made.mkdir()
        (made / WEIGHTS).write_bytes(weights)
        (made / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (made / CARD).write_text(card, encoding="utf-8")
        verify_bundle(made)
        if folder.exists():
            folder.rename(replaced)
        made.rename(folder)
    return manifest


def _rounded(weights: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Convolutions in bfloat16, to which the network rounds them anyway where that is fast; the rest in float32."""
    stored = {name: w.to(torch.bfloat16 if w.ndim > 1 else torch.float32).contiguous() for name, w in weights.items()}
    return {**stored, "temperature": torch.tensor(temperature)}
