"""Where a search looks for a recipe: fields of `Recipe` with the values that they may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LogUniform:
    """Numbers from low to high, each factor as likely as another."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choices:
    """One of these, all as likely."""

    values: tuple[str | int | float, ...]


Space = Mapping[str, LogUniform | Choices]

# For families that name no space of their own, by their recipe's optimizer.
DEFAULTS: Final[Mapping[str, Space]] = {
    "adam": {
        "learning_rate": LogUniform(3e-4, 2e-2),
        "weight_decay": LogUniform(1e-3, 1e-1),
        "batch_size": Choices((32, 64, 128, 256)),
    },
    "sgd": {
        "learning_rate": LogUniform(5e-3, 5e-1),
        "weight_decay": LogUniform(1e-5, 1e-3),
        "batch_size": Choices((32, 64, 128, 256)),
    },
}
