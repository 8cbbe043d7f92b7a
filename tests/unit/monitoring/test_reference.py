"""References: bins of what was seen, small and bounded, that hold any later value."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.monitoring.reference import KINDS, LEAST_ROWS, Kinds, Numbers, Reference, make_bins, make_reference

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def recounted(bins, values):
    found = [0] * len(bins.counts)
    for value in values:
        found[bins.place(value)] += 1
    return tuple(found)


@given(st.lists(FINITE, min_size=LEAST_ROWS, max_size=400))
def test_bins_count_the_rows_they_were_made_of_and_hold_any_value(values):
    bins = make_bins(values)
    assert isinstance(bins, Numbers)
    assert recounted(bins, values) == bins.counts
    assert list(bins.edges) == sorted(set(bins.edges))
    assert all(0 <= bins.place(value) < len(bins.counts) for value in (-1e300, 0.0, 1e300))
    assert bins.place(math.nan) is bins.place(math.inf) is bins.place("kind") is None


def test_bins_of_different_values_hold_about_as_many_each():
    bins = make_bins([i / 7 for i in range(1000)])
    assert len(bins.counts) == 10
    assert set(bins.counts) == {100}
    assert len(make_bins([i / 7 for i in range(60)]).counts) == 3, "20 rows to a bin"


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ([5.0] * 50, (4.0, 6.0)),
        ([0.0] * 50, (-0.1, 0.1)),
        ([0.0] * 45 + [1.0] * 5, (-0.1, 0.9)),
        ([0.0] * 5 + [1.0] * 45, (0.1, 1.1)),
        ([0.0] * 10 + [3.0] * 30 + [9.0] * 10, (1.0, 7.0)),
    ],
)
def test_a_common_value_has_a_bin_of_its_own(values, other):
    bins = make_bins(values)
    common = max(values, key=values.count)
    assert bins.counts[bins.place(common)] == values.count(common)
    assert all(bins.place(value) != bins.place(common) for value in other)


def test_rounding_moves_no_value_into_another_bin():
    values = [0.1 * i for i in range(200)]
    bins = make_bins(values)
    assert all(bins.place(value) == bins.place(value * (1 + 1e-7)) for value in values)


def test_common_kinds_have_bins_and_the_rest_one():
    values = ["cat"] * 30 + ["dog"] * 15 + ["eel"] * 7 + ["gnu"]
    bins = make_bins(values)
    assert bins == Kinds(kinds=("cat", "dog"), counts=(30, 15, 8))
    assert [bins.place(kind) for kind in ("cat", "dog", "eel", "never seen")] == [0, 1, 2, 2]
    assert bins.place(1.0) is None
    assert make_bins([str(i) for i in range(100)]) is None, "nothing could be told apart"
    assert make_bins(["x" * 300] * 50).place("x" * 300) == 0, "long names are cut, of both"
    many = make_bins([str(i % 50) for i in range(1000)])
    assert len(many.kinds) == KINDS


def test_of_too_few_rows_or_of_a_mixture_there_are_no_bins():
    assert make_bins([1.0] * (LEAST_ROWS - 1)) is None
    assert make_bins([]) is None
    made = make_reference(50, {"many": [1.0] * 50, "few": [1.0]}, {"reply_class": ["a"] * 50})
    assert (made.rows, [*made.inputs], [*made.outputs]) == (50, ["many"], ["reply_class"])
    assert Reference.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": [1, 1], "counts": [1, 2, 3]},
        {"edges": [2, 1], "counts": [1, 2, 3]},
        {"edges": [1], "counts": [1]},
        {"edges": [1], "counts": [1, -1]},
        {"edges": ["nan"], "counts": [1, 1]},
        {"kinds": ["a", "a"], "counts": [1, 2, 3]},
        {"kinds": ["a"], "counts": [1]},
        {"kinds": ["a"], "edges": [1], "counts": [1, 1]},
    ],
)
def test_wrong_bins_are_refused(wrong):
    with pytest.raises(ValidationError):
        Reference.model_validate({"rows": 1, "inputs": {"x": wrong}})
