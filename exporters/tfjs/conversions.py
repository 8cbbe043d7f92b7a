"""How each kind of node becomes a module: one function for each, by the name that TensorFlow has for it.

What they mean: https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from exporters.tfjs import layouts, operators, spatial
from exporters.tfjs.builder import Builder, Conversion, Place, tensor, unsupported
from exporters.tfjs.layouts import Layout
from exporters.tfjs.model_file import Node
from serving.tensors import Array


def _elementwise(function: Callable[[Tensor], Tensor]) -> Conversion:
    def convert(builder: Builder, node: Node) -> None:
        place = builder.place(node.inputs[0])
        builder.append(node, operators.Elementwise(function), [place.tensor], place.layout)

    return convert


def _leaky_relu(builder: Builder, node: Node) -> None:
    slope = node.number("alpha")
    _elementwise(lambda inputs: functional.leaky_relu(inputs, slope))(builder, node)


def _combine(function: Callable[[Tensor, Tensor], Tensor]) -> Conversion:
    """Sums and products. All inputs but one constant are tensors, with as many axes each."""

    def convert(builder: Builder, node: Node) -> None:
        constants = [builder.constants[name] for name in node.inputs if name in builder.constants]
        places = [builder.place(name) for name in node.inputs if name not in builder.constants]
        if len(constants) > 1 or not places or (constants and len(places) > 1):
            raise unsupported(node, f"{len(constants)} constants among {len(node.inputs)} inputs")
        layout = places[0].layout
        if constants:
            constant = _laid_out(constants[0], layout)
            builder.append(node, operators.CombineConstant(function, constant), [places[0].tensor], layout)
        else:
            inputs = [builder.laid_out(place, layout) for place in places]
            builder.append(node, operators.Combine(function), inputs, layout)

    return convert


def _add(builder: Builder, node: Node) -> None:
    """A sum; a constant for each channel of a convolution's result is the convolution's bias."""
    if all(name in builder.constants for name in node.inputs):
        builder.constants[node.name] = np.asarray(sum(builder.constants[name] for name in node.inputs))
        return
    for name, other in (node.inputs, node.inputs[::-1]):
        if name in builder.constants and builder.give_bias(other, builder.constants[name]):
            builder.alias(node, builder.place(other))
            return
    _combine(torch.add)(builder, node)


def _sparse_to_dense(builder: Builder, node: Node) -> None:
    """Of constants only: it is how shapes are computed."""
    places, shape, values, default = (builder.constant(node, i) for i in range(4))
    dense = np.full(tuple(shape), default)
    dense[tuple(np.reshape(places, (-1, len(shape))).T)] = values
    builder.constants[node.name] = dense


def _transpose(builder: Builder, node: Node) -> None:
    place = builder.place(node.inputs[0])
    order = builder.constant(node, 1).tolist()
    builder.alias(node, Place(place.tensor, layouts.transposed(place.layout, order)))


def _identity(builder: Builder, node: Node) -> None:
    builder.alias(node, builder.place(node.inputs[0]))


def _pad(builder: Builder, node: Node) -> None:
    value = float(builder.constant(node, 2)) if len(node.inputs) > 2 else 0.0
    place = builder.place(node.inputs[0])
    by_axis = builder.constant(node, 1).tolist()
    edges = [edge for axis in reversed(range(len(by_axis))) for edge in by_axis[place.layout.index(axis)]]
    builder.append(node, operators.Pad(edges, value), [place.tensor], place.layout)


def _concatenate(builder: Builder, node: Node) -> None:
    last = len(node.inputs) - 1
    places = [builder.place(name) for name in node.inputs[:last]]
    layout = places[0].layout
    inputs = [builder.laid_out(place, layout) for place in places]
    builder.append(node, operators.Concatenate(layout[int(builder.constant(node, last))]), inputs, layout)


def _split(builder: Builder, node: Node) -> None:
    place = builder.place(node.inputs[0])
    sizes = builder.constant(node, 1).tolist()
    axis = place.layout[int(builder.constant(node, 2))]
    builder.append(node, operators.Split(sizes, axis), [place.tensor], place.layout, len(sizes))


def _reshape(builder: Builder, node: Node) -> None:
    place = builder.place(node.inputs[0])
    batch, *shape = builder.constant(node, 1).tolist()
    if batch != 1:
        raise unsupported(node, f"a batch of {batch}: rows would run into each other")
    inputs = [builder.laid_out(place, layouts.plain(len(place.layout)))]
    builder.append(node, operators.Reshape(shape), inputs, layouts.plain(len(shape) + 1))


def _laid_out(constant: Array, layout: Layout) -> Tensor:
    """A constant, with axes of length 1 before its own as it broadcasts, in the layout."""
    if constant.ndim == 0:
        return tensor(constant)
    rank = len(layout)
    broad = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    return tensor(broad.transpose(layouts.moves(layouts.plain(rank), layout)))


CONVERSIONS: Final[Mapping[str, Conversion]] = {
    **spatial.CONVERSIONS,
    "Add": _add,
    "AddN": _combine(torch.add),
    "AddV2": _add,
    "ConcatV2": _concatenate,
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "Mul": _combine(torch.mul),
    "Pad": _pad,
    "PadV2": _pad,
    "Relu": _elementwise(functional.relu),
    "Relu6": _elementwise(functional.relu6),
    "Reshape": _reshape,
    "Sigmoid": _elementwise(torch.sigmoid),
    "SparseToDense": _sparse_to_dense,
    "SplitV": _split,
    "Transpose": _transpose,
}
