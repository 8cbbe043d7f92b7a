"""The `config.pbtxt` of a graph, made from the ONNX file itself so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import json_format

from serving.repository.config import ModelConfig
from serving.tensors import datatype


def make_config(graph: bytes, name: str, *, max_batch_size: int, instances: int) -> Any:
    """Triton's ModelConfig message for an ONNX file whose tensors all have a batch axis."""
    import onnx

    described = onnx.load_from_string(graph).graph
    message: dict[str, Any] = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "maxBatchSize": max_batch_size,
        "input": [_tensor(value) for value in described.input],
        "output": [_tensor(value) for value in described.output],
        "instanceGroup": [{"count": instances}],
        "dynamicBatching": {},
    }
    return json_format.ParseDict(message, ModelConfig())


def _tensor(value: Any) -> dict[str, Any]:
    from onnx import helper

    described = value.type.tensor_type
    name = datatype(np.dtype(helper.tensor_dtype_to_np_dtype(described.elem_type)))
    sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in described.shape.dim]
    return {"name": value.name, "dataType": f"TYPE_{name.replace('BYTES', 'STRING')}", "dims": sizes[1:]}
