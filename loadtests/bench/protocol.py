"""protocol: binary tensors over the Open Inference Protocol, here and at Triton, by the same perf_analyzer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.bench import perf_analyzer
from loadtests.bench.comparison import Bar, Comparison, Contender, Turns, shares, take_turns
from loadtests.bench.perf_analyzer import PROTOCOLS
from loadtests.bench.photo import OURS
from loadtests.bench.wrk import Load
from loadtests.gateway_process import gateway
from loadtests.triton_process import Triton, free_port, triton

MODEL: Final = "digits-cnn"
SHAPE: Final = ("--shape", "pixels:32,32,1")
TRITON: Final = "Triton"
CONNECTIONS: Final = (1, 8, 32)


def compare(turns: Turns, repository: Path) -> Comparison:
    """PerfAnalyzerFailed, ServerFailed."""
    contenders: dict[Contender, Callable[[], Load]] = {}
    port = str(free_port())
    with (
        triton(repository, [MODEL]) as theirs,
        gateway(repository, environment={"TIDEGATE_GRPC_PORT": port}) as url,
    ):
        ours = Triton(url.removeprefix("http://"), f"127.0.0.1:{port}")
        for protocol in PROTOCOLS:
            for count in CONNECTIONS:
                for name, at in ((TRITON, theirs), (OURS, ours)):
                    where = at.http if protocol == "http" else at.grpc
                    measure = partial(perf_analyzer.run, MODEL, where, protocol, count, turns.seconds, *SHAPE)
                    contenders[Contender(f"{name}, {protocol}", count)] = measure
        loads = take_turns(contenders, turns.rounds)
    of_triton = shares(loads, lambda one: Contender(one.name.replace(OURS, TRITON), one.connections))
    return Comparison(
        name="protocol",
        title=f"{MODEL}, binary tensors of 1 KiB, perf_analyzer on the same cores",
        unit="inferences/s",
        share_of="Triton",
        loads=loads,
        shares=of_triton,
        bars=[_bar(protocol, count, of_triton) for protocol in PROTOCOLS for count in CONNECTIONS],
    )


def _bar(protocol: str, connections: int, of_triton: Mapping[Contender, Sequence[float]]) -> Bar:
    reached = median(of_triton[Contender(f"{OURS}, {protocol}", connections)])
    return Bar(f"protocol: {protocol}, share of Triton, {connections} at once", 1.0, reached)
