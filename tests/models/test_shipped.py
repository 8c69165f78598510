"""The shipped weights say what they said when they were measured: a network that changes beneath them is noticed.

The head is drawn, so the numbers mean nothing. Whoever changes a network on purpose exports and measures its bundle
anew, and puts the new numbers here.
"""

import pytest
import torch

from ichnode.inference.bundle import bundle_named
from ichnode.inference.manifest import Manifest, SegmenterManifest
from models.followup import brain_alone

SHAPE, VOXEL_ML = (32, 112, 96), 0.02
CLOSE = 0.02  # relative, where it is not next to nothing: bfloat16 or float32, as the CPU has it


@pytest.fixture(scope="module")
def hu() -> torch.Tensor:
    """An ellipsoid head (z, y, x) in 5 x 2 x 2 mm, with a ball of 33.8 mL."""
    steps = (torch.arange(count) - (count - 1) / 2 for count in SHAPE)
    z, y, x = torch.meshgrid(*(axis * mm for axis, mm in zip(steps, (5.0, 2.0, 2.0), strict=True)), indexing="ij")
    away = ((x / 70) ** 2 + (y / 88) ** 2 + (z / 70) ** 2).sqrt()
    head = torch.full(SHAPE, -1000.0)
    head[away < 1.1], head[away < 1] = 900.0, 32.0
    head[(x - 30) ** 2 + (y - 5) ** 2 + (z - 5) ** 2 < 20**2] = 65.0
    return head


def test_the_expansion_model_moves_blood_as_far_as_when_it_was_measured(hu: torch.Tensor) -> None:
    x_bcdhw = torch.stack([hu.clip(0, 100) / 100, (hu == 65).float(), torch.zeros(SHAPE)])[None]
    with torch.inference_mode():
        said = bundle_named("expansion", "cpu", Manifest).network(x_bcdhw, torch.full((1, 6), torch.nan))
    assert float(said.hematoma_bcdhw.sum()) * VOXEL_ML == pytest.approx(37.82, rel=CLOSE)
    assert float(said.displacement_bcdhw.norm(dim=1).max()) == pytest.approx(1.886, rel=CLOSE)
    assert said.expands_bk[0].tolist() == pytest.approx([-0.645, -0.763], rel=CLOSE)


def test_the_prognosis_model_says_of_outcome_and_age_what_it_said(hu: torch.Tensor) -> None:
    with torch.inference_mode():
        said = bundle_named("prognosis", "cpu", Manifest).network(hu[None, None])
    assert float(said.poor_b) == pytest.approx(-0.023, abs=CLOSE)
    assert float(said.elderly_b) == pytest.approx(-6.114, rel=CLOSE)


def test_the_volume_model_says_the_size_that_it_said(hu: torch.Tensor) -> None:
    with torch.inference_mode():
        said = bundle_named("volume-survival", "cpu", Manifest).network(hu[None, None])
    assert float(said.size_b) == pytest.approx(4.005, rel=CLOSE)
    assert float(said.died_bk.diff()) == pytest.approx(0.662, rel=CLOSE)


def test_the_segmenter_finds_what_it_found(hu: torch.Tensor) -> None:
    bundle = bundle_named("hematoma", "cpu", SegmenterManifest)
    windows = torch.stack([((hu - low) / (high - low)).clamp(0, 1) for low, high in bundle.manifest.windows])
    with torch.inference_mode():
        said = bundle.network(windows[None])
    assert float(said[:, 0].sum()) * VOXEL_ML == pytest.approx(35.82, rel=CLOSE)
    assert float(said.sum()) * VOXEL_ML == pytest.approx(45.41, rel=CLOSE)


def test_the_followup_model_changes_the_ct_as_much_as_it_did(hu: torch.Tensor) -> None:
    brain = torch.ones_like(hu, dtype=torch.bool)[None, None]
    with torch.inference_mode():
        said = bundle_named("followup", "cpu", Manifest).network(hu[None, None], brain)
    assert float(said.logits_bk.diff()) == pytest.approx(0.068, abs=CLOSE)
    assert float((said.ct_bcdhw - brain_alone(hu[None, None], brain)).abs().sum()) == pytest.approx(10625.9, rel=CLOSE)
