"""What a gateway remembers of its answers, for when somebody tells the truth: the gist of each, never a request.

Bounded in number, in bytes and in age; the oldest goes first.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from serving.monitoring.score import Score
from serving.task import Gist, Task

OVERHEAD: Final = 260  # bytes of an answer beside its gist: its id, its place, and what is below (measured)
GIST: Final = 3  # the place of the gist below, or of what stands for it: by name it takes three times as long


class Remembered(NamedTuple):
    """An answer. task: bound to the version that gave it, labels and all. caller: the name of the key it was for.

    answered_s: on time.monotonic()'s clock.
    """

    task: Task[Any]
    caller: str
    answered_s: float
    gist: Gist


class Judged(NamedTuple):
    """An answer that has its truth; truth: a digest of it."""

    task: Task[Any]
    caller: str
    answered_s: float
    score: Score
    truth: bytes


class Answers:
    """Answers by request id; of two with the same id the later one."""

    def __init__(self, most: int, most_bytes: int, most_age_s: float) -> None:
        self.bytes = 0
        self._most = most
        self._most_bytes = most_bytes
        self._most_age_s = most_age_s
        self._kept: OrderedDict[bytes, Remembered | Judged] = OrderedDict()

    def keep(self, request_id: bytes, one: Remembered) -> None:
        """Remembers an answer, and forgets what is too much."""
        kept = self._kept
        if request_id in kept:
            self._forget(kept.pop(request_id))
        kept[request_id] = one
        self.bytes += OVERHEAD + sys.getsizeof(one[GIST])
        if len(kept) > self._most:
            self._forget(kept.popitem(last=False)[1])
        while self.bytes > self._most_bytes:
            self._forget(kept.popitem(last=False)[1])

    def count(self, now_s: float) -> int:
        """How many there are; what is too old is forgotten first. (`find` gives none of it in any case.)"""
        kept = self._kept
        while kept and self._old(next(iter(kept.values())), now_s):
            self._forget(kept.popitem(last=False)[1])
        return len(kept)

    def find(self, request_id: bytes, now_s: float) -> Remembered | Judged | None:
        """The answer, if it is not too old."""
        one = self._kept.get(request_id)
        return None if one is None or self._old(one, now_s) else one

    def judge(self, request_id: bytes, one: Remembered, truth: bytes, score: Score) -> None:
        """Puts a score in the gist's place. Nothing happens if the answer was forgotten meanwhile."""
        if self._kept.get(request_id) is one:
            self._forget(one)
            judged = self._kept[request_id] = Judged(one.task, one.caller, one.answered_s, score, truth)
            self.bytes += OVERHEAD + sys.getsizeof(judged[GIST])

    def _old(self, one: Remembered | Judged, now_s: float) -> bool:
        return now_s - one.answered_s > self._most_age_s

    def _forget(self, one: Remembered | Judged) -> None:
        self.bytes -= OVERHEAD + sys.getsizeof(one[GIST])
