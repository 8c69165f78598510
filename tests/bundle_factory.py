"""Bundles that no training made."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from models.expansion import DenseExpansion


def expansion_bundle(folder: Path, **values: Any) -> Path:
    """Untrained, of the network that ships."""
    folder.mkdir()
    save_file(DenseExpansion().state_dict(), folder / "weights.safetensors")
    (folder / "CARD.md").write_text("Untrained.")
    manifest = {
        "kind": "expansion",
        "name": folder.name,
        "version": "0",
        "architecture": "expansion:DenseExpansion",
        "weights_sha256": hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        "family": "neural network",
        "trained_on": "nothing",
        "intended_use": "Research use only - not for clinical use",
        "grid_spacing_mm": [5.0, 2.0, 2.0],
        "shape": [16, 32, 32],
        "expands": {"scale": 1.0, "shift": 0.0, "spread": 0.5},
        "expands_3_ml": {"scale": 1.0, "shift": 0.0, "spread": 0.5},
        "size_error_cm": [-0.5, 0.5],
        "baseline_ml": [0.5, 150.0],
        "created": "2026-11-27",
        "reference": "Abramova et al., Appl Sci 2024",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | values))
    return folder
