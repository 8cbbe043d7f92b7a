"""Rows joined and taken apart, and one name for each type."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from serving.tensors import DTYPES, concatenate, datatype, row_count, rows


@pytest.mark.parametrize("name", sorted(set(DTYPES) - {"BYTES"}))
def test_names_agree_with_onnx(name):
    kind = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}.get(name, name)
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind))
    assert DTYPES[name] == dtype
    assert datatype(dtype) == name


@pytest.mark.parametrize("dtype", ["complex64", "S3", "U3", ">f4"])
def test_a_type_that_the_protocol_does_not_know_has_no_name(dtype):
    with pytest.raises(KeyError):
        datatype(np.dtype(dtype))


def test_one_batch_is_taken_as_it_is():
    x = np.arange(3)
    alone = {"x": x}
    joined = concatenate([alone])
    assert joined["x"] is x, "nothing is copied"
    assert joined is not alone, "and nobody else's mapping is given away"


def test_rows_are_views():
    x = np.arange(10)
    part = rows({"x": x}, 2, 5)["x"]
    assert part.tolist() == [2, 3, 4]
    assert np.shares_memory(part, x)


def test_rows_are_counted_along_the_first_axis():
    assert row_count({"x": np.zeros((4, 2)), "y": np.zeros(4)}) == 4
