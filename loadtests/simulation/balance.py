"""Which of many gateways gets a request: what balancers do, as functions of how many each has."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final

Choose = Callable[[Sequence[int]], int]  # requests at each -> a place among them
Make = Callable[[random.Random], Choose]


def at_random(chance: random.Random) -> Choose:
    """As kube-proxy does: whichever."""
    return lambda present: chance.randrange(len(present))


def in_turn(chance: random.Random) -> Choose:
    """As nginx does: one after the other."""
    numbers = count(chance.randrange(1000))
    return lambda present: next(numbers) % len(present)


def of_two(chance: random.Random) -> Choose:
    """As Envoy does: two by chance, and of these the one with less. Mitzenmacher 2001, The Power of Two Choices."""

    def choose(present: Sequence[int]) -> int:
        one, other = chance.randrange(len(present)), chance.randrange(len(present))
        return one if present[one] <= present[other] else other

    return choose


def least(chance: random.Random) -> Choose:
    """As HAProxy's leastconn does: the one with least, of equal ones by chance. It must know of all requests."""

    def choose(present: Sequence[int]) -> int:
        fewest = min(present)
        start = chance.randrange(len(present))
        return next(i % len(present) for i in range(start, start + len(present)) if present[i % len(present)] == fewest)

    return choose


BALANCERS: Final[Mapping[str, Make]] = {
    "random": at_random,
    "in turn": in_turn,
    "two choices": of_two,
    "least busy": least,
}
