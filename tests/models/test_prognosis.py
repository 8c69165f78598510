"""System B: the sizes, the sight and the ordinal code of the paper's own program."""

import pytest
import torch

from models.prognosis import (
    PUBLISHED,
    Consciousness,
    Prognosis,
    consciousness,
    gcs_units,
    improved_sight,
    published_sight,
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
    assert consciousness(units) == [Consciousness(n) for n in (0, 0, 1, 1, 2, 2)]


def test_units_out_of_order_are_counted() -> None:
    assert consciousness(torch.tensor([[0.4, 0.6], [0.5, 0.5]])) == [
        Consciousness.GCS_9_TO_12,
        Consciousness.GCS_13_TO_15,
    ]


def test_it_answers_three_questions_with_probabilities_that_a_temperature_softens() -> None:
    torch.manual_seed(0)
    network = Prognosis().eval()
    hu = torch.full((2, 1, 32, 48, 48), 35.0)
    with torch.inference_mode():
        sure, logits = network(hu), network.logits(hu)
        network.temperature.fill_(4.0)
        unsure = network(hu)
    assert [answer.shape for answer in sure] == [(2,), (2, 2), (2,)]
    assert torch.allclose(sure.gcs_bu, torch.sigmoid(logits.gcs_bu))
    assert torch.all((unsure.gcs_bu - 0.5).abs() < (sure.gcs_bu - 0.5).abs())
