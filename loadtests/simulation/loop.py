"""Simulated time: what happens next, happens now."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Then = Callable[[], None]


class Loop:
    """Events in the order of their times; those of one time in the order in which they were made."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def after(self, seconds: float, then: Then) -> None:
        heappush(self._events, (self.now_s + seconds, next(self._numbers), then))

    def run(self, until_s: float = math.inf) -> None:
        """Until nothing is left to happen, or the time is over."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, then = heappop(self._events)
            then()


class Station:
    """So many servers and one queue before them, first come, first served: cores, a network card, a Redis."""

    __slots__ = ("_free", "_loop", "_servers", "_waiting", "busy_s")

    def __init__(self, loop: Loop, servers: int = 1) -> None:
        self.busy_s = 0.0  # of all servers
        self._loop = loop
        self._free = self._servers = servers
        self._waiting: deque[tuple[float, Then]] = deque()

    @property
    def present(self) -> int:
        return self._servers - self._free + len(self._waiting)

    def serve(self, seconds: float, then: Then) -> None:
        """Calls `then` when a server has been busy with it for so long."""
        if self._free:
            self._free -= 1
            self._begin(seconds, then)
        else:
            self._waiting.append((seconds, then))

    def _begin(self, seconds: float, then: Then) -> None:
        self.busy_s += seconds

        def end() -> None:
            if self._waiting:
                self._begin(*self._waiting.popleft())
            else:
                self._free += 1
            then()

        self._loop.after(seconds, end)
