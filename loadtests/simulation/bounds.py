"""What each part of a host can do at most, and which gives way first: arithmetic over measured figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.simulation.cluster import Costs, Design
from loadtests.simulation.figures import Accelerator, Kind, Measured
from serving.repository.config import BatchRules


@dataclass(frozen=True, slots=True)
class Bounds:
    """Requests a second of one host, by part."""

    parts: Mapping[str, float]

    @property
    def first(self) -> str:
        """What gives way first."""
        return min(self.parts, key=lambda part: self.parts[part])

    @property
    def rate(self) -> float:
        return self.parts[self.first]


def costs_of(measured: Measured, accelerator: Accelerator) -> Costs:
    """A photo's, through a gateway with Triton behind it where that was measured."""
    loop_s = measured.photo_on_triton_loop_s or measured.photo.loop_s
    return Costs(loop_s, measured.photo.decode_s, measured.photo.sent_bytes, accelerator.base_s, accelerator.row_s)


def decoding_cores(kind: Kind) -> int:
    """Those that gateways' event loops leave."""
    return kind.cores - kind.gateways


def bounds(measured: Measured, accelerator: Accelerator, kind: Kind) -> Bounds:
    """Of a host of that kind."""
    costs = costs_of(measured, accelerator)
    return Bounds(
        {
            "GPUs": kind.gpus * accelerator.rate,
            "network": kind.bytes_s / costs.sent_bytes,
            "cores that decode": decoding_cores(kind) / costs.decode_s,
            "event loops": kind.gateways / costs.loop_s,
        }
    )


def design_of(gpus: int, accelerator: Accelerator, kind: Kind, balancer: str = "two choices") -> Design:
    """Hosts enough for so many GPUs; with fewer than a host's, one with less of everything."""
    hosts = math.ceil(gpus / kind.gpus)
    share = gpus / (hosts * kind.gpus)
    return Design(
        hosts=hosts,
        gpus=max(1, round(kind.gpus * share)),
        gateways=max(1, round(kind.gateways * share)),
        cores=max(1, round(decoding_cores(kind) * share)),
        bytes_s=kind.bytes_s * share,
        rules=BatchRules(max_batch_size=accelerator.max_batch_size),
        balancer=balancer,
    )


def one_process(measured: Measured, cores: int) -> Mapping[str, float]:
    """Photos a second of one gateway that runs the model itself: all its cores, and its event loop alone."""
    photo = measured.photo
    run_s = min(seconds / rows for rows, seconds in measured.runs.items())
    return {
        "cores": cores / (photo.loop_s + photo.decode_s + run_s),
        "event loop": 1 / photo.loop_s,
    }
