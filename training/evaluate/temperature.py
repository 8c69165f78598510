"""Temperature of a bundle: how much surer than right its network is, on simulated heads that no training sees."""

import numpy as np
import torch
from numpy.typing import NDArray

from ichnode.inference.bundle import Bundle
from ichnode.inference.manifest import SegmenterManifest
from training.evaluate.calibration import fit_temperature
from training.fit.source import Source
from training.segmentation.inputs import channels
from training.segmentation.system import Heads

_LEAST = 1e-7  # probability
_DOUBTED = 1e-3  # below this in all types: left out, they are nearly all
_PER_HEAD = 20_000


def temperature_of(bundle: Bundle[SegmenterManifest], heads: Source[Heads], count: int) -> float:
    """The divisor of the logits for which probabilities fit best in the first batches of `heads`.

    It goes on top of the bundle's own. Voxels of which the network is sure that there is nothing are left out.
    """
    parts = [_sample(bundle, heads.batch(number), np.random.default_rng(number)) for number in range(count)]
    log_p_nc, labels_n = (np.concatenate(each) for each in zip(*parts, strict=True))
    return fit_temperature(log_p_nc, labels_n)


def _sample(
    bundle: Bundle[SegmenterManifest], batch: Heads, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Log-probability (voxel, none + types) and labels of some voxels of a batch."""
    with torch.inference_mode():
        p_bcdhw = bundle.network(channels(batch.hu_bdhw)).double()
    labels = batch.labels_bdhw.numpy().ravel()
    p_nc = p_bcdhw.movedim(1, -1).flatten(0, -2).numpy()
    wanted = np.flatnonzero(p_nc.max(axis=1) > _DOUBTED)
    chosen = rng.choice(wanted, min(len(wanted), _PER_HEAD), replace=False)
    none = 1 - p_nc[chosen].sum(axis=1, keepdims=True)
    return np.log(np.clip(np.hstack([none, p_nc[chosen]]), _LEAST, 1)), labels[chosen]
