"""What many gateways ask of one Redis: a beat each second, and a promotion that waits for the slowest of them.

    each gateway, each second    says that it lives; reads what all others say; asks whether the document moved
    a promotion                  the wish; each gateway reads it, loads, says so; the one that was asked looks at what
                                 all say, again and again (versions/rollout.py), until they are ready; the pointer
                                 moves; each gateway reads it

As serving/ledgers/redis.py and serving/versions/{reconciler,rollout}.py do it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from loadtests.simulation.loop import Loop, Station
from loadtests.summary import percentile
from serving.ledger import HEARTBEAT_S
from serving.versions.rollout import ASK_S

SETTLED_S: Final = 3.0  # beats before anything is counted


@dataclass(frozen=True, slots=True)
class StateCosts:
    """Seconds. Of Redis: to be told of a gateway, to say whether the document moved, to give it, to say what all
    gateways say, which is members_s + n * member_s. Of a gateway: to read what n say, n * parse_s.
    """

    announce_s: float
    look_s: float
    read_s: float
    members_s: float
    member_s: float
    parse_s: float

    def census_s(self, gateways: int) -> float:
        return self.members_s + gateways * self.member_s


@dataclass(frozen=True, slots=True)
class Loads:
    """How long a gateway takes to load a version: log-normal, with this median and this spread."""

    median_s: float
    sigma: float

    def draw(self, chance: random.Random) -> float:
        return self.median_s * math.exp(chance.gauss(0.0, self.sigma))


class Gateways:
    """So many gateways on one Redis."""

    def __init__(self, count: int, costs: StateCosts, seed: int = 0) -> None:
        self._count = count
        self._costs = costs
        self._chance = random.Random(seed)
        self._loop = Loop()
        self._redis = Station(self._loop)
        self._waits_s: list[float] = []
        self._going = True
        for _ in range(count):
            self._loop.after(self._chance.random() * HEARTBEAT_S, self._beat)

    def beats(self, seconds: float) -> tuple[float, float]:
        """How much of the time Redis is busy, and how long the slowest beat but one in a hundred takes."""
        self._loop.run(SETTLED_S)
        busy_s, self._waits_s = self._redis.busy_s, []
        self._loop.run(SETTLED_S + seconds)
        waits_s = [*self._waits_s, *([math.inf] if not self._waits_s else [])]
        return min(1.0, (self._redis.busy_s - busy_s) / seconds), percentile(sorted(waits_s), 0.99)

    def promotion(self, loads: Loads, limit_s: float) -> float:
        """Seconds until all gateways serve the new version, beats going on meanwhile; inf if not within limit_s."""
        self._loop.run(SETTLED_S)
        begun_s = self._loop.now_s
        missing = following = self._count
        ended_s = math.inf

        def ready() -> None:
            nonlocal missing
            missing -= 1

        def follow() -> None:
            nonlocal following, ended_s
            following -= 1
            if not following:
                ended_s = self._loop.now_s
                self._going = False

        def load() -> None:
            self._loop.after(loads.draw(self._chance), lambda: self._redis.serve(self._costs.announce_s, ready))

        def look() -> None:
            self._redis.serve(self._costs.census_s(self._count), seen)

        def seen() -> None:
            if missing:
                self._loop.after(ASK_S + self._count * self._costs.parse_s, look)
            else:
                self._tell(follow)

        self._tell(load)
        look()
        self._loop.run(begun_s + limit_s)
        return ended_s - begun_s

    def _tell(self, then: Callable[[], None]) -> None:
        """The document is written, and all who hear of it read it."""

        def all_read() -> None:
            for _ in range(self._count):
                self._redis.serve(self._costs.read_s, then)

        self._redis.serve(self._costs.read_s, all_read)

    def _beat(self) -> None:
        """One gateway's second, one question after another."""
        begun_s, costs = self._loop.now_s, self._costs

        def census() -> None:
            self._redis.serve(costs.census_s(self._count), look)

        def look() -> None:
            self._redis.serve(costs.look_s, end)

        def end() -> None:
            self._waits_s.append(self._loop.now_s - begun_s)
            if self._going:
                self._loop.after(HEARTBEAT_S + self._count * costs.parse_s, self._beat)

        self._redis.serve(costs.announce_s, census)
