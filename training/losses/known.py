"""A loss over those of whom the truth is known."""

from collections.abc import Callable

from torch import Tensor


def known_loss(loss: Callable[[Tensor, Tensor], Tensor], answer: Tensor, truth: Tensor) -> Tensor:
    """`loss` where `truth` is no NaN, float32; 0, with a gradient of 0, where that is nowhere."""
    is_known = truth.isfinite()
    if not bool(is_known.any()):
        return answer.float().sum() * 0
    return loss(answer.float()[is_known], truth[is_known])
