"""The network that system B is compared with: the paper's layers, on every grid that it is trained on."""

import pytest
import torch
from torch import nn

from models.perez import PEREZ, Perez
from models.prognosis import COMPACT


def test_it_has_the_layers_of_the_paper() -> None:
    network = Perez()
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv3d)]
    assert [layer.out_channels for layer in convolutions] == [16, 32, 64, 128]
    assert {layer.padding for layer in convolutions} == {(0, 0, 0)}
    sizes = [448, 13_856, 55_360, 221_312]  # 27 weights for each pair of channels, and biases
    assert [sum(p.numel() for p in layer.parameters()) for layer in convolutions] == sizes
    assert sum(p.numel() for p in network.parameters()) == sum(sizes) + 2 * 128 + 129


@pytest.mark.parametrize("shape", [(32, 64, 48), (40, 64, 48), (24, 38, 38)])
def test_it_says_the_outcome_of_each_head_and_nothing_else_whatever_the_planes(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        answers = Perez().eval()(torch.rand(2, 1, *shape) * 80)
    assert [answer.shape for answer in answers] == [(2,), (2, 2), (2,), (2, 3), (2, 128)]
    assert answers.poor_b.isfinite().all()
    assert answers.poor_b.unique().numel() == 2
    assert not any(answer.any() for answer in (answers.gcs_bu, answers.elderly_b, answers.taught_bn))


def test_convolutions_read_no_voxel_that_is_not_there_but_empty_planes() -> None:
    """What 40 planes give: 38, 19, 17, 8, 6, 3 and at last 1."""
    network = Perez().eval()
    before_pooling = network.features[: [type(layer) for layer in network.features].index(nn.AdaptiveMaxPool3d)]
    with torch.inference_mode():
        assert before_pooling(torch.zeros(1, 1, 40, 64, 48)).shape == (1, 128, 1, 4, 2)
        head = torch.rand(1, 1, 32, 64, 48) * 80
        empty = torch.zeros(1, 1, 4, 64, 48)
        assert torch.equal(network(head).poor_b, network(torch.cat([empty, head, empty], dim=2)).poor_b)


def test_it_is_made_for_the_grid_of_the_network_it_is_compared_with() -> None:
    assert PEREZ.shape == COMPACT.shape
