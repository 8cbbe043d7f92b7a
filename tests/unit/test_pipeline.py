"""The path of a request on the fake engine: right version, timings that travel, outcomes that are counted."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
import tiny

from serving.bootstrap import build
from serving.engine import ANY_TIME, Call
from serving.engines.fake import FakeEngine
from serving.errors import DeadlinePassed, EngineFailed, ImageInvalid, QueueFull, TensorInvalid
from serving.picture_task import EXAMPLE_PNG
from serving.pipeline import CALLER_LEFT
from serving.settings import read_settings
from serving.task import Progress, Request, Watcher
from serving.tasks.classify import ClassifyParameters
from serving.tasks.generate_images import GenerateParameters
from serving.versions.router import Target

ANYONE = Target()
DOUBLE = Target("double")


@asynccontextmanager
async def gateway(tmp_path, engine):
    repository = tmp_path / "repository"
    tiny.add_classifier(repository)
    tiny.add_plain(repository)
    parts = build(read_settings(repository=repository, state=tmp_path / "state"), engine=engine)
    await parts.start()
    try:
        yield parts
    finally:
        await parts.close()


def classify(payload: bytes = EXAMPLE_PNG) -> Request[ClassifyParameters]:
    return Request(payload, ClassifyParameters())


def counted(parts, model: str, code: str) -> float:
    """How many requests of the model ended so."""
    parts.meters.exposition()  # what waits to be counted is counted when it is asked for
    task = "classify" if model == "colours" else "infer"
    labels = {"model": model, "version": "1", "task": task, "code": code}
    return parts.meters.registry.get_sample_value("tidegate_requests_total", labels) or 0.0


def test_a_picture_becomes_a_reply_of_the_version_that_answered(tmp_path):
    async def main():
        async with gateway(tmp_path, FakeEngine()) as parts:
            answer = await parts.pipeline.predict("classify", ANYONE, classify(), ANY_TIME)
            assert (answer.reply.model, answer.reply.version) == ("colours", 1)
            assert {prediction.label for prediction in answer.reply.predictions} == set(tiny.COLOURS)
            assert counted(parts, "colours", "ok") == 1

    asyncio.run(main())


def test_timings_travel_with_the_reply_and_reach_the_meters(tmp_path):
    async def main():
        engine = FakeEngine(service_s=lambda _: 0.02)
        async with gateway(tmp_path, engine) as parts:
            answer = await parts.pipeline.predict("classify", ANYONE, classify(), ANY_TIME)
            assert answer.stages.run_s >= 0.019
            assert answer.stages.pre_s > 0
            assert answer.stages.post_s > 0
            parts.meters.exposition()
            labels = {"model": "colours", "version": "1", "task": "classify", "stage": "run"}
            total = parts.meters.registry.get_sample_value("tidegate_stage_duration_seconds_sum", labels)
            assert total == pytest.approx(answer.stages.run_s)

    asyncio.run(main())


def test_tensors_go_the_same_way(tmp_path):
    async def main():
        double = FakeEngine(compute=lambda _, inputs: {"y": inputs["x"] * 2})
        async with gateway(tmp_path, double) as parts:
            inputs = {"x": np.array([[1.5, 2.0]], dtype=np.float32)}
            inference = await parts.pipeline.infer(DOUBLE, inputs, ANY_TIME)
            assert inference.outputs["y"].tolist() == [[3.0, 4.0]]
            assert (inference.graph, inference.version) == ("double", 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"z": np.zeros((1, 1), np.float32)}, "takes x"),
        ({"x": np.zeros((1, 1), np.float32), "z": np.zeros((1, 1), np.float32)}, "takes x"),
        ({"x": np.zeros((1, 1), np.int32)}, "x is INT32; the model takes FP32"),
        ({"x": np.zeros((1, 1, 1), np.float32)}, r"x has shape \[1, 1, 1\]; the model takes \[rows, any\]"),
        ({"x": np.array(1, np.float32)}, "x has shape"),
        ({"x": np.zeros((0, 1), np.float32)}, "no rows"),
    ],
    ids=["other name", "one too many", "other type", "other rank", "no axis", "no rows"],
)
def test_tensors_that_do_not_fit_are_refused_before_the_engine(tmp_path, inputs, message):
    async def main():
        engine = FakeEngine()
        async with gateway(tmp_path, engine) as parts:
            with pytest.raises(TensorInvalid, match=message):
                await parts.pipeline.infer(DOUBLE, inputs, ANY_TIME)
            assert engine.runs == []
            assert counted(parts, "double", "tensor_invalid") == 1

    asyncio.run(main())


def test_a_picture_that_cannot_be_read_is_the_callers_failure(tmp_path):
    async def main():
        async with gateway(tmp_path, FakeEngine()) as parts:
            with pytest.raises(ImageInvalid):
                await parts.pipeline.predict("classify", ANYONE, classify(b"no picture"), ANY_TIME)
            assert counted(parts, "colours", "image_invalid") == 1

    asyncio.run(main())


def test_the_deadline_ends_the_request(tmp_path):
    async def main():
        engine = FakeEngine()
        async with gateway(tmp_path, engine) as parts:
            engine.gate.clear()
            with pytest.raises(DeadlinePassed):
                await parts.pipeline.predict("classify", ANYONE, classify(), Call(time.monotonic() + 0.05))
            engine.gate.set()
            assert counted(parts, "colours", "deadline_passed") == 1

    asyncio.run(main())


def test_a_caller_who_leaves_is_counted_and_frees_the_lease(tmp_path):
    async def main():
        engine = FakeEngine()
        async with gateway(tmp_path, engine) as parts:
            engine.gate.clear()
            task = asyncio.create_task(parts.pipeline.predict("classify", ANYONE, classify(), ANY_TIME))
            while not engine.runs:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            engine.gate.set()
            assert counted(parts, "colours", CALLER_LEFT) == 1
            for resident in parts.router.stables():
                await asyncio.wait_for(resident.unused(), 5)

    asyncio.run(main())


@pytest.mark.parametrize(("error", "code"), [(EngineFailed("broken"), "engine_failed"), (KeyError("bug"), "error")])
def test_failures_of_the_engine_are_counted_by_code(tmp_path, error, code):
    def fail(*_):
        raise error

    async def main():
        async with gateway(tmp_path, FakeEngine(compute=fail)) as parts:
            with pytest.raises(type(error)):
                await parts.pipeline.predict("classify", ANYONE, classify(), ANY_TIME)
            assert counted(parts, "colours", code) == 1

    asyncio.run(main())


def test_more_pictures_than_may_wait_for_a_thread_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.bootstrap.DECODES_WAITING", 1)

    async def main():
        async with gateway(tmp_path, FakeEngine()) as parts:
            asked = 2 * parts.settings.cores + 5
            answers = [parts.pipeline.predict("classify", ANYONE, classify(), ANY_TIME) for _ in range(asked)]
            results = await asyncio.gather(*answers, return_exceptions=True)
            refused = [result for result in results if isinstance(result, QueueFull)]
            assert len(refused) == 5
            assert counted(parts, "colours", "ok") == asked - 5

    asyncio.run(main())


# Progress


def drawing(seed: int) -> Request[GenerateParameters]:
    return Request(b"a red disc", GenerateParameters(seed=seed, steps=4), kind="text")


def test_who_watches_hears_of_each_request_by_its_place(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository")
        async with gateway(tmp_path, FakeEngine()) as parts:
            told: list[Progress] = []
            watcher = Watcher(told.append, preview_every=3)
            requests = [drawing(seed) for seed in range(3)]
            answers = await parts.pipeline.predict_all("generate-images", ANYONE, requests, ANY_TIME, watcher)
            assert [reply.seed for reply in answers.replies] == [0, 1, 2]
            for i in range(3):
                mine = [one for one in told if one.index == i]
                assert [(one.step, one.steps) for one in mine] == [(step, 4) for step in (1, 2, 3, 4)]
                assert [one.preview is not None for one in mine] == [False, False, True, False]
            told.clear()
            await parts.pipeline.predict("generate-images", ANYONE, drawing(1), ANY_TIME, watcher)
            assert [(one.step, one.index) for one in told] == [(1, 0), (2, 0), (3, 0), (4, 0)]

    asyncio.run(main())


def test_what_is_called_off_runs_no_further_step(tmp_path):
    async def main():
        tiny.add_diffusion(tmp_path / "repository")
        engine = FakeEngine(service_s=lambda _: 0.01)
        async with gateway(tmp_path, engine) as parts:
            heard = asyncio.Event()
            watcher = Watcher(lambda progress: heard.set() if progress.step == 5 else None)
            request = Request(b"a red disc", GenerateParameters(steps=500), kind="text")
            work = asyncio.create_task(parts.pipeline.predict("generate-images", ANYONE, request, ANY_TIME, watcher))
            await heard.wait()
            work.cancel()
            await asyncio.wait([work])
            runs = len(engine.runs)
            assert runs <= 1 + 5 + 1, "the text, the steps that were told of, and one that may have begun"
            await asyncio.sleep(0.05)
            assert len(engine.runs) == runs

    asyncio.run(main())


def test_what_ends_a_loop_is_not_turned_away(tmp_path):
    """The decoder's queue is full when the steps are done: their work would be lost."""

    async def main():
        tiny.add_diffusion(tmp_path / "repository")
        engine = FakeEngine()
        async with gateway(tmp_path, engine) as parts:
            (key,) = [key for key in parts.engine._lanes if key.name == "generate-images.decoder"]
            lane = parts.engine._lanes[key]
            lane._stated = replace(lane._stated, max_queue_rows=0)
            answer = await parts.pipeline.predict("generate-images", ANYONE, drawing(1), ANY_TIME)
            assert answer.reply.seed == 1
            once = Request(b"a red disc", GenerateParameters(steps=1), kind="text")
            with pytest.raises(QueueFull):
                await parts.pipeline.predict("generate-images", ANYONE, once, ANY_TIME)

    asyncio.run(main())
