"""A CNN of 22k parameters for 28 x 28 pixels, as a plain Triton model folder. Its weights are random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, save

NAME: Final = "tiny"
SIDE: Final = 28
CLASSES: Final = 10
CONFIG: Final = """\
name: "tiny"
platform: "onnxruntime_onnx"
max_batch_size: 32
input { name: "x" data_type: TYPE_FP32 dims: 784 }
output { name: "probabilities" data_type: TYPE_FP32 dims: 10 }
"""
# Reshape takes 0 for "as it was", so the batch axis stays free.
_SHAPES: Final[Mapping[str, list[int]]] = {"image": [0, 1, SIDE, SIDE], "flat": [0, 16 * (SIDE // 4) ** 2]}


def publish(repository: Path) -> Path:
    """Writes the model into the repository; gives the folder of its version."""
    version = repository / NAME / "1"
    version.mkdir(parents=True)
    constants: dict[str, np.ndarray[Any, Any]] = {name: np.array(shape) for name, shape in _SHAPES.items()}
    constants.update(_weights())
    graph = helper.make_graph(
        _nodes(),
        NAME,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIDE * SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    # The opset is one that any onnxruntime of recent years reads.
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), version / "model.onnx")
    (repository / NAME / "config.pbtxt").write_text(CONFIG)
    return version


def parameter_count() -> int:
    return sum(array.size for array in _weights().values())


def _nodes() -> list[NodeProto]:
    def convolve(given: str, number: int) -> list[NodeProto]:
        conv, relu = f"conv{number}", f"relu{number}"
        return [
            helper.make_node("Conv", [given, f"{conv}.weight", f"{conv}.bias"], [conv], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [conv], [relu]),
            helper.make_node("MaxPool", [relu], [f"pool{number}"], kernel_shape=[2, 2], strides=[2, 2]),
        ]

    return [
        helper.make_node("Reshape", ["x", "image"], ["picture"]),
        *convolve("picture", 1),
        *convolve("pool1", 2),
        helper.make_node("Reshape", ["pool2", "flat"], ["features"]),
        helper.make_node("Gemm", ["features", "dense1.weight", "dense1.bias"], ["dense1"]),
        helper.make_node("Relu", ["dense1"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "dense2.weight", "dense2.bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]


def _weights() -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
    shapes = {
        "conv1.weight": (8, 1, 3, 3),
        "conv1.bias": (8,),
        "conv2.weight": (16, 8, 3, 3),
        "conv2.bias": (16,),
        "dense1.weight": (784, 26),
        "dense1.bias": (26,),
        "dense2.weight": (26, CLASSES),
        "dense2.bias": (CLASSES,),
    }
    random = np.random.default_rng(0)
    return {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
