"""How good captions are: the share that is exactly right, what is wrong with the others, and BLEU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from exporters.data.captions import RELATIONS
from exporters.measures.measured import Measured, rounded
from serving.repository.manifest import Metric, Table

MOST_FREQUENT: Final = "always the most frequent caption"
BY_RELATION: Final = "by_relation"
ALONE: Final = "one thing"


def caption_measures(found: Sequence[str], truth: Sequence[str], trained_on: Sequence[str]) -> Measured:
    """Each caption beside the true one. `exact`: things, relation and order are right. `things`: those alone are, in
    either order. `bleu4`: from 0 to 1, over all captions. trained_on: captions that the baseline is taken from.
    """
    guess = Counter(trained_on).most_common(1)[0][0]
    shares = {
        "exact": (_share(found, truth, str), _share([guess] * len(truth), truth, str)),
        "things": (_share(found, truth, _things), _share([guess] * len(truth), truth, _things)),
        "bleu4": (_bleu(found, truth), _bleu([guess] * len(truth), truth)),
    }
    metrics = {
        name: Metric(value=value, rows=len(truth), baseline=baseline, baseline_name=MOST_FREQUENT)
        for name, (value, baseline) in shares.items()
    }
    return Measured(metrics, {BY_RELATION: _by_relation(found, truth)})


def _by_relation(found: Sequence[str], truth: Sequence[str]) -> Table:
    rows = []
    for relation in (*RELATIONS, ALONE):
        pairs = [(one, true) for one, true in zip(found, truth, strict=True) if _relation(true) == relation]
        right = sum(one == true for one, true in pairs)
        rows.append((relation, len(pairs), rounded(right / len(pairs) if pairs else None)))
    return Table(columns=("relation", "captions", "exact"), rows=tuple(rows))


def _share(found: Sequence[str], truth: Sequence[str], read: Callable[[str], object]) -> float:
    return sum(read(one) == read(true) for one, true in zip(found, truth, strict=True)) / len(truth)


def _relation(caption: str) -> str:
    return next((relation for relation in RELATIONS if f" {relation} " in caption), ALONE)


def _things(caption: str) -> list[str]:
    return sorted(caption.split(f" {_relation(caption)} "))


def _bleu(found: Sequence[str], truth: Sequence[str]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    # Words are words here, and they are split already.
    metric = BLEU(tokenize="none", force=True)
    return float(metric.corpus_score(list(found), [list(truth)]).score) / 100
