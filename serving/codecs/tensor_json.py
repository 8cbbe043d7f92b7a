"""Tensors in the JSON of the Open Inference Protocol, to and from arrays.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from serving.errors import OutputInvalid, TensorInvalid
from serving.tensors import DTYPES, Array, datatype

MAX_TENSORS = 16
MAX_DIMENSIONS = 16


def read_tensors(inputs: object) -> dict[str, Array]:
    """The `inputs` of a request as arrays; TensorInvalid names the tensor and what is wrong with it."""
    return {name: read_values(tensor) for name, tensor in named(inputs).items()}


def named(inputs: object) -> dict[str, Mapping[str, Any]]:
    """The `inputs` of a request by name, not yet read."""
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= MAX_TENSORS:
        raise TensorInvalid(f"inputs is not a list of 1 to {MAX_TENSORS} tensors.")
    tensors: dict[str, Mapping[str, Any]] = {}
    for tensor in inputs:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise TensorInvalid("A tensor is not an object with a name.")
        name = tensor["name"]
        if name in tensors:
            raise TensorInvalid("Two tensors have the same name.")
        tensors[name] = tensor
    return tensors


def read_signature(tensor: Mapping[str, Any]) -> tuple[str, list[int]]:
    """What a tensor says of itself: its datatype, of those in DTYPES, and its shape."""
    shape, kind = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise TensorInvalid(f"shape is not a list of at most {MAX_DIMENSIONS} whole numbers from 0.")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise TensorInvalid("datatype is unknown.", remedy=f"There are: {', '.join(DTYPES)}.")
    return kind, shape


def read_values(tensor: Mapping[str, Any]) -> Array:
    """A tensor with its values in `data`, flat or nested."""
    kind, shape = read_signature(tensor)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise TensorInvalid("data is not a list.")
    data = _flat(data)
    if len(data) != math.prod(shape):  # Python's whole numbers: no shape is too large to multiply
        raise TensorInvalid(f"data has {len(data)} values; its shape wants another number.")
    values = _read_bytes(data) if kind == "BYTES" else _read_numbers(data, kind)
    try:
        return values.reshape(shape)
    except ValueError:  # no values, and beside the 0 a size that numpy cannot hold
        raise TensorInvalid("shape has a size that is too large.") from None


def write_values(name: str, values: Array) -> dict[str, Any]:
    """A tensor with its values in `data`, which stay a numpy array for the serialiser where they may.

    OutputInvalid: numbers that JSON cannot carry.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise OutputInvalid(f"The model's output {name} is not finite.", remedy="Ask for it with binary_data.")
    flat: Any = np.ascontiguousarray(values).reshape(-1)
    if values.dtype == np.object_:
        flat = [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in flat.tolist()]
    elif values.dtype == np.float16:
        flat = flat.astype(np.float32)
    return {"name": name, "datatype": datatype(values.dtype), "shape": list(values.shape), "data": flat}


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


# Type -> the code of Python's struct module, which takes numbers of exactly that kind and range, and packs a list of
# floats in a quarter of the time that numpy needs to look through it.
_CODES: Mapping[str, str] = {
    "BOOL": "B", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def _read_numbers(data: list[Any], kind: str) -> Array:
    if kind == "BOOL" and not set(map(type, data)) <= {bool}:
        raise TensorInvalid("data has values that are neither true nor false, and its datatype is BOOL.")
    try:
        packed = struct.pack(f"={len(data)}{_CODES[kind]}", *data)  # "=": else 1e39 would become an infinite FP32
    except (struct.error, OverflowError):
        raise TensorInvalid(f"data has values that are not {kind}, or that it cannot hold.") from None
    return np.frombuffer(packed, dtype=DTYPES[kind])


def _flat(data: list[Any]) -> list[Any]:
    """Nested lists as one, row after row; TensorInvalid when they are not nested alike."""
    while data and isinstance(data[0], list):
        if {type(part) for part in data} != {list} or len({len(part) for part in data}) != 1:
            raise TensorInvalid("data is neither flat nor nested in rows of equal length.")
        data = list(chain.from_iterable(data))
    return data


def _read_bytes(data: list[Any]) -> Array:
    if not set(map(type, data)) <= {str}:
        raise TensorInvalid("data has values that are not text, and its datatype is BYTES.")
    texts = np.empty(len(data), dtype=np.object_)
    texts[:] = [text.encode() for text in data]
    return texts
