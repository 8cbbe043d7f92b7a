"""Whether the simulation says what happens: a real gateway on the fake engine, and the same simulated, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, Final

from loadtests.capacity_run import Route as Asked
from loadtests.gateway_process import Fake, gateway_ports
from loadtests.payloads import TASKS, shot_at
from loadtests.pictures import EXAMPLE
from loadtests.simulation.cluster import Cluster, Costs, Design
from loadtests.simulation.figures import Level
from loadtests.simulation.measure import cpu_s, gateway_cpu_s
from loadtests.summary import late_p99_s, percentile
from serving.repository.layout import SINGLE_GRAPH, scan
from serving.task import Request

MODEL: Final = "digits-cnn"
ENGINE: Final = Fake(base_s=0.08, row_s=0.01)  # slow, so that the processor, which both share, is idle
SHARES: Final = (0.3, 0.6, 0.8, 0.9, 1.2)  # of what full batches make
SECONDS: Final = 20.0
LIMIT_S: Final = 1.0  # of an answer that is good
PAUSE_S: Final = 1.0
SIMULATED: Final = 10  # times, each as long as what was measured, and begun as idle


def levels(repository: Path) -> Iterator[Level]:
    """From little load to more than there is room for."""
    shots = shot_at("classify", MODEL, EXAMPLE)
    model = scan(repository).models[MODEL]
    version = model.versions[model.first_version]
    config = version.graphs[SINGLE_GRAPH].config
    task: Any = TASKS["classify"](version)
    request = Request(shots[0].body, task.parameters())
    decode_s = cpu_s(lambda: task.encode(request))
    rows = max(1, config.rules.max_batch_size)
    full = config.instances * rows / (ENGINE.base_s + rows * ENGINE.row_s)
    with gateway_ports(repository, fake=ENGINE) as at:
        loop_s = max(0.0, gateway_cpu_s(at.public, shots) - decode_s)
        costs = Costs(loop_s, decode_s, 0.0, ENGINE.base_s, ENGINE.row_s)
        simulated = Design(gpus=config.instances, cores=2, rules=config.rules), costs
        route = Asked(at.public, shots)
        for share in SHARES:
            yield _level(route, share, share * full, simulated)
            time.sleep(PAUSE_S)


def _level(route: Asked, share: float, rate: float, simulated: tuple[Design, Costs]) -> Level:
    outcomes = route.open_loop(rate, SECONDS)
    # The generator's own lateness is no part of the server's time.
    latencies = sorted(one.latency_s - one.late_s for one in outcomes if one.answered)
    results = [Cluster(*simulated, seed).run(rate, len(outcomes)) for seed in range(SIMULATED)]
    expected = sorted(latency_s for result in results for latency_s in result.latencies_s)
    return Level(
        share=share,
        rate=rate,
        requests=len(outcomes),
        late_p99_s=late_p99_s(outcomes),
        measured_p50_s=percentile(latencies, 0.5),
        measured_p99_s=percentile(latencies, 0.99),
        measured_goodput=sum(latency_s <= LIMIT_S for latency_s in latencies) / len(outcomes),
        simulated_p50_s=percentile(expected, 0.5),
        simulated_p99_s=percentile(expected, 0.99),
        simulated_goodput=mean(result.goodput(LIMIT_S) for result in results),
    )
