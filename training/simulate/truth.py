"""Truth: what is known of a simulated CT, as JSON: measured on the slices that were written, and meant by the spec."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import ndimage

from training.data.manifest import TYPES
from training.simulate.acquire import SimulatedCT

SMALLEST_PART_ML = 0.05  # smaller ones are counted in their type alone


def truth(ct: SimulatedCT) -> dict[str, Any]:
    """A JSON object. `ml` and `parts` are measured, the rest is what the patient was made from."""
    first, later = (
        {name: sum(getattr(one, which) for one in ct.spec.lesions if one.type == name) for name in TYPES}
        for which in ("volume_ml", "followup_ml")
    )
    return {
        "warning": "SIMULATED PATIENT - RESEARCH USE ONLY",
        "seed": ct.spec.seed,
        "style": ct.style,
        "followup": ct.followup,
        "label_map": {str(value): name for value, name in enumerate(TYPES, 1)},
        "ml": volumes_ml(ct),
        "parts": _parts(ct),
        "meant_ml": {"first": _rounded(first), "followup": _rounded(later)},
        "spec": asdict(ct.spec),
    }


def as_json(ct: SimulatedCT) -> str:
    """The truth, to be read by people too."""
    return json.dumps(truth(ct), indent=1) + "\n"


def volumes_ml(ct: SimulatedCT) -> dict[str, float]:
    """mL of each type that is there, and of all together, on the written grid."""
    measured = {name: ct.volume.grid.volume_ml(ct.labels == value) for value, name in enumerate(TYPES, 1)}
    return _rounded({name: ml for name, ml in measured.items() if ml} | {"all": sum(measured.values())})


def _parts(ct: SimulatedCT) -> list[dict[str, Any]]:
    """Each part of a type that hangs together, the largest first."""
    found = [part for value, name in enumerate(TYPES, 1) for part in _parts_of(ct, name, value)]
    return sorted(found, key=lambda part: -part["ml"])


def _parts_of(ct: SimulatedCT, name: str, value: int) -> list[dict[str, Any]]:
    grid = ct.volume.grid
    parts, count = ndimage.label(ct.labels == value, np.ones((3, 3, 3)))
    numbers = range(1, count + 1)
    voxel_ml = np.broadcast_to(grid.voxel_ml[:, None, None], grid.shape)
    volumes = np.atleast_1d(ndimage.sum_labels(voxel_ml, parts, numbers))
    centres = np.array(ndimage.center_of_mass(parts > 0, parts, numbers)).reshape(-1, 3)
    step = (grid.positions_lps[-1] - grid.positions_lps[0]) / (len(grid.positions_lps) - 1)
    row_mm, column_mm = grid.pixel_spacing_mm
    steps = np.stack([step, grid.column_direction_lps * row_mm, grid.row_direction_lps * column_mm])
    places = grid.positions_lps[0] + centres @ steps
    return [
        {"type": name, "ml": round(float(ml), 3), "centre_lps": [round(float(v), 1) for v in place]}
        for ml, place in zip(volumes, places, strict=True)
        if ml >= SMALLEST_PART_ML
    ]


def _rounded(volumes: dict[str, float]) -> dict[str, float]:
    return {name: round(ml, 3) for name, ml in volumes.items()}
