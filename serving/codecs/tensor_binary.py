"""Tensors as raw bytes, to and from arrays: little-endian, row after row, as the binary extension and gRPC carry them.

BYTES are elements one after another, each with its length before it in four bytes. Source:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from serving.errors import TensorInvalid
from serving.tensors import DTYPES, Array

MAX_ELEMENTS: Final = 2**16  # of BYTES: each is an object of Python's, in dozens of bytes and a part of a microsecond
_LENGTH: Final = struct.Struct("<I")


def read_raw(name: str, data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """The tensor: a read-only view of `data` where that lies aligned, as engines expect, else a copy.

    TensorInvalid when they do not fit together. datatype: one of serving.tensors.DTYPES; shape: whole numbers from 0,
    of any size.
    """
    count = math.prod(shape)  # Python's whole numbers: no shape is too large to multiply
    if datatype == "BYTES":
        values = _read_elements(name, data, count)
    else:
        dtype = DTYPES[datatype].newbyteorder("<")
        if len(data) != count * dtype.itemsize:
            expected = f"shape {list(shape)} of {datatype} takes {count * dtype.itemsize}"
            raise TensorInvalid(f"{name} has {len(data)} bytes of data; {expected}.")
        values = np.frombuffer(data, dtype=dtype)
        if datatype == "BOOL" and values.size and values.view(np.uint8).max() > 1:
            raise TensorInvalid(f"{name} is BOOL and has bytes other than 0 and 1.")
    if not values.flags.aligned:
        values = values.copy()
    try:
        return values.reshape(shape)
    except ValueError:  # no values, and beside the 0 a size that numpy cannot hold
        raise TensorInvalid(f"{name} has a size in its shape that is too large.") from None


def write_raw(values: Array) -> bytes:
    """The tensor's bytes. Of BYTES, elements that are text are written as UTF-8."""
    if values.dtype == np.object_:
        elements = [text if isinstance(text, bytes) else str(text).encode() for text in values.reshape(-1).tolist()]
        return b"".join([part for element in elements for part in (_LENGTH.pack(len(element)), element)])
    return raw_view(values).tobytes()


def raw_view(values: Array) -> Array:
    """An array whose buffer is the tensor's bytes, the tensor itself where it may be. Not for BYTES."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _read_elements(name: str, data: bytes | memoryview, count: int) -> Array:
    if count * _LENGTH.size > len(data):  # before a list of that size is made
        raise TensorInvalid(f"{name} has {len(data)} bytes of data; that is too few for {count} elements of BYTES.")
    if count > MAX_ELEMENTS:
        raise TensorInvalid(f"{name} has more than {MAX_ELEMENTS:,} elements of BYTES.", remedy="Send fewer a request.")
    values = np.empty(count, dtype=np.object_)
    start = 0
    for i in range(count):
        stop = start + _LENGTH.size
        length = _LENGTH.unpack_from(data, start)[0] if stop <= len(data) else len(data)
        start, stop = stop, stop + length
        if stop > len(data):
            raise TensorInvalid(f"{name} ends in the middle of element {i} of {count}.")
        values[i] = bytes(data[start:stop])
        start = stop
    if start != len(data):
        raise TensorInvalid(f"{name} has {len(data) - start} bytes of data after its last element.")
    return values
