"""GradNorm against two tasks worked out by hand."""

import pytest
import torch
from torch import Tensor

from training.losses.gradnorm import GradNorm


def two_tasks(shared: Tensor) -> list[Tensor]:
    """Gradients at (1, 2): (3, 4) with norm 5, and (0, 1) with norm 1."""
    return [3 * shared[0] + 4 * shared[1] - 1, shared[1] * 1.0]


def test_one_step_is_what_is_worked_out_by_hand() -> None:
    shared = torch.tensor([1.0, 2.0], requires_grad=True)
    balance = GradNorm([20.0, 2.0], settling=0)
    losses = two_tasks(shared)  # 10 and 2: progress 0.5 and 1, relative to the mean 2/3 and 4/3
    balance.move(losses, [shared])
    # pulls 5 and 1, mean 3; targets 3 * (2/3)^1.5 = 1.63 and 3 * (4/3)^1.5 = 4.62: the first is too strong
    assert balance.weights.grad is not None
    assert balance.weights.grad.tolist() == pytest.approx([5.0, -1.0])
    # Adam's first step is the learning rate, against the sign of the gradient
    assert balance.weights.tolist() == pytest.approx([0.975, 1.025], abs=1e-5)


def test_it_ends_where_each_task_pulls_as_hard_as_it_should() -> None:
    shared = torch.tensor([1.0, 2.0], requires_grad=True)
    balance = GradNorm([20.0, 2.0], settling=0, learning_rate=0.01)
    for _ in range(400):
        balance.move(two_tasks(shared), [shared])
    pulls = balance.weights * torch.tensor([5.0, 1.0])
    wanted = torch.tensor([2 / 3, 4 / 3]) ** 1.5
    assert float(pulls[1] / pulls[0]) == pytest.approx(float(wanted[1] / wanted[0]), rel=0.1)
    assert float(balance.weights.sum()) == pytest.approx(2.0, abs=1e-5)


def test_no_task_is_given_up() -> None:
    shared = torch.tensor([1.0, 2.0], requires_grad=True)
    balance = GradNorm([20.0, 2.0], settling=0, least=0.5, learning_rate=0.1)
    for _ in range(100):
        balance.move([100 * shared[0], 0.001 * shared[1]], [shared])
    assert float(balance.weights.min()) > 0.4


def test_until_losses_have_settled_all_weigh_the_same_and_their_mean_is_the_first_loss() -> None:
    shared = torch.tensor([1.0, 2.0], requires_grad=True)
    given, measured = GradNorm([15.0, 2.0], settling=0), GradNorm([None, None], settling=2)
    first = two_tasks(shared)
    for scale in (2.0, 1.0):  # the mean of the first task is 15
        measured.move([scale * first[0], first[1]], [shared])
        assert measured.weights.tolist() == [1.0, 1.0]
    for balance in (given, measured):
        balance.move(two_tasks(shared), [shared])
    assert torch.equal(given.weights, measured.weights)


def test_a_resumed_training_moves_the_weights_as_an_unbroken_one() -> None:
    shared = torch.tensor([1.0, 2.0], requires_grad=True)
    unbroken = GradNorm([None, 2.0], settling=1)
    for _ in range(3):
        unbroken.move(two_tasks(shared), [shared])
    resumed = GradNorm([None, 2.0], settling=1)
    resumed.load_state_dict(unbroken.state_dict())
    for balance in (unbroken, resumed):
        balance.move(two_tasks(shared), [shared])
    assert torch.equal(unbroken.weights, resumed.weights)
