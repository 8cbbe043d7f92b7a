"""How good is the version? Golden rows, batches, agreement and speed: figures, which the gate judges."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from serving.errors import RepositoryInvalid, TidegateError
from serving.tensors import Array, Tensors, concatenate, row_count, rows
from serving.versions.loader import warm_up_rows
from serving.vetting.bench import Bench, NothingToMeasure, Subject
from serving.vetting.golden import GOLDEN, Golden, difference, differing_rows, nonfinite, read_golden, spread

BATCH_SIZES: Final = (2, 8)  # and max_batch_size
LATENCY_ROWS: Final = (1, 8)
ROUNDS: Final = 31  # of each version in turn
LEAST_ROUNDS: Final = 4
LATENCY_S: Final = 4.0  # after which the rounds that were made must do


async def golden(bench: Bench) -> Mapping[str, float]:
    """Golden rows one at a time. Figures: largest difference, rows of another top-1, values not finite, spread."""
    subject = bench.candidate
    subject.golden = read_golden(subject.version.folder, subject.version.name)
    if subject.golden is None:
        if bench.stable and (bench.stable.version.folder / GOLDEN).exists():
            expected = f"expected this file, as version {bench.stable.version.number} has; publish the version again"
            raise RepositoryInvalid(f"{subject.version.name}/{GOLDEN}", "", expected)
        raise NothingToMeasure(f"it has no {GOLDEN}")
    file = f"{subject.version.name}/{GOLDEN}"
    role = _golden_role(subject, subject.golden, file)
    try:
        subject.alone = await _one_by_one(bench, subject, role, subject.golden.inputs)
    except TidegateError as error:
        raise RepositoryInvalid(file, "", f"expected rows that the graph takes. {error.detail}") from None
    subject.nonfinite.update(nonfinite(subject.alone))
    labels = _labels(subject)
    return {
        "rows": row_count(subject.golden.inputs),
        "difference": difference(subject.alone, subject.golden.outputs, file),
        "other_top_1": _other_top_1(subject.alone, subject.golden.outputs, len(labels)),
        **subject.nonfinite,
        "differing_rows": differing_rows(subject.golden.inputs),
        "spread": spread(subject.alone),
    }


async def batch(bench: Bench) -> Mapping[str, float]:
    """Rows alone against the same rows in batches. Figures: largest difference, largest batch."""
    subject = bench.candidate
    worst, largest = 0.0, 0
    for role, graph in subject.version.graphs.items():
        limit = graph.config.rules.max_batch_size
        inputs, alone = await _rows_alone(bench, role)
        for size in sorted({size for size in (*BATCH_SIZES, limit) if 1 < size <= limit and inputs}):
            repeated, expected = _repeat(inputs, size), _repeat(alone, size)
            together = (await bench.run_on(subject, role, repeated)).outputs
            found = difference(together, expected, f"{graph.key} in a batch of {size}")
            worst = found if not found <= worst else worst  # said this way round, NaN stays
            largest = max(largest, size)
    if not largest:
        raise NothingToMeasure("it takes one row at a time")
    return {"difference": worst, "rows": largest}


async def agreement(bench: Bench) -> Mapping[str, float]:
    """The stable version's golden rows through the candidate. Figures: share of rows with the same label, rows."""
    subject, stable = bench.candidate, bench.stable
    if stable is None:
        raise NothingToMeasure("no version is live")
    labels, before = _labels(subject), _labels(stable)
    if not labels or set(labels) != set(before):
        raise NothingToMeasure("its labels are others")
    known = read_golden(stable.version.folder, stable.version.name)
    if known is None:
        raise NothingToMeasure(f"version {stable.version.number} has no {GOLDEN}")
    try:
        found = await _one_by_one(bench, subject, _golden_role(subject, known, GOLDEN), known.inputs)
    except TidegateError:
        raise NothingToMeasure(f"it takes other inputs than version {stable.version.number}") from None
    names, names_before = _top_labels(found, labels), _top_labels(known.outputs, before)
    if not names or len(names) != len(names_before):
        raise NothingToMeasure("it gives no score for each label")
    same = sum(one == other for one, other in zip(names, names_before, strict=True))
    return {"share": same / len(names), "rows": len(names)}


async def latency(bench: Bench) -> Mapping[str, float]:
    """Both versions in turn, so that whatever else the host does meets both. Figures: medians where they differ most.

    seconds and stable_seconds: of one run of `rows` rows through all graphs; runs: of each version.
    """
    subject, stable = bench.candidate, bench.stable
    if stable is None:
        raise NothingToMeasure("no version is live")
    worst: dict[str, float] = {}
    ends_s = time.monotonic() + LATENCY_S
    for size in LATENCY_ROWS:
        passes = [_passes(one, size) for one in (subject, stable)]
        if not all(passes) or (worst and time.monotonic() > ends_s):
            continue
        times: tuple[list[float], list[float]] = ([], [])
        while len(times[0]) < ROUNDS and (time.monotonic() < ends_s or len(times[0]) < LEAST_ROUNDS):
            for one, taken, inputs in zip((subject, stable), times, passes, strict=True):
                taken.append(sum([(await bench.run_on(one, role, inputs[role])).run_s for role in inputs]))
        mine, theirs = (statistics.median(taken[1:]) for taken in times)  # the first one plans memory
        if not worst or mine / theirs > worst["seconds"] / worst["stable_seconds"]:
            worst = {"seconds": mine, "stable_seconds": theirs, "rows": size, "runs": len(times[0])}
    if not worst:
        raise NothingToMeasure("there are no rows to run both versions with")
    return worst


def _passes(subject: Subject, size: int) -> dict[str, Tensors]:
    """For each graph by role, rows that warm it up; empty where there are none of that size."""
    found: dict[str, Tensors] = {}
    for role in subject.loaded:
        batches = warm_up_rows(subject.graph(role), subject.rows.get(role))
        fitting = [inputs for inputs in batches if row_count(inputs) == size or not subject.batched(role)]
        if fitting:
            found[role] = fitting[0]
    return found if len(found) == len(subject.loaded) else {}


async def _rows_alone(bench: Bench, role: str) -> tuple[Tensors, Tensors]:
    """Golden rows, or the graph's warm-up row, and what they give one by one; nothing where there are none."""
    subject = bench.candidate
    if subject.golden and subject.alone and subject.golden.inputs.keys() == _input_names(subject, role):
        return subject.golden.inputs, subject.alone
    batches = warm_up_rows(subject.graph(role), subject.rows.get(role))
    if not batches:
        return {}, {}
    return batches[0], (await bench.run_on(subject, role, batches[0])).outputs


async def _one_by_one(bench: Bench, subject: Subject, role: str, inputs: Tensors) -> Tensors:
    if not subject.batched(role):
        return (await bench.run_on(subject, role, inputs)).outputs
    count = row_count(inputs)
    return concatenate([(await bench.run_on(subject, role, rows(inputs, i, i + 1))).outputs for i in range(count)])


def _golden_role(subject: Subject, known: Golden, file: str) -> str:
    for role in subject.loaded:
        if known.inputs.keys() == _input_names(subject, role):
            return role
    names = ", ".join(sorted(known.inputs))[:60]
    raise RepositoryInvalid(file, "", f"expected the inputs of one of its graphs; found {names}")


def _input_names(subject: Subject, role: str) -> set[str]:
    return {spec.name for spec in subject.loaded[role].inputs}


def _labels(subject: Subject) -> Sequence[str]:
    """The version's labels, in the order of its scores; none for a version without."""
    manifest = subject.version.manifest
    if manifest is None or manifest.labels is None:
        return ()
    return (subject.version.folder / manifest.labels).read_text(encoding="utf-8").splitlines()


def _scores(outputs: Tensors, labels: int) -> Array | None:
    """The output that has one score for each label."""
    found = (array for array in outputs.values() if array.ndim == 2 and labels > 1 and array.shape[1] == labels)
    return next(found, None)


def _top_labels(outputs: Tensors, labels: Sequence[str]) -> list[str]:
    scores = _scores(outputs, len(labels))
    return [] if scores is None else [labels[i] for i in scores.argmax(axis=1).tolist()]


def _other_top_1(found: Tensors, expected: Tensors, labels: int) -> int:
    """Rows whose best label is another one."""
    scores, wanted = _scores(found, labels), _scores(expected, labels)
    if scores is None or wanted is None:
        return 0
    return int(np.count_nonzero(scores.argmax(axis=1) != wanted.argmax(axis=1)))


def _repeat(tensors: Tensors, size: int) -> dict[str, Array]:
    return {name: np.take(array, range(size), axis=0, mode="wrap") for name, array in tensors.items()}
