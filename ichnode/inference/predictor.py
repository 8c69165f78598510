"""Predictor: a volume through a network and back onto the slices it came from."""

from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from ichnode.errors import InferenceError
from ichnode.imaging.head_box import head_box
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.resample import (
    CanonicalGrid,
    canonical_grid_for,
    half_a_voxel_off,
    highest_class,
    to_acquisition,
    to_canonical,
)
from ichnode.imaging.skull import with_bone
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume
from ichnode.inference.bundle import Bundle
from ichnode.inference.manifest import HEMATOMA, SegmenterManifest

ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)  # voxels that touch by a face, an edge or a corner are one component


def choose_device(wanted: str) -> str:
    """ "auto" becomes the first GPU, or the CPU where there is none. Raises InferenceError for a GPU that is absent."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if wanted == "auto":
        return gpus[0] if gpus else "cpu"
    if wanted not in ("cpu", *gpus):
        raise InferenceError("error", f"this machine has no device {wanted}")
    return wanted


class Predictor:
    """One bundle on one device."""

    def __init__(self, bundle: Bundle[SegmenterManifest], device: str) -> None:
        self.bundle = bundle
        self.device = device
        is_neural = bundle.manifest.family == "neural network"
        self._layout = torch.channels_last_3d if is_neural else torch.contiguous_format  # as convolutions like it

    def predict(self, volume: Volume) -> Prediction:
        """The hematoma on the volume's own slices. Raises InferenceError."""
        manifest, grid = self.bundle.manifest, volume.grid.leveled()
        whole = canonical_grid_for(grid, manifest.grid_spacing_mm)
        seen = with_bone(replace(volume, grid=grid))
        looks = [self._look(seen, whole)]
        if manifest.second_look:
            looks.append(self._look(seen, half_a_voxel_off(whole), flipped=True))
        each = (to_acquisition(by_class.sum(axis=0).clip(0, 1), head, grid) for head, by_class in looks)
        probability = np.asarray(sum(each), np.float32) / np.float32(len(looks))
        hematoma = _without_small(probability >= manifest.thresholds.found, grid, manifest.min_volume_ml)
        types = None
        if manifest.classes != (HEMATOMA,):
            types = highest_class(looks, grid, probability >= manifest.thresholds.lenient)
        return Prediction(
            model=self.bundle.identity,
            probability=probability,
            hematoma=hematoma,
            classes=manifest.classes,
            types=types,
        )

    def _look(self, volume: Volume, whole: CanonicalGrid, *, flipped: bool = False) -> tuple[CanonicalGrid, FloatArray]:
        """The part of `whole` around the head, and the probability of each class on it, (class, z, y, x).

        `flipped`: the network is shown left and right flipped. Raises InferenceError for an answer that is no number:
        it would read as "nothing found".
        """
        manifest = self.bundle.manifest
        head, hu = _head(whole, to_canonical(volume, whole))
        x_bcdhw = _channels(hu, manifest.windows).to(self.device)
        with torch.inference_mode():
            shown = x_bcdhw.flip(-1) if flipped else x_bcdhw
            answer = self.bundle.network(shown.contiguous(memory_format=self._layout))
            by_class: FloatArray = (answer.flip(-1) if flipped else answer)[0].float().cpu().numpy()
        if not np.isfinite(by_class).all():
            raise InferenceError("error", f"{manifest.name} gave probabilities that are not numbers")
        return head, np.where(by_class.sum(axis=0) >= manifest.thresholds.lenient / 10, by_class, np.float32(0))


def _head(grid: CanonicalGrid, hu: FloatArray) -> tuple[CanonicalGrid, FloatArray]:
    """The part of `grid` and `hu` (z, y, x) that holds the head."""
    box = head_box(hu, grid.spacing_mm)
    part = hu[box]
    x, y, z = (o + b.start * s for o, b, s in zip(grid.origin_lps, box[::-1], grid.spacing_mm[::-1], strict=True))
    return replace(grid, shape=part.shape, origin_lps=(x, y, z)), part


def _channels(hu: FloatArray, windows: tuple[tuple[float, float], ...]) -> Tensor:
    """(1, channel, z, y, x): each window scaled to 0-1 and clipped, or the HU themselves where there is none."""
    raw_bdhw = torch.from_numpy(hu)[None]
    return windowed(raw_bdhw, windows) if windows else raw_bdhw[:, None]


def windowed(hu_bdhw: Tensor, windows: tuple[tuple[float, float], ...]) -> Tensor:
    """(batch, window, z, y, x): each window scaled to 0-1 and clipped. Training shows networks the same."""
    return torch.stack([((hu_bdhw - low) / (high - low)).clamp(0, 1) for low, high in windows], dim=1)


def _without_small(mask: Mask, grid: AcquisitionGrid, min_volume_ml: float) -> Mask:
    """`mask` without its components below `min_volume_ml`, measured with the real slice extents."""
    labels, count = label(mask, ANY_NEIGHBOUR)
    per_slice = np.stack([np.bincount(plane.ravel(), minlength=count + 1) for plane in labels])
    keep = grid.voxel_ml @ per_slice >= min_volume_ml
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)
