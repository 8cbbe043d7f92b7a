"""Tensors as raw bytes: every datatype, every lie about sizes, and there and back again."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.codecs.tensor_binary import MAX_ELEMENTS, raw_view, read_raw, write_raw
from serving.errors import TensorInvalid
from serving.tensors import DTYPES

NUMERIC = [kind for kind in DTYPES if kind != "BYTES"]


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


@pytest.mark.parametrize(
    ("kind", "code", "values"),
    [
        ("BOOL", "?", [True, False]),
        ("UINT8", "B", [0, 255]),
        ("UINT16", "H", [0, 2**16 - 1]),
        ("UINT32", "I", [1, 2**32 - 1]),
        ("UINT64", "Q", [1, 2**64 - 1]),
        ("INT8", "b", [-128, 127]),
        ("INT16", "h", [-(2**15), 2]),
        ("INT32", "i", [-(2**31), 2]),
        ("INT64", "q", [-(2**63), 2]),
        ("FP16", "e", [-1.5, float("inf")]),
        ("FP32", "f", [-1.5, float("inf")]),
        ("FP64", "d", [-1.5, float("-inf")]),
    ],
)
def test_numbers_are_little_endian(kind, code, values):
    data = struct.pack(f"<2{code}", *values)
    array = read_raw("x", data, kind, [2, 1])
    assert (array.dtype, array.shape) == (DTYPES[kind], (2, 1))
    assert array.reshape(-1).tolist() == values
    assert write_raw(array) == data
    assert raw_view(array).tobytes() == data


def test_every_numeric_type_is_in_the_table_above():
    assert len(NUMERIC) == 12


def test_elements_have_their_lengths_before_them():
    texts = [b"", b"a", "ä\0".encode(), b"\xff" * 300]
    data = b"".join(map(element, texts))
    array = read_raw("x", memoryview(data), "BYTES", [2, 2])
    assert array.dtype == np.object_
    assert array.reshape(-1).tolist() == texts
    assert write_raw(array) == data


def test_text_that_a_model_gives_is_written_as_utf_8():
    assert write_raw(np.array(["ä", b"\xff"], np.object_)) == element("ä".encode()) + element(b"\xff")


def test_what_lies_aligned_is_not_copied_and_what_does_not_is_aligned():
    data = bytearray(64)
    start = -np.frombuffer(data, np.uint8).ctypes.data % 8
    whole = np.frombuffer(data, np.uint8)
    aligned = read_raw("x", memoryview(data)[start : start + 8], "FP32", [2])
    assert np.shares_memory(aligned, whole)
    unaligned = read_raw("x", memoryview(data)[start + 1 : start + 9], "FP32", [2])
    assert unaligned.flags.aligned
    assert not np.shares_memory(unaligned, whole)
    assert np.shares_memory(read_raw("x", memoryview(data)[start + 1 : start + 9], "UINT8", [8]), whole)


def test_what_is_written_is_not_copied_where_it_need_not_be():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.shares_memory(raw_view(values), values)
    assert raw_view(values[:, ::2]).tobytes() == values[:, ::2].tobytes()
    assert write_raw(values.astype(">f4")) == values.tobytes()


@pytest.mark.parametrize(
    ("data", "kind", "shape", "said"),
    [
        (b"1234", "FP32", [2], "x has 4 bytes of data; shape [2] of FP32 takes 8."),
        (b"123456789", "FP32", [2], "takes 8"),
        (b"", "FP32", [], "takes 4"),
        (b"1234", "FP32", [0], "takes 0"),
        (b"1", "UINT8", [2**40, 2**40], "takes"),
        (b"\x02", "BOOL", [1], "x is BOOL and has bytes other than 0 and 1."),
        (b"\xff\x00", "BOOL", [2], "BOOL"),
        (b"", "UINT8", [0, 2**70], "too large"),
        (b"", "BYTES", [1], "too few for 1 elements"),
        (b"\0\0\0", "BYTES", [1], "too few"),
        (element(b"ab")[:-1], "BYTES", [1], "x ends in the middle of element 0 of 1."),
        (element(b"") + b"\x01\0\0", "BYTES", [1], "3 bytes of data after its last element"),
        (element(b"abcd") + b"\x01\0\0", "BYTES", [2], "middle of element 1"),
        (struct.pack("<I", 2**32 - 1) + b"abcd", "BYTES", [1], "middle of element 0"),
        (element(b"a") * 2, "BYTES", [1], "after its last element"),
        (element(b"a"), "BYTES", [0], "after its last element"),
        (element(b"a"), "BYTES", [2**40], "too few"),
        (element(b"") * (MAX_ELEMENTS + 1), "BYTES", [MAX_ELEMENTS + 1], "more than 65,536 elements"),
    ],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(data, kind, shape, said):
    with pytest.raises(TensorInvalid) as caught:
        read_raw("x", data, kind, shape)
    assert said in caught.value.detail


def test_as_many_elements_as_may_be_are_read():
    array = read_raw("x", element(b"") * MAX_ELEMENTS, "BYTES", [MAX_ELEMENTS])
    assert array.shape == (MAX_ELEMENTS,)


def arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    numbers = [hnp.arrays(DTYPES[kind], shapes) for kind in NUMERIC]
    return st.one_of(*numbers, hnp.arrays(np.object_, shapes, elements=st.binary(max_size=9)))


@given(arrays(), st.integers(0, 7))
def test_there_and_back_again(array, offset):
    """NaN, infinities and all, wherever the bytes begin."""
    kind = next(kind for kind, dtype in DTYPES.items() if dtype == array.dtype)
    data = bytes(offset) + write_raw(array)
    back = read_raw("x", memoryview(data)[offset:], kind, array.shape)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


@given(st.binary(max_size=40), st.sampled_from(list(DTYPES)), st.lists(st.integers(0, 5), max_size=3))
def test_whatever_the_bytes_they_are_a_tensor_or_refused(data, kind, shape):
    try:
        array = read_raw("x", data, kind, shape)
    except TensorInvalid:
        return
    assert (array.dtype, list(array.shape)) == (DTYPES[kind], shape)
    assert write_raw(array) == data
