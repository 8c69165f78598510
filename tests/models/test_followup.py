"""System A: it starts from the brain as it was, its streams look at each other alike, and density draws attention."""

from dataclasses import replace

import pytest
import torch

from models.followup import COMPACT, PAPER, Attention, Followup, Interaction, Standardized, brain_alone
from models.segmenter import WINDOWS_HU

Read = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def head() -> Read:
    """Skull around soft tissue, and where that is."""
    torch.manual_seed(0)
    brain = torch.zeros(2, 1, *COMPACT.shape, dtype=torch.bool)
    brain[..., 4:28, 20:90, 20:70] = True
    return torch.where(brain, torch.rand(brain.shape) * 40, 800.0), brain


def test_it_begins_with_the_brain_as_it_was(head: Read) -> None:
    with torch.inference_mode():
        later = Followup().eval()(*head)
    hu, brain = head
    assert torch.equal(later.ct_bcdhw[brain], hu[brain] / 100)
    assert later.logits_bk.shape == (2, 2)
    assert later.attention_bdhw.shape == (2, 4, 7, 6)
    assert torch.all(later.attention_bdhw.sum(dim=(1, 2, 3)) < 1)


def test_nothing_is_said_outside_the_brain(head: Read) -> None:
    network = Followup().eval()
    torch.nn.init.ones_(network.change.weight)
    with torch.inference_mode():
        ct = network(*head).ct_bcdhw
    assert not ct[~head[1]].any()
    assert not torch.equal(ct[head[1]], head[0][head[1]] / 100)


def test_the_paper_s_reads_the_brain_alone_and_ours_the_head_as_the_segmenter_does(head: Read) -> None:
    hu, brain = head
    elsewhere = hu.where(brain, -1000.0)
    with torch.inference_mode():
        ours, small = Followup().eval(), Followup(replace(COMPACT, windows=())).eval()
        assert not torch.equal(ours(hu, brain).logits_bk, ours(elsewhere, brain).logits_bk)
        assert torch.equal(small(hu, brain).logits_bk, small(elsewhere, brain).logits_bk)
    assert (PAPER.windows, COMPACT.windows) == ((), WINDOWS_HU)
    alone = brain_alone(torch.tensor([-5.0, 40.0, 300.0, 40.0]), torch.tensor([True, True, True, False]))
    assert torch.equal(alone, torch.tensor([0, 0.4, 1, 0]))


def test_the_paper_s_size_sees_960_places() -> None:
    assert Followup(PAPER).tokens == (8, 12, 10)


def test_features_are_told_by_how_they_differ_from_those_of_the_patients_before() -> None:
    shown = 5 + 0.01 * torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    one_by_one, in_pairs = Standardized(3).train(), Standardized(3).train()
    for pair in shown.split(2):
        in_pairs(pair)
        for one in pair.split(1):
            one_by_one(one)
    assert torch.equal(one_by_one.mean, in_pairs.mean)
    torch.testing.assert_close(one_by_one.mean, shown.mean(dim=0))
    torch.testing.assert_close(one_by_one.variance, shown.var(dim=0, correction=0))
    told = one_by_one.eval()(shown)
    torch.testing.assert_close(told.std(dim=0), torch.ones(3), atol=0.02, rtol=0)  # of a variance of 1e-4, 1e-6 is lost
    assert one_by_one.shown == 400


def test_a_patient_that_is_no_numbers_is_not_remembered() -> None:
    features = Standardized(2).train()
    for each in ([1.0, 2.0], [torch.nan, 2.0], [3.0, torch.inf]):
        features(torch.tensor([each]))
    assert features.shown == 1
    assert torch.equal(features.mean, torch.tensor([1.0, 2.0]))


def test_the_first_patients_of_a_training_are_forgotten() -> None:
    features = Standardized(1).train()
    for each in [1000.0] * 100 + [5.0] * 10_000:
        features(torch.tensor([[each]]))
    torch.testing.assert_close(features.mean, torch.tensor([5.0]), atol=0.1, rtol=0)


def test_our_classifier_reads_the_mean_of_all_places_beside_the_class_token(head: Read) -> None:
    network = Followup().eval()
    with torch.inference_mode():
        before = network(*head).logits_bk
        torch.nn.init.normal_(network.pooled[-1].weight)
        assert not torch.equal(network(*head).logits_bk, before)
    assert Followup(replace(COMPACT, pools=False)).pooled is None
    assert not PAPER.pools


def test_the_streams_are_treated_alike() -> None:
    torch.manual_seed(0)
    both = Interaction(32, 4, 0.0).eval()
    for pair in (both.norms, both.across, both.own):
        pair[1].load_state_dict(pair[0].state_dict())
    g, c = torch.randn(1, 10, 32), torch.randn(1, 11, 32)
    with torch.inference_mode():
        g_after, c_after, _ = both(g, c)
        c_swapped, g_swapped, _ = both(c, g)
    assert torch.allclose(g_after, g_swapped, atol=1e-5)
    assert torch.allclose(c_after, c_swapped, atol=1e-5)


@pytest.mark.parametrize("interacts", [True, False])
def test_one_stream_changes_the_other_only_where_they_interact(interacts: bool) -> None:
    torch.manual_seed(0)
    both = Interaction(32, 4, 0.0, interacts=interacts).eval()
    g, c = torch.randn(1, 10, 32), torch.randn(1, 11, 32)
    with torch.inference_mode():
        before, after = both(g, c)[0], both(g, c + 1)[0] if not interacts else both(g, torch.randn(1, 11, 32))[0]
    assert torch.equal(before, after) is not interacts


def test_dense_places_draw_attention() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4, 0.0, density=True).eval()
    tokens, density = torch.randn(1, 10, 32), torch.zeros(1, 10)
    density[0, 3] = 1.0
    with torch.inference_mode():
        plain, drawn = attention(tokens, tokens)[1], attention(tokens, tokens, density)[1]
    odds = [weights / (1 - weights) for weights in (plain[..., 3], drawn[..., 3])]
    assert torch.allclose(odds[1] / odds[0], torch.tensor(torch.e), rtol=1e-3)  # a weight of 1, before training


def test_without_the_density_no_part_of_it_is_left() -> None:
    plain = Followup(replace(COMPACT, attends_to_density=False))
    assert not any(name.endswith("attention.density") for name, _ in plain.named_parameters())
    assert any(name.endswith("attention.density") for name, _ in Followup().named_parameters())


def test_both_tasks_reach_the_last_shared_layer(head: Read) -> None:
    network = Followup()
    torch.nn.init.normal_(network.change.weight)
    later = network(*head)
    for loss in (later.ct_bcdhw.mean(), later.logits_bk[:, 1].sum()):
        gradients = torch.autograd.grad(loss, list(network.last_shared.parameters()), retain_graph=True)
        assert sum(float(g.abs().sum()) for g in gradients) > 0
