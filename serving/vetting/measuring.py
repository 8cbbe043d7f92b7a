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
from serving.vetting.golden import GOLDEN, Golden, difference, differing_rows, nonfinite, read_golden, spread, worst

BATCH_SIZES: Final = (2, 8)  # and max_batch_size
LATENCY_ROWS: Final = (1, 8)
ROUNDS: Final = 31  # of each version in turn
LEAST_ROUNDS: Final = 4
LATENCY_S: Final = 4.0  # after which the rounds that were made must do


async def golden(bench: Bench) -> Mapping[str, float]:
    """Golden rows of each graph, one at a time. Figures: largest difference, rows of another top-1, values not finite,
    and spread, of the graph whose rows lie closest together.
    """
    subject = bench.candidate
    for role in subject.loaded:
        if (known := _golden(subject, role)) is not None:
            subject.golden[role] = known
        elif bench.stable and role in bench.stable.loaded and (bench.stable.folder(role) / GOLDEN).exists():
            expected = f"expected this file, as version {bench.stable.version.number} has; publish the version again"
            raise RepositoryInvalid(f"{subject.version.graphs[role].key}/{GOLDEN}", "", expected)
    if not subject.golden:
        raise NothingToMeasure(f"it has no {GOLDEN}")
    found = [await _golden_of_one(bench, role) for role in subject.golden]
    varied = [one for one in found if one["differing_rows"] > 1] or found
    return {
        "rows": sum(one["rows"] for one in found),
        "difference": worst([one["difference"] for one in found]),
        "other_top_1": sum(one["other_top_1"] for one in found),
        **subject.nonfinite,
        **{name: min(varied, key=lambda one: one["spread"])[name] for name in ("differing_rows", "spread")},
    }


async def _golden_of_one(bench: Bench, role: str) -> Mapping[str, float]:
    """Figures of one graph; its values that are not finite are added to the subject's."""
    subject, known = bench.candidate, bench.candidate.golden[role]
    file = f"{subject.version.graphs[role].key}/{GOLDEN}"
    _check_names(subject, role, known, file)
    try:
        alone = await _one_by_one(bench, subject, role, known.inputs)
    except TidegateError as error:
        raise RepositoryInvalid(file, "", f"expected rows that the graph takes. {error.detail}") from None
    subject.alone[role] = alone
    subject.nonfinite.update(nonfinite(alone))
    return {
        "rows": row_count(known.inputs),
        "difference": difference(alone, known.outputs, file),
        "other_top_1": _other_top_1(alone, known.outputs, len(_labels(subject))),
        "differing_rows": differing_rows(known.inputs),
        "spread": spread(alone),
    }


async def batch(bench: Bench) -> Mapping[str, float]:
    """Rows alone against the same rows in batches. Figures: largest difference, largest batch."""
    subject = bench.candidate
    differences, largest = [0.0], 0
    for role, graph in subject.version.graphs.items():
        limit = graph.config.rules.max_batch_size
        inputs, alone = await _rows_alone(bench, role)
        for size in sorted({size for size in (*BATCH_SIZES, limit) if 1 < size <= limit and inputs}):
            repeated, expected = _repeat(inputs, size), _repeat(alone, size)
            together = (await bench.run_on(subject, role, repeated)).outputs
            differences.append(difference(together, expected, f"{graph.key} in a batch of {size}"))
            largest = max(largest, size)
    if not largest:
        raise NothingToMeasure("it takes one row at a time")
    return {"difference": worst(differences), "rows": largest}


async def agreement(bench: Bench) -> Mapping[str, float]:
    """The stable version's golden rows through the candidate. Figures: share of rows with the same label, rows."""
    subject, stable = bench.candidate, bench.stable
    if stable is None:
        raise NothingToMeasure("no version is live")
    labels, before = _labels(subject), _labels(stable)
    if not labels or set(labels) != set(before):
        raise NothingToMeasure("its labels are others")
    goldens = {role: known for role in stable.loaded if (known := _golden(stable, role)) is not None}
    if not goldens:
        raise NothingToMeasure(f"version {stable.version.number} has no {GOLDEN}")
    pairs: list[tuple[str, str]] = []
    for role, known in goldens.items():
        try:
            _check_names(subject, role, known, GOLDEN)
            found = await _one_by_one(bench, subject, role, known.inputs)
        except TidegateError:
            raise NothingToMeasure(f"it takes other inputs than version {stable.version.number}") from None
        pairs += _paired(_top_labels(found, labels), _top_labels(known.outputs, before))
    if not pairs:
        raise NothingToMeasure("it gives no score for each label")
    return {"share": sum(one == other for one, other in pairs) / len(pairs), "rows": len(pairs)}


async def latency(bench: Bench) -> Mapping[str, float]:
    """Both versions in turn, so that whatever else the host does meets both. Figures: medians where they differ most.

    seconds and stable_seconds: of one run of `rows` rows through all graphs that both have; runs: of each version.
    """
    subject, stable = bench.candidate, bench.stable
    if stable is None:
        raise NothingToMeasure("no version is live")
    shown: dict[str, float] = {}
    roles = [role for role in stable.loaded if role in subject.loaded]
    ends_s = time.monotonic() + LATENCY_S
    for size in LATENCY_ROWS:
        passes = [_passes(one, roles, size) for one in (subject, stable)]
        if not all(passes) or (shown and time.monotonic() > ends_s):
            continue
        times: tuple[list[float], list[float]] = ([], [])
        while len(times[0]) < ROUNDS and (time.monotonic() < ends_s or len(times[0]) < LEAST_ROUNDS):
            for one, taken, inputs in zip((subject, stable), times, passes, strict=True):
                taken.append(sum([(await bench.run_on(one, role, inputs[role])).run_s for role in roles]))
        mine, theirs = (statistics.median(taken[1:]) for taken in times)  # the first one plans memory
        if not shown or mine / theirs > shown["seconds"] / shown["stable_seconds"]:
            shown = {"seconds": mine, "stable_seconds": theirs, "rows": size, "runs": len(times[0])}
    if not shown:
        raise NothingToMeasure("there are no rows to run both versions with")
    return shown


def _passes(subject: Subject, roles: Sequence[str], size: int) -> dict[str, Tensors]:
    """For each graph by role, rows that warm it up; empty where there are none of that size."""
    found: dict[str, Tensors] = {}
    for role in roles:
        batches = warm_up_rows(subject.graph(role), subject.rows.get(role))
        fitting = [inputs for inputs in batches if row_count(inputs) == size or not subject.batched(role)]
        if fitting:
            found[role] = fitting[0]
    return found if len(found) == len(roles) else {}


async def _rows_alone(bench: Bench, role: str) -> tuple[Tensors, Tensors]:
    """Golden rows, or the graph's warm-up row, and what they give one by one; nothing where there are none."""
    subject = bench.candidate
    if role in subject.alone:
        return subject.golden[role].inputs, subject.alone[role]
    batches = warm_up_rows(subject.graph(role), subject.rows.get(role))
    if not batches:
        return {}, {}
    return batches[0], (await bench.run_on(subject, role, batches[0])).outputs


async def _one_by_one(bench: Bench, subject: Subject, role: str, inputs: Tensors) -> Tensors:
    if not subject.batched(role):
        return (await bench.run_on(subject, role, inputs)).outputs
    count = row_count(inputs)
    return concatenate([(await bench.run_on(subject, role, rows(inputs, i, i + 1))).outputs for i in range(count)])


def _golden(subject: Subject, role: str) -> Golden | None:
    return read_golden(subject.folder(role), str(subject.version.graphs[role].key))


def _check_names(subject: Subject, role: str, known: Golden, file: str) -> None:
    """RepositoryInvalid where the rows are of other inputs than the graph's."""
    wanted = {spec.name for spec in subject.loaded[role].inputs}
    if known.inputs.keys() != wanted:
        expected = f"expected the graph's inputs {', '.join(sorted(wanted))}"
        raise RepositoryInvalid(file, "", f"{expected}; found {', '.join(sorted(known.inputs))[:60]}")


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


def _paired(names: Sequence[str], before: Sequence[str]) -> list[tuple[str, str]]:
    """Row by row; nothing where one side has none."""
    return list(zip(names, before, strict=True)) if len(names) == len(before) else []


def _other_top_1(found: Tensors, expected: Tensors, labels: int) -> int:
    """Rows whose best label is another one."""
    scores, wanted = _scores(found, labels), _scores(expected, labels)
    if scores is None or wanted is None:
        return 0
    return int(np.count_nonzero(scores.argmax(axis=1) != wanted.argmax(axis=1)))


def _repeat(tensors: Tensors, size: int) -> dict[str, Array]:
    return {name: np.take(array, range(size), axis=0, mode="wrap") for name, array in tensors.items()}
