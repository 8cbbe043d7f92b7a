"""The batching decision: a table of cases as Triton's documentation has them, and laws that hold for any queue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching.policy import Decision, decide, efficient_rows
from serving.repository.config import BatchRules

INF = math.inf


@dataclass(frozen=True)
class Row:
    """A waiting request; by default one row that came at second 0 and has no deadline."""

    rows: int = 1
    shape: str = "a"
    enqueued_s: float = 0.0
    deadline_s: float = INF


def ones(count: int, **fields) -> list[Row]:
    return [Row(**fields) for _ in range(count)]


EAGER = BatchRules(max_batch_size=4)
PATIENT = BatchRules(max_batch_size=4, max_queue_delay_s=1.0)
PREFERRING = BatchRules(max_batch_size=8, preferred_batch_sizes=(2, 4), max_queue_delay_s=1.0)

CASES = {
    "nobody waits": ([], 0.0, 1, EAGER, Decision()),
    "a free engine takes what waits": (ones(3), 0.0, 1, EAGER, Decision((0, 1, 2), "free")),
    "never more than max_batch_size": (ones(6), 0.0, 1, EAGER, Decision((0, 1, 2, 3), "full")),
    "no engine is free": (ones(3), 0.0, 0, EAGER, Decision()),
    "a request of several rows counts them all": ([Row(3), Row(2)], 0.0, 1, EAGER, Decision((0,), "full")),
    "what does not fit is not overtaken": ([Row(3), Row(2), Row(1)], 0.0, 1, EAGER, Decision((0,), "full")),
    "other shapes wait for their own batch": (
        [Row(), Row(shape="b"), Row()],
        0.0,
        1,
        EAGER,
        Decision((0, 2), "free"),
    ),
    "a model without batch axis runs one by one": (
        ones(2),
        0.0,
        1,
        BatchRules(max_batch_size=0),
        Decision((0,), "full"),
    ),
    "with a delay, it waits for the oldest's": (
        [Row(enqueued_s=0.25), Row(enqueued_s=0.5)],
        0.5,
        1,
        PATIENT,
        Decision(wake_s=1.25),
    ),
    "the delay is over": (ones(2), 1.0, 1, PATIENT, Decision((0, 1), "delay")),
    "a full batch waits for nothing": (ones(4), 0.0, 1, PATIENT, Decision((0, 1, 2, 3), "full")),
    "a deadline before the delay's end cuts the batch": (
        [Row(), Row(deadline_s=0.9)],
        0.5,
        1,
        PATIENT,
        Decision((0, 1), "deadline"),
    ),
    "the largest preferred size that is there": (ones(5), 0.0, 1, PREFERRING, Decision((0, 1, 2, 3), "preferred")),
    "a smaller preferred size": (ones(3), 0.0, 1, PREFERRING, Decision((0, 1), "preferred")),
    "no preferred size yet": (ones(1), 0.0, 1, PREFERRING, Decision(wake_s=1.0)),
    "preferred sizes are reached by whole requests": ([Row(3), Row(2)], 0.0, 1, PREFERRING, Decision(wake_s=1.0)),
    "the late are dropped, the others run": (
        [Row(deadline_s=1.0), Row(), Row(deadline_s=2.0)],
        1.0,
        1,
        EAGER,
        Decision((1, 2), "free", (0,)),
    ),
    "the late are dropped though no engine is free": (
        [Row(deadline_s=1.0), Row()],
        1.0,
        0,
        EAGER,
        Decision(expired=(0,)),
    ),
}


@pytest.mark.parametrize(("waiting", "now_s", "free", "rules", "expected"), CASES.values(), ids=CASES.keys())
def test_decides(waiting, now_s, free, rules, expected):
    assert decide(waiting, now_s, free, rules) == expected


rows = st.builds(
    Row,
    rows=st.integers(1, 8),
    shape=st.sampled_from("ab"),
    enqueued_s=st.floats(0, 10),
    deadline_s=st.one_of(st.just(INF), st.floats(0, 20)),
)
rules = st.builds(
    BatchRules,
    max_batch_size=st.integers(0, 16),
    preferred_batch_sizes=st.lists(st.integers(1, 16), max_size=3).map(tuple),
    max_queue_delay_s=st.sampled_from([0.0, 0.5, 5.0]),
)


@given(st.lists(rows, max_size=20), st.floats(10, 20), st.integers(0, 2), rules)
def test_laws_of_any_decision(waiting, now_s, free, rules):
    decision = decide(waiting, now_s, free, rules)
    taken = [waiting[i] for i in decision.take]
    alive = [i for i, row in enumerate(waiting) if row.deadline_s > now_s]

    assert not set(decision.take) & set(decision.expired)
    assert all(waiting[i].deadline_s <= now_s for i in decision.expired), "only the late are dropped"
    assert len({row.shape for row in taken}) <= 1, "shapes are never mixed"
    if len(taken) > 1:
        assert sum(row.rows for row in taken) <= rules.max_batch_size
    if taken:
        assert free, "nothing starts without a free engine"
        assert decision.take[0] == alive[0], "the head of the queue is in every batch, so it cannot starve"
    if not taken and free and alive:
        assert now_s < decision.wake_s <= min(waiting[i].enqueued_s for i in alive) + rules.max_queue_delay_s + 10
    if rules.max_queue_delay_s == 0 and free and alive:
        assert taken, "without a delay in the rules nothing waits for a batch to fill"


@given(st.lists(rows, max_size=20), rules)
def test_asking_until_nothing_is_left_serves_everyone_once(waiting, rules):
    left = [row for row in waiting if row.deadline_s == INF]
    served: list[Row] = []
    now_s = 10.0
    while left:
        decision = decide(left, now_s, 1, rules)
        if not decision.take:
            now_s = decision.wake_s
            continue
        served += [left[i] for i in decision.take]
        left = [row for i, row in enumerate(left) if i not in decision.take]
    assert sorted(map(id, served)) == sorted(id(row) for row in waiting if row.deadline_s == INF)


@pytest.mark.parametrize(
    ("costs_s", "rows"),
    [
        ({1: 10.0, 2: 5.0, 8: 1.5, 16: 1.0}, 16),
        ({1: 10.0, 8: 2.0, 16: 1.02, 32: 1.0}, 16),
        ({1: 6.66, 2: 6.76, 4: 7.18, 8: 7.95, 16: 8.02}, 2),
        ({1: 1.0, 2: 1.5}, 2),
        ({1: 1.2, 2: 1.2, 4: 1.02, 8: 1.0}, 4),
        ({1: 1.0}, 2),
    ],
    ids=["a GPU", "its knee", "convolutions on a CPU", "never less than two", "the smallest that is cheap", "one size"],
)
def test_batches_are_as_large_as_pays(costs_s, rows):
    assert efficient_rows(costs_s) == rows
