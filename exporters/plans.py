"""Plans beside the graphs that they are built from: built, held against the network as the graphs were, described."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from exporters import graph_export
from exporters.accelerators import Profile, plain, profiles
from exporters.graph_export import ExportedGraph
from exporters.parity import Running
from exporters.publish import FurtherGraph
from serving.repository.config import PLAN_FILES
from serving.repository.manifest import Plan
from serving.tensorrt import Host

Precision = Literal["fp16", "fp32"]
PLATFORM: Final = "tensorrt_plan"


class Builder(Protocol):
    """What builds plans and runs them: exporters.tensorrt.TensorRT."""

    @property
    def host(self) -> Host: ...
    def build(self, content: bytes, shapes: Mapping[str, Profile]) -> bytes: ...
    def serve(self, plan: bytes, max_batch_size: int) -> AbstractContextManager[Running]: ...


@dataclass(frozen=True, slots=True)
class MadePlan:
    """What is published of one: a Triton model of its own, and its record in the manifest."""

    graph: FurtherGraph
    record: Plan


def make(graphs: Mapping[str, ExportedGraph], precision: Precision, builder: Builder) -> dict[str, MadePlan]:
    """A plan of each graph, by role. ParityFailed: it is further from the network than the graph may be."""
    return {role: _make(role, graph, precision, builder) for role, graph in graphs.items()}


def _make(role: str, graph: ExportedGraph, precision: Precision, builder: Builder) -> MadePlan:
    config = _config(graph.config)
    content = builder.build(graph.content, profiles(graph.config, graph.inputs))
    with builder.serve(content, graph.config.max_batch_size) as running:
        parity = graph_export.compare({role: graph}, {role: running})
    host = builder.host
    record = Plan(
        graph=config.name,
        gpu=host.gpu,
        compute_capability=host.compute_capability,
        tensorrt=host.tensorrt,
        precision=precision,
        parity=parity.model_copy(update={"engine": f"TensorRT {host.tensorrt}, {precision}"}),
    )
    return MadePlan(FurtherGraph(config, {PLAN_FILES[PLATFORM]: content}), record)


def _config(of_graph: Any) -> Any:
    """As the graph's, which TensorRT need not be asked for once more; its name is the graph's with `plan`."""
    message = plain(of_graph)
    message.platform = PLATFORM
    message.name = f"{of_graph.name}-plan" if "." in of_graph.name else f"{of_graph.name}.plan"
    return message
