"""Nodes that look at windows of a picture: convolutions, pools and resizing, over NHWC as TensorFlow has it."""

from __future__ import annotations

from typing import Final

from exporters.tfjs import operators
from exporters.tfjs.builder import Builder, Conversion, tensor, unsupported
from exporters.tfjs.layouts import CHANNELS_LAST
from exporters.tfjs.model_file import Node
from serving.tensors import Array


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
    module = operators.Convolution(tensor(weight), _sides(node, "strides"), groups=groups, same=same)
    builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)


def _transposed_conv(builder: Builder, node: Node) -> None:
    weight, stride = builder.constant(node, 1).transpose(3, 2, 0, 1), _sides(node, "strides")
    surplus = [kernel - step for kernel, step in zip(weight.shape[2:], stride, strict=True)]
    if not _is_same(node) or any(edge < 0 or edge % 2 for edge in surplus):
        raise unsupported(node, f"a kernel of {weight.shape[2:]} with strides {stride}, or its padding")
    module = operators.TransposedConvolution(tensor(weight), stride)
    builder.append(node, module, [_channels_first(builder, node, 2)], CHANNELS_LAST)


def _pool(kind: type[operators.AveragePool | operators.MaximumPool]) -> Conversion:
    def convert(builder: Builder, node: Node) -> None:
        if _is_same(node):
            raise unsupported(node, "padding SAME")
        module = kind(_sides(node, "ksize"), _sides(node, "strides"))
        builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)

    return convert


def _resize(builder: Builder, node: Node) -> None:
    if node.flag("align_corners") or not node.flag("half_pixel_centers"):
        raise unsupported(node, "another way than half_pixel_centers")
    module = operators.ResizeBilinear(builder.constant(node, 1).tolist())
    builder.append(node, module, [_channels_first(builder, node, 0)], CHANNELS_LAST)


def _channels_first(builder: Builder, node: Node, i: int) -> str:
    """The node's input as torch wants it: the graph's NHWC with its channels moved to the front."""
    if "data_format" in node.attributes and node.text("data_format") != "NHWC":
        raise unsupported(node, node.text("data_format"))
    if "dilations" in node.attributes and set(node.integers("dilations")) != {1}:
        raise unsupported(node, "dilations")
    return builder.laid_out(builder.place(node.inputs[i]), CHANNELS_LAST)


def _sides(node: Node, attribute: str) -> list[int]:
    """An attribute with a number for each axis of NHWC, for height and width."""
    batch, height, width, channels = node.integers(attribute)
    if (batch, channels) != (1, 1):
        raise unsupported(node, f"{attribute} over rows or channels")
    return [height, width]


def _is_same(node: Node) -> bool:
    padding = node.text("padding")
    if padding not in ("SAME", "VALID"):
        raise unsupported(node, f"padding {padding}")
    return padding == "SAME"


CONVERSIONS: Final = {
    "AvgPool": _pool(operators.AveragePool),
    "Conv2D": _conv,
    "Conv2DBackpropInput": _transposed_conv,
    "DepthwiseConv2dNative": _depthwise_conv,
    "MaxPool": _pool(operators.MaximumPool),
    "ResizeBilinear": _resize,
}
