"""Windows: the latest requests by bin, against a list of them that is kept whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.monitoring.reference import Kinds, Numbers
from serving.monitoring.windows import Layout, Window

LAYOUT = Layout({"x": Numbers(edges=(0.0, 1.0), counts=(1, 1, 1)), "kind": Kinds(kinds=("a",), counts=(1, 1))})


def test_a_layout_places_each_feature_among_its_own_bins():
    assert LAYOUT.size == 5
    assert LAYOUT.places({"x": 0.5, "kind": "b", "unknown": 3.0}) == [1, 4]
    assert LAYOUT.places({"x": float("nan"), "kind": 3.0}) == []
    split = LAYOUT.split(np.arange(5))
    assert {name: counts.tolist() for name, counts in split.items()} == {"x": [0, 1, 2], "kind": [3, 4]}


def test_layouts_have_one_fingerprint_where_their_bins_are_the_same():
    x = Numbers(edges=(0.0, 1.0), counts=(1, 1, 1))
    assert Layout({"x": x}).fingerprint == Layout({"x": x.model_copy(update={"counts": (9, 9, 9)})}).fingerprint
    others = [{"y": x}, {"x": Numbers(edges=(0.0, 2.0), counts=(1, 1, 1))}, {"x": x, "y": x}, {}]
    assert len({Layout(one).fingerprint for one in ({"x": x}, *others)}) == 5


STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2)), max_size=120)


@given(STEPS)
def test_a_window_holds_the_latest_rows_and_none_that_is_old(steps):
    window = Window(LAYOUT, rows=20, blocks=5, age_s=100.0)
    now_s, all_of_them = 0.0, []
    for lasted_s, place in steps:
        now_s += lasted_s
        window.add([place], now_s)
        all_of_them.append((now_s, place))
        rows, counts = window.rows(now_s), window.counts(now_s)
        assert rows == counts.sum() <= 20
        latest = np.bincount([one for _, one in all_of_them[-rows:]], minlength=5)
        assert counts.tolist() == latest.tolist()
        assert all(now_s - then_s <= 100 for then_s, _ in all_of_them[-rows:])
        fresh = sum(now_s - then_s <= 100 - 20 for then_s, _ in all_of_them)  # a block may hold a fifth of the age
        if all(step[0] == 0 for step in steps):
            assert rows >= min(17, fresh), "no more than a block's worth is missing"


def test_of_steady_traffic_it_is_full_but_for_the_newest_block_and_ages_when_that_ends():
    window = Window(LAYOUT, rows=100, blocks=10, age_s=60.0)
    for i in range(1000):
        window.add([i % 3], i * 0.01)
    assert 91 <= window.rows(10.0) <= 100
    assert window.rows(69.55) == 40, "a block of ten after the other"
    assert window.rows(100.0) == 0
    assert window.counts(100.0).tolist() == [0] * 5


def test_few_requests_over_long_times_age_a_part_at_a_time():
    window = Window(LAYOUT, rows=1000, blocks=10, age_s=100.0)
    for i in range(100):
        window.add([0], float(i))
    assert 75 <= window.rows(120.0) <= 85, "those of the first twenty seconds are gone"
