"""Rows joined and taken apart, and one name for each type."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from serving.tensors import DTYPES, concatenate, datatype, row_count, row_differences, rows


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


@pytest.mark.parametrize(
    "batches",
    [
        [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)],
        [np.ones((2, 0, 3), np.float16), np.ones((1, 0, 3), np.float16)],
        [np.ones((3, 4))[:, ::2], np.zeros((1, 2))],
        [np.array([b"a", b"bc"], np.object_), np.array(["d"], np.object_)],
        [np.array([True]), np.array([False, True])],
    ],
    ids=["numbers", "none in a row", "not contiguous", "text", "truths"],
)
def test_batches_are_joined_row_after_row(batches):
    joined = concatenate([{"x": batch} for batch in batches])["x"]
    assert joined.dtype == batches[0].dtype
    np.testing.assert_array_equal(joined, np.concatenate(batches))


def test_rows_are_as_far_apart_as_their_farthest_numbers():
    found = np.array([[1.0, 2.0], [3.0, np.inf], [np.nan, 0.0], [0.0, np.inf]])
    expected = np.array([[1.0, 2.5], [3.0, np.inf], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(row_differences(found, expected), [0.5, 0.0, np.nan, np.inf])


def test_of_a_map_of_classes_the_share_of_pixels_counts():
    classes = np.zeros((2, 10, 10), np.uint8)
    other = classes.copy()
    other[1, 4, 4] = 7
    np.testing.assert_allclose(row_differences(classes, other), [0.0, 0.01])
    np.testing.assert_allclose(row_differences(np.float32(classes), np.float32(other)), [0.0, 7.0])
    ids = np.zeros((1, 100), np.int32)
    assert row_differences(ids, ids + np.eye(1, 100, 3, dtype=np.int32)).tolist() == [1.0], "a list is no map"
    levels = np.full((1, 2, 2), 9, np.uint8)
    assert row_differences(levels, levels + np.uint8(1)).tolist() == [1.0]
    assert row_differences(np.zeros((2, 0, 3), np.int32), np.zeros((2, 0, 3), np.int32)).tolist() == [0.0, 0.0]
