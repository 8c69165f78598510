"""Recipes of the plans: how a machine's recipe is changed to train the shipped networks, and as the papers say.

What a paper does not say is left out: gradients are as they are, weights are their own average, no rate warms up.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf

from training.fit.recipe import Recipe

PlanRecipe = Callable[[Recipe], Recipe]  # of a machine


def ours(learning_rate: float, least_batch: int = 1) -> PlanRecipe:
    """As the machine's, but for these."""
    return lambda machine: replace(machine, learning_rate=learning_rate, batch=max(machine.batch, least_batch))


def followup(machine: Recipe) -> Recipe:
    """System A; how long it warms up is ours: five epochs of four fifths of its 200 patients."""
    return _plain(
        machine,
        batch=4,
        optimizer="AdamW",
        learning_rate=2e-4,
        weight_decay=1e-2,
        schedule="cosine",
        warm_up_steps=200,
    )


def prognosis(machine: Recipe) -> Recipe:
    """System B, from its authors' program; but those of the rarer outcome are not shown more often."""
    return _plain(
        machine,
        batch=8,
        accumulated=3,
        optimizer="AMSGrad",
        learning_rate=1e-3,
        weight_decay=1e-4,
        schedule="plateau",
    )


def volume_survival(machine: Recipe) -> Recipe:
    """System C."""
    return _plain(machine, batch=8, optimizer="SGD", learning_rate=1e-4, weight_decay=5e-4)


def expansion(machine: Recipe) -> Recipe:
    """System D, from its authors' program, whose batch is eight patches: of two heads there are ten."""
    return _plain(machine, batch=2, optimizer="Adam", learning_rate=1e-4, weight_decay=0.0)


def _plain(machine: Recipe, **said: object) -> Recipe:
    plain = replace(machine, clip_norm=inf, average_decay=0.0, warm_up_steps=0)
    return replace(plain, **said)  # type: ignore[arg-type]
