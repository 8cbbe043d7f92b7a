"""triton: what the gateway takes of the photos that callers with NVIDIA's own client get through the same Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.bench import bodies, wrk
from loadtests.bench.comparison import WARM_UP_S, Bar, Comparison, Contender, Turns, ask, shares, take_turns
from loadtests.bench.photo import MODEL, OURS
from loadtests.bench.plain_process import ROOT
from loadtests.bench.wrk import Load, Target
from loadtests.gateway_process import gateway
from loadtests.triton_process import Triton, triton

CONNECTIONS: Final = (1, 8)
LEAST: Final = 0.9  # of the direct callers', at 8 connections
DIRECT: Final = "tritonclient, direct"


def compare(turns: Turns, repository: Path) -> Comparison:
    """AnswersDiffer, WrkFailed, ServerFailed; CalledProcessError when the direct callers fail."""
    with triton(repository, [MODEL]) as server:
        options = {"TIDEGATE_ENGINE": "triton", "TIDEGATE_TRITON_URL": server.grpc}
        with gateway(repository, environment=options) as url:
            target = Target(f"{url}/v1/classify?model={MODEL}", bodies.photo_form(), bodies.MULTIPART)
            ask(target)
            wrk.run(target, max(CONNECTIONS), WARM_UP_S)
            contenders = {}
            for count in CONNECTIONS:
                contenders[Contender(DIRECT, count)] = lambda count=count: _direct(server, repository, count, turns)
                contenders[Contender(OURS, count)] = lambda count=count: wrk.run(target, count, turns.seconds)
            loads = take_turns(contenders, turns.rounds)
    of_direct = shares(loads, lambda one: Contender(DIRECT, one.connections))
    reached = median(of_direct[Contender(OURS, 8)])
    return Comparison(
        name="triton",
        title=f"{MODEL} on Triton, JPEG of 640 x 427 in, the 5 best labels out, all cores",
        unit="images/s",
        share_of="direct",
        loads=loads,
        shares=of_direct,
        bars=[Bar("triton: share of what direct callers reach, 8 connections", LEAST, reached)],
    )


def _direct(server: Triton, repository: Path, callers: int, turns: Turns) -> Load:
    """In a process of its own, as callers are."""
    place = [str(repository.absolute()), MODEL, str(bodies.PHOTO), server.grpc]
    command = [sys.executable, "-m", "loadtests.bench.direct", *place]
    options = ["--callers", str(callers), "--seconds", str(turns.seconds)]
    done = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, check=True)  # noqa: S603  (our own)
    return Load(**json.loads(done.stdout))
