"""System D: the published warp with its size and its idle start; flows that do not fold; blood that is new."""

import math

import pytest
import torch

from models.expansion import (
    CLINICAL,
    DenseExpansion,
    PublishedExpansion,
    PublishedExpansionConfig,
    jacobian_determinant,
)


@pytest.fixture(scope="module")
def head() -> torch.Tensor:
    """CT and two kinds of blood, the second absent."""
    torch.manual_seed(0)
    x_bcdhw = torch.zeros(1, 3, 16, 32, 32)
    x_bcdhw[:, 0] = 0.35 + 0.02 * torch.randn(1, 16, 32, 32)
    x_bcdhw[:, :2, 6:10, 12:20, 12:20] = torch.tensor([0.62, 1.0]).view(1, 2, 1, 1, 1)
    return x_bcdhw


UNKNOWN = torch.full((1, len(CLINICAL)), float("nan"))


def test_the_published_network_has_as_many_weights_as_theirs() -> None:
    network = PublishedExpansion()
    unet = [network.down, network.bottom, network.up, network.merge, network.field]
    assert sum(p.numel() for part in unet for p in part.parameters()) == 22_395_651
    assert [tuple(layer.weight.shape) for layer in network.affine] == [(12, 12_288), (12, 12)]


def test_the_published_network_begins_with_no_movement_and_moves_both_channels_alike() -> None:
    torch.manual_seed(0)
    network = PublishedExpansion(PublishedExpansionConfig(widths=(4, 8, 16, 32)))
    x_bcdhw = torch.rand(1, 2, 64, 64, 64)
    with torch.inference_mode():
        before = network(x_bcdhw)
        network.affine[-1].bias[3] += 2 * 5 / 63  # 5 voxels along x
        after = network(x_bcdhw)
    assert torch.allclose(torch.cat(before[:2], dim=1), x_bcdhw, atol=1e-4)
    assert torch.allclose(torch.cat(after[:2], dim=1)[..., :-6], x_bcdhw[..., 5:-1], atol=1e-3)


def test_the_dense_network_begins_with_the_head_as_it_was(head: torch.Tensor) -> None:
    with torch.inference_mode():
        later = DenseExpansion().eval()(head, UNKNOWN)
    assert float((later.ct_bcdhw - head[:, :1]).abs().max()) < 0.01
    assert float((later.hematoma_bcdhw - head[:, 1:2]).abs().max()) < 0.01


def test_scaling_and_squaring_is_the_flow_of_a_linear_velocity() -> None:
    size, rate = 33, 0.2
    axis = torch.arange(size) - (size - 1) / 2
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    displacement = DenseExpansion().flow(rate * place[None])[0]
    inner = (slice(None), *(slice(8, -8),) * 3)
    assert torch.allclose(displacement[inner], (math.exp(rate) - 1) * place[inner], atol=0.02)
    grown = jacobian_determinant(displacement[None])[0, 8:-8, 8:-8, 8:-8]
    assert float(grown.mean()) == pytest.approx(math.exp(3 * rate), rel=0.01)


def test_a_steep_velocity_does_not_fold_where_the_same_displacement_would() -> None:
    size, height = 33, 8.0
    wave = height * torch.sin(2 * math.pi * torch.arange(size) / (size - 1))
    velocity = torch.zeros(1, 3, size, size, size)
    velocity[:, 2] = wave
    assert float(jacobian_determinant(velocity).min()) < -0.5
    assert float(jacobian_determinant(DenseExpansion().flow(velocity)).min()) > 0


def test_a_head_moves_by_as_many_voxels_as_its_velocity_says(head: torch.Tensor) -> None:
    """Blood goes from where it was, against the displacement."""
    network = DenseExpansion().eval()
    network.velocity.bias.data[:] = torch.tensor([0.0, 0.0, -3.0])
    with torch.inference_mode():
        later = network(head, UNKNOWN)
    inner = later.displacement_bcdhw[0, :, 4:-4, 8:-8, 8:-8]
    assert torch.allclose(inner, torch.tensor([0.0, 0.0, -3.0]).view(3, 1, 1, 1).expand_as(inner), atol=0.05)
    assert float((later.hematoma_bcdhw[..., 8:-8] - head[:, 1:2].roll(3, dims=-1)[..., 8:-8]).abs().max()) < 0.1


def test_the_determinant_is_that_of_the_gradient() -> None:
    size = 5
    axis = torch.arange(size) - (size - 1) / 2
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    matrix = torch.tensor([[0.3, -0.2, 0.1], [0.4, 0.1, -0.3], [-0.1, 0.2, 0.5]])
    displacement = torch.einsum("oa,azyx->ozyx", matrix, place)[None]
    expected = float(torch.linalg.det(matrix + torch.eye(3)))
    assert jacobian_determinant(displacement).flatten().tolist() == pytest.approx([expected] * (size - 1) ** 3)


def test_new_blood_is_as_dense_as_the_old_and_old_blood_stays(head: torch.Tensor) -> None:
    network = DenseExpansion().eval()
    with torch.inference_mode():
        network.new.bias.fill_(20.0)
        later = network(head, UNKNOWN)
    assert float(later.hematoma_bcdhw.min()) > 0.99
    assert torch.allclose(later.ct_bcdhw, torch.tensor(0.62), atol=1e-3)


def test_what_is_known_of_the_patient_counts_and_what_is_not_does_not(head: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = DenseExpansion().eval()
    for layer in (network.known[-1], network.velocity):
        torch.nn.init.normal_(layer.weight, std=0.5)
    known = torch.tensor([[1.0, 30.0, 1.0, 200.0, 80.0, 6.0]])
    with torch.inference_mode():
        unknown, early, late = (network(head, c).field_bcdhw for c in (UNKNOWN, known, known + 10))
    assert bool(unknown.isfinite().all())
    assert not torch.allclose(unknown, early)
    assert not torch.allclose(early, late)
