"""Contenders: what is evaluated side by side. A bundle as the daemon runs it, or a way so simple that it must lose."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ichnode.imaging.volume import FloatArray, Mask, Volume
from ichnode.inference.bundle import Bundle, bundle_named, find_bundles, load_bundle, shipped_bundles
from ichnode.inference.manifest import SegmenterManifest
from ichnode.inference.predictor import Predictor
from ichnode.inference.quantify import quantify
from models.hematoma_baseline import HematomaBaseline
from training.data.manifest import TYPES

BLOOD_HU = (50.0, 90.0)  # acute blood (Bergström et al., J Comput Assist Tomogr 1977, give 50-95)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a contender says about one volume, on its slices as acquired (slice, row, column)."""

    hematoma: Mask
    types: NDArray[np.uint8] | None = None  # 0 none, else a label of TYPES; None: it tells no types
    probability: FloatArray | None = None
    interval_ml: tuple[float, float] | None = None


class Contender(Protocol):
    """Anything that marks hemorrhage."""

    @property
    def name(self) -> str:
        """What stands in the tables."""

    def answer(self, volume: Volume) -> Answer:
        """Mark the hemorrhage of one head CT."""


class BundleContender:
    """A bundle, with the daemon's own predictor and quantification."""

    def __init__(self, bundle: Bundle[SegmenterManifest], device: str) -> None:
        self.bundle = bundle
        self.name = f"{bundle.identity.name} {bundle.identity.version} {bundle.identity.weights_sha256[:6]}"
        self._predictor = Predictor(bundle, device)

    def answer(self, volume: Volume) -> Answer:
        """Prediction and volume interval exactly as they would be sent."""
        prediction = self._predictor.predict(volume)
        hematoma = quantify(prediction, volume, self.bundle.manifest.thresholds).hematoma
        return Answer(
            hematoma=prediction.hematoma,
            types=prediction.types if prediction.classes == TYPES else None,
            probability=prediction.probability,
            interval_ml=(hematoma.volume_low_ml, hematoma.volume_high_ml) if hematoma else (0.0, 0.0),
        )


class EmptyMask:
    """Says that nobody bleeds."""

    name = "empty mask"

    def answer(self, volume: Volume) -> Answer:
        """Nothing."""
        return Answer(hematoma=np.zeros(volume.grid.shape, bool))


class BrightBrain:
    """Marks BLOOD_HU, averaged over 3 x 3 pixels, in what `hematoma-baseline` takes for the inside of the skull."""

    name = "50-90 HU in brain"

    def __init__(self) -> None:
        folder = shipped_bundles() / "hematoma-baseline"
        bundle = load_bundle(folder, "cpu", SegmenterManifest)
        manifest = bundle.manifest.model_copy(update={"min_volume_ml": 0.0})
        self._predictor = Predictor(Bundle(manifest=manifest, network=_Bright(), identity=bundle.identity), "cpu")

    def answer(self, volume: Volume) -> Answer:
        """Every bright voxel."""
        return Answer(hematoma=self._predictor.predict(volume).hematoma)


class _Bright(nn.Module):
    """HU (batch, 1, z, y, x) to 0 or 1."""

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        brain = torch.stack([HematomaBaseline().brain(hu_dhw)[None] for hu_dhw in x_bcdhw[:, 0]])
        smooth = nn.functional.avg_pool3d(x_bcdhw, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
        return (brain & (smooth >= BLOOD_HU[0]) & (smooth <= BLOOD_HU[1])).float()


def contenders(names: list[str], device: str) -> list[Contender]:
    """The bundles of these names or folders (none: the shipped segmenters), then the trivial ones.

    Raises BundleError.
    """
    shipped = find_bundles([shipped_bundles()])
    wanted = names or [name for name in ("hematoma", "hematoma-baseline") if name in shipped]
    bundles = {name: BundleContender(bundle_named(name, device, SegmenterManifest), device) for name in wanted}
    count = Counter(bundle.name for bundle in bundles.values())
    for given, bundle in bundles.items():
        if count[bundle.name] > 1:  # other thresholds, or one look: the folder tells them apart
            bundle.name = f"{bundle.name} {given}"
    return [*bundles.values(), BrightBrain(), EmptyMask()]
