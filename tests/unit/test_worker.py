"""The worker of a gateway: what it begins, what it tries again, and how jobs end that come to no result."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import tiny
from http_rig import serving, until

from serving import job_run, plugins, worker
from serving.engines.fake import FakeEngine, _outputs
from serving.errand import Errand, read_replies, write_errand
from serving.errors import EngineFailed, InvalidInput
from serving.job_store import Job, JobStoreOptions, Order
from serving.job_stores.local import LocalJobs
from serving.repository.layout import scan
from serving.task import FOLDER, Request
from serving.versions.router import Target

MODEL = "generate-images"
TASK = plugins.find(FOLDER, MODEL, "PLUGIN")


def order(prompt=b"a red disc", count=1, **parameters) -> Order:
    given = TASK.parameters.model_validate({"steps": 3, **parameters})
    return Order("", write_errand(Errand(MODEL, Target(), [Request(prompt, given, kind="text")] * count)))


@asynccontextmanager
async def working(folder, engine=None, **settings):
    """A gateway that runs jobs, and its store."""
    tiny.add_diffusion(folder / "repository")
    async with serving(folder, engine or FakeEngine(), settings) as live:
        yield live, live.parts.jobs._store


async def end_of(store, ident) -> Job:
    job = await store.get(ident)
    deadline_s = time.monotonic() + 15
    while not job.at_end:
        assert time.monotonic() < deadline_s, job
        await asyncio.sleep(0.01)
        job = await store.get(ident)
    return job


def failing(folder, *failures) -> FakeEngine:
    """An engine whose first runs of the network fail."""
    tiny.add_diffusion(folder / "repository")
    graphs = scan(folder / "repository").models[MODEL].versions[1].graphs.values()
    specs = {graph.key.name: graph.config.outputs for graph in graphs}
    left = iter(failures)

    def compute(key, inputs):
        if "timestep" in inputs and (failure := next(left, None)):
            raise failure
        return _outputs(specs[key.name], inputs)

    return FakeEngine(compute=compute)


def test_all_requests_of_a_job_are_answered_by_one_version(tmp_path):
    async def main():
        async with working(tmp_path) as (_, store):
            job = await end_of(store, (await store.accept(order(count=3))).job.id)
            assert job.status == "succeeded"
            replies = read_replies(MODEL, job.result)
            assert len(replies) == 3
            assert {reply.version for reply in replies} == {1}

    asyncio.run(main())


@pytest.mark.parametrize("failures", [1, 2])
def test_an_engine_that_broke_down_for_a_moment_is_tried_again(tmp_path, monkeypatch, failures):
    monkeypatch.setattr(job_run, "PAUSES_S", (0.05, 0.05))
    engine = failing(tmp_path, *[EngineFailed("It broke down.")] * failures)

    async def main():
        async with working(tmp_path, engine) as (_, store):
            job = await end_of(store, (await store.accept(order())).job.id)
            assert (job.status, job.attempts) == ("succeeded", 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "code", "tries"),
    [(EngineFailed("It broke down."), "engine_failed", 3), (InvalidInput("No."), "input_invalid", 1)],
)
def test_what_goes_on_failing_is_its_end(tmp_path, monkeypatch, failure, code, tries):
    monkeypatch.setattr(job_run, "PAUSES_S", (0.01, 0.01))
    engine = failing(tmp_path, *[failure] * 20)

    async def main():
        async with working(tmp_path, engine) as (_, store):
            job = await end_of(store, (await store.accept(order())).job.id)
            assert (job.status, job.failure.code, job.failure.detail) == ("failed", code, str(failure))
            assert sum(key.name == MODEL for key, _ in engine.runs) == tries

    asyncio.run(main())


def test_a_job_that_takes_too_long_fails(tmp_path):
    async def main():
        engine = FakeEngine(service_s=lambda _: 0.05)
        async with working(tmp_path, engine, job_timeout_s=0.3) as (_, store):
            job = await end_of(store, (await store.accept(order(steps=900))).job.id)
            assert job.failure.code == "deadline_passed"
            assert (await end_of(store, (await store.accept(order(steps=2))).job.id)).status == "succeeded"

    asyncio.run(main())


def test_what_cannot_be_read_fails_and_holds_nothing_up(tmp_path):
    async def main():
        async with working(tmp_path) as (_, store):
            wrong = (await store.accept(Order("", b"{}"))).job
            right = (await store.accept(order())).job
            assert (await end_of(store, wrong.id)).failure == job_run.UNREADABLE
            assert (await end_of(store, right.id)).status == "succeeded"

    asyncio.run(main())


def test_only_so_many_run_at_once(tmp_path):
    async def main():
        engine = FakeEngine()
        async with working(tmp_path, engine, job_concurrency=2) as (live, store):
            engine.gate.clear()
            idents = [(await store.accept(order())).job.id for _ in range(5)]
            live.parts.worker.look()
            await until(lambda: len(live.parts.worker._runs) == 2, "two run")
            await asyncio.sleep(0.1)
            counts = await store.counts()
            assert (counts.running, counts.queued) == (2, 3)
            engine.gate.set()
            assert {(await end_of(store, ident)).status for ident in idents} == {"succeeded"}

    asyncio.run(main())


def test_a_job_that_lost_its_gateway_runs_alone(tmp_path):
    """Whatever else waits, before it and after it."""

    async def main():
        lost = LocalJobs(JobStoreOptions(tmp_path / "state", lease_s=0.01))
        suspect = (await lost.accept(order(steps=20))).job.id
        await lost.claim(1, idle=True)
        await lost.close()
        engine = FakeEngine(service_s=lambda _: 0.02)
        together = []
        async with working(tmp_path, engine) as (live, store):
            fresh = [(await store.accept(order(steps=5))).job.id for _ in range(3)]
            live.parts.worker.look()
            while not (await store.get(suspect)).at_end:
                running = [run.claimed.job.id for run in live.parts.worker._runs.values()]
                together.append(running)
                await asyncio.sleep(0.01)
            assert all(running == [suspect] for running in together if suspect in running)
            assert any(suspect in running for running in together)
            assert (await store.get(suspect)).attempts == 2
            assert {(await end_of(store, ident)).status for ident in fresh} == {"succeeded"}

    asyncio.run(main())


def test_while_it_drains_nothing_is_begun(tmp_path):
    async def main():
        async with working(tmp_path) as (live, store):
            live.parts.traffic.draining = True
            job = (await store.accept(order())).job
            live.parts.worker.look()
            await asyncio.sleep(3 * worker.TICK_S)
            assert (await store.get(job.id)).status == "queued"
            live.parts.traffic.draining = False
            assert (await end_of(store, job.id)).status == "succeeded"

    asyncio.run(main())


def test_its_meters_say_what_becomes_of_jobs(tmp_path):
    async def main():
        engine = FakeEngine()
        async with working(tmp_path, engine, job_concurrency=1) as (live, store):
            engine.gate.clear()
            errand = Errand(MODEL, Target(), [Request(b"red", TASK.parameters(steps=2), kind="text")])
            jobs = [await live.parts.jobs.accept(errand, "", "", "") for _ in range(3)]
            get = live.parts.meters.registry.get_sample_value
            await until(lambda: get("tidegate_jobs", {"state": "queued"}) == 2, "it was looked")
            assert get("tidegate_jobs", {"state": "running"}) == 1
            assert get("tidegate_job_queue_age_seconds") > 0
            await live.parts.jobs.cancel(jobs[2].id, "")
            engine.gate.set()
            for job in jobs[:2]:
                await end_of(store, job.id)
            await until(lambda: get("tidegate_jobs", {"state": "queued"}) == 0, "it was looked again")
            ends = {how: get("tidegate_job_ends_total", {"outcome": how}) for how in ("succeeded", "cancelled")}
            assert ends == {"succeeded": 2, "cancelled": 1}
            assert get("tidegate_jobs_accepted_total") == 3
            assert get("tidegate_job_attempts_total", {"attempt": "1"}) == 2

    asyncio.run(main())
