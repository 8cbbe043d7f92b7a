"""What became of requests, as the batcher counts it: each answered or failed once, runs by their rows."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from batching_rig import KEY, batching, double, hold_one, row

from serving.engine import Call, Run, Statistics
from serving.engines.fake import FakeEngine
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady
from serving.repository.layout import GraphKey


def test_a_graph_that_was_just_loaded_has_none():
    async def main():
        async with batching(FakeEngine(compute=double)) as (batcher, _):
            return await batcher.statistics(KEY)

    assert asyncio.run(main()) == Statistics()


def test_requests_rows_and_runs_are_counted_apart():
    async def main():
        before = time.time()
        async with batching(FakeEngine(compute=double, service_s=lambda _: 0.01)) as (batcher, _):
            two = {"x": np.zeros((2, 1), np.float32)}
            runs = list(await asyncio.gather(batcher.run(KEY, row(1)), batcher.run(KEY, two)))
            runs += [await batcher.run(KEY, row(1)), await batcher.run(KEY, row(1))]
            return before, runs, await batcher.statistics(KEY)

    before, runs, found = asyncio.run(main())
    assert (found.answered, found.failed, found.rows, found.runs) == (4, 0, 5, 3)
    assert {rows: runs for rows, (runs, _) in found.batches.items()} == {1: 2, 3: 1}
    assert list(found.batches) == [1, 3]
    assert sum(seconds for _, seconds in found.batches.values()) == pytest.approx(sum(run.run_s for run in runs[1:]))
    assert found.run_s == pytest.approx(sum(run.run_s for run in runs)), "two of one batch took its seconds each"
    assert found.queue_s == pytest.approx(sum(run.queue_s for run in runs))
    assert found.run_s >= 0.04
    assert before <= found.last <= time.time()


def test_waiting_counts_as_queue():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            first = await hold_one(batcher, engine)
            second = asyncio.create_task(batcher.run(KEY, row(1)))
            await asyncio.sleep(0.05)
            engine.gate.set()
            await asyncio.gather(first, second)
            return await batcher.statistics(KEY)

    assert asyncio.run(main()).queue_s >= 0.05


def test_what_fails_is_counted_as_failed_and_with_its_seconds():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            first = await hold_one(batcher, engine)
            late = asyncio.create_task(batcher.run(KEY, row(1), Call(time.monotonic() + 0.05)))
            await asyncio.sleep(0.1)
            engine.gate.set()
            with pytest.raises(DeadlinePassed):
                await late
            await first
            return await batcher.statistics(KEY)

    found = asyncio.run(main())
    assert (found.answered, found.failed, found.rows) == (1, 1, 1)
    assert found.failed_s >= 0.05


class Poisoned(FakeEngine):
    """Breaks down over any batch with a 13 in it."""

    async def run(self, key, inputs, call=None) -> Run:
        if (inputs["x"] == 13).any():
            raise EngineFailed("told to")
        return await super().run(key, inputs)


def test_one_caller_s_failure_is_counted_once_and_its_neighbours_as_answered():
    async def main():
        async with batching(Poisoned(compute=double)) as (batcher, _):
            asked = (batcher.run(KEY, row(value)) for value in (1, 13, 2))
            await asyncio.gather(*asked, return_exceptions=True)
            return await batcher.statistics(KEY)

    found = asyncio.run(main())
    assert (found.answered, found.failed, found.rows, found.runs) == (2, 1, 2, 2)


def test_who_left_is_neither_answered_nor_failed():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            first = await hold_one(batcher, engine)
            first.cancel()
            await asyncio.sleep(0)
            engine.gate.set()
            await batcher.run(KEY, row(1))
            return await batcher.statistics(KEY)

    found = asyncio.run(main())
    assert (found.answered, found.failed, found.runs) == (1, 0, 2)


def test_a_graph_that_is_not_loaded_has_no_statistics():
    async def main():
        async with batching(FakeEngine(compute=double)) as (batcher, _):
            with pytest.raises(ModelNotReady):
                await batcher.statistics(GraphKey("nobody", 1))

    asyncio.run(main())


def test_an_engine_that_makes_no_batches_says_so():
    with pytest.raises(NotImplementedError):
        asyncio.run(FakeEngine().statistics(KEY))
