"""Who looks on for drift: which requests are looked at, what is counted of them, and what is shown."""

from __future__ import annotations

import asyncio
import functools
import logging

import numpy as np
import pytest
import tiny
from http_rig import picture
from prometheus_client import CollectorRegistry

from serving.engine import Call
from serving.errors import ModelNotFound
from serving.monitoring.reference import Numbers, Reference
from serving.observation.drift import CLOSELY, RATE, SAVED_S, Drift
from serving.observation.seen import Seen
from serving.observation.seen_version import LEARNED
from serving.repository.layout import read_version
from serving.task import Request
from serving.tasks.classify import Classify, ClassifyParameters, ClassifyReply, Prediction
from serving.telemetry import Meters, Stages
from serving.threads import Threads
from serving.versions.resident import Resident
from serving.versions.router import Route, Router

BRIGHT = Numbers(edges=(0.4, 0.6), counts=(50, 100, 50))
REFERENCE = Reference(rows=200, inputs={"brightness": BRIGHT}, outputs={})
DARKER = Reference(rows=200, inputs={"brightness": Numbers(edges=(0.2,), counts=(1, 1))}, outputs={})


def run(test):
    """The test in an event loop of its own."""

    @functools.wraps(test)
    def inside(*given, **fixtures):
        asyncio.run(test(*given, **fixtures))

    return inside


class Bench:
    """Versions 1, 2, ... of a classifier of mean colours in a router, and a clock that stands still."""

    def __init__(self, root, *references: Reference | None) -> None:
        self.now_s, self.registry = 100.0, CollectorRegistry()
        self.threads, self.router = Threads(1, 4), Router({})
        self.residents = {}
        for number, reference in enumerate(references, start=1):
            folder = tiny.add_classifier(root, number=number)
            tiny.write_classifier_manifest(folder, reference=reference)
            self.residents[number] = self.load(folder)
        self.route(*self.residents)
        self.drift = Drift(self.router, self.threads, self.registry, clock=lambda: self.now_s)

    def load(self, folder) -> Resident:
        version = read_version(folder)
        return Resident(version, Classify(version), {}, Meters().request_meter("colours", version.number, "classify"))

    def route(self, *numbers: int) -> None:
        residents = {number: self.residents[number] for number in numbers}
        self.router.set_route("colours", Route("classify", next(iter(residents.values()), None), residents=residents))

    def saw(self, number: int = 1, grey: int = 128, payload: bytes | None = None) -> None:
        request = Request(picture(grey, grey, grey) if payload is None else payload, ClassifyParameters())
        inputs = {"pixels": np.full((1, 8, 8, 3), grey, np.uint8)}
        predictions = [Prediction(label="red", class_id=0, score=0.9)]
        reply = ClassifyReply(model="colours", version=number, predictions=predictions)
        self.drift.saw(Seen(self.residents[number], request, inputs, reply, Call(), Stages(), 0.01))

    async def show(self, count: int, every_s: float = 0.1, **given) -> int:
        """Shows it requests, each when the one before was looked at; how many of them were."""
        before = self.looked_at()
        for _ in range(count):
            self.now_s += every_s
            self.saw(**given)
            await self.rest()
        return self.looked_at() - before

    async def rest(self) -> None:
        while self.drift._tasks:
            await asyncio.gather(*self.drift._tasks)

    def looked_at(self) -> int:
        return sum(one.seen for one in self.drift.report("colours").versions)

    def gauge(self, name: str, version: int = 1, **labels: str) -> float | None:
        self.now_s += 2
        return self.registry.get_sample_value(
            f"tidegate_drift_{name}", {"model": "colours", "version": str(version), **labels}
        )


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(*references: Reference | None) -> Bench:
        made.append(Bench(tmp_path, *references))
        return made[-1]

    yield make
    for one in made:
        one.threads.close()


@run
async def test_a_shift_of_brightness_is_an_alert_of_brightness(bench):
    one = bench(REFERENCE)
    greys = (60, 128, 128, 200)  # as the reference has them
    for i in range(400):
        await one.show(1, grey=greys[i % 4])
    (version,) = one.drift.report("colours").versions
    assert (version.status, version.seen, version.window_requests) == ("steady", 400, 400)
    assert version.features[0].psi == pytest.approx(0, abs=1e-3)
    assert one.gauge("alert", feature="brightness") == 0
    assert one.gauge("window_requests") == 400

    await one.show(1000, grey=60)
    (version,) = one.drift.report("colours").versions
    assert version.status == "drifted"
    assert "brightness" in version.note
    (bright,) = [feature for feature in version.features if feature.feature == "brightness"]
    assert (bright.of, bright.reference, bright.reference_rows, bright.alert) == ("input", "manifest", 200, True)
    assert one.gauge("alert", feature="brightness") == 1
    assert one.gauge("psi", feature="brightness") == pytest.approx(bright.psi, abs=1e-5)
    assert one.gauge("psi", feature="brightness") > one.gauge("threshold", feature="brightness")
    assert one.gauge("js", feature="brightness") == pytest.approx(bright.js, abs=1e-5)
    assert one.gauge("ks", feature="brightness") == pytest.approx(bright.ks, abs=1e-5)
    assert 900 < one.gauge("window_requests") <= 1000


@run
async def test_few_requests_are_all_looked_at_and_of_many_so_many_a_second(bench):
    one = bench(REFERENCE)
    assert await one.show(60, every_s=1 / RATE) == 60
    burst = await one.show(300, every_s=0.0)
    assert burst == pytest.approx(RATE * SAVED_S, abs=2), "what was saved, and no more"
    assert await one.show(2000, every_s=0.001) == pytest.approx(2 * RATE, abs=1)
    one.drift.watch_closely(["colours"])
    assert await one.show(2000, every_s=0.001) == pytest.approx(2 * CLOSELY, abs=1)
    one.drift.watch_closely([])
    one.now_s += SAVED_S
    assert await one.show(1000, every_s=0.0) == RATE * SAVED_S, "what was saved at the higher rate is gone"


@run
async def test_one_request_of_a_version_is_looked_at_at_a_time(bench):
    one = bench(REFERENCE, REFERENCE)
    for _ in range(5):
        one.saw(1)
        one.saw(2)
    await one.rest()
    assert [version.seen for version in one.drift.report("colours").versions] == [1, 1]


@run
async def test_counts_grow_and_are_in_the_same_bins_for_all_versions(bench):
    one = bench(REFERENCE, DARKER, None)
    assert one.drift.bins("colours") is None, "nothing was asked yet"
    assert one.drift.counts("colours", 1) == {}
    await one.show(3, number=1, grey=128)
    await one.show(2, number=2, grey=60)
    await one.show(1, number=3, grey=200)
    assert one.drift.counts("colours", 1) == {"brightness": (0, 3, 0)}
    assert one.drift.counts("colours", 2) == {"brightness": (2, 0, 0)}
    assert one.drift.counts("colours", 3) == {"brightness": (0, 0, 1)}
    assert one.drift.counts("colours", 2, by=2) == {"brightness": (0, 2)}
    assert one.drift.bins("colours") == one.drift.bins("colours", by=1) != one.drift.bins("colours", by=2)
    assert one.drift.bins("colours", by=3) is one.drift.bins("colours", by=9) is one.drift.bins("other") is None
    await one.show(1, number=1, grey=60)
    assert one.drift.counts("colours", 1) == {"brightness": (1, 3, 0)}


@run
async def test_what_was_unloaded_is_gone_from_the_gauges_and_begins_anew(bench):
    one = bench(REFERENCE, REFERENCE)
    await one.show(150, number=1)
    await one.show(150, number=2)
    assert one.gauge("psi", version=2, feature="brightness") is not None
    one.route(1)
    assert one.gauge("psi", version=1, feature="brightness") is not None
    assert one.gauge("psi", version=2, feature="brightness") is None
    assert one.gauge("window_requests", version=2) is None
    one.saw(2)  # what was under way when it was unloaded
    assert [version.version for version in one.drift.report("colours").versions] == [1]
    one.residents[2] = one.load(one.residents[2].version.folder)
    one.route(1, 2)
    assert one.drift.counts("colours", 2) == {}
    await one.show(1, number=2)
    assert one.drift.counts("colours", 2) == {"brightness": (0, 1, 0)}


@run
async def test_without_a_reference_the_first_requests_are_it(bench):
    one = bench(None)
    assert one.drift.report("colours").versions[0].status == "no requests"
    chance = np.random.default_rng(0)
    for _ in range(LEARNED - 1):
        await one.show(1, grey=int(chance.integers(100, 200)))
    (version,) = one.drift.report("colours").versions
    assert (version.status, version.features) == ("learning", [])
    assert "No reference in its manifest" in version.note
    assert "999 so far" in version.note
    assert one.gauge("window_requests") == 999
    await one.show(1)
    assert one.drift.report("colours").versions[0].status == "too few requests"
    for _ in range(150):
        await one.show(1, grey=int(chance.integers(100, 200)))
    (version,) = one.drift.report("colours").versions
    assert version.status == "steady", version.note
    found = {feature.feature: feature for feature in version.features}
    assert {"brightness", "contrast", "saturation", "size", "aspect", "reply_class", "reply_score"} <= found.keys()
    assert {feature.reference for feature in version.features} == {"first requests"}
    assert [feature.of for feature in version.features] == sorted(feature.of for feature in version.features)
    assert one.drift.counts("colours", 1)["brightness"] != ()
    assert sum(one.drift.counts("colours", 1)["brightness"]) == 150, "from when there are bins"
    await one.show(200, grey=20)
    assert one.drift.report("colours").versions[0].status == "drifted"


@run
async def test_what_a_reference_does_not_have_is_learned_beside_it(bench):
    one = bench(REFERENCE)
    await one.show(LEARNED + 100)
    (version,) = one.drift.report("colours").versions
    sources = {feature.feature: feature.reference for feature in version.features}
    assert sources["brightness"] == "manifest"
    assert sources["size"] == "first requests"
    assert len(sources) == len(version.features)


@run
async def test_what_cannot_be_looked_at_hurts_nobody(bench, caplog):
    one = bench(REFERENCE)
    with caplog.at_level(logging.ERROR):
        assert await one.show(1, payload=b"no picture") == 0
    assert "could not be looked at" in caplog.text
    assert await one.show(1) == 1
    with pytest.raises(ModelNotFound):
        one.drift.report("others")


@run
async def test_closing_drops_what_is_under_way(bench):
    one = bench(REFERENCE)
    one.saw()
    await one.drift.close()
    assert not one.drift._tasks
