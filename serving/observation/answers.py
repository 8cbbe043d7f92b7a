"""What a gateway remembers of its answers, for when somebody tells the truth: the gist of each, never a request.

Bounded in number, in bytes and in age. Answers are kept in some generations, of which the oldest goes as a whole: to
forget one with each that comes took several times as long, for what is old is in no processor's cache any more.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Final, NamedTuple

from serving.monitoring.score import Score
from serving.task import Gist, Task

GENERATIONS: Final = 32
OVERHEAD: Final = 170  # bytes of an answer beside its gist: its id, its place, and what is below (measured)
GIST: Final = 2  # the place of the gist below, or of what stands for it: by name it takes three times as long


class Remembered(NamedTuple):
    """An answer. task: bound to the version that gave it, labels and all. caller: the name of the key it was for."""

    task: Task[Any]
    caller: str
    gist: Gist


class Judged(NamedTuple):
    """An answer that has its truth; truth: a digest of it."""

    task: Task[Any]
    caller: str
    score: Score
    truth: bytes


class _Generation:
    """Answers that came one after another. began_s: when the first one did."""

    __slots__ = ("began_s", "bytes", "kept")

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.bytes = 0
        self.kept: dict[bytes, Remembered | Judged] = {}


class Answers:
    """Answers by request id; of two with the same id the later one. now_s: on any one clock."""

    def __init__(self, most: int, most_bytes: int, most_age_s: float) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_age_s = most_age_s
        self._young = _Generation(-float("inf"))
        self._old: deque[_Generation] = deque()  # the oldest first
        self._most_young = max(1, most // GENERATIONS)
        self._most_young_bytes = most_bytes // GENERATIONS

    def keep(self, request_id: bytes, one: Remembered, now_s: float) -> None:
        """Remembers an answer; one that is larger than all may be is not kept."""
        young = self._young
        size = OVERHEAD + sys.getsizeof(one[GIST])
        if (
            len(young.kept) >= self._most_young
            or young.bytes + size > self._most_young_bytes
            or now_s - young.began_s > self._most_age_s / GENERATIONS
        ):
            if size > self._most_bytes:
                return
            young = self._grow(now_s, size)
        young.kept[request_id] = one
        young.bytes += size

    def count(self, now_s: float) -> int:
        """How many there are; what is too old is forgotten first. (`find` gives none of it in any case.)"""
        while self._old and self._ended(self._old[0], now_s):
            self._old.popleft()
        if self._ended(self._young, now_s):
            self._young = _Generation(-float("inf"))
        return sum(len(one.kept) for one in (*self._old, self._young))

    @property
    def size(self) -> int:
        """What they take of memory, about."""
        return sum(one.bytes for one in (*self._old, self._young))

    def find(self, request_id: bytes, now_s: float) -> Remembered | Judged | None:
        """The answer, if it is not too old: to within a part in GENERATIONS."""
        generation = self._generation(request_id, now_s)
        return generation.kept[request_id] if generation else None

    def judge(self, request_id: bytes, one: Remembered, truth: bytes, score: Score, now_s: float) -> None:
        """Puts a score in the gist's place. Nothing happens if the answer was forgotten meanwhile."""
        generation = self._generation(request_id, now_s)
        if generation and generation.kept[request_id] is one:
            judged = generation.kept[request_id] = Judged(one.task, one.caller, score, truth)
            generation.bytes += sys.getsizeof(judged[GIST]) - sys.getsizeof(one.gist)

    def _generation(self, request_id: bytes, now_s: float) -> _Generation | None:
        for one in (self._young, *reversed(self._old)):
            if request_id in one.kept and not self._ended(one, now_s):
                return one
        return None

    def _grow(self, now_s: float, size: int) -> _Generation:
        """A new generation, with room for an answer of that size: older ones go for it."""
        if self._young.kept:
            self._old.append(self._young)
        self._young = _Generation(now_s)
        self.count(now_s)
        room = self._most - min(self._most_young, self._most)
        while self._old and (
            sum(len(one.kept) for one in self._old) > room
            or sum(one.bytes for one in self._old) + max(size, self._most_young_bytes) > self._most_bytes
        ):
            self._old.popleft()
        return self._young

    def _ended(self, one: _Generation, now_s: float) -> bool:
        return now_s - one.began_s > self._most_age_s
