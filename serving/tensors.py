"""Named tensors, and the names that numpy, Triton's configuration and the inference protocol give to one type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

# Open Inference Protocol name -> numpy type. BYTES are Python `bytes` in object arrays.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def datatype(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a numpy type; KeyError for one that the protocol does not know."""
    return _NAMES[dtype]


def row_count(tensors: Tensors) -> int:
    """How many rows the tensors have along their batch axis, which is the first; 0 for no tensors."""
    for array in tensors.values():
        return int(array.shape[0])
    return 0


def concatenate(batches: Sequence[Tensors]) -> dict[str, Array]:
    """The batches as one, row after row. All have the same names, types and shapes behind the batch axis."""
    if len(batches) == 1:
        return dict(batches[0])
    return {name: _concatenated([batch[name] for batch in batches]) for name in batches[0]}


def rows(tensors: Tensors, start: int, stop: int) -> dict[str, Array]:
    """Rows start to stop (exclusive) of each tensor, as views."""
    return {name: array[start:stop] for name, array in tensors.items()}


def row_differences(found: Array, expected: Array) -> Array:
    """How far each row of numbers is from the one expected, as its largest absolute difference: float64 [rows].

    Of a map, whole numbers over two axes or more, it is the share of them that differ, if that is less: which class a
    pixel on a border belongs to is a matter of the last digit. NaN, or infinite, where a value is and should not be.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    differs = (found != expected).reshape(len(found), -1)
    largest: Array = np.where(differs, apart.reshape(len(found), -1), 0.0).max(axis=1, initial=0.0)
    if found.ndim < 3 or np.issubdtype(found.dtype, np.floating) or not differs.size:
        return largest
    lesser: Array = np.minimum(largest, differs.mean(axis=1))
    return lesser


def _concatenated(arrays: Sequence[Array]) -> Array:
    """As numpy.concatenate, which lets go of the interpreter's lock over microseconds of copying and then waits for it
    while a worker thread has it; bytes are joined without that, as long as they are few.
    """
    first = arrays[0]
    if first.dtype == np.object_ or not all(array.flags.c_contiguous for array in arrays):
        return np.concatenate(arrays)
    buffers: Sequence[Any] = arrays  # that arrays are buffers is not known to all type checkers
    return np.frombuffer(b"".join(buffers), dtype=first.dtype).reshape(sum(map(len, arrays)), *first.shape[1:])
