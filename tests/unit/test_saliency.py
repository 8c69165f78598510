"""Saliency of networks so small that it can be worked out by hand."""

import pytest
import torch
from torch import Tensor, nn

from ichnode.inference.saliency import grad_cam, grad_cam_by_place, guided_backpropagation, guided_grad_cam


class Small(nn.Module):
    """Two features, x and -x; the answer is the sum of the first less half of the second, after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 2, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.features.weight = nn.Parameter(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1))

    def forward(self, x_bcdhw: Tensor) -> Tensor:
        features = self.relu(self.features(x_bcdhw))
        return features[:, 0].sum() - 0.5 * features[:, 1].sum()


@pytest.fixture
def x_bcdhw() -> Tensor:
    return torch.tensor([[1.0, -2.0], [3.0, -4.0]]).view(1, 1, 1, 2, 2)


def test_grad_cam_weighs_features_by_their_mean_gradient_and_keeps_what_speaks_for_the_answer(x_bcdhw: Tensor) -> None:
    network = Small()
    # gradients at the features: 1 where x > 0 (mean 1/2), -1/2 where x < 0 (mean -1/4); so x / 2 + x / 4
    found = grad_cam(network, network.features, x_bcdhw)
    assert found.flatten().tolist() == pytest.approx([0.75, 0.0, 2.25, 0.0])


def test_by_place_every_gradient_counts_where_it_is(x_bcdhw: Tensor) -> None:
    network = Small()
    found = grad_cam_by_place(network, network.features, x_bcdhw)
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, 3.0, 0.0])


def test_before_a_mean_over_all_places_both_are_the_same() -> None:
    layer = nn.Conv3d(1, 3, 3, padding=1)
    network = nn.Sequential(layer, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 1))
    x_bcdhw = torch.rand(1, 1, 4, 5, 6)
    assert torch.allclose(grad_cam(network, layer, x_bcdhw), grad_cam_by_place(network, layer, x_bcdhw), atol=1e-6)


def test_grad_cam_of_a_coarse_layer_has_the_size_of_the_head() -> None:
    network = nn.Sequential(nn.Conv3d(1, 3, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    assert grad_cam(network, network[0], torch.rand(1, 1, 12, 16, 20)).shape == (12, 16, 20)


def test_guided_backpropagation_stops_what_speaks_against_the_answer(x_bcdhw: Tensor) -> None:
    network = Small()
    plain = x_bcdhw.clone().requires_grad_()
    network(plain).backward()
    assert plain.grad is not None
    assert plain.grad.flatten().tolist() == [1.0, 0.5, 1.0, 0.5]
    assert guided_backpropagation(network, network, x_bcdhw).flatten().tolist() == [1.0, 0.0, 1.0, 0.0]


def test_the_network_is_left_as_it_was(x_bcdhw: Tensor) -> None:
    network = Small()
    guided_grad_cam(network, network, network.features, x_bcdhw)
    assert network.relu.inplace
    assert not network.relu._backward_hooks
    assert not network.features._forward_hooks
    assert network.features.weight.grad is None


def test_guided_grad_cam_is_both_multiplied(x_bcdhw: Tensor) -> None:
    network = Small()
    found = guided_grad_cam(network, network, network.features, x_bcdhw)
    assert found.flatten().tolist() == pytest.approx([0.75, 0.0, 2.25, 0.0])
