"""The loss rewards truth, ignores the unknown, and keeps its gradient where there is no hemorrhage."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.data.manifest import ANY, UNKNOWN
from training.losses.segmentation import segmentation_loss


def labels_with_blood() -> Tensor:
    labels = torch.zeros(1, 8, 16, 16, dtype=torch.uint8)
    labels[:, 2:5, 4:10, 4:10] = 1
    labels[:, 6, 2:8, 8:12] = 4
    return labels


def logits_saying(labels: Tensor, sureness: float = 10.0) -> Tensor:
    return sureness * functional.one_hot(labels.long(), 6).movedim(-1, 1).float()


def test_the_truth_costs_nothing() -> None:
    labels = labels_with_blood()
    assert float(segmentation_loss([logits_saying(labels, 30.0)], labels)) < 1e-3


def test_a_missed_type_costs_more_than_one_found_by_half() -> None:
    labels = labels_with_blood()
    half, missed = labels.clone(), labels.clone()
    missed[labels == 4] = 0
    half[:, 6, 2:5] = 0
    losses = [float(segmentation_loss([logits_saying(said)], labels)) for said in (labels, half, missed)]
    assert losses[0] < losses[1] < losses[2]


def test_what_is_said_of_voxels_of_unknown_truth_does_not_matter() -> None:
    labels = labels_with_blood()
    labels[:, :2] = UNKNOWN
    logits = torch.randn(1, 6, 8, 16, 16, requires_grad=True)
    segmentation_loss([logits], labels).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :, :2].abs().max()) == 0
    assert float(logits.grad[:, :, 2:].abs().max()) > 0


def test_false_positives_in_a_head_without_hemorrhage_are_pushed_down() -> None:
    labels = torch.zeros(1, 8, 16, 16, dtype=torch.uint8)
    said = labels.clone()
    said[:, 3, 3:6, 3:6] = 1
    logits = logits_saying(said).requires_grad_()
    segmentation_loss([logits], labels).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, 1, 3, 3:6, 3:6].min()) > 0
    assert bool(logits.grad.isfinite().all())


def test_a_head_costs_in_a_batch_what_it_costs_alone() -> None:
    bleeding, normal = labels_with_blood(), torch.zeros(1, 8, 16, 16, dtype=torch.uint8)
    said = normal.clone()
    said[:, 3, 3:6, 3:6] = 1
    logits = [logits_saying(said), logits_saying(said)]
    alone = [float(segmentation_loss([one], labels)) for one, labels in zip(logits, (bleeding, normal), strict=True)]
    together = segmentation_loss([torch.cat(logits)], torch.cat([bleeding, normal]))
    assert float(together) == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_in_a_head_without_hemorrhage_a_few_false_voxels_cost_as_much_as_much_of_a_missed_hematoma() -> None:
    labels = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    few, many = labels.clone(), labels.clone()
    few[:, 3, :10, :10], many[:, 3:8, :10, :10] = 1, 1
    clean, some, much = (float(segmentation_loss([logits_saying(said, 15.0)], labels)) for said in (labels, few, many))
    assert clean < 1e-3
    assert some > 0.15
    assert much > 0.5


def test_a_batch_of_unknown_truth_alone_gives_no_gradient() -> None:
    labels = torch.full((1, 8, 16, 16), UNKNOWN, dtype=torch.uint8)
    logits = torch.randn(1, 6, 8, 16, 16, requires_grad=True)
    segmentation_loss([logits], labels).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


def test_coarser_resolutions_weigh_less() -> None:
    labels = labels_with_blood()
    right, wrong = logits_saying(labels), logits_saying(labels * 0)
    coarse = (slice(None), slice(None), slice(None), slice(None, None, 2), slice(None, None, 2))
    coarse_is_wrong = segmentation_loss([right, wrong[coarse]], labels)
    fine_is_wrong = segmentation_loss([wrong, right[coarse]], labels)
    assert float(coarse_is_wrong) < 0.7 * float(fine_is_wrong)


def test_where_only_hemorrhage_is_known_every_type_is_as_right_as_another() -> None:
    labels = torch.zeros(1, 8, 16, 16, dtype=torch.uint8)
    labels[:, 2:5, 4:10, 4:10] = ANY
    said = [torch.where(labels == ANY, label, 0) for label in (1, 4, 0)]
    parenchymal, subdural, missed = (float(segmentation_loss([logits_saying(each, 20.0)], labels)) for each in said)
    assert subdural < 1e-3
    assert parenchymal < 1e-3
    assert missed > 1


def test_a_type_taken_for_another_is_told_it_even_where_it_has_next_to_no_probability() -> None:
    labels = labels_with_blood()
    said = torch.where(labels == 4, 1, labels)
    logits = logits_saying(said, 20.0).requires_grad_()
    segmentation_loss([logits], labels, hemorrhage_weight=0.25).backward()
    assert logits.grad is not None
    subdural = (labels == 4)[0]
    assert float(logits.grad[0, 4][subdural].sum()) < -0.1
    assert float(logits.grad[0, 1][subdural].sum()) > 0.1
