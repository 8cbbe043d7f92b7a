"""What is simulated: one host, many hosts, balancers, and the Redis that all gateways share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from loadtests.simulation.balance import BALANCERS
from loadtests.simulation.bounds import bounds, costs_of, design_of
from loadtests.simulation.cluster import Cluster, Design, Result
from loadtests.simulation.figures import FAST, HEAVY, Accelerator, Kind, Measured
from loadtests.simulation.shared_state import Gateways, Loads
from serving.redis.link import EXCHANGE_S

GPUS: Final = (1, 8, 64, 256, 1000)
BUSY: Final = 0.8  # of what gives way first
BALANCED: Final = 256  # GPUs
BALANCED_AT: Final = (0.7, 0.9, 0.97)
GATEWAYS: Final = (2, 16, 64, 128, 256, 512, 768, 1024, 2000)
REQUESTS: Final = 40_000
EACH: Final = 60  # requests a GPU at least, of which the first third is warm-up
BEATS_S: Final = 10.0
PROMOTIONS: Final = 9  # the median of so many
PROMOTION_LIMIT_S: Final = 120.0
SPREAD: Final = 0.5  # of load times among hosts, assumed: one in a hundred takes three times as long as the median


@dataclass(frozen=True, slots=True)
class Scale:
    """GPUs under BUSY of what their hosts can do."""

    accelerator: Accelerator
    gpus: int
    hosts: int
    rate: float
    first: str
    result: Result


@dataclass(frozen=True, slots=True)
class Balanced:
    """A balancer before hosts with so many GPUs each, at a share of what they can do."""

    balancer: str
    gpus_a_host: int
    share: float
    result: Result


@dataclass(frozen=True, slots=True)
class Shared:
    """Gateways on one Redis. beat_s: the slowest but one in a hundred; promotion_s: inf if it does not end.

    bytes_s: that Redis sends; census_s: of each second, what a gateway's event loop spends on reading what all say.
    """

    gateways: int
    busy: float
    beat_s: float
    bytes_s: float
    census_s: float
    promotion_s: float

    @property
    def holds(self) -> bool:
        """Whether answers come within what a gateway waits for them."""
        return self.beat_s < EXCHANGE_S and self.busy < 1


def scales(measured: Measured, kind: Kind) -> Iterator[Scale]:
    for accelerator in (FAST, HEAVY):
        limit = bounds(measured, accelerator, kind)
        for gpus in GPUS:
            design = design_of(gpus, accelerator, kind)
            rate = BUSY * limit.rate * gpus / kind.gpus
            result = _simulated(measured, accelerator, design, rate)
            yield Scale(accelerator, gpus, design.hosts, rate, limit.first, result)


def balancers(measured: Measured, kind: Kind) -> Iterator[Balanced]:
    """Before a model that keeps its GPUs busy, since there what waits, waits longest: on large hosts and on small."""
    for some in (kind, small(kind)):
        limit = bounds(measured, HEAVY, some)
        for share in BALANCED_AT:
            for balancer in BALANCERS:
                rate = share * limit.rate * BALANCED / some.gpus
                result = _simulated(measured, HEAVY, design_of(BALANCED, HEAVY, some, balancer), rate)
                yield Balanced(balancer, some.gpus, share, result)


def small(kind: Kind) -> Kind:
    """A host with one GPU and its share of the rest."""
    return Kind(
        gpus=1,
        cores=kind.cores // kind.gpus,
        gateways=max(1, kind.gateways // kind.gpus),
        gigabits=kind.gigabits / kind.gpus,
    )


def shared(measured: Measured) -> Iterator[Shared]:
    costs = measured.state_costs()
    loads = Loads(measured.load_s, SPREAD)
    for count in GATEWAYS:
        busy, beat_s = Gateways(count, costs).beats(BEATS_S)
        times = [Gateways(count, costs, seed).promotion(loads, PROMOTION_LIMIT_S) for seed in range(_tries(count))]
        sent = count * count * measured.member_bytes
        yield Shared(count, busy, beat_s, sent, count * costs.parse_s, median(times))


def _tries(count: int) -> int:
    """Fewer of what takes long and varies little."""
    return PROMOTIONS if count <= 128 else 3


def _simulated(measured: Measured, accelerator: Accelerator, design: Design, rate: float) -> Result:
    requests = max(REQUESTS, design.hosts * design.gpus * EACH)
    return Cluster(design, costs_of(measured, accelerator)).run(rate, requests, requests // 2)
