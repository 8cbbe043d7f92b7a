"""The graphs of a version: each exported, held against its network on the serving engine, with its own golden rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from exporters import compact, graph_name, parity, publish, to_onnx
from exporters.accelerators import accelerated
from exporters.family import PARITY_ROWS, Predict
from exporters.graph_config import make_config
from serving.repository.layout import SINGLE_GRAPH
from serving.repository.manifest import Manifest, Parity
from serving.task import Signature
from serving.tensors import Tensors, rows


@dataclass(frozen=True, slots=True)
class Treatment:
    """How the graphs of a model are exported and served; each field as of exporters.family.Family.

    tensorrt: whether config.pbtxt asks for TensorRT, where there is a GPU.
    """

    tolerance: float
    max_batch_size: int = 16
    instances: int = 2
    golden_rows: int = 4
    compact: bool = False
    free_axes: Mapping[str, str] = field(default_factory=dict)
    tensorrt: bool = False


@dataclass(frozen=True, slots=True)
class ExportedGraph:
    """One graph: its ONNX file, Triton's ModelConfig message, the network as a function, and rows that it takes."""

    content: bytes
    config: Any
    expected: Predict
    inputs: Tensors
    treatment: Treatment

    @property
    def files(self) -> dict[str, bytes]:
        """What lies in the graph's folder: golden rows and the graph."""
        golden = rows(self.inputs, 0, self.treatment.golden_rows)
        return {publish.GOLDEN: publish.golden(golden, self.expected(golden)), publish.GRAPH: self.content}


def export(
    model: str,
    signatures: Mapping[str, Signature],
    networks: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensors],
    treatment: Treatment,
) -> dict[str, ExportedGraph]:
    """The networks as graphs, by role, in the order of the task's signatures; roles without a network are left out.

    inputs: real rows of each role, at least two. The first graph has the model's name, the others <model>.<role>.
    """
    if unknown := networks.keys() - signatures.keys():
        raise ValueError(f"the task has no graphs {sorted(unknown)}; its roles are {list(signatures)}")
    graphs: dict[str, ExportedGraph] = {}
    for role in (role for role in signatures if role in networks):
        name = f"{model}.{role}" if graphs else model
        graphs[role] = _export(name, networks[role], signatures[role], inputs[role], treatment)
    return graphs


def _export(
    name: str, network: nn.Module, signature: Signature, inputs: Tensors, treatment: Treatment
) -> ExportedGraph:
    content = to_onnx.export(network, signature, rows(inputs, 0, 2), treatment.free_axes)
    if treatment.compact:
        content = compact.compact(content)
    content = graph_name.named(content, name)
    config = make_config(content, name, max_batch_size=treatment.max_batch_size, instances=treatment.instances)
    if treatment.tensorrt:
        config = accelerated(config, inputs)
    return ExportedGraph(content, config, parity.torch_predict(network, signature), inputs, treatment)


def as_manifest(graphs: Mapping[str, ExportedGraph]) -> dict[str, str]:
    """Role -> name, as the manifest states them: a model of one graph in the common role says nothing."""
    return {} if graphs.keys() == {SINGLE_GRAPH} else {role: graph.config.name for role, graph in graphs.items()}


def release(
    graphs: Mapping[str, ExportedGraph],
    files: Mapping[str, bytes],
    manifest: Manifest,
    plans: Sequence[publish.FurtherGraph] = (),
) -> publish.Release:
    """What is to be published: the first graph with the version's other files, the further graphs, and plans."""
    first, *further = graphs.values()
    beside = tuple(publish.FurtherGraph(graph.config, graph.files) for graph in further)
    return publish.Release(first.config, {**files, **first.files}, manifest, (*beside, *plans))


@contextmanager
def serve(graphs: Mapping[str, ExportedGraph]) -> Iterator[dict[str, parity.Served]]:
    """All graphs on the serving engine, by role."""
    with ExitStack() as stack:
        yield {role: stack.enter_context(parity.serve(graph.content, graph.config)) for role, graph in graphs.items()}


def compare(graphs: Mapping[str, ExportedGraph], served: Mapping[str, parity.Running]) -> Parity:
    """The worst of all graphs; ParityFailed. Where an axis is free, at half its length too."""
    found: list[Parity] = []
    for role, graph in graphs.items():
        inputs = rows(graph.inputs, 0, PARITY_ROWS)
        lengths = (inputs, *_shortened(inputs, graph.treatment.free_axes))
        found += [parity.compare(graph.expected, served[role], one, graph.treatment.tolerance) for one in lengths]
    worst = max(one.max_abs_difference for one in found)
    batch = max(one.batch_max_abs_difference for one in found)
    return found[0].model_copy(update={"max_abs_difference": worst, "batch_max_abs_difference": batch})


def _shortened(inputs: Tensors, free_axes: Mapping[str, str]) -> Iterator[Tensors]:
    """The rows with half of each free axis, if there is one: a length that export did not see."""
    free = [name for name in inputs if name in free_axes]
    if free:
        yield {name: array[:, : (array.shape[1] + 1) // 2] if name in free else array for name, array in inputs.items()}
