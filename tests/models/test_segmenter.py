"""The segmenter takes any head, and says the same on fast and exact arithmetic."""

import pytest
import torch

from models import blocks
from models.segmenter import Segmenter, SegmenterConfig, padded


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter().eval()


@pytest.mark.parametrize("shape", [(1, 40, 30), (9, 64, 65), (13, 20, 70)])
def test_any_number_of_slices_and_any_size_gives_a_probability_for_each_type_and_voxel(
    network: Segmenter, shape: tuple[int, int, int]
) -> None:
    with torch.inference_mode():
        probability = network(torch.rand(1, 3, *shape))
    assert probability.shape == (1, 5, *shape)
    assert probability.dtype == torch.float32
    assert 0 <= float(probability.min()) <= float(probability.sum(dim=1).max()) <= 1.0001


def test_bf16_and_float32_agree(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    x_bcdhw = torch.rand(1, 3, 8, 64, 64)
    found = {}
    for fast in (True, False):
        monkeypatch.setattr(blocks, "_is_bf16_fast", lambda device, fast=fast: fast)
        with torch.inference_mode():
            found[fast] = network(x_bcdhw)
    assert float((found[True] - found[False]).abs().max()) < 0.03


def test_a_head_in_a_batch_gets_what_it_gets_alone(network: Segmenter) -> None:
    x_bcdhw = torch.rand(2, 3, 8, 64, 64) * torch.tensor([1.0, 0.2]).view(2, 1, 1, 1, 1)
    with torch.inference_mode():
        together, alone = network(x_bcdhw), torch.cat([network(x_bcdhw[:1]), network(x_bcdhw[1:])])
    torch.testing.assert_close(together, alone, atol=1e-2, rtol=0)


def test_a_head_of_any_size_gets_what_it_gets_in_whole_strides(network: Segmenter) -> None:
    head_bcdhw = torch.rand(1, 3, 31, 50, 60)
    with torch.inference_mode():
        whole = network(padded(head_bcdhw, (32, 64, 64), 0.0))
        torch.testing.assert_close(whole[:, :, :31, :50, :60], network(head_bcdhw))


def test_the_shape_a_head_is_padded_to_has_enough_planes_and_whole_strides() -> None:
    assert SegmenterConfig().fitting((1, 50, 64)) == (24, 64, 64)
    assert SegmenterConfig().fitting((33, 96, 81)) == (40, 96, 96)


def test_few_planes_are_shown_there_and_back_again_and_air_lies_behind_rows_and_columns() -> None:
    planes = torch.arange(3.0)[:, None, None]
    assert padded(planes, (9, 1, 1), 0.0).flatten().tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1]
    assert padded(planes[:1], (3, 1, 2), -1.0).tolist() == [[[0, -1]]] * 3


def test_a_single_plane_gets_what_it_gets_as_a_prism(network: Segmenter) -> None:
    plane_bcdhw = torch.rand(1, 3, 1, 64, 64)
    with torch.inference_mode():
        alone, prism = network(plane_bcdhw), network(plane_bcdhw.expand(-1, -1, 24, -1, -1))
    torch.testing.assert_close(alone, prism[:, :, 11:12])


def test_a_higher_temperature_moves_probability_towards_even_shares() -> None:
    torch.manual_seed(0)
    network = Segmenter().eval()
    x_bcdhw = torch.rand(1, 3, 8, 32, 32)
    with torch.inference_mode():
        sure = network(x_bcdhw)
        network.temperature.fill_(1e6)
        torch.testing.assert_close(network(x_bcdhw), torch.full_like(sure, 1 / 6), atol=1e-3, rtol=0)


def test_training_reads_four_resolutions_finest_first(network: Segmenter) -> None:
    sizes = [tuple(each.shape[1:]) for each in network.logits(torch.rand(1, 3, 8, 64, 32))]
    assert sizes == [(6, 8, 64, 32), (6, 8, 32, 16), (6, 4, 16, 8), (6, 2, 8, 4)]


def test_the_deepest_stage_learns_as_the_first_does() -> None:
    torch.manual_seed(0)
    network = Segmenter()
    torch.stack([each.var() for each in network.logits(torch.rand(1, 3, 24, 64, 64))[:1]]).sum().backward()
    first, deepest = (
        sum(float(p.grad.square().sum()) for p in stage.parameters() if p.grad is not None) ** 0.5
        for stage in (network.encoder[0], network.encoder[-1])
    )
    assert deepest > 0.03 * first


def test_the_weights_fit_into_10_mb_in_two_bytes_each(network: Segmenter) -> None:
    assert 2 * sum(p.numel() for p in network.parameters()) < 10e6
