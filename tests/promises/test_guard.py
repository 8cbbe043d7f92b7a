"""Canaries of twenty models, each with half of fifty requests a second: those that do harm are back within half a
minute, for the right reason, and those that do none become stable.

The gateway is the real one but for its network and its engine, which is a fake whose versions behave as they are told.
Each of the twenty has a seed of its own; some are on trial at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
from bars import at_least, measured
from http_rig import picture
from versions_rig import FakeGate

from loadtests.guarding import world
from serving.bootstrap import Parts, build
from serving.engine import ANY_TIME, Call, Run
from serving.engines.fake import FakeEngine
from serving.errors import EngineFailed, TidegateError
from serving.guard.case import Advance, Back
from serving.monitoring.reference import Numbers, Reference
from serving.observation.feedback import Told
from serving.repository.layout import GraphKey
from serving.settings import read_settings
from serving.task import Request
from serving.tasks.classify import ClassifyParameters
from serving.tensors import Tensors
from serving.trial import Policy
from serving.versions.orders import Promotion
from serving.versions.router import Target

RUNS = 20
LEAST = 17  # promised are 95 %, of which chance makes fewer than these once in sixty; what came is printed
RATE = 50.0  # of each model
CLASSES = 10
WITHIN_S = 30.0
SERVICE_S = 0.01
SEEDS = [f"run{i:02}" for i in range(RUNS)]


@dataclass(frozen=True)
class Ways:
    """How a version behaves."""

    seconds: float = SERVICE_S
    fails: float = 0.0
    wrong_about: int | None = None


@dataclass(frozen=True)
class Scenario:
    """What is wrong with version 2, and what shall tell. truths: each request gets one, and version 2 may answer as it
    likes. dark: what reaches it comes from another camera. at_once: models, of which this process can do so many.
    """

    candidate: Ways
    signal: str | None
    truths: bool = False
    dark: bool = False
    at_once: int = 10


SCENARIOS = {
    "wrong on one class, by copies": Scenario(Ways(wrong_about=3), "disagreement"),
    "wrong on one class, by truths": Scenario(Ways(wrong_about=3), "live_metric", truths=True),
    "three times slower": Scenario(Ways(seconds=3 * SERVICE_S), "latency"),
    "errs on 2 % of requests": Scenario(Ways(fails=0.02), "errors", at_once=5),
    "a drifted camera": Scenario(Ways(), "drift", dark=True),
    "healthy": Scenario(Ways(), None),
}


class Behaving(FakeEngine):
    """Its versions 1 do as they should; versions 2 as they are told."""

    def __init__(self, candidate: Ways) -> None:
        super().__init__()
        self._ways = {1: Ways(), 2: candidate}
        self._chance = random.Random(0)

    async def run(self, key: GraphKey, inputs: Tensors, call: Call = ANY_TIME) -> Run:
        ways, chance = self._ways[key.version], self._chance
        started_s = time.monotonic()
        await asyncio.sleep(ways.seconds * chance.lognormvariate(0, 0.3))
        if chance.random() < ways.fails:
            raise EngineFailed("It was told to fail.")
        classes = inputs["pixels"][:, 0, 0, 0].astype(int) % CLASSES
        if ways.wrong_about is not None:
            classes = np.where(classes == ways.wrong_about, (classes + 1) % CLASSES, classes)
        probabilities = np.full((len(classes), CLASSES), 0.02, np.float32)
        probabilities[np.arange(len(classes)), classes] = 1 - 0.02 * (CLASSES - 1)
        return Run({"probabilities": probabilities}, 0.0, time.monotonic() - started_s, len(classes))


BRIGHTNESS = Reference(rows=200, inputs={"brightness": Numbers(edges=(0.2, 0.4, 0.45), counts=(50, 50, 50, 50))})
LABELS = [f"class {i}" for i in range(CLASSES)]


def publish(root: Path, model: str) -> None:
    for number in (1, 2):
        folder = tiny.add_classifier(root, model, number, labels=LABELS)
        tiny.write_classifier_manifest(folder, reference=BRIGHTNESS)


PICTURES = [(red % CLASSES, picture(red, 90, 90)) for red in range(100, 100 + CLASSES * 10)]
DARK = [(red % CLASSES, picture(red, 9, 9)) for red in range(10, 10 + CLASSES)]


async def send(parts: Parts, model: str, scenario: Scenario, chance: random.Random) -> None:
    """One request, and what follows it."""
    target, (true, payload) = Target(model), chance.choice(PICTURES)
    if scenario.dark and chance.random() < 0.5:
        target, (true, payload) = Target(model, label="canary"), chance.choice(DARK)
    elif scenario.dark:
        target = Target(model, label="stable")
    call = Call(request_id=f"{model}-{chance.random()}".encode())
    with suppress(TidegateError):
        answer = await parts.pipeline.predict("classify", target, Request(payload, ClassifyParameters()), call)
        if answer.afterwards is not None:
            answer.afterwards()
        if scenario.truths:
            await parts.watch.feedback.tell(Told(call.request_id, LABELS[true]))


async def load(parts: Parts, model: str, scenario: Scenario, over: Callable[[], bool]) -> None:
    """Requests that come by chance, whether or not those before were answered."""
    chance = random.Random(model)
    due_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while not over():
            due_s += chance.expovariate(RATE)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            group.create_task(send(parts, model, scenario, chance))


@dataclass(frozen=True)
class End:
    """What the guard did about a canary, why, and how long after it was put on trial."""

    action: str
    why: str
    seconds: float


async def trials(parts: Parts, models: Sequence[str], scenario: Scenario) -> dict[str, End]:
    """Puts a canary of each model on trial and waits for their ends, or until the time is over."""
    disagreement = 0.99 if scenario.truths else 0.1
    policy = Policy(mode="act", steps=(50, 100), step_s=22, step_requests=300, disagreement=disagreement)
    ends: dict[str, End] = {}
    loads = [asyncio.create_task(load(parts, model, scenario, lambda: False)) for model in models]
    try:
        for model in models:
            await parts.changes.guard(model, policy, "test", "")
        await asyncio.sleep(2)  # the stable version has been there for a while
        began_s: dict[str, float] = {}
        for model in models:
            await parts.changes.promote(Promotion(model, 2, "canary", 50), "test", "")
            began_s[model] = time.monotonic()
        while late := [model for model in began_s.keys() - ends.keys() if time.monotonic() < began_s[model] + WITHIN_S]:
            await asyncio.sleep(0.1)
            for model in late:
                last = (await parts.changes.history(model))[-1]
                if last.who == "guard":
                    ends[model] = End(last.action, last.why, time.monotonic() - began_s[model])
    finally:
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
    return ends


async def all_trials(folder: Path, scenario: Scenario) -> dict[str, End]:
    """Of a gateway each time, since versions that are promoted are watched on."""
    ends: dict[str, End] = {}
    for first in range(0, RUNS, scenario.at_once):
        models = SEEDS[first : first + scenario.at_once]
        for model in models:
            publish(folder / f"{first}", model)
        settings = read_settings(repository=folder / f"{first}", state=folder / f"state{first}", guard="act")
        parts = build(settings, engine=Behaving(scenario.candidate), gate=FakeGate())
        await parts.start()
        try:
            ends |= await trials(parts, models, scenario)
        finally:
            await parts.close()
    return ends


@measured
@pytest.mark.parametrize("name", SCENARIOS)
def test_canaries_go_where_they_belong_within_half_a_minute(name, tmp_path):
    scenario = SCENARIOS[name]
    ends = asyncio.run(all_trials(tmp_path, scenario))
    action, begins = ("rollback", f"{scenario.signal}: ") if scenario.signal else ("promote", "nothing speaks")
    right = [end for end in ends.values() if end.action == action and end.why.startswith(begins)]
    seconds = sorted(end.seconds for end in right)
    print(f"\n{name}: {len(right)} of {RUNS} as they should, {len(ends) - len(right)} otherwise", end="")
    print(f"; median {np.median(seconds):.1f} s, longest {seconds[-1]:.1f} s" if seconds else "")
    at_least(LEAST, len(right), f"of {RUNS}; not so: {[end for end in ends.values() if end not in right]}")


def test_of_a_hundred_healthy_canaries_that_are_drawn_two_at_most_are_taken_back():
    """From 1 % to stable, at 50 requests a second; failures, disagreement and truths as of a good retrained model."""
    policy = Policy(step_s=20, step_requests=50)
    ends = [world.run(world.HEALTHY, policy, seed, percent=1) for seed in range(100)]
    back = [end.decision for end in ends if isinstance(end.decision, Back)]
    mean_s = np.mean([end.seconds for end in ends])
    print(f"\n{len(back)} of 100 healthy canaries taken back; the others stable after {mean_s:.0f} s")
    assert len(back) <= 2
    assert all(isinstance(end.decision, Advance | Back) for end in ends)
