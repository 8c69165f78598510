"""System B: the sizes, the sight and the ordinal code of the paper's own program."""

import pytest
import torch

from models.prognosis import (
    PUBLISHED,
    Prognosis,
    gcs_units,
    improved_sight,
    published_sight,
    units_on,
)


def test_the_published_trunk_has_as_many_weights_as_theirs() -> None:
    network = Prognosis(PUBLISHED)
    assert sum(p.numel() for p in network.features.parameters()) == 11_242_624
    heads = [sum(p.numel() for p in head.parameters()) for head in (network.poor, network.gcs, network.elderly)]
    assert heads == [1025, 2050, 1025]


def test_the_published_sight_takes_bone_out_and_the_improved_one_does_not() -> None:
    hu = torch.tensor([-1000.0, 15.0, 15.85, 57.5, 99.0, 100.0, 1000.0])
    assert published_sight(hu).tolist() == pytest.approx([0, 0, 0.01, 0.5, 84 / 85, 0, 0])
    assert improved_sight(hu).tolist() == pytest.approx([0, 0.15, 0.1585, 0.575, 0.99, 1, 1])


def test_the_coma_scale_is_an_ordinal_code_and_back() -> None:
    gcs = torch.tensor([15, 13, 12, 9, 8, 3])
    units = gcs_units(gcs)
    assert units.tolist() == [[0, 0], [0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]
    assert units_on(units - 0.5) == [0, 0, 1, 1, 2, 2]


def test_units_out_of_order_are_counted() -> None:
    assert units_on(torch.tensor([[-0.4, 0.6], [0.0, 0.0]])) == [1, 0]


def test_it_answers_three_questions_for_each_head() -> None:
    torch.manual_seed(0)
    network = Prognosis().eval()
    with torch.inference_mode():
        answers = network(torch.rand(2, 1, 32, 48, 48) * 80)
    assert [answer.shape for answer in answers[:3]] == [(2,), (2, 2), (2,)]
    assert network.familiarity(answers.features_bf).shape == (2,)
    assert isinstance(network.last_convolution, torch.nn.Conv3d)
