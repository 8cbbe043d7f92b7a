"""Tensors in JSON: every datatype at its bounds, every lie about a shape, and there and back again."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.codecs.tensor_json import MAX_DIMENSIONS, MAX_TENSORS, read_tensors, write_values
from serving.errors import OutputInvalid, TensorInvalid
from serving.tensors import DTYPES, datatype

NUMERIC = [kind for kind in DTYPES if kind != "BYTES"]
WHOLE = {"UINT8": (0, 2**8 - 1), "UINT16": (0, 2**16 - 1), "UINT32": (0, 2**32 - 1), "UINT64": (0, 2**64 - 1),
         "INT8": (-(2**7), 2**7 - 1), "INT16": (-(2**15), 2**15 - 1), "INT32": (-(2**31), 2**31 - 1),
         "INT64": (-(2**63), 2**63 - 1)}  # fmt: skip
FLOATS = {"FP16": 65504.0, "FP32": float(np.finfo(np.float32).max), "FP64": float(np.finfo(np.float64).max)}


def read(data: object, kind: object = "FP32", shape: object = None) -> np.ndarray:
    shape = [len(data)] if shape is None else shape
    return read_tensors([{"name": "x", "shape": shape, "datatype": kind, "data": data}])["x"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *((kind, list(bounds)) for kind, bounds in WHOLE.items()),
        *((kind, [-most, 0.0, most, 1, -1]) for kind, most in FLOATS.items()),
        ("BOOL", [True, False]),
    ],
    ids=[*WHOLE, *FLOATS, "BOOL"],
)
def test_each_datatype_takes_all_its_range(kind, values):
    array = read(values, kind)
    assert array.dtype == DTYPES[kind]
    assert array.tolist() == values


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, low - 1) for kind, (low, _) in WHOLE.items()),
        *((kind, high + 1) for kind, (_, high) in WHOLE.items()),
        ("FP16", 65520.0), ("FP32", 1e39), ("FP32", -3.5e38), ("FP32", 10**400), ("FP64", 10**400),
        *((kind, 1.0) for kind in WHOLE),
        *((kind, value) for kind in NUMERIC for value in ("1", None, {}, [1])),
        ("BOOL", 1), ("BOOL", 0.0), ("BYTES", 1), ("BYTES", None), ("BYTES", True), ("BYTES", ["a"]),
    ],
)  # fmt: skip
def test_what_a_datatype_cannot_hold_is_refused(kind, value):
    with pytest.raises(TensorInvalid, match="data has values that are"):
        read([value] if not isinstance(value, list) else [0, value], kind, [1] if not isinstance(value, list) else [2])


def test_true_and_false_count_as_one_and_zero():
    """Decided: to look for them would cost more than to read the numbers, and numpy counts so too."""
    assert read([True, False], "INT32").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ([1, 2, 3, 4, 5, 6], [2, 3]),
        ([[1, 2, 3], [4, 5, 6]], [2, 3]),
        ([[[1], [2], [3]], [[4], [5], [6]]], [2, 3, 1]),
        ([[1, 2, 3], [4, 5, 6]], [3, 2]),  # the order counts, the nesting does not: as the protocol has it
        ([1, 2, 3, 4, 5, 6], [1] * 14 + [2, 3]),
    ],
    ids=["flat", "nested", "nested to the end", "nested otherwise", "16 axes"],
)
def test_data_is_flat_or_nested(data, shape):
    array = read(data, "INT64", shape)
    assert array.shape == tuple(shape)
    assert array.ravel().tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("data", "shape"),
    [([], [0]), ([], [0, 5]), ([], [3, 0]), ([[], []], [2, 0]), ([5], []), ([], [0] * 16)],
    ids=["no rows", "no rows of 5", "rows of none", "nested rows of none", "no axis", "all axes empty"],
)
@pytest.mark.parametrize("kind", ["FP32", "UINT8", "BYTES"])
def test_sizes_may_be_zero_and_axes_may_lack(data, shape, kind):
    data = ["five"] if data == [5] and kind == "BYTES" else data
    assert read(data, kind, shape).shape == tuple(shape)


@pytest.mark.parametrize(
    "data",
    [[[1, 2], [3]], [[1, 2], 3], [[1], [2, 3]], [[1], []], [[[1]], [2]], [[1], None], [[1], "2"]],
    ids=["shorter", "bare", "longer", "empty", "deeper", "null", "text"],
)
def test_data_nested_unevenly_is_refused(data):
    with pytest.raises(TensorInvalid, match="neither flat nor nested"):
        read(data, "INT64", [3])


@pytest.mark.parametrize("depth", [17, 500])
def test_deep_nesting_is_just_data(depth):
    data: list = [1]
    for _ in range(depth):
        data = [data]
    assert read(data, "INT64", [1]).tolist() == [1]


@pytest.mark.parametrize(
    "shape", [[3], [2, 2], [], [0], [2**63], [2**40, 2**40], [10**30], [2, 10**30], [2**32, 2**32]]
)
def test_a_shape_that_lies_about_the_number_of_values_is_refused(shape):
    with pytest.raises(TensorInvalid, match="data has 2 values"):
        read([1, 2], "INT64", shape)


@pytest.mark.parametrize("shape", [[0, 2**63], [2**62, 0, 2**62], [10**30, 0], [0, 2**40, 2**40]])
@pytest.mark.parametrize("kind", ["FP32", "BYTES"])
def test_a_shape_of_no_values_that_no_array_can_have_is_refused(shape, kind):
    with pytest.raises(TensorInvalid, match="too large"):
        read([], kind, shape)


@pytest.mark.parametrize(
    "shape", [None, 2, "2", {}, [-1], [2.0], ["2"], [None], [True, 2], [[2]], [1] * (MAX_DIMENSIONS + 1)]
)
def test_a_shape_that_is_no_list_of_sizes_is_refused(shape):
    with pytest.raises(TensorInvalid, match="shape is not a list"):
        read_tensors([{"name": "x", "shape": shape, "datatype": "INT64", "data": [1, 2]}])


@pytest.mark.parametrize("kind", [None, "", "FP8", "fp32", "float32", 5, ["FP32"], {}, True])
def test_an_unknown_datatype_is_refused_with_those_there_are(kind):
    with pytest.raises(TensorInvalid, match="datatype is unknown") as caught:
        read([1], kind)
    assert "FP32" in caught.value.remedy


@pytest.mark.parametrize("data", [None, 5, "AAAA", {"0": 1}, True])
def test_data_that_is_no_list_is_refused(data):
    with pytest.raises(TensorInvalid, match="data is not a list"):
        read(data, shape=[1])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "inputs is not a list"),
        ({}, "inputs is not a list"),
        ([], "inputs is not a list"),
        ([{}] * (MAX_TENSORS + 1), "inputs is not a list"),
        (["x"], "not an object with a name"),
        ([{"shape": [1]}], "not an object with a name"),
        ([{"name": 5}], "not an object with a name"),
        ([{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}] * 2, "same name"),
    ],
    ids=["none", "object", "empty", "too many", "text", "no name", "number for a name", "twice"],
)
def test_inputs_that_are_no_tensors_are_refused(inputs, message):
    with pytest.raises(TensorInvalid, match=message):
        read_tensors(inputs)


def test_as_many_tensors_as_may_be_are_taken():
    tensors = [{"name": f"x{i}", "shape": [1], "datatype": "INT64", "data": [i]} for i in range(MAX_TENSORS)]
    assert [array.item() for array in read_tensors(tensors).values()] == list(range(MAX_TENSORS))


def test_texts_are_bytes_inside():
    array = read(["", "ä", "a\0b", "\N{GRINNING FACE}"], "BYTES", [2, 2])
    assert array.dtype == np.object_
    assert array.tolist() == [[b"", "ä".encode()], [b"a\0b", "\N{GRINNING FACE}".encode()]]


def written(outputs) -> list[dict]:
    """As a client reads them."""
    tensors = [write_values(name, values) for name, values in outputs.items()]
    return orjson.loads(orjson.dumps(tensors, option=orjson.OPT_SERIALIZE_NUMPY))


def test_outputs_are_named_typed_and_shaped():
    outputs = {"y": np.array([[1.5, 2]], np.float32), "n": np.array([3], np.int64), "ok": np.array([[True]])}
    assert written(outputs) == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]},
        {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]},
        {"name": "ok", "datatype": "BOOL", "shape": [1, 1], "data": [True]},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["FP16", "FP32", "FP64"])
def test_outputs_that_json_cannot_carry_are_refused(value, kind):
    with pytest.raises(OutputInvalid, match="y is not finite") as caught:
        write_values("y", np.array([0, value], DTYPES[kind]))
    assert "binary_data" in caught.value.remedy


def test_outputs_of_text_are_text():
    outputs = {"t": np.array([[b"\xc3\xa4", b"\xff", "already"]], np.object_)}
    (tensor,) = written(outputs)
    assert (tensor["datatype"], tensor["shape"]) == ("BYTES", [1, 3])
    assert tensor["data"] == ["ä", "\N{REPLACEMENT CHARACTER}", "already"]


def test_rows_cut_out_of_a_batch_are_written_like_any():
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tensor,) = written({"y": batch[:, ::2]})
    assert tensor["data"] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)

    def of(kind: str) -> st.SearchStrategy[np.ndarray]:
        finite = {"allow_nan": False, "allow_infinity": False} if kind.startswith("FP") else {}
        return hnp.arrays(DTYPES[kind], shapes, elements=hnp.from_dtype(DTYPES[kind], **finite))

    texts = hnp.arrays(np.object_, shapes, elements=st.text().map(lambda text: text.encode(errors="replace")))
    return st.one_of(*map(of, NUMERIC), texts)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), arrays(), min_size=1, max_size=3))
def test_there_and_back_again(tensors):
    back = read_tensors(written(tensors))
    assert list(back) == list(tensors)
    for name, array in tensors.items():
        assert datatype(back[name].dtype) == datatype(array.dtype)
        np.testing.assert_array_equal(back[name], array)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


@given(
    data=json_values, shape=json_values | st.lists(st.integers(0, 4), max_size=3), kind=st.sampled_from(list(DTYPES))
)
def test_whatever_json_says_it_is_a_tensor_or_refused(data, shape, kind):
    try:
        array = read_tensors([{"name": "x", "shape": shape, "datatype": kind, "data": data}])["x"]
    except TensorInvalid:
        return
    assert (array.dtype, list(array.shape)) == (DTYPES[kind], shape)
    assert array.dtype.kind != "f" or np.isfinite(array).all()
