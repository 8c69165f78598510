"""Patients in numbers, four at a time, with a little parenchymal blood each."""

from collections.abc import Sequence

import torch

from training.patients.batch import BECAME, KNOWN, Patients

VOXELS = 54  # of blood


def patients(
    *,
    age: Sequence[float] = (60, 70, 80, 90),
    gcs: Sequence[float] = (15, 12, 8, 3),
    poor: Sequence[float] = (0, 1, 0, 1),
    died: Sequence[float] = (0, 0, 0, 1),
    expansion: Sequence[float] = (0, 0, 0, 1),
    late: Sequence[float] = (torch.nan,) * 4,
) -> Patients:
    labels = torch.zeros((4, 4, 8, 8), dtype=torch.uint8)
    labels[:, 0:3, 1:4, 1:7] = 1
    labels[:, 3, 1:4, 1:7] = 2
    known, became = torch.full((4, len(KNOWN)), torch.nan), torch.full((4, len(BECAME)), torch.nan)
    known[:, KNOWN.index("age")], known[:, KNOWN.index("gcs")] = torch.tensor(age), torch.tensor(gcs)
    became[:, BECAME.index("poor after 90 days")] = torch.tensor(poor)
    became[:, BECAME.index("death in 30 days")] = torch.tensor(died)
    became[:, BECAME.index("conventional expansion")] = torch.tensor(expansion)
    became[:, BECAME.index("late hemorrhage")] = torch.tensor(late)
    hu = 30.0 + 35.0 * (labels > 0)
    return Patients(
        hu_bdhw=hu,
        labels_bdhw=labels,
        later_hu_bdhw=hu,
        later_labels_bdhw=labels,
        brain_bdhw=torch.ones_like(labels, dtype=torch.bool),
        known_bn=known,
        became_bn=became,
    )
