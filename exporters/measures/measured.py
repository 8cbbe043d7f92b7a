"""What measuring gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.repository.manifest import Metric, Table


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics by name, and what stands behind them by class or by bin."""

    metrics: Mapping[str, Metric]
    tables: Mapping[str, Table] = field(default_factory=dict)


PER_CLASS = "per_class"
DIGITS = 4  # behind the point, in tables


def rounded(value: float | None) -> float | None:
    """A table's cell; None stands for a figure that is not defined."""
    return None if value is None else round(float(value), DIGITS)
