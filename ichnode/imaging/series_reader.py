"""A series -> its volume in HU, on the slices as acquired; or a refusal with its reason and the measured fact.

The gate (`series_gate`) judges the headers first; then every pixel is read once, straight into the volume (`pixels`);
values that turn out not to be HU are made HU, with a caveat, or refused (`hu_range`).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from ichnode.domain.study import Series
from ichnode.imaging.hu_range import with_true_hu
from ichnode.imaging.pixels import read_hu
from ichnode.imaging.series_gate import gated_slices
from ichnode.imaging.volume import Volume


def read_volume(series: Series) -> Volume:
    """HU of `series`, slices sorted along the normal; declared padding is -1024. Raises RefusedSeries and OSError."""
    slices, grid = gated_slices(series)
    hu = np.empty(grid.shape, np.float32)
    plain = all(one.is_native for one in slices)
    workers = 1 if plain else min(os.cpu_count() or 1, len(slices))  # threads slow plain reading down
    bounds = [len(slices) * worker // workers for worker in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(read_hu, slices[first:end], hu[first:end]) for first, end in pairwise(bounds)]
    for part in parts:
        part.result()
    return with_true_hu(Volume(hu=hu, grid=grid), slices[0])
