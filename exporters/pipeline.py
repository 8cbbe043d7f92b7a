"""READ FIRST: the path of an export, in order.

families/<family>        data, network, recipe, floors
  fitting.fit            trained families: the recipe, a search, training.train; shipped weights pass by
    graph_export         each graph of the network, by the task's roles: most have one, a captioner has two
      to_onnx.export     names and axes of the task's signature; normalisation and softmax inside
      compact.compact    families that ask for small files
      graph_name.named   a name of its own, by which TensorRT will keep what it builds
      parity.compare     torch against the serving engine; a row alone against the same row in batches
      plans.make         TensorRT's plans of the graphs, if --plan asks for them: the same comparison
        family.measure   metrics and tables, of the graphs as they will be served
          runs.append    one line for the run, also when a floor is missed
            reference    what requests and replies look like, for drift to be seen against
            publish      floors, digests, renames: further graphs first, <repository>/<model>/<n> last
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters import (
    fitting,
    graph_export,
    learning_curve,
    parity,
    plans,
    provenance,
    publish,
    records,
    reference,
    runs,
    training,
)
from exporters.family import Family, Recipe, TrainedFamily, find_family
from exporters.graph_export import ExportedGraph, Treatment
from exporters.measures.measured import Measured
from exporters.options import Options
from serving import plugins, task
from serving.repository.manifest import Manifest, Metric, Parity
from serving.task import Signature

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
    """Makes the model of the family of that name and publishes it. NotFound: no such family; else as export_family."""
    return export_family(find_family(name), options)


def export_family(family: Family[Any], options: Options, builder: plans.Builder | None = None) -> Exported:
    """Makes the family's model and publishes it. ParityFailed, FloorMissed: nothing was published.

    builder: of plans, if the options ask for them; TensorRT where none is given.
    PackageMissing: data or weights of a package that is not installed, or TensorRT.
    """
    started_s = time.perf_counter()
    builder = builder or _builder(options)  # first, so that nothing is trained in vain
    work = _begin(family, options)
    graphs = _graphs(work)
    with graph_export.serve(graphs) as served:
        agreement = graph_export.compare(graphs, served)
        measured = family.measure_graphs(served, work.data)
    made = plans.make(graphs, options.plan, builder) if options.plan and builder else {}
    metrics = _beside_rival(work, _with_floors(measured.metrics, work.floors))

    earlier_s = work.trained.earlier_s if work.trained else 0.0
    run = _describe(work, metrics) | {"seconds": round(earlier_s + time.perf_counter() - started_s, 1)}
    runs.append(options.runs, run)

    manifest = _manifest(work, graphs, Measured(metrics, measured.tables), agreement)
    manifest = manifest.model_copy(update={"plans": {role: plan.record for role, plan in made.items()}})
    files, plan_graphs = _side_files(work, run), [plan.graph for plan in made.values()]
    release = graph_export.release(graphs, files, manifest, plan_graphs)
    seen = reference.of_release(release, family.asked(work.data))
    release = graph_export.release(graphs, files, manifest.model_copy(update={"reference": seen}), plan_graphs)
    folder = publish.publish(release, options.repository)
    fitting.done(family, options)
    size = sum(len(graph.content) for graph in graphs.values())
    return Exported(folder, metrics, agreement, time.perf_counter() - started_s, size)


@dataclass(frozen=True, slots=True)
class _Work:
    """A family with its rows and its network, ready to be exported. `data`: Splits if it is trained, else HeldOut."""

    family: Family[Any]
    options: Options
    data: Any
    network: Any  # a torch module, as the family made it
    trained: training.Trained | None
    recipe: Recipe | None
    floors: Mapping[str, float]


def _begin(family: Family[Any], options: Options) -> _Work:
    """Reads the rows, and trains the network or loads its weights."""
    recipe = fitting.choose(family, options)
    data = family.data(quick=options.quick)
    if recipe is None or not isinstance(family, TrainedFamily):
        return _Work(family, options, data, family.network(), trained=None, recipe=None, floors=family.floors)
    floors = family.quick_floors if options.quick else family.floors
    recipe, trained = fitting.fit(family, data, recipe, options)
    return _Work(family, options, data, trained.network, trained, recipe, floors)


def _graphs(work: _Work) -> dict[str, ExportedGraph]:
    """Every graph of the family, by role, in the order of the task's."""
    family = work.family
    treatment = Treatment(
        tolerance=family.tolerance,
        max_batch_size=family.max_batch_size,
        instances=family.instances,
        golden_rows=family.golden_rows,
        compact=family.compact,
        free_axes=family.free_axes,
        tensorrt=work.options.tensorrt,
    )
    networks, inputs = family.graphs(work.network), family.graph_rows(work.network, work.data)
    return graph_export.export(family.model, _signatures(family), networks, inputs, treatment)


def _builder(options: Options) -> plans.Builder | None:
    """None when no plans are asked for. PackageMissing: this host has no TensorRT."""
    if options.plan is None:
        return None
    from exporters.tensorrt import TensorRT

    return TensorRT(options.plan)


def _signatures(family: Family[Any]) -> Mapping[str, Signature]:
    found: Mapping[str, Signature] = plugins.find(task.FOLDER, family.task, "PLUGIN").signatures
    return found


def _with_floors(metrics: Mapping[str, Metric], floors: Mapping[str, float]) -> dict[str, Metric]:
    """KeyError for a floor under a metric that the family does not measure."""
    floored = {name: metrics[name].model_copy(update={"floor": floor}) for name, floor in floors.items()}
    return {**metrics, **floored}


def _beside_rival(work: _Work, metrics: dict[str, Metric]) -> dict[str, Metric]:
    """The headline metric beside that of the family's rival, trained on the same rows, which a full run must beat."""
    family, options = work.family, work.options
    if not isinstance(family, TrainedFamily) or family.rival is None:
        return metrics
    rival: TrainedFamily[Any, Any] = family.rival()
    trained = training.train(rival, work.data, rival.quick_recipe if options.quick else rival.recipe, options.seed)
    networks, signatures = rival.graphs(trained.network), _signatures(rival)
    predict = {role: parity.torch_predict(network, signatures[role]) for role, network in networks.items()}
    headline, floor = next(iter(work.floors.items()))
    reached = rival.measure_graphs(predict, work.data).metrics[headline].value
    beside = {"baseline": reached, "baseline_name": f"{rival.model}, on the same rows"}
    beaten = {} if options.quick else {"floor": max(floor, reached)}
    return metrics | {headline: metrics[headline].model_copy(update=beside | beaten)}


def _describe(work: _Work, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """What would be needed to repeat the run, and what came of it."""
    origin = records.origin(work.family, work.data, work.recipe, work.options)
    return origin | records.of_metrics(metrics) | records.of_training(work.trained)


def _side_files(work: _Work, run: Mapping[str, Any]) -> dict[str, bytes]:
    files = {**work.family.files(work.network), runs.FILE: (runs.as_json(run) + "\n").encode()}
    if labels := work.family.labels():
        files[publish.LABELS] = "".join(f"{label}\n" for label in labels).encode()
    if work.trained:
        files[learning_curve.FILE] = learning_curve.draw(work.trained, work.family.model)
    return files


def _manifest(work: _Work, graphs: Mapping[str, ExportedGraph], measured: Measured, agreement: Parity) -> Manifest:
    """The version's manifest, but for what only publishing knows: files and seed."""
    family = work.family
    return Manifest(
        task=family.task,
        family=family.name,
        created=records.now(),
        intended_use=(QUICK_NOTE if work.options.quick else "") + family.intended_use,
        graphs=graph_export.as_manifest(graphs),
        labels=publish.LABELS if family.labels() else None,
        preprocessing=family.preprocessing,
        metrics=measured.metrics,
        tables=measured.tables,
        parity=agreement,
        data=work.data.card,
        licence=family.licence(),
        code=provenance.code(),
        files={},
        guard=family.guard,
    )
