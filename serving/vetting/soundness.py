"""Is the version what it says it is, and does it run at all? The first steps, each of which the next one needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serving.errors import EngineFailed, OutputInvalid, RepositoryInvalid
from serving.repository.config import TensorSpec
from serving.repository.external_data import check_external_data
from serving.repository.layout import Graph, Version
from serving.task import Signature
from serving.tensors import row_count
from serving.versions.loader import bind, warm_up_rows
from serving.vetting.bench import Bench, NothingToMeasure, Subject
from serving.vetting.golden import nonfinite
from serving.vetting.reasons import Unfit


async def external_data(bench: Bench) -> Mapping[str, float]:
    """Figures: tensors that lie outside of the model files."""
    version = bench.candidate.version
    graphs = [graph for graph in version.graphs.values() if graph.file.suffix == ".onnx"]
    return {"tensors": sum(_external_tensors(graph, _listed(version, graph)) for graph in graphs)}


def _listed(version: Version, graph: Graph) -> Iterable[str]:
    """The files beside the graph that the manifest lists."""
    if version.manifest is None:
        return ()
    own = graph.file.parent == version.folder
    return version.manifest.files if own else version.manifest.graph_files.get(graph.key.name, ())


def _external_tensors(graph: Graph, listed: Iterable[str]) -> int:
    sizes = {name: (graph.file.parent / name).stat().st_size for name in listed}
    return check_external_data(graph.file.read_bytes(), f"{graph.key}/{graph.file.name}", sizes)


async def load(bench: Bench) -> Mapping[str, float]:
    """Figures: graphs that were loaded. That config.pbtxt does not fit is told by the signature's step."""
    try:
        await bench.load(bench.candidate)
    except RepositoryInvalid as mismatch:
        bench.mismatch = mismatch
    return {"graphs": len(bench.candidate.loaded)}


async def load_stable(bench: Bench) -> Mapping[str, float]:
    """Loads the stable version beside it. If that fails, it is left out of all comparisons."""
    stable = bench.stable
    if stable is None:
        raise NothingToMeasure("no version is live")
    try:
        stable.task, stable.rows = await asyncio.to_thread(bind, stable.version)
        await bench.load(stable)
    except (RepositoryInvalid, EngineFailed) as error:
        bench.stable = None
        raise NothingToMeasure(f"version {stable.version.number}, which is live, did not load: {error}") from None
    return {}


async def signature(bench: Bench) -> Mapping[str, float]:
    """Binds the task and compares what it wants, and what the stable version has, with what the graphs have."""
    if bench.mismatch is not None:
        raise bench.mismatch
    subject = bench.candidate
    subject.task, subject.rows = await asyncio.to_thread(bind, subject.version)
    for role, wanted in (subject.task.signatures if subject.task else {}).items():
        if role in subject.loaded:  # that none is missing which must be there, the task has seen to
            _compare(subject, role, wanted, "the task")
    if bench.stable is not None:
        _compare_with_stable(subject, bench.stable)
    return {"graphs": len(subject.loaded)}


async def warm_up(bench: Bench) -> Mapping[str, float]:
    """Runs each graph at its warm-up sizes. Figures: the largest, and values that are not finite."""
    subject = bench.candidate
    largest = 0
    for role in subject.loaded:
        for inputs in warm_up_rows(subject.graph(role), subject.rows.get(role)):
            count = row_count(inputs)
            outputs = (await bench.run_on(subject, role, inputs)).outputs
            for name, array in outputs.items():
                if subject.batched(role) and array.shape[:1] != (count,):
                    raise Unfit(f"{name} of {count} rows has shape {list(array.shape)}; expected {count} rows.")
            subject.nonfinite.update(nonfinite(outputs))
            largest = max(largest, count)
    if not largest:
        raise NothingToMeasure("config.pbtxt states no inputs to make rows of")
    return {"rows": largest, **subject.nonfinite}


async def answer(bench: Bench) -> Mapping[str, float]:
    """A sample of the task, from request to reply: labels against scores, boxes against sizes, whatever it checks."""
    task = bench.candidate.task
    if task is None:
        raise NothingToMeasure("it has no task")
    try:
        await task.answer(task.sample(), bench)
    except OutputInvalid as error:
        if bench.candidate.nonfinite.total():
            raise NothingToMeasure("its outputs are not finite") from None  # which is a check of its own
        raise Unfit(f"{error.detail} Publish it with the labels that it was trained with.") from None
    return {}


def _compare(subject: Subject, role: str, wanted: Signature, whose: str) -> None:
    """Inputs must be the same, since nobody would send others; further outputs do no harm."""
    loaded = subject.loaded[role]
    name = str(subject.version.graphs[role].key)
    inputs, outputs = _rows(subject, role, loaded.inputs), _rows(subject, role, loaded.outputs)
    if extra := inputs.keys() - {spec.name for spec in wanted.inputs}:
        raise RepositoryInvalid(name, "inputs", f"expected no {min(extra)}, which {whose} does not send")
    for kind, specs, found in (("input", wanted.inputs, inputs), ("output", wanted.outputs, outputs)):
        for spec in specs:
            if spec.name not in found:
                names = ", ".join(found) or "none"
                expected = f"expected an {kind} {spec.name}, as {whose} has; found {names}"
                raise RepositoryInvalid(name, f"{kind}s", expected)
            _compare_tensor(found[spec.name], spec, name, kind, whose)


def _compare_tensor(found: TensorSpec, wanted: TensorSpec, name: str, kind: str, whose: str) -> None:
    if found.datatype != wanted.datatype:
        expected = f"expected {wanted.datatype}, as {whose} has; found {found.datatype}"
        raise RepositoryInvalid(name, f"{kind} {wanted.name}", expected)
    sizes = zip(found.shape, wanted.shape, strict=False)
    if len(found.shape) != len(wanted.shape) or any(-1 not in pair and pair[0] != pair[1] for pair in sizes):
        expected = f"expected {len(wanted.shape)} axes {list(wanted.shape)} behind the batch axis, as {whose} has"
        raise RepositoryInvalid(name, f"{kind} {wanted.name}", f"{expected}; found {list(found.shape)}")


def _rows(subject: Subject, role: str, specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """By name, without the batch axis, which graphs that are never batched state too."""
    first = 0 if subject.batched(role) or subject.task is None else 1
    return {spec.name: replace(spec, shape=spec.shape[first:]) for spec in specs}


def _compare_with_stable(subject: Subject, stable: Subject) -> None:
    """Callers must be able to go on as before: the same task and graphs, or for a plain model the same tensors."""
    verb, before = (one.task.verb if one.task else "none" for one in (subject, stable))
    if verb != before:
        expected = f"expected {before}, as version {stable.version.number} has; found {verb}"
        raise RepositoryInvalid(f"{subject.version.name}/manifest.json", "task", f"{expected}. Publish another model.")
    if gone := stable.loaded.keys() - subject.loaded.keys():
        expected = f"expected a graph {min(gone)!r}, as version {stable.version.number} has"
        raise RepositoryInvalid(f"{subject.version.name}/manifest.json", "graphs", expected)
    if subject.task is None:
        for role, loaded in stable.loaded.items():
            whose = f"version {stable.version.number}"
            _compare(subject, role, Signature(loaded.inputs, loaded.outputs), whose)
