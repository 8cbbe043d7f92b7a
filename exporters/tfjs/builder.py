"""What becomes of a graph's nodes, one after another: modules, the tensors between them, and constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from exporters.errors import GraphUnsupported
from exporters.tfjs import layouts, operators
from exporters.tfjs.layouts import Layout
from exporters.tfjs.model_file import GraphFile, Node
from serving.tensors import Array


class Step(NamedTuple):
    """One module's inputs and outputs, by the names of their tensors."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Place(NamedTuple):
    """Where a tensor of the graph is to be found: the torch tensor's name, and which of its axes is which."""

    tensor: str
    layout: Layout


class Builder:
    """Modules and steps so far, where the tensors lie, and what is constant."""

    def __init__(self, graph: GraphFile, outputs: Sequence[str]) -> None:
        self.modules: list[nn.Module] = []
        self.steps: list[Step] = []
        self.constants = dict(graph.constants)
        self._readers = Counter([*outputs, *(name for node in graph.nodes for name in node.inputs)])
        self._makers: dict[str, nn.Module] = {}
        self._places = {graph.input: Place(graph.input, layouts.plain(4))}

    def place(self, name: str) -> Place:
        if name not in self._places:
            raise GraphUnsupported(f"{name} is read before it is made, or is a constant where none is expected.")
        return self._places[name]

    def constant(self, node: Node, i: int) -> Array:
        if node.inputs[i] not in self.constants:
            raise GraphUnsupported(f"Input {i} of {node.name}, a {node.operation}, is not a constant.")
        return self.constants[node.inputs[i]]

    def alias(self, node: Node, place: Place) -> None:
        """The node gives a tensor that is there already."""
        self._places[node.name] = place

    def append(self, node: Node, module: nn.Module, inputs: Sequence[str], layout: Layout, count: int = 1) -> None:
        """The node is this module, over these tensors; its outputs have this layout."""
        names = [node.name if i == 0 else f"{node.name}:{i}" for i in range(count)]
        self._append(module, inputs, names)
        self._places.update({name: Place(name, layout) for name in names})

    def laid_out(self, place: Place, layout: Layout) -> str:
        """The name of a torch tensor with the place's numbers in this layout, moved there if need be."""
        if len(place.layout) != len(layout):
            raise GraphUnsupported(f"{place.tensor} has {len(place.layout)} axes where {len(layout)} are expected.")
        order = layouts.moves(place.layout, layout)
        if order == layouts.plain(len(order)):
            return place.tensor
        name = f"{place.tensor} as {layout}"
        if name not in self._makers:
            self._append(operators.Move(order), [place.tensor], [name])
        return name

    def give_bias(self, conv: str, bias: Array) -> bool:
        """Makes the constant the bias of the convolution that gives this tensor, if nothing else reads that."""
        module = self._makers.get(conv)
        if not isinstance(module, operators.Convolution | operators.TransposedConvolution):
            return False
        if bias.shape != (module.channels_out,) or self._readers[conv] != 1:
            return False
        module.bias = nn.Parameter(torch.from_numpy(bias))
        return True

    def _append(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.modules.append(module)
        self.steps.append(Step(tuple(inputs), tuple(outputs)))
        self._makers.update(dict.fromkeys(outputs, module))


Conversion = Callable[[Builder, Node], None]


def tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))  # in one piece: engines want weights so


def unsupported(node: Node, what: str) -> GraphUnsupported:
    return GraphUnsupported(f"The node {node.name}, a {node.operation}, has {what}, which is not supported.")
