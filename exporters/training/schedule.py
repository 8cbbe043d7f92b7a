"""The learning rate of each step: a function of the recipe and of how far the training is, so it has no state."""

from __future__ import annotations

import math
from typing import Final

from exporters.family import Recipe

# Of all steps, where `step` divides the rate by 10. Source: https://arxiv.org/abs/1512.03385, section 4.2
FALLS: Final = (0.5, 0.75)
# `one-cycle` begins at the peak / 25 and ends at the peak / 250,000. Source: https://arxiv.org/abs/1708.07120
FIRST, LAST = 1 / 25, 1 / 250_000
LEAST_RISE: Final = 0.3  # of all steps, where a one-cycle's recipe names no warm-up


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step `step` of `steps`: a rise to the recipe's peak over its warm-up, then as its schedule says.

    Source of the cosine: https://arxiv.org/abs/1608.03983
    """
    return recipe.learning_rate * _share(recipe, step, steps)


def _share(recipe: Recipe, step: int, steps: int) -> float:
    if recipe.schedule == "one-cycle":
        return _one_cycle((recipe.warm_up or LEAST_RISE) * steps, step, steps)
    rise = recipe.warm_up * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    if recipe.schedule == "cosine":
        return _between(1.0, 0.0, (step - rise) / (steps - rise))
    if recipe.schedule == "step":
        return float(0.1 ** sum(step >= fall * steps for fall in FALLS))
    return 1.0


def _one_cycle(rise: float, step: int, steps: int) -> float:
    if step < rise:
        return _between(FIRST, 1.0, step / rise)
    return _between(1.0, LAST, (step - rise) / (steps - rise))


def _between(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine; done: 0 to 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
