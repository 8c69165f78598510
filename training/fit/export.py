"""Export: averaged weights as a bundle that ichnode accepts."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor

from ichnode.inference.bundle import CARD, MANIFEST, WEIGHTS, verify_bundle
from ichnode.inference.manifest import Manifest

INTENDED_USE = "Research use only - not for clinical use"

M = TypeVar("M", bound=Manifest)


def write_bundle(folder: Path, weights: Mapping[str, Tensor], card: str, manifest_of: Callable[[str], M]) -> M:
    """Write the bundle `folder`, which has the name of the bundle. What was there goes only once the new one verifies.

    `manifest_of` makes the manifest, given the SHA-256 of the weights. Raises BundleError, OSError and what it raises.
    """
    encoded = safetensors.torch.save(_rounded(weights))
    manifest = manifest_of(sha256(encoded).hexdigest())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        made, replaced = Path(temporary) / folder.name, Path(temporary) / "replaced"
        made.mkdir()
        (made / WEIGHTS).write_bytes(encoded)
        (made / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (made / CARD).write_text(card, encoding="utf-8")
        verify_bundle(made)
        if folder.exists():
            folder.rename(replaced)
        made.rename(folder)
    return manifest


def _rounded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions in bfloat16, to which networks round them anyway where that is fast; the rest as it is."""
    return {name: (w.to(torch.bfloat16) if w.ndim > 1 else w).contiguous() for name, w in weights.items()}
