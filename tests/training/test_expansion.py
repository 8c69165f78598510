"""System D trains on pairs: what it reads, what its losses ask, and how it is validated."""

import pytest
import torch
from torch import Tensor, nn

from models.blocks import ALL_AXES, IN_PLANE, Stage
from models.expansion import DenseExpansionConfig, DenseFollowup
from training.expansion.system import ExpansionSystem, seen_of
from training.expansion.validation import growth_dice_of
from training.patients.batch import BECAME, KNOWN, Patients

TINY = ExpansionSystem(
    config=DenseExpansionConfig(
        stages=(
            Stage(width=4, stride=(1, 1, 1), kernel=IN_PLANE, units=1),
            Stage(width=8, stride=(2, 2, 2), kernel=ALL_AXES, units=1),
        )
    ),
)
SHAPE = (1, 8, 16, 16)


class Pair:
    """A cube of parenchymal blood that grows to one side, and may break into the ventricles."""

    def batch(self, number: int) -> Patients:
        labels, later = torch.zeros(SHAPE, dtype=torch.uint8), torch.zeros(SHAPE, dtype=torch.uint8)
        labels[:, 2:6, 4:10, 4:8] = 1
        later[:, 2:6, 4:10, 4:12] = 1
        later[:, 6, 4:8, 4:8] = 2
        became = torch.full((1, len(BECAME)), torch.nan)
        became[0, 0] = 1.0
        return Patients(
            hu_bdhw=30.0 + 35.0 * (labels > 0),
            labels_bdhw=labels,
            later_hu_bdhw=30.0 + 35.0 * (later > 0),
            later_labels_bdhw=later,
            brain_bdhw=torch.ones_like(later, dtype=torch.bool),
            known_bn=torch.full((1, len(KNOWN)), torch.nan),
            became_bn=became,
        )


class Says(nn.Module):
    """A network that says what it is told to."""

    def __init__(self, hematoma: Tensor) -> None:
        super().__init__()
        self.hematoma = hematoma

    def forward(self, x_bcdhw: Tensor, clinical_bn: Tensor) -> DenseFollowup:
        still = torch.zeros(1, 3, *SHAPE[1:])
        return DenseFollowup(
            x_bcdhw[:, :1], self.hematoma, still, still, still[:, :1], torch.zeros(1, 2), torch.zeros(1, 1)
        )


def test_it_reads_the_ct_and_both_kinds_of_blood_apart() -> None:
    seen = seen_of(Pair().batch(0))
    assert seen.x_bcdhw.shape == (1, 3, *SHAPE[1:])
    assert (float(seen.x_bcdhw[:, 0].min()), float(seen.x_bcdhw[:, 0].max())) == pytest.approx((0.30, 0.65))
    assert float(seen.x_bcdhw[:, 1].sum()) == 4 * 6 * 4
    assert float(seen.x_bcdhw[:, 2].sum()) == 0
    assert float(seen.later_hematoma_bcdhw.sum()) == 4 * 6 * 8 + 16


def test_a_definition_that_is_not_known_costs_nothing() -> None:
    batch = Pair().batch(0)
    sure = DenseFollowup(*Says(seen_of(batch).later_hematoma_bcdhw)(*seen_of(batch)[:2]))
    right, wrong = (
        float(TINY.losses(sure._replace(expands_bk=torch.tensor([logits])), batch, late=False)["definitions"])
        for logits in ([9.0, -9.0], [-9.0, -9.0])
    )
    assert right == pytest.approx(0, abs=1e-3)
    assert wrong == pytest.approx(0.25 * 9, abs=1e-2)


def test_a_copy_of_the_first_ct_scores_nothing_and_the_truth_all() -> None:
    batch = Pair().batch(0)
    scores = [
        growth_dice_of(Says(hematoma), [batch])  # type: ignore[arg-type]
        for hematoma in (seen_of(batch).baseline_bcdhw, seen_of(batch).later_hematoma_bcdhw)
    ]
    assert scores == [0.0, 1.0]
