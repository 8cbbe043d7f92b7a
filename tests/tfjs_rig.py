"""Small TensorFlow.js graph models, written to disk as the converter of TensorFlow.js writes them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np


def node(name: str, operation: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    """A node as model.json has it. Texts, flags, fractions and lists of whole numbers are told by their types."""
    return {
        "name": name,
        "op": operation,
        "input": list(inputs),
        "attr": {key: _attribute(value) for key, value in attributes.items()},
    }


def windowed(name: str, operation: str, *inputs: str, stride: int = 1, padding: str = "VALID", **more: Any) -> Any:
    """A convolution or a pool over NHWC."""
    strides = [1, stride, stride, 1]
    return node(name, operation, *inputs, strides=strides, padding=padding, data_format="NHWC", **more)


def write_graph(
    folder: Path, nodes: list[dict[str, Any]], constants: dict[str, np.ndarray], *, half: tuple[str, ...] = ()
) -> Path:
    """model.json, its input being `x`, and weights.bin. half: constants that are stored as float16."""
    weights, content = [], b""
    for name, array in constants.items():
        described: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        if name in half:
            described["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        weights.append(described)
        content += array.astype(np.float16 if name in half else array.dtype).tobytes()
    placed = [node("x", "Placeholder"), *(node(name, "Const") for name in constants), *nodes]
    described = {"modelTopology": {"node": placed}, "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}]}
    (folder / "weights.bin").write_bytes(content)
    (folder / "model.json").write_text(json.dumps(described))
    return folder / "model.json"


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"b": value}
    if isinstance(value, float):
        return {"f": value}
    if isinstance(value, str):
        return {"s": base64.b64encode(value.encode()).decode()}
    return {"list": {"i": [str(number) for number in value]}}
