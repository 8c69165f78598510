"""System C: the paper's size, and volumes that survive their cube root."""

import pytest
import torch

from models.volume_survival import PUBLISHED, VolumeSurvival, size_of, sized, volume_ml_of


def test_the_published_network_has_as_many_weights_as_theirs() -> None:
    network = VolumeSurvival(PUBLISHED)
    regression = [network.trunk, network.size]
    assert sum(p.numel() for part in regression for p in part.parameters()) == 63_471_041


def test_volumes_survive_their_cube_root_and_no_volume_is_negative() -> None:
    ml = torch.tensor([0.0, 0.3, 8.0, 27.0, 111.0])
    assert torch.allclose(volume_ml_of(size_of(ml)), ml, rtol=1e-5)
    assert size_of(torch.tensor([8.0, 27.0])).tolist() == pytest.approx([2.0, 3.0])
    assert volume_ml_of(torch.tensor([-1.0])).tolist() == [0.0]


def test_a_head_shrunk_to_a_fixed_shape_is_measured_in_its_own_voxels() -> None:
    seen_ml, nominal = torch.tensor([10.0]), 2.0
    true_ml = volume_ml_of(sized(size_of(seen_ml), torch.tensor([3.0]), nominal))
    assert float(true_ml) == pytest.approx(15.0, rel=1e-5)


def test_it_answers_with_a_size_and_two_logits_for_each_head() -> None:
    torch.manual_seed(0)
    network = VolumeSurvival().eval()
    with torch.inference_mode():
        answers = network(torch.rand(2, 1, 16, 48, 48) * 80)
    assert answers.size_b.shape == (2,)
    assert answers.died_bk.shape == (2, 2)
    assert network.familiarity(answers.features_bf).shape == (2,)


def test_a_network_that_says_ml_never_says_less_than_none_and_its_gradients_are_numbers() -> None:
    network = VolumeSurvival()
    for said, size in ((-500.0, 0.05), (0.0, 2.402), (500.0, 21.54)):
        network.zero_grad()
        network.size.bias.data.fill_(said)
        network.size.weight.data.zero_()
        size_b = network(torch.rand(2, 1, 16, 48, 48) * 80).size_b
        size_b.sum().backward()
        assert size_b.detach().tolist() == pytest.approx([size] * 2, abs=0.01)
        assert network.size.weight.grad is not None
        assert bool(network.size.weight.grad.isfinite().all())


def test_only_40_to_110_hu_are_seen() -> None:
    network = VolumeSurvival().eval()
    hu = torch.rand(1, 1, 16, 48, 48) * 70 + 40
    darker, brighter = hu.where(hu > 60, 40.0), hu.where(hu > 60, -1000.0)
    with torch.inference_mode():
        assert torch.equal(network(darker).size_b, network(brighter).size_b)
        assert not torch.equal(network(darker).size_b, network(hu).size_b)
