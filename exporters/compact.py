"""Weights at half their size, and a graph that runs as fast: int16 in the file, float32 in the engine.

Each float32 weight becomes int16 steps of one scale per output channel, then Cast and Mul in the graph bring it back.
ONNX Runtime computes such nodes over constants once, when a session is made, so a run sees plain float32 weights. Why
int16 and not float16: docs/decisions/0001-compact-weights.md.
A weight that was rounded to 8 bits before, and that int8 therefore holds exactly, lies in int8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from exporters.quantise import quantise

if TYPE_CHECKING:
    import onnx

LEAST_SIZE: Final = 1024  # below this many numbers two nodes cost more than they save

# Operator -> axis of the output channels in its weight, which is its second input. Gemm: see _channel_axis.
_AXES: Final = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}


def compact(graph: bytes) -> bytes:
    """The ONNX file with its large float32 weights of Conv, ConvTranspose, Gemm and MatMul stored as int16.

    A weight moves by less than one step, which is its channel's largest magnitude / 32767; one that int8 can hold does
    not move, and lies in that. Anything else, and a weight that another kind of node uses too, stays as it is.
    """
    import onnx

    model = onnx.load_from_string(graph)
    axes = _weights(model)
    initializers = list(model.graph.initializer)
    del model.graph.initializer[:]
    restored = []
    for tensor in initializers:
        if tensor.name in axes:
            stored, nodes = _store(tensor, axes[tensor.name])
            model.graph.initializer.extend(stored)
            restored.extend(nodes)
        else:
            model.graph.initializer.append(tensor)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*restored, *nodes])  # restored first: nodes stand in an order that can be run
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _weights(model: onnx.ModelProto) -> dict[str, int]:
    """Names of the weights that can be stored small -> the axis of their output channels."""
    import onnx

    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2 and np.prod(tensor.dims) >= LEAST_SIZE
    }
    axes: dict[str, int] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name not in large:
                continue
            axis = _channel_axis(node) if place == 1 else None
            if axis is None or axes.setdefault(name, axis) != axis:
                large.discard(name)
    return {name: axis for name, axis in axes.items() if name in large}


def _channel_axis(node: onnx.NodeProto) -> int | None:
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return _AXES.get(node.op_type)


def _store(tensor: onnx.TensorProto, axis: int) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    from onnx import TensorProto, helper, numpy_helper

    name = tensor.name
    weight = numpy_helper.to_array(tensor)
    steps, scale = quantise(weight, axis, 8)
    if not np.array_equal(steps * scale, weight):
        steps, scale = quantise(weight, axis)
    stored = [numpy_helper.from_array(steps, f"{name}.steps"), numpy_helper.from_array(scale, f"{name}.scale")]
    cast = helper.make_node("Cast", [f"{name}.steps"], [f"{name}.whole"], name=f"{name}.cast", to=TensorProto.FLOAT)
    scaled = helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name], name=f"{name}.restore")
    return stored, [cast, scaled]
