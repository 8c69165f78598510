"""Predictor: a volume through a network and back onto the slices it came from."""

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from ichnode.errors import InferenceError
from ichnode.imaging.prediction import Prediction
from ichnode.imaging.resample import canonical_grid_for, to_acquisition, to_canonical
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Mask, Volume
from ichnode.inference.bundle import Bundle

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

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.bundle = bundle
        self.device = device

    def predict(self, volume: Volume) -> Prediction:
        """The hematoma on the volume's own slices."""
        manifest = self.bundle.manifest
        canonical = canonical_grid_for(volume.grid, manifest.grid_spacing_mm)
        x_bcdhw = _channels(to_canonical(volume, canonical), manifest.windows).to(self.device)
        with torch.inference_mode():
            probability_bcdhw = self.bundle.network(x_bcdhw)
        on_canonical = probability_bcdhw[0, 0].float().cpu().numpy()
        probability = np.clip(to_acquisition(on_canonical, canonical, volume.grid), 0, 1)
        hematoma = _without_small(probability >= manifest.thresholds.found, volume.grid, manifest.min_volume_ml)
        return Prediction(model=self.bundle.identity, probability=probability, hematoma=hematoma)


def _channels(hu: FloatArray, windows: tuple[tuple[float, float], ...]) -> Tensor:
    """(1, channel, z, y, x): each window scaled to 0-1 and clipped, or the HU themselves where there is none."""
    raw = torch.from_numpy(hu)
    scaled = [((raw - low) / (high - low)).clamp(0, 1) for low, high in windows]
    return torch.stack(scaled or [raw])[None]


def _without_small(mask: Mask, grid: AcquisitionGrid, min_volume_ml: float) -> Mask:
    """`mask` without its components below `min_volume_ml`, measured with the real slice extents."""
    labels, count = label(mask, ANY_NEIGHBOUR)
    per_slice = np.stack([np.bincount(plane.ravel(), minlength=count + 1) for plane in labels])
    keep = grid.voxel_ml @ per_slice >= min_volume_ml
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)
