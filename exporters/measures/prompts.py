"""How well generated pictures show what was asked for, as a judge of pictures and names finds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporters.measures.measured import Measured, rounded
from serving.repository.manifest import Metric, Table
from serving.tensors import Array

TOPS: Final = (5, 1)
THEMSELVES: Final = "the emoji themselves"
BY_GUIDANCE: Final = "by_guidance"


def prompt_measures(real: Array, drawn: Mapping[float, Array], usual: float, names: int) -> Measured:
    """The shares of pictures whose name is among the judge's first five, and the first, of so many names.

    real, drawn: int64 [N], how many names the judge finds likelier, of real pictures and of those drawn with each
    guidance; usual: the guidance that is the model's own. `unguided`: of the prompt as it was learned; `unprompted`: of
    pictures that no prompt had a part in.
    """
    metrics = {f"prompt_in_top{top}": _metric(drawn[usual], real, top) for top in TOPS}
    for name, guidance in (("unguided", 1.0), ("unprompted", 0.0)):
        share = within(drawn[guidance], 5)
        chance = {"baseline": 5 / names, "baseline_name": "guessing"} if guidance == 0 else {}
        metrics[f"{name}_in_top5"] = Metric(value=share, rows=len(drawn[guidance]), **chance)
    rows = [(f"{guidance:g}", *(rounded(within(places, top)) for top in TOPS)) for guidance, places in drawn.items()]
    return Measured(metrics, {BY_GUIDANCE: Table(columns=("guidance", "in_top5", "in_top1"), rows=tuple(rows))})


def within(places: Array, top: int) -> float:
    """The share of pictures whose name is among the first so many."""
    return float((places < top).mean())


def _metric(drawn: Array, real: Array, top: int) -> Metric:
    return Metric(value=within(drawn, top), rows=len(drawn), baseline=within(real, top), baseline_name=THEMSELVES)
