"""A graph model as a torch module that takes and gives the graph's own tensors, with any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from exporters.errors import GraphUnsupported
from exporters.tfjs import layouts
from exporters.tfjs.builder import Builder, Step
from exporters.tfjs.conversions import CONVERSIONS
from exporters.tfjs.model_file import GraphFile, Node, read


class Network(nn.Module):
    """The graph's nodes, one after another. Takes its input and gives the tensors that were asked for, in order."""

    def __init__(self, modules: Sequence[nn.Module], steps: Sequence[Step], source: str, wanted: Sequence[str]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(modules)
        self.steps = tuple(steps)
        self.source = source
        self.wanted = tuple(wanted)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        tensors = {self.source: inputs}
        for module, step in zip(self.operations, self.steps, strict=True):
            given = module(*[tensors[name] for name in step.inputs])
            several = given if isinstance(given, tuple) else (given,)
            tensors.update(zip(step.outputs, several, strict=True))
        return tuple(tensors[name] for name in self.wanted)


def load(path: Path, outputs: Sequence[str]) -> Network:
    """The graph model at `path`, a `model.json`. outputs: names of nodes whose tensors are wanted.

    GraphUnsupported names the node that is not understood. Nodes that no output needs are left out.
    """
    return build(read(path), outputs)


def build(graph: GraphFile, outputs: Sequence[str]) -> Network:
    """The graph's nodes as modules. Its input has the rank 4; a batch of 1 that is written into it is not kept."""
    builder = Builder(graph, outputs)
    for node in _needed(graph, outputs):
        convert = CONVERSIONS.get(node.operation)
        if convert is None:
            known = ", ".join(sorted(CONVERSIONS))
            raise GraphUnsupported(f"The node {node.name} is a {node.operation}; known are {known}.")
        convert(builder, node)
    places = [builder.place(name) for name in outputs]
    wanted = [builder.laid_out(place, layouts.plain(len(place.layout))) for place in places]
    return Network(builder.modules, builder.steps, graph.input, wanted)


def _needed(graph: GraphFile, outputs: Sequence[str]) -> list[Node]:
    """The nodes that the outputs come from, in the order of the graph, which is one that can be run."""
    wanted, needed = set(outputs), []
    for node in reversed(graph.nodes):
        if node.name in {name.partition(":")[0] for name in wanted}:
            wanted.update(node.inputs)
            needed.append(node)
    return needed[::-1]
