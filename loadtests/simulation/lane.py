"""One model's queue and the runs of its batches: the gateway's own policy, in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from loadtests.simulation.loop import Loop, Then
from serving.batching.policy import decide
from serving.engine import ANY_TIME, check_admission
from serving.errors import QueueFull
from serving.repository.config import BatchRules

LOOKED_AT: Final = (
    4  # batches: the policy sees no more of the queue than it could take, or each cut would walk all of it
)


@dataclass(slots=True)
class Entry:
    """A request of one row; satisfies policy.Waiting."""

    enqueued_s: float
    then: Then
    deadline_s: float = math.inf
    rows: int = 1
    shape: int = 0


class Lane:
    """So many runs at once, each of the rows that `decide` takes. service_s: of a run, by its rows."""

    def __init__(self, loop: Loop, rules: BatchRules, slots: int, service_s: Callable[[int], float]) -> None:
        self.busy_s = 0.0
        self.rows = self.runs = 0
        self._loop = loop
        self._rules = rules
        self._free = slots
        self._service_s = service_s
        self._waiting: list[Entry] = []

    @property
    def present(self) -> int:
        return len(self._waiting)

    def offer(self, then: Then) -> bool:
        """False: the queue is full. Else `then` is called when the row's run has ended."""
        try:
            check_admission("model", 1, len(self._waiting), self._rules, ANY_TIME)
        except QueueFull:
            return False
        self._waiting.append(Entry(self._loop.now_s, then))
        self._pump()
        return True

    def _pump(self) -> None:
        while self._free and self._waiting:
            head = self._waiting[: LOOKED_AT * max(1, self._rules.max_batch_size)]
            decision = decide(head, self._loop.now_s, self._free, self._rules)
            if not decision.take:
                if decision.wake_s < math.inf:
                    self._loop.after(decision.wake_s - self._loop.now_s, self._pump)
                return
            taken = [self._waiting[i] for i in decision.take]  # the head of the queue: all rows are alike
            del self._waiting[: len(taken)]
            self._run(taken)

    def _run(self, taken: list[Entry]) -> None:
        self._free -= 1
        seconds = self._service_s(len(taken))
        self.busy_s += seconds
        self.rows += len(taken)
        self.runs += 1

        def end() -> None:
            self._free += 1
            for entry in taken:
                entry.then()
            self._pump()

        self._loop.after(seconds, end)
