"""Conditions on metadata: a table of what they mean, properties, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ParameterInvalid
from serving.filters import MOST_NESTED, MOST_TERMS, check_ident, check_metadata, read_filter

ITEM = {"colour": "red", "price": 4, "new": True, "tags": ["round", "soft"], "sizes": [1, 2.5]}


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"colour": "red"}, True),
        ({"colour": "blue"}, False),
        ({"colour": {"$eq": "red"}}, True),
        ({"colour": {"$ne": "red"}}, False),
        ({"colour": "red", "price": 4}, True),
        ({"colour": "red", "price": 5}, False),
        ({"price": 4.0}, True),
        ({"price": "4"}, False),
        ({"price": {"$gte": 4}}, True),
        ({"price": {"$gt": 4}}, False),
        ({"price": {"$gt": 3, "$lt": 5}}, True),
        ({"price": {"$gt": 3, "$lt": 4}}, False),
        ({"price": {"$lte": "z"}}, False),
        ({"colour": {"$lt": "rose"}}, True),
        ({"new": True}, True),
        ({"new": 1}, False),
        ({"price": True}, False),
        ({"tags": "soft"}, True),
        ({"tags": {"$ne": "soft"}}, False),
        ({"tags": {"$in": ["hard", "round"]}}, True),
        ({"tags": {"$nin": ["hard", "round"]}}, False),
        ({"sizes": {"$gt": 2}}, True),
        ({"nothing": "x"}, False),
        ({"nothing": {"$ne": "x"}}, True),
        ({"nothing": {"$nin": ["x"]}}, True),
        ({"nothing": {"$lt": 3}}, False),
        ({"nothing": {"$exists": False}}, True),
        ({"price": {"$exists": True}}, True),
        ({"$or": [{"colour": "blue"}, {"price": 4}]}, True),
        ({"$and": [{"colour": "red"}, {"price": 5}]}, False),
        ({"$not": {"colour": "blue"}}, True),
        ({"$not": {"$or": [{"colour": "red"}, {"colour": "blue"}]}}, False),
    ],
)
def test_what_a_condition_means(condition, met):
    assert read_filter(condition).matches(ITEM) is met


def nested(depth: int) -> dict:
    return {"a": 1} if depth == 0 else {"$not": nested(depth - 1)}


@pytest.mark.parametrize(
    "condition",
    [
        {},
        [],
        "red",
        {"price": {}},
        {"price": None},
        {"price": [1]},
        {"price": {"$near": 3}},
        {"price": {"gte": 3}},
        {"$nor": [{"a": 1}]},
        {"$or": []},
        {"$or": {"a": 1}},
        {"$and": [3]},
        {"$not": 3},
        {"price": {"$gt": True}},
        {"price": {"$gt": [1]}},
        {"price": {"$in": 3}},
        {"price": {"$in": []}},
        {"price": {"$in": [None]}},
        {"price": {"$exists": 1}},
        {"price": {"$in": list(range(MOST_TERMS + 1))}},
        nested(MOST_NESTED + 1),
    ],
)
def test_what_is_no_condition_is_refused(condition):
    with pytest.raises(ParameterInvalid) as caught:
        read_filter(condition)
    assert caught.value.remedy


def test_the_limits_themselves_are_allowed():
    read_filter(nested(MOST_NESTED))
    read_filter({"price": {"$in": list(range(MOST_TERMS))}})


scalars = st.text(max_size=3) | st.integers(-3, 3) | st.booleans() | st.floats(-3, 3)
metadata = st.dictionaries(st.sampled_from("abc"), scalars, max_size=3)
conditions = st.dictionaries(st.sampled_from("abc"), scalars, min_size=1, max_size=2)


@given(conditions, metadata)
def test_not_is_the_opposite_and_joins_are_what_they_say(condition, item):
    met = read_filter(condition).matches(item)
    assert read_filter({"$not": condition}).matches(item) is not met
    assert read_filter({"$and": [{name: value} for name, value in condition.items()]}).matches(item) is met
    assert read_filter({"$or": [condition, {"$not": condition}]}).matches(item)


@given(st.sampled_from("abc"), scalars, metadata)
def test_equal_and_unequal_split_all_items(name, value, item):
    assert read_filter({name: value}).matches(item) is not read_filter({name: {"$ne": value}}).matches(item)


@pytest.mark.parametrize(
    "bad",
    [
        {"": 1},
        {"$a": 1},
        {"a" * 129: 1},
        {"a": None},
        {"a": {"b": 1}},
        {"a": [1, "b"]},
        {"a": [True]},
        {"a": [[1]]},
        {"a": "x" * 20_000},
    ],
)
def test_bad_metadata_is_refused(bad):
    with pytest.raises(ParameterInvalid):
        check_metadata(bad)


def test_sound_metadata_is_taken():
    check_metadata(ITEM)
    check_metadata({})


@pytest.mark.parametrize("ident", ["", "a\nb", "\x00", "\u200b", "é" * 129, "\ud800"])
def test_bad_ids_are_refused(ident):
    with pytest.raises(ParameterInvalid):
        check_ident(ident)


@pytest.mark.parametrize("ident", ["a", "a/b c", "é" * 128, "猫"])
def test_sound_ids_are_taken(ident):
    check_ident(ident)
