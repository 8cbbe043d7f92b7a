"""What waits before an engine that makes its own batches, and what is sent."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching.admission import BATCHES, Admission
from serving.batching.policy import admit
from serving.engine import ANY_TIME, Call
from serving.engines.fake import FakeEngine
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, QueueFull, TensorInvalid
from serving.repository.config import BatchRules, GraphConfig, TensorSpec
from serving.repository.layout import Graph, GraphKey

KEY = GraphKey("double", 1)


def waiting(rows, deadline_s=math.inf):
    return SimpleNamespace(rows=rows, deadline_s=deadline_s)


@pytest.mark.parametrize(
    ("queue", "free", "taken", "expired"),
    [
        ([], 8, (), ()),
        ([waiting(1), waiting(2)], 8, (0, 1), ()),
        ([waiting(1), waiting(2)], 2, (0,), ()),
        ([waiting(4), waiting(1)], 2, (), ()),
        ([waiting(1, deadline_s=5.0), waiting(1)], 1, (1,), (0,)),
        ([waiting(1), waiting(1)], 0, (), ()),
        ([waiting(1, deadline_s=5.0), waiting(1)], 0, (), (0,)),
    ],
    ids=["none", "all", "as many as fit", "none before a large one", "who is too late", "no room", "late, no room"],
)
def test_who_may_be_sent(queue, free, taken, expired):
    assert admit(queue, 5.0, free) == (taken, expired)


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0, 10)), max_size=20), st.integers(0, 40))
def test_no_more_is_sent_than_there_is_room_for_and_nobody_overtakes(queue, free):
    requests = [waiting(rows, deadline_s) for rows, deadline_s in queue]
    taken, expired = admit(requests, 5.0, free)
    assert sum(requests[i].rows for i in taken) <= free
    assert all(requests[i].deadline_s > 5.0 for i in taken)
    assert all(requests[i].deadline_s <= 5.0 for i in expired)
    looked_at = sorted((*taken, *expired))
    assert looked_at == list(range(len(looked_at))), "those before who goes have gone, or are too late"
    if len(looked_at) < len(requests):
        assert requests[len(looked_at)].rows > free - sum(requests[i].rows for i in taken)


def graph(**rules) -> Graph:
    specs = (TensorSpec("x", "FP32", (-1,)),)
    config = GraphConfig("double", "onnxruntime_onnx", specs, specs, 1, None, BatchRules(**rules))
    return Graph(KEY, None, config)


def rows(count=1, value=0.0):
    return {"x": np.full((count, 2), value, np.float32)}


@asynccontextmanager
async def closed_gate(**rules):
    """An admission before an engine whose runs wait until its gate is opened."""
    inner = FakeEngine(compute=lambda _, inputs: {"x": inputs["x"] * 2})
    engine = Admission(inner)
    await engine.load(graph(**rules), [])
    inner.gate.clear()
    try:
        yield engine, inner
    finally:
        inner.gate.set()
        await engine.close()


async def arrivals(engine, *requests, call=ANY_TIME):
    tasks = [asyncio.create_task(engine.run(KEY, request, call)) for request in requests]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_only_what_keeps_the_engine_busy_is_sent_and_the_rest_in_order():
    async def main():
        async with closed_gate(max_batch_size=2) as (engine, inner):
            tasks = await arrivals(engine, *(rows(value=i) for i in range(7)))
            assert len(inner.runs) == BATCHES * 2
            inner.gate.set()
            runs = await asyncio.gather(*tasks)
            assert [run.outputs["x"][0, 0] for run in runs] == [2 * i for i in range(7)]
            assert runs[0].queue_s == pytest.approx(0, abs=0.01)
            assert runs[-1].queue_s > 0
            assert len(inner.runs) == 7

    asyncio.run(main())


def test_who_leaves_while_it_waits_is_never_sent_and_no_room_is_lost():
    async def main():
        async with closed_gate(max_batch_size=1) as (engine, inner):
            tasks = await arrivals(engine, *(rows() for _ in range(200 + BATCHES)))
            for task in tasks[BATCHES:]:
                task.cancel()
            await asyncio.wait(tasks[BATCHES:])
            inner.gate.set()
            await asyncio.gather(*tasks[:BATCHES])
            assert len(inner.runs) == BATCHES
            inner.gate.clear()
            again = await arrivals(engine, *(rows() for _ in range(BATCHES)))
            assert len(inner.runs) == 2 * BATCHES, "all room is there again"
            inner.gate.set()
            await asyncio.gather(*again)

    asyncio.run(main())


def test_who_leaves_in_the_moment_of_its_turn_gives_it_back():
    async def main():
        async with closed_gate(max_batch_size=1) as (engine, inner):
            running = await arrivals(engine, *(rows() for _ in range(BATCHES)))
            leaving, staying = await arrivals(engine, rows(), rows())
            inner.gate.set()
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            inner.gate.clear()
            leaving.cancel()
            await asyncio.wait([leaving])
            inner.gate.set()
            await staying
            assert engine._lanes[KEY]._free_rows == BATCHES

    asyncio.run(main())


def test_a_small_one_goes_on_when_the_large_one_before_it_leaves():
    async def main():
        async with closed_gate(max_batch_size=4) as (engine, inner):
            running = await arrivals(engine, rows(4), rows(2))
            large, small = await arrivals(engine, rows(4), rows(1))
            assert len(inner.runs) == 2
            large.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(inner.runs) == 3
            inner.gate.set()
            await asyncio.gather(*running, small)

    asyncio.run(main())


def test_the_most_urgent_go_first():
    async def main():
        async with closed_gate(max_batch_size=1, priority_levels=3, default_priority=2) as (engine, inner):
            running = await arrivals(engine, *(rows() for _ in range(BATCHES)))
            order = []

            async def wait(name, priority):
                await engine.run(KEY, rows(), Call(priority=priority))
                order.append(name)

            tasks = [asyncio.create_task(wait(*one)) for one in (("default", 0), ("last", 9), ("first", 1))]
            await asyncio.sleep(0)
            inner.gate.set()
            await asyncio.gather(*running, *tasks)
            assert order == ["first", "default", "last"]

    asyncio.run(main())


def test_what_has_begun_is_not_refused_and_goes_first():
    async def main():
        async with closed_gate(max_batch_size=1, max_queue_rows=1) as (engine, inner):
            running = await arrivals(engine, *(rows() for _ in range(BATCHES)))
            order = []

            async def wait(name, begun_s):
                await engine.run(KEY, rows(), Call(begun_s=begun_s))
                order.append(name)

            asked = [("new", math.inf), ("later", 9.0), ("earlier", 5.0)]
            tasks = [asyncio.create_task(wait(*one)) for one in asked]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await engine.run(KEY, rows())
            inner.gate.set()
            await asyncio.gather(*running, *tasks)
            assert order == ["earlier", "later", "new"]

    asyncio.run(main())


def test_more_than_may_wait_are_refused_at_once_and_too_large_ones_always():
    async def main():
        async with closed_gate(max_batch_size=2, max_queue_rows=3) as (engine, inner):
            tasks = await arrivals(engine, *(rows() for _ in range(BATCHES * 2 + 3)))
            with pytest.raises(QueueFull):
                await engine.run(KEY, rows())
            with pytest.raises(TensorInvalid, match="at most 2"):
                await engine.run(KEY, rows(3))
            inner.gate.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_who_is_too_late_is_not_sent():
    async def main():
        async with closed_gate(max_batch_size=1) as (engine, inner):
            running = await arrivals(engine, *(rows() for _ in range(BATCHES)))
            [late] = await arrivals(engine, rows(), call=Call(deadline_s=time.monotonic() + 0.01))
            await asyncio.sleep(0.02)
            inner.gate.set()
            await asyncio.gather(*running)
            with pytest.raises(DeadlinePassed):
                await late
            assert len(inner.runs) == BATCHES

    asyncio.run(main())


def test_a_run_that_fails_gives_its_room_back():
    async def main():
        def failing(_, inputs):
            raise EngineFailed("told to")

        engine = Admission(FakeEngine(compute=failing))
        await engine.load(graph(max_batch_size=1), [])
        for _ in range(BATCHES + 1):
            with pytest.raises(EngineFailed):
                await engine.run(KEY, rows())
        await engine.close()

    asyncio.run(main())


@pytest.mark.parametrize("ending", ["unload", "close"])
def test_a_graph_goes_when_those_who_wait_have_been_answered(ending):
    async def main():
        async with closed_gate(max_batch_size=1) as (engine, inner):
            tasks = await arrivals(engine, *(rows() for _ in range(BATCHES + 2)))
            end = asyncio.create_task(engine.unload(KEY) if ending == "unload" else engine.close())
            await asyncio.sleep(0)
            with pytest.raises(ModelNotReady):
                await engine.run(KEY, rows())
            assert not end.done()
            inner.gate.set()
            await end
            assert all(task.done() for task in tasks)
            assert len(inner.runs) == BATCHES + 2

    asyncio.run(main())


def test_models_without_a_batch_axis_count_as_one_row():
    async def main():
        async with closed_gate(max_batch_size=0) as (engine, inner):
            tasks = await arrivals(engine, *(rows(5) for _ in range(BATCHES + 1)))
            assert len(inner.runs) == BATCHES
            inner.gate.set()
            await asyncio.gather(*tasks)
            assert engine.available

    asyncio.run(main())
