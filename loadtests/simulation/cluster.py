"""Hosts with GPUs, gateways before them, a balancer before these, and requests that arrive by chance.

    balancer -> the host's network card -> a gateway's event loop -> its cores decode -> the model's queue and runs
             -> the event loop again, the answer

Who may wait and which rows run together is decided by the gateway's own code (serving/engine.py,
serving/batching/policy.py). What each step costs is given.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtests.simulation.balance import BALANCERS
from loadtests.simulation.lane import Lane
from loadtests.simulation.loop import Loop, Station
from loadtests.summary import percentile
from serving.repository.config import BatchRules

BEFORE: Final = 0.7  # of a gateway's work on a request, the part before its run: reading, routing


EIGHT: Final = BatchRules(max_batch_size=8)


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one request. loop_s: on a gateway's event loop; decode_s: on a core; sent_bytes: to the host.

    A run of n rows takes base_s + n * row_s; base_s is what a GPU takes however few they are.
    """

    loop_s: float
    decode_s: float
    sent_bytes: float
    base_s: float
    row_s: float


@dataclass(frozen=True, slots=True)
class Design:
    """hosts, each with so many GPUs, gateway processes, cores for decoding, and bytes a second."""

    hosts: int = 1
    gpus: int = 1  # of a host
    gateways: int = 1  # of a host
    cores: int = 1  # of a host
    bytes_s: float = math.inf  # of a host
    rules: BatchRules = EIGHT
    balancer: str = "two choices"


@dataclass(slots=True)
class Result:
    """latencies_s: of what was answered, in order. refused: at a full queue. Shares of time each kind was busy."""

    seconds: float = 0.0
    due: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    batch_rows: float = 0.0

    def percentile_s(self, share: float) -> float:
        return percentile(self.latencies_s, share)

    def goodput(self, limit_s: float) -> float:
        """Answers within the limit, as a share of what was due."""
        return sum(latency_s <= limit_s for latency_s in self.latencies_s) / self.due if self.due else 0.0


class Host:
    """One host in one simulation."""

    def __init__(self, loop: Loop, design: Design, costs: Costs) -> None:
        self.network = Station(loop)
        self.cores = Station(loop, design.cores)
        self.loops = [Station(loop) for _ in range(design.gateways)]
        self.lane = Lane(loop, design.rules, design.gpus, lambda rows: costs.base_s + rows * costs.row_s)


class Cluster:
    """A simulation. Requests before `warm_up` of them are not counted."""

    def __init__(self, design: Design, costs: Costs, seed: int = 0) -> None:
        self._design = design
        self._costs = costs
        self._chance = random.Random(seed)
        self._loop = Loop()
        self._hosts = [Host(self._loop, design, costs) for _ in range(design.hosts)]
        self._present = [0] * (design.hosts * design.gateways)
        self._choose = BALANCERS[design.balancer](self._chance)
        self._result = Result()

    def run(self, rate: float, requests: int, warm_up: int = 0) -> Result:
        """What came of so many requests at that rate."""
        result, loop = self._result, self._loop
        left = warm_up + requests

        def arrive() -> None:
            nonlocal left
            left -= 1
            self._request(counts=left < requests)
            if left:
                loop.after(self._chance.expovariate(rate), arrive)

        loop.after(0.0, arrive)
        loop.run()
        result.due = requests
        result.seconds = loop.now_s
        result.latencies_s.sort()
        result.busy = self._busy(loop.now_s)
        rows, runs = (sum(getattr(host.lane, name) for host in self._hosts) for name in ("rows", "runs"))
        result.batch_rows = rows / runs if runs else 0.0
        return result

    def _request(self, *, counts: bool) -> None:
        """From the balancer to the answer, step by step."""
        costs, loop, place = self._costs, self._loop, self._choose(self._present)
        number, gateway = divmod(place, self._design.gateways)
        host = self._hosts[number]
        events, begun_s = host.loops[gateway], loop.now_s
        self._present[place] += 1

        def read() -> None:
            events.serve(costs.loop_s * BEFORE, decode)

        def decode() -> None:
            host.cores.serve(costs.decode_s, queue)

        def queue() -> None:
            if not host.lane.offer(reply):
                self._result.refused += counts
                self._present[place] -= 1

        def reply() -> None:
            events.serve(costs.loop_s * (1 - BEFORE), answered)

        def answered() -> None:
            self._present[place] -= 1
            if counts:
                self._result.latencies_s.append(loop.now_s - begun_s)

        host.network.serve(costs.sent_bytes / self._design.bytes_s, read)

    def _busy(self, seconds: float) -> dict[str, float]:
        """How much of the time each kind was at work, on average over all of its kind."""
        design, hosts = self._design, self._hosts

        def share(busy_s: Sequence[float], each: int) -> float:
            return sum(busy_s) / (len(busy_s) * each * seconds) if seconds else 0.0

        return {
            "network": share([host.network.busy_s for host in hosts], 1),
            "event loop": share([one.busy_s for host in hosts for one in host.loops], 1),
            "decoding": share([host.cores.busy_s for host in hosts], design.cores),
            "GPU": share([host.lane.busy_s for host in hosts], design.gpus),
        }
