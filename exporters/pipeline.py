"""READ FIRST: the path of an export, in order.

families/<family>        data, network, recipe, floors
  fitting.fit            trained families: the recipe, a search, training.train; shipped weights pass by
    to_onnx.export       names and axes of the task's signature; normalisation and softmax inside
      compact.compact    families that ask for small files
        parity.compare   torch against the serving engine; a row alone against the same row in batches
          family.measure metrics and tables, of the graph as it will be served
            runs.append  one line for the run, also when a floor is missed
              publish    floors, digests, one rename: <repository>/<model>/<n>
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters import compact, fitting, learning_curve, parity, provenance, publish, records, runs, to_onnx, training
from exporters.family import Family, Recipe, TrainedFamily, find_family
from exporters.graph_config import make_config
from exporters.measures.measured import Measured
from exporters.options import Options
from serving import plugins, task
from serving.repository.layout import SINGLE_GRAPH
from serving.repository.manifest import Manifest, Metric, Parity
from serving.task import Signature
from serving.tensors import rows

PARITY_ROWS: Final = 32
QUICK_NOTE: Final = "A quick run, to try things out. Not fit for use. "


@dataclass(frozen=True, slots=True)
class Exported:
    """A published version: its folder and what was measured."""

    folder: Path
    metrics: Mapping[str, Metric]
    parity: Parity
    seconds: float
    model_bytes: int


def export(name: str, options: Options) -> Exported:
    """Makes the family's model and publishes it. ParityFailed, FloorMissed: nothing was published.

    NotFound: no such family. PackageMissing: data or weights of a package that is not installed.
    """
    started_s = time.perf_counter()
    work = _begin(name, options)
    family, test = work.family, work.data.test
    signature: Signature = plugins.find(task.FOLDER, family.task, "PLUGIN").signatures[SINGLE_GRAPH]

    graph = to_onnx.export(work.network, signature, rows(test.inputs, 0, 2))
    if family.compact:
        graph = compact.compact(graph)
    config = make_config(graph, family.model, max_batch_size=family.max_batch_size, instances=family.instances)

    expected = parity.torch_predict(work.network, signature)
    with parity.serve(graph, config) as served:
        agreement = parity.compare(expected, served, rows(test.inputs, 0, PARITY_ROWS), family.tolerance)
        measured = family.measure(served, work.data)
    metrics = _beside_rival(work, signature, _with_floors(measured.metrics, work.floors))

    earlier_s = work.trained.earlier_s if work.trained else 0.0
    run = _describe(work, metrics) | {"seconds": round(earlier_s + time.perf_counter() - started_s, 1)}
    runs.append(options.runs, run)

    golden_inputs = rows(test.inputs, 0, family.golden_rows)
    files = _side_files(work, run) | {
        publish.GOLDEN: publish.golden(golden_inputs, expected(golden_inputs)),
        "model.onnx": graph,
    }
    manifest = _manifest(work, Measured(metrics, measured.tables), agreement)
    folder = publish.publish(publish.Release(config, files, manifest), options.repository)
    fitting.done(family, options)
    return Exported(folder, metrics, agreement, time.perf_counter() - started_s, len(graph))


@dataclass(frozen=True, slots=True)
class _Work:
    """A family with its rows and its network, ready to be exported. `data`: Splits if it is trained, else HeldOut."""

    family: Family[Any]
    options: Options
    data: Any
    network: Any  # a torch module, with the task's inputs and outputs
    trained: training.Trained | None
    recipe: Recipe | None
    floors: Mapping[str, float]


def _begin(name: str, options: Options) -> _Work:
    """Reads the rows, and trains the network or loads its weights."""
    family = find_family(name)
    recipe = fitting.choose(family, options)
    data = family.data(quick=options.quick)
    if recipe is None or not isinstance(family, TrainedFamily):
        network = family.served(family.network())
        return _Work(family, options, data, network, trained=None, recipe=None, floors=family.floors)
    floors = family.quick_floors if options.quick else family.floors
    recipe, trained = fitting.fit(family, data, recipe, options)
    return _Work(family, options, data, family.served(trained.network), trained, recipe, floors)


def _with_floors(metrics: Mapping[str, Metric], floors: Mapping[str, float]) -> dict[str, Metric]:
    """KeyError for a floor under a metric that the family does not measure."""
    floored = {name: metrics[name].model_copy(update={"floor": floor}) for name, floor in floors.items()}
    return {**metrics, **floored}


def _beside_rival(work: _Work, signature: Signature, metrics: dict[str, Metric]) -> dict[str, Metric]:
    """The headline metric beside that of the family's rival, trained on the same rows, which a full run must beat."""
    family, options = work.family, work.options
    if not isinstance(family, TrainedFamily) or family.rival is None:
        return metrics
    rival: TrainedFamily[Any, Any] = family.rival()
    trained = training.train(rival, work.data, rival.quick_recipe if options.quick else rival.recipe, options.seed)
    predict = parity.torch_predict(rival.served(trained.network), signature)
    headline, floor = next(iter(work.floors.items()))
    reached = rival.measure(predict, work.data).metrics[headline].value
    beside = {"baseline": reached, "baseline_name": f"{rival.model}, on the same rows"}
    beaten = {} if options.quick else {"floor": max(floor, reached)}
    return metrics | {headline: metrics[headline].model_copy(update=beside | beaten)}


def _describe(work: _Work, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What would be needed to repeat the run, and what came of it."""
    origin = records.origin(work.family, work.data, work.recipe, work.options)
    return origin | records.of_metrics(metrics) | records.of_training(work.trained)


def _side_files(work: _Work, run: Mapping[str, Any]) -> dict[str, bytes]:
    files = {runs.FILE: (runs.as_json(run) + "\n").encode()}
    if labels := work.family.labels():
        files[publish.LABELS] = "".join(f"{label}\n" for label in labels).encode()
    if work.trained:
        files[learning_curve.FILE] = learning_curve.draw(work.trained, work.family.model)
    return files


def _manifest(work: _Work, measured: Measured, agreement: Parity) -> Manifest:
    """The version's manifest, but for what only publishing knows: files and seed."""
    family = work.family
    return Manifest(
        task=family.task,
        family=family.name,
        created=records.now(),
        intended_use=(QUICK_NOTE if work.options.quick else "") + family.intended_use,
        labels=publish.LABELS if family.labels() else None,
        preprocessing=family.preprocessing,
        metrics=measured.metrics,
        tables=measured.tables,
        parity=agreement,
        data=work.data.card,
        licence=family.licence(),
        code=provenance.code(),
        files={},
    )
