"""A series -> its volume in HU, on the slices as acquired; or a refusal with its reason and the measured fact.

The gate (`series_gate`) judges the headers first; then every pixel is read once, straight into the volume (`pixels`);
values that turn out not to be HU are made HU, with a caveat, or refused (`hu_range`).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from ichnode.domain.reasons import Reason
from ichnode.domain.study import Instance, Series
from ichnode.errors import MalformedDataset, RefusedSeries
from ichnode.imaging.data_set import PYDICOM_ERRORS, read_data_set
from ichnode.imaging.hu_range import with_true_hu
from ichnode.imaging.pixels import read_hu
from ichnode.imaging.series_gate import gated_slices
from ichnode.imaging.volume import Volume


def read_volume(series: Series) -> Volume:
    """HU of `series`, slices sorted along the normal; declared padding is -1024. Raises RefusedSeries and OSError."""
    slices, grid = gated_slices(series)
    _check_names(series)
    hu = np.empty(grid.shape, np.float32)
    plain = all(one.is_native for one in slices)
    workers = 1 if plain else min(os.cpu_count() or 1, len(slices))  # threads slow plain reading down
    bounds = [len(slices) * worker // workers for worker in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(read_hu, slices[first:end], hu[first:end]) for first, end in pairwise(bounds)]
    for part in parts:
        part.result()
    return with_true_hu(Volume(hu=hu, grid=grid), slices[0])


def _check_names(series: Series) -> None:
    """Where no PatientID tells patients apart: one name and date of birth, which the files alone hold."""
    if any("PatientID" in instance.header for instance in series.instances):
        return
    patients = {_name_and_birth(instance) for instance in series.instances}
    if len(patients) > 1:
        detail = f"no PatientID, {len(patients)} different names or dates of birth"
        raise RefusedSeries(Reason.MIXED_PATIENTS, detail)


def _name_and_birth(instance: Instance) -> tuple[str, ...]:
    try:
        header = read_data_set(instance, stop_at_pixels=True)
        return tuple(str(header.get(keyword, "")).strip("^ ") for keyword in ("PatientName", "PatientBirthDate"))
    except (MalformedDataset, *PYDICOM_ERRORS):
        return ()
