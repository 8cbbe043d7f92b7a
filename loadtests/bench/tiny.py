"""tiny: how much a server itself costs. The model takes microseconds, so what is compared is all that is around it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from loadtests.bench import bodies, tiny_model
from loadtests.bench.comparison import (
    AnswersDiffer,
    Bar,
    Comparison,
    Contender,
    Turns,
    ask,
    servers,
    shares,
    take_turns,
)
from loadtests.bench.plain_process import plain
from loadtests.bench.wrk import Target, pinned
from loadtests.gateway_process import gateway

TIMES_PLAIN: Final = 3.0  # at 32 connections
OURS: Final = "tidegate"
PLAIN: Final = "plain FastAPI"


def compare(turns: Turns, cores: Sequence[int]) -> Comparison:
    """Servers on the first core, wrk on the second. AnswersDiffer, WrkFailed, ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="tiny-") as folder:
        version = tiny_model.publish(Path(folder))
        server_core, wrk_core = pinned(cores[0]), cores[1]
        with gateway(Path(folder), server_core) as our_url, plain("tiny", version, server_core) as plain_url:
            asked = targets(our_url, plain_url)
            check(asked)
            loads = take_turns(servers(asked, turns.seconds, wrk_core), turns.rounds)
    times_plain = shares(loads, lambda contender: Contender(PLAIN, contender.connections))
    reached = median(times_plain[Contender(OURS, 32)])
    return Comparison(
        name="tiny",
        title=f"a CNN of {tiny_model.parameter_count():,} parameters, 784 pixels as JSON numbers, server on one core",
        unit="requests/s",
        share_of="plain",
        loads=loads,
        shares=times_plain,
        bars=[Bar("tiny: times plain FastAPI, 32 connections", TIMES_PLAIN, reached)],
    )


def targets(our_url: str, plain_url: str) -> Mapping[str, Target]:
    """The same picture for both servers."""
    return {
        OURS: Target(f"{our_url}/v2/models/{tiny_model.NAME}/infer", bodies.protocol_json(), bodies.JSON),
        PLAIN: Target(f"{plain_url}/predict", bodies.plain_json(), bodies.JSON),
    }


def check(asked: Mapping[str, Target]) -> None:
    """AnswersDiffer unless both give the same probabilities."""
    ours = ask(asked[OURS])["outputs"][0]["data"]
    theirs = ask(asked[PLAIN])["probabilities"]
    if not np.allclose(ours, theirs, atol=1e-6):
        raise AnswersDiffer(f"tiny: {OURS} gives {ours}, {PLAIN} {theirs}.")
