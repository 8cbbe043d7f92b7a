"""photo: how much of what the machine can do is left when pictures come over HTTP, on all cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.bench import bodies
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
from loadtests.bench.plain_process import ROOT, plain
from loadtests.bench.wrk import Load, Target
from loadtests.gateway_process import gateway

MODEL: Final = "efficientnet-lite0"
SHARE_OF_BOUND: Final = 0.85  # at 8 or 32 connections, whichever is the better
SCORE_TOLERANCE: Final = 0.05  # the plain server resizes before it crops, which moves scores a little
OURS: Final = "tidegate"
PLAIN: Final = "plain FastAPI"


def compare(turns: Turns, repository: Path) -> Comparison:
    """AnswersDiffer, WrkFailed, ServerFailed; CalledProcessError when the bound fails."""
    bound = Contender("bound, no HTTP", len(os.sched_getaffinity(0)))
    with gateway(repository) as our_url, plain("photo", repository / MODEL / "1") as plain_url:
        asked = targets(our_url, plain_url)
        check(asked)
        contenders = {bound: lambda: _bound(repository, turns.seconds), **servers(asked, turns.seconds)}
        loads = take_turns(contenders, turns.rounds)
    of_bound = shares(loads, lambda _: bound)
    best = max(median(of_bound[Contender(OURS, count)]) for count in (8, 32))
    return Comparison(
        name="photo",
        title=f"{MODEL}, multipart JPEG of 640 x 427 in, the 5 best labels out, all cores",
        unit="images/s",
        share_of="bound",
        loads=loads,
        shares=of_bound,
        bars=[Bar("photo: share of the bound, 8 or 32 connections", SHARE_OF_BOUND, best)],
    )


def targets(our_url: str, plain_url: str) -> Mapping[str, Target]:
    """The same photo for both servers."""
    form = bodies.photo_form()
    return {
        OURS: Target(f"{our_url}/v1/classify?model={MODEL}", form, bodies.MULTIPART),
        PLAIN: Target(f"{plain_url}/classify", form, bodies.MULTIPART),
    }


def check(asked: Mapping[str, Target]) -> None:
    """AnswersDiffer unless both name the same label first, with about the same score, and give five."""
    ours, theirs = (ask(asked[name])["predictions"] for name in (OURS, PLAIN))
    same = ours[0]["label"] == theirs[0]["label"] and abs(ours[0]["score"] - theirs[0]["score"]) <= SCORE_TOLERANCE
    if not same or len(ours) != 5 or len(theirs) != 5:
        raise AnswersDiffer(f"photo: {OURS} gives {ours}, {PLAIN} {theirs}.")


def _bound(repository: Path, seconds: int) -> Load:
    """In a process of its own, as the servers are."""
    command = [sys.executable, "-m", "loadtests.bench.bound", str(repository.absolute()), MODEL, str(bodies.PHOTO)]
    options = ["--seconds", str(seconds)]
    done = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, check=True)  # noqa: S603  (our own)
    return Load(**json.loads(done.stdout))
