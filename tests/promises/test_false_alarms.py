"""Drift cries wolf in one window of a hundred at most: by simulation, and on 5,000 real pictures held out of training.

Prints what it measured; docs/drift.md states it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from exporters.errors import PackageMissing
from exporters.family import Family, find_family
from exporters.reference import see_all
from serving.monitoring.drift import FALSE_ALARMS, MAJOR_SHIFT, MARGIN, chi_square, judge
from serving.monitoring.reference import columns_of, make_bins, make_reference
from serving.monitoring.windows import Layout
from serving.repository.layout import read_version
from serving.tasks.classify import Classify
from serving.tensors import rows

ROOT = Path(__file__).parents[2]
FEATURES = 16
COUNT = 5000  # pictures, every other one
KINDS = 1 / np.arange(1, 41) ** 1.2
KINDS /= KINDS.sum()


def drawn(source: str, chance, reference_rows: int):
    """Bins of a reference, and what a request falls into of them with which probability."""
    if source == "numbers":
        bins = make_bins(chance.random(reference_rows).tolist())
        return bins, np.diff([0, *np.clip(bins.edges, 0, 1), 1])
    names = [f"kind {i}" for i in range(40)]
    draws = (chance.choice(40, reference_rows, p=KINDS) for _ in range(100))  # of few rows all kinds may be rare
    bins = next(filter(None, (make_bins([names[i] for i in some]) for some in draws)))
    return bins, np.bincount([bins.place(name) for name in names], weights=KINDS, minlength=len(bins.counts))


@pytest.mark.parametrize("source", ["numbers", "kinds"])
@pytest.mark.parametrize("reference_rows", [40, 100, 300, 1000])
@pytest.mark.parametrize("window_rows", [100, 300, 1000])
def test_by_simulation(source, reference_rows, window_rows, capsys):
    """Of 300 references 300 windows each, of a version with FEATURES such features."""
    chance = np.random.default_rng(5)
    alarms = by_chance = windows = 0
    for _ in range(300):
        bins, shares = drawn(source, chance, reference_rows)
        counts = chance.multinomial(window_rows, shares / shares.sum(), 300) + 0.5
        p, q = counts / counts.sum(1, keepdims=True), np.array(bins.counts) + 0.5
        q = q / q.sum()
        psi = ((p - q) * np.log(p / q)).sum(1)
        limit = MARGIN * chi_square(len(q) - 1, FALSE_ALARMS / FEATURES) * (1 / reference_rows + 1 / window_rows)
        alarms += int((psi > max(limit, MAJOR_SHIFT)).sum())
        by_chance += int((psi > limit).sum())
        windows += len(psi)
    rate, bare = (1 - (1 - one / windows) ** FEATURES for one in (alarms, by_chance))
    with capsys.disabled():
        print(f"\n{source}, {reference_rows} and {window_rows} rows: {rate:.2%} ({bare:.2%} without a least threshold)")
    assert rate <= bare <= FALSE_ALARMS


def test_on_held_out_clothes(capsys):
    """Every 5th of 5,000 of Fashion-MNIST's test pictures is the reference of the published cnn; windows are drawn of
    the other 4,000, with what it answers; so for five references.
    """
    family: Family = find_family("cnn")
    try:
        inputs = family.data(quick=False).test.inputs
        inputs = {"pixels": inputs["pixels"][::2]}
    except PackageMissing as missing:
        pytest.skip(str(missing))
    version = read_version(ROOT / "model_repository" / "cnn" / "1")
    asked = [rows(inputs, i, i + 1) for i in range(COUNT)]
    seen = asyncio.run(see_all(version, Classify(version), asked))
    chance, alarms, windows, references = np.random.default_rng(6), {100: 0, 300: 0, 1000: 0}, 100, 5
    for shift in range(references):
        usual = [seen[i] for i in range(shift, COUNT, 5)]
        later = [{**seen[i][0], **seen[i][1]} for i in range(COUNT) if i % 5 != shift]
        reference = make_reference(1000, columns_of(one for one, _ in usual), columns_of(one for _, one in usual))
        layout = Layout({**reference.inputs, **reference.outputs})
        falls = np.zeros((len(later), layout.size), np.int64)
        for i, features in enumerate(later):
            falls[i, layout.places(features)] = 1
        for size in alarms:
            for _ in range(windows):
                found = layout.split(falls[chance.choice(len(falls), size, replace=False)].sum(0))
                alarms[size] += any(
                    judge(bins, found[name], len(layout.bins)).alert for name, bins in layout.bins.items()
                )
    with capsys.disabled():
        rates = {size: f"{count / (references * windows):.2%}" for size, count in alarms.items()}
        print(f"\nheld-out clothes, windows of so many: {rates}")
    assert all(count <= FALSE_ALARMS * references * windows for count in alarms.values())
