"""Tensors against what a graph takes: what fits, and what is said of what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.engine import check_inputs
from serving.errors import TensorInvalid
from serving.repository.config import TensorSpec
from serving.tensors import DTYPES

X = TensorSpec("x", "FP32", (2, -1))
N = TensorSpec("n", "INT64", ())


def zeros(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


FITTING = {
    "one row": ({"x": zeros(1, 2, 5)}, (X,), True),
    "several rows": ({"x": zeros(7, 2, 1)}, (X,), True),
    "a free axis may be empty": ({"x": zeros(1, 2, 0)}, (X,), True),
    "rows of numbers": ({"n": zeros(3, dtype=np.int64)}, (N,), True),
    "two tensors of as many rows": ({"x": zeros(3, 2, 5), "n": zeros(3, dtype=np.int64)}, (X, N), True),
    "no batch axis": ({"x": zeros(2, 5)}, (X,), False),
    "a number without a batch axis": ({"n": zeros(dtype=np.int64)}, (N,), False),
    "no batch axis, two tensors": ({"x": zeros(2, 5), "n": zeros(dtype=np.int64)}, (X, N), False),
    "a graph that takes nothing": ({}, (), True),
}


@pytest.mark.parametrize(("inputs", "specs", "batched"), FITTING.values(), ids=FITTING.keys())
def test_what_fits_is_taken(inputs, specs, batched):
    check_inputs(inputs, specs, batched=batched)


MISFITS = {
    "another name": ({"y": zeros(1, 2, 5)}, (X,), True, "takes x; the request has 1 tensors"),
    "one too few": ({"x": zeros(1, 2, 5)}, (X, N), True, "takes x, n; the request has 1 tensors"),
    "one too many": ({"x": zeros(1, 2, 5), "y": zeros(1)}, (X,), True, "takes x; the request has 2 tensors"),
    "none": ({}, (X,), True, "takes x; the request has 0 tensors"),
    "another type": ({"x": zeros(1, 2, 5, dtype=np.int64)}, (X,), True, "x is INT64; the model takes FP32."),
    "another size": ({"x": zeros(1, 3, 5)}, (X,), True, "x has shape [1, 3, 5]; the model takes [rows, 2, any]."),
    "an axis too few": ({"x": zeros(2, 5)}, (X,), True, "x has shape [2, 5]; the model takes [rows, 2, any]."),
    "an axis too many": ({"n": zeros(1, 1, dtype=np.int64)}, (N,), True, "n has shape [1, 1]; the model takes [rows]."),
    "no axis at all": ({"n": zeros(dtype=np.int64)}, (N,), True, "n has shape []; the model takes [rows]."),
    "a batch axis where none is": ({"x": zeros(1, 2, 5)}, (X,), False, "the model takes [2, any]."),
    "rows that differ": (
        {"x": zeros(2, 2, 5), "n": zeros(3, dtype=np.int64)},
        (X, N),
        True,
        "differ in their number of rows",
    ),
    "no rows": ({"x": zeros(0, 2, 5)}, (X,), True, "no rows"),
}


@pytest.mark.parametrize(("inputs", "specs", "batched", "said"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_named(inputs, specs, batched, said):
    with pytest.raises(TensorInvalid) as caught:
        check_inputs(inputs, specs, batched=batched)
    assert said in str(caught.value)


@given(
    st.sampled_from(sorted(DTYPES)),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    st.integers(1, 4),
    st.data(),
)
def test_rows_of_the_stated_shape_fit_and_of_no_other_rank(datatype, shape, rows, data):
    free = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    spec = TensorSpec("x", datatype, tuple(-1 if any_ else size for any_, size in zip(free, shape, strict=True)))
    check_inputs({"x": np.empty((rows, *shape), DTYPES[datatype])}, (spec,), batched=True)
    check_inputs({"x": np.empty(shape, DTYPES[datatype])}, (spec,), batched=False)
    with pytest.raises(TensorInvalid):
        check_inputs({"x": np.empty((rows, *shape, 1), DTYPES[datatype])}, (spec,), batched=True)
