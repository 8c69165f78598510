"""Bundles that no training made."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from models.expansion import DenseExpansion
from models.followup import Followup
from models.prognosis import Prognosis
from models.volume_survival import VolumeSurvival

CALIBRATION = {"scale": 1.0, "shift": 0.0, "spread": 0.5}
NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {  # by kind: the class, and what its manifest says more
    "expansion": (
        DenseExpansion,
        {
            "expands": CALIBRATION,
            "expands_3_ml": CALIBRATION,
            "risk_percent": [10.0, 30.0],
            "size_error_cm": [-0.5, 0.5],
        },
    ),
    "followup": (Followup, {"after_thrombectomy": CALIBRATION, "spontaneous": CALIBRATION}),
    "prognosis": (
        Prognosis,
        {"outcome": "mRS 4-6", "poor": CALIBRATION, "low_gcs": CALIBRATION, "elderly": CALIBRATION},
    ),
    "volume-survival": (VolumeSurvival, {"died": CALIBRATION, "size_error_cm": [-0.5, 0.5]}),
}


def forecaster_bundle(folder: Path, kind: str, network: nn.Module | None = None, **values: Any) -> Path:
    """Untrained, of the network that ships, or with the weights of `network`."""
    architecture, errors = NETWORKS[kind]
    folder.mkdir()
    save_file((network or architecture()).state_dict(), folder / "weights.safetensors")
    (folder / "CARD.md").write_text("Untrained.")
    manifest = {
        "kind": kind,
        "name": folder.name,
        "version": "0",
        "architecture": f"{architecture.__module__.removeprefix('models.')}:{architecture.__name__}",
        "weights_sha256": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        "family": "neural network",
        "trained_on": "nothing",
        "intended_use": "Research use only - not for clinical use",
        "grid_spacing_mm": [5.0, 2.0, 2.0],
        "shape": [32, 112, 96] if kind == "followup" else [32, 32, 32],
        "hematoma_ml": [0.5, 150.0],
        "strangest": 1e6,
        "created": "2026-11-27",
        "reference": "none: a test",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | errors | values))
    return folder
