"""Which rows shall run now: a pure decision over who waits, the time and the model's rules.

No clock, no await, no arrays. The head of the queue, which is the oldest of the most urgent, is in every batch that
is cut, so nothing starves within its priority. Rows share a run only when their shapes are equal.

Source of the rules' meaning: Triton's dynamic batcher,
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/batcher.html
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from serving.repository.config import BatchRules

# Why a batch was cut: nothing more fits | a preferred size is reached | someone waited long enough | a deadline is
# near | an engine is free and rules ask for no delay.
Reason = Literal["full", "preferred", "delay", "deadline", "free"]


WORTH: Final = 0.05  # by how much a larger batch must make a row cheaper


class Arriving(Protocol):
    """A request that waits to be sent. Times on one clock, in seconds."""

    @property
    def rows(self) -> int: ...
    @property
    def deadline_s(self) -> float: ...


class Waiting(Arriving, Protocol):
    """A request that waits to be run. Requests of equal `shape` may share a run."""

    @property
    def shape(self) -> Hashable: ...
    @property
    def enqueued_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, as positions in the queue. With nothing to take, ask again at `wake_s`, or when things change."""

    take: tuple[int, ...] = ()
    reason: Reason = "free"
    expired: tuple[int, ...] = ()
    wake_s: float = math.inf


def efficient_rows(costs_s: Mapping[int, float]) -> int:
    """Up to how many rows it pays to run together: the smallest size that costs little more a row than the cheapest.

    costs_s: rows of a run -> seconds a row. On a GPU that is a large one; convolutions on a CPU get dearer a row when a
    batch leaves the caches, and rows that wait then run sooner in two runs than in one. At least 2.
    """
    limit_s = min(costs_s.values()) * (1 + WORTH)
    return max(2, min(rows for rows, cost_s in costs_s.items() if cost_s <= limit_s))


def affordable(rules: BatchRules, costs_s: Mapping[int, float]) -> BatchRules:
    """The rules with batches no larger than pays on this host, unless the model's configuration prefers sizes."""
    if rules.max_batch_size < 2 or rules.preferred_batch_sizes or not costs_s:
        return rules
    return replace(rules, max_batch_size=min(rules.max_batch_size, efficient_rows(costs_s)))


def admit(waiting: Sequence[Arriving], now_s: float, free_rows: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Who may be sent to an engine that makes its own batches, and who is too late, both as positions in the queue.

    In order, and none before one that does not fit: a large request would starve behind small ones.
    """
    taken: list[int] = []
    expired: list[int] = []
    for i, request in enumerate(waiting):
        if request.deadline_s <= now_s:
            expired.append(i)
        elif request.rows <= free_rows:
            taken.append(i)
            free_rows -= request.rows
        else:
            break
    return tuple(taken), tuple(expired)


def decide(waiting: Sequence[Waiting], now_s: float, free_slots: int, rules: BatchRules) -> Decision:
    """The next batch, or when to ask again. `waiting` stands in order: most urgent first, then what began earlier, then
    by arrival.

    Requests whose deadline has passed are named in `expired` as far as the queue was looked at, and never taken.
    """
    group, expired, full = _group(waiting, now_s, rules.max_batch_size)
    if not group or free_slots < 1:
        return Decision(expired=expired)
    if full:
        return Decision(group, "full", expired)
    if preferred := _preferred_prefix(waiting, group, rules.preferred_batch_sizes):
        return Decision(preferred, "preferred", expired)
    due_s = min(waiting[i].enqueued_s for i in group) + rules.max_queue_delay_s
    if now_s >= due_s:
        return Decision(group, "delay" if rules.max_queue_delay_s else "free", expired)
    if any(waiting[i].deadline_s <= due_s for i in group):
        return Decision(group, "deadline", expired)  # waiting on would only lose it
    return Decision(expired=expired, wake_s=due_s)


def _group(
    waiting: Sequence[Waiting], now_s: float, max_batch_size: int
) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Positions that can run with the head, positions that expired, and whether nothing more fits."""
    group: list[int] = []
    expired: list[int] = []
    rows = 0
    for position, request in enumerate(waiting):
        if request.deadline_s <= now_s:
            expired.append(position)
            continue
        if group and request.shape != waiting[group[0]].shape:
            continue
        if group and rows + request.rows > max_batch_size:
            return tuple(group), tuple(expired), True  # it keeps its place: a later, smaller one may not overtake it
        group.append(position)
        rows += request.rows
        if rows >= max_batch_size:
            return tuple(group), tuple(expired), True
    return tuple(group), tuple(expired), False


def _preferred_prefix(
    waiting: Sequence[Waiting], group: tuple[int, ...], preferred_sizes: tuple[int, ...]
) -> tuple[int, ...]:
    """The longest part of the group, from its head, whose rows make a preferred size; empty if none does."""
    best, rows = 0, 0
    for count, position in enumerate(group, start=1):
        rows += waiting[position].rows
        if rows in preferred_sizes:
            best = count
    return group[:best]
