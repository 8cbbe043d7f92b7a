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

from exporters.errors import GraphUnsupported
from exporters.tfjs import layouts, operators
from exporters.tfjs.builder import Builder, Place
from exporters.tfjs.layouts import CHANNELS_LAST, Layout
from exporters.tfjs.model_file import Node
from serving.tensors import Array

Conversion = Callable[[Builder, Node], None]


def _conv(builder: Builder, node: Node) -> None:
    weight = builder.constant(node, 1).transpose(3, 2, 0, 1)
    _append_conv(builder, node, weight, groups=1)


def _depthwise_conv(builder: Builder, node: Node) -> None:
    filters = builder.constant(node, 1)
    height, width, channels, multiplier = filters.shape
    weight = filters.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    _append_conv(builder, node, weight, groups=channels)


def _append_conv(builder: Builder, node: Node, weight: Array, *, groups: int) -> None:
    same = _is_same(node)
    module = operators.Convolution(_tensor(weight), _sides(node, "strides"), groups=groups, same=same)
    builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)


def _transposed_conv(builder: Builder, node: Node) -> None:
    weight, stride = builder.constant(node, 1).transpose(3, 2, 0, 1), _sides(node, "strides")
    surplus = [kernel - step for kernel, step in zip(weight.shape[2:], stride, strict=True)]
    if not _is_same(node) or any(edge < 0 or edge % 2 for edge in surplus):
        raise _unsupported(node, f"a kernel of {weight.shape[2:]} with strides {stride}, or its padding")
    module = operators.TransposedConvolution(_tensor(weight), stride)
    builder.append(node, module, [_channels_first(builder, node, 2)], CHANNELS_LAST)


def _pool(kind: type[operators.AveragePool | operators.MaximumPool]) -> Conversion:
    def convert(builder: Builder, node: Node) -> None:
        if _is_same(node):
            raise _unsupported(node, "padding SAME")
        module = kind(_sides(node, "ksize"), _sides(node, "strides"))
        builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)

    return convert


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
            raise _unsupported(node, f"{len(constants)} constants among {len(node.inputs)} inputs")
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


def _resize(builder: Builder, node: Node) -> None:
    if node.flag("align_corners") or not node.flag("half_pixel_centers"):
        raise _unsupported(node, "another way than half_pixel_centers")
    module = operators.ResizeBilinear(builder.constant(node, 1).tolist())
    builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)


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
        raise _unsupported(node, f"a batch of {batch}: rows would run into each other")
    inputs = [builder.laid_out(place, layouts.plain(len(place.layout)))]
    builder.append(node, operators.Reshape(shape), inputs, layouts.plain(len(shape) + 1))


def _channels_first(builder: Builder, node: Node, i: int) -> str:
    """The node's input as torch wants it: the graph's NHWC with its channels moved to the front."""
    if "data_format" in node.attributes and node.text("data_format") != "NHWC":
        raise _unsupported(node, node.text("data_format"))
    if "dilations" in node.attributes and set(node.integers("dilations")) != {1}:
        raise _unsupported(node, "dilations")
    return builder.laid_out(builder.place(node.inputs[i]), CHANNELS_LAST)


def _sides(node: Node, attribute: str) -> list[int]:
    """An attribute with a number for each axis of NHWC, for height and width."""
    batch, height, width, channels = node.integers(attribute)
    if (batch, channels) != (1, 1):
        raise _unsupported(node, f"{attribute} over rows or channels")
    return [height, width]


def _is_same(node: Node) -> bool:
    padding = node.text("padding")
    if padding not in ("SAME", "VALID"):
        raise _unsupported(node, f"padding {padding}")
    return padding == "SAME"


def _laid_out(constant: Array, layout: Layout) -> Tensor:
    """A constant, with axes of length 1 before its own as it broadcasts, in the layout."""
    if constant.ndim == 0:
        return _tensor(constant)
    rank = len(layout)
    broad = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    return _tensor(broad.transpose(layouts.moves(layouts.plain(rank), layout)))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))  # in one piece: engines want weights so


def _unsupported(node: Node, what: str) -> GraphUnsupported:
    return GraphUnsupported(f"The node {node.name}, a {node.operation}, has {what}, which is not supported.")


CONVERSIONS: Final[Mapping[str, Conversion]] = {
    "Add": _add,
    "AddN": _combine(torch.add),
    "AddV2": _add,
    "AvgPool": _pool(operators.AveragePool),
    "ConcatV2": _concatenate,
    "Conv2D": _conv,
    "Conv2DBackpropInput": _transposed_conv,
    "DepthwiseConv2dNative": _depthwise_conv,
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "MaxPool": _pool(operators.MaximumPool),
    "Mul": _combine(torch.mul),
    "Pad": _pad,
    "PadV2": _pad,
    "Relu": _elementwise(functional.relu),
    "Relu6": _elementwise(functional.relu6),
    "Reshape": _reshape,
    "ResizeBilinear": _resize,
    "Sigmoid": _elementwise(torch.sigmoid),
    "SparseToDense": _sparse_to_dense,
    "SplitV": _split,
    "Transpose": _transpose,
}
