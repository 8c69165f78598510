"""The published way of system D: five patches of each patient, whole heads in windows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.expansion import Followup, PublishedExpansion, PublishedExpansionConfig
from tests.training.test_expansion import Pair
from training.expansion.published import Patches, PublishedExpansionSystem, Whole
from training.expansion.system import seen_of
from training.patients.batch import Patients

SYSTEM = PublishedExpansionSystem(config=PublishedExpansionConfig(widths=(4, 8, 16, 32)))


def large() -> Patients:
    """The pair of the other tests, in a brain of 80 x 96 x 96 voxels within nothing."""
    small = Pair().batch(0)
    shown = {}
    for name in ("hu_bdhw", "labels_bdhw", "later_hu_bdhw", "later_labels_bdhw"):
        whole = torch.zeros((1, 80, 96, 96), dtype=getattr(small, name).dtype)
        whole[:, 4:76, 4:92, 4:92] = 30 if "hu" in name else 0
        whole[:, 40:48, 48:64, 48:64] = getattr(small, name)
        shown[name] = whole
    return replace(small, **shown)


class Remembers(nn.Module):
    """Says what it reads."""

    def forward(self, x_bcdhw: Tensor) -> Followup:
        self.seen = x_bcdhw
        return Followup(x_bcdhw[:, :1], x_bcdhw[:, 1:], x_bcdhw.new_zeros(len(x_bcdhw), 3, *x_bcdhw.shape[2:]))


def test_four_of_five_patches_show_growth_and_all_are_scaled_by_the_first_ct() -> None:
    torch.manual_seed(0)
    network = Remembers()
    answer = SYSTEM.answer(network, large())  # type: ignore[arg-type]
    assert network.seen.shape == (5, 2, 64, 64, 64)
    assert float(network.seen[:, 0].max()) == pytest.approx(1.0)
    grown = (answer.later_hematoma_bcdhw - network.seen[:, 1:]).clamp_min(0).sum(dim=(1, 2, 3, 4))
    assert (grown[1:] > 0).all()
    assert float(answer.later_ct_bcdhw.max()) == pytest.approx(1.0)  # the follow-up is as dense


def test_patches_of_growth_are_the_same_at_each_showing_and_that_of_brain_is_drawn() -> None:
    network = Remembers()
    shown = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        SYSTEM.answer(network, large())  # type: ignore[arg-type]
        shown.append(network.seen)
    assert torch.equal(shown[0][1:], shown[1][1:])
    assert not torch.equal(shown[0][0], shown[1][0])


def test_where_nothing_grows_all_patches_are_of_brain() -> None:
    batch = large()
    batch = replace(batch, later_hu_bdhw=batch.hu_bdhw, later_labels_bdhw=batch.labels_bdhw)
    answer = SYSTEM.answer(Remembers(), batch)  # type: ignore[arg-type]
    assert len(answer.later_ct_bcdhw) == 5
    still = SYSTEM.losses(answer, batch, late=False)["image"]
    assert float(still) < 0.9  # patches without blood cost a Dice of 1 of an empty mask at most


def test_it_learns_from_its_patches() -> None:
    torch.manual_seed(0)
    network = PublishedExpansion(SYSTEM.config)
    answer = SYSTEM.answer(network, large())
    SYSTEM.losses(answer, large(), late=False)["image"].backward()  # type: ignore[no-untyped-call]
    assert isinstance(answer, Patches)
    gradient = network.affine[-1].bias.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_a_whole_head_is_seen_in_windows_and_stays_in_its_own_unit() -> None:
    seen = seen_of(large())
    said = Whole(Remembers())(seen.x_bcdhw, seen.clinical_bn)
    assert torch.allclose(said.ct_bcdhw, seen.x_bcdhw[:, :1], atol=1e-4)
    assert torch.allclose(said.hematoma_bcdhw, seen.baseline_bcdhw, atol=1e-4)
    assert said.field_bcdhw.shape == (1, 3, 80, 96, 96)
    everywhere = Whole(_Everywhere())(seen.x_bcdhw, seen.clinical_bn)
    assert float(everywhere.hematoma_bcdhw[seen.x_bcdhw[:, :1] == 0].abs().max()) == 0


class _Everywhere(nn.Module):
    def forward(self, x_bcdhw: Tensor) -> Followup:
        one = torch.ones_like(x_bcdhw[:, :1])
        return Followup(one, one, one.repeat(1, 3, 1, 1, 1))
