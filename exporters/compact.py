"""Weights at half their size, and a graph that runs as fast: int16 in the file, float32 in the engine.

Each float32 weight becomes int16 steps of one scale per output channel, then Cast and Mul in the graph bring it back.
ONNX Runtime computes such nodes over constants once, when a session is made, so a run sees plain float32 weights. Why
int16 and not float16: docs/decisions/0001-compact-weights.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

LEVELS: Final = 32767  # of int16, without -32768: symmetric around 0
LEAST_SIZE: Final = 1024  # below this many numbers two nodes cost more than they save

# Operator -> axis of the output channels in its weight, which is its second input. Gemm: see _channel_axis.
_AXES: Final = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}


def compact(graph: bytes) -> bytes:
    """The ONNX file with its large float32 weights of Conv, ConvTranspose, Gemm and MatMul stored as int16.

    A weight moves by less than one step, which is its channel's largest magnitude / 32767. Anything else, and a weight
    that another kind of node uses too, stays as it is.
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


def quantise(weight: npt.NDArray[np.float32], axis: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """Steps and their size: `steps * scale` is the weight to within one scale. `scale` has one number per channel.

    weight: float32, any rank; axis: of the channels. `scale` has the weight's rank, with 1 on the other axes.

    Rounding keeps each channel's sum to within half a scale: inputs that come out of a ReLU are all positive, so an
    error of the sum is what would reach the output.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    exact = rows / scale
    steps = np.clip(_keep_sums(exact, np.rint(exact)), -LEVELS, LEVELS).astype(np.int16)
    moved = [weight.shape[axis], *(size for i, size in enumerate(weight.shape) if i != axis % weight.ndim)]
    broad = [weight.shape[axis] if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
    return np.ascontiguousarray(np.moveaxis(steps.reshape(moved), 0, axis)), scale.reshape(broad)


def _keep_sums(exact: npt.NDArray[np.float64], rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`rounded` with each row's sum brought back to that of `exact`: the numbers nearest to the other side change."""
    error = exact - rounded
    surplus = np.rint(error.sum(axis=1, keepdims=True))
    direction = np.sign(surplus)
    order = np.argsort(-error * direction, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    kept: npt.NDArray[np.float64] = rounded + direction * (rank < np.abs(surplus))
    return kept


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
    steps, scale = quantise(numpy_helper.to_array(tensor), axis)
    stored = [numpy_helper.from_array(steps, f"{name}.steps"), numpy_helper.from_array(scale, f"{name}.scale")]
    cast = helper.make_node("Cast", [f"{name}.steps"], [f"{name}.whole"], name=f"{name}.cast", to=TensorProto.FLOAT)
    scaled = helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name], name=f"{name}.restore")
    return stored, [cast, scaled]
