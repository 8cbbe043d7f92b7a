"""The batcher around the fake engine: who meets in a batch, who is refused, and that nobody's end touches another."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from batching_rig import KEY, batching, double, graph, hold_one, row, until

from serving.batching.batcher import Batcher
from serving.engine import Call, Loaded
from serving.engines.fake import FakeEngine
from serving.errors import DeadlinePassed, EngineFailed, ModelNotReady, QueueFull, TensorInvalid


def test_callers_who_arrive_together_share_a_run_and_get_their_own_rows():
    async def main():
        async with batching(FakeEngine(compute=double)) as (batcher, batches):
            runs = await asyncio.gather(*(batcher.run(KEY, row(i)) for i in range(6)))
        assert [run.outputs["y"].item() for run in runs] == [0, 2, 4, 6, 8, 10]
        assert [(batch.rows, batch.requests, batch.reason) for batch in batches] == [(6, 6, "free")]
        assert {run.batch_rows for run in runs} == {6}

    asyncio.run(main())


def test_requests_of_several_rows_are_split_where_they_were_joined():
    async def main():
        sizes = [1, 3, 2, 2]
        async with batching(FakeEngine(compute=double)) as (batcher, batches):
            inputs = [{"x": np.full((n, 2), i, dtype=np.float32)} for i, n in enumerate(sizes)]
            runs = await asyncio.gather(*(batcher.run(KEY, one) for one in inputs))
        assert [run.outputs["y"].shape for run in runs] == [(n, 2) for n in sizes]
        assert all((run.outputs["y"] == 2 * i).all() for i, run in enumerate(runs))
        assert [batch.rows for batch in batches] == [8]

    asyncio.run(main())


def test_rows_of_other_shapes_run_apart():
    async def main():
        async with batching(FakeEngine(compute=double)) as (batcher, batches):
            runs = await asyncio.gather(*(batcher.run(KEY, row(*range(1 + i % 2))) for i in range(4)))
        assert [run.outputs["y"].tolist() for run in runs] == [[[0.0]], [[0.0, 2.0]]] * 2
        assert [batch.rows for batch in batches] == [2, 2]

    asyncio.run(main())


def test_what_arrives_during_a_run_makes_the_next_batch():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, batches):
            first = await hold_one(batcher, engine)
            waiting = [asyncio.create_task(batcher.run(KEY, row(i))) for i in range(5)]
            await asyncio.sleep(0)
            engine.gate.set()
            await asyncio.gather(first, *waiting)
        assert [batch.rows for batch in batches] == [1, 5]
        assert all(task.result().queue_s > 0 for task in waiting)

    asyncio.run(main())


def test_as_many_runs_at_once_as_there_are_instances():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine, instances=2, max_batch_size=1) as (batcher, _):
            engine.gate.clear()
            tasks = [asyncio.create_task(batcher.run(KEY, row(i))) for i in range(5)]
            await until(lambda: len(engine.runs) == 2, "two runs began")
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(engine.runs) == 2
            engine.gate.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_serves_those_it_took():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine, max_queue_rows=4) as (batcher, _):
            first = await hold_one(batcher, engine)
            taken = [asyncio.create_task(batcher.run(KEY, row(i))) for i in range(4)]
            await asyncio.sleep(0)
            for _ in range(10):
                with pytest.raises(QueueFull):
                    await batcher.run(KEY, row(9))
            engine.gate.set()
            await asyncio.gather(first, *taken)

    asyncio.run(main())


def test_a_caller_who_leaves_takes_its_rows_out_of_the_queue():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine, max_queue_rows=3) as (batcher, _):
            first = await hold_one(batcher, engine)
            tasks = [asyncio.create_task(batcher.run(KEY, row(i))) for i in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
            tasks.append(asyncio.create_task(batcher.run(KEY, row(3))))  # its place is free again
            engine.gate.set()
            await asyncio.gather(first, *(task for task in tasks if not task.cancelled()))
            assert [rows for _, rows in engine.runs] == [1, 3]

    asyncio.run(main())


def test_a_caller_who_leaves_during_its_run_leaves_its_neighbours_alone():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            engine.gate.clear()
            tasks = [asyncio.create_task(batcher.run(KEY, row(i))) for i in range(4)]
            await until(lambda: engine.runs, "the batch runs")
            tasks[2].cancel()
            await asyncio.wait([tasks[2]])
            engine.gate.set()
            others = await asyncio.gather(tasks[0], tasks[1], tasks[3])
            assert [run.outputs["y"].item() for run in others] == [0, 2, 6]

    asyncio.run(main())


class Picky(FakeEngine):
    """Fails any batch that has a negative value in it, as a graph does that one row's values break."""

    async def run(self, key, inputs, call=None):
        run = await super().run(key, inputs)
        if (inputs["x"] < 0).any():
            raise EngineFailed("a negative value")
        return run


def test_one_callers_rows_that_fail_fail_nobody_else():
    async def main():
        engine = Picky(compute=double)
        async with batching(engine) as (batcher, _):
            runs = [batcher.run(KEY, row(value)) for value in (1, -2, 3, 4)]
            results = await asyncio.gather(*runs, return_exceptions=True)
        assert isinstance(results[1], EngineFailed)
        assert [run.outputs["y"].item() for i, run in enumerate(results) if i != 1] == [2, 6, 8]

    asyncio.run(main())


def test_when_a_failed_batch_is_taken_apart_those_who_left_are_not_run():
    async def main():
        engine = Picky(compute=double)
        async with batching(engine) as (batcher, _):
            engine.gate.clear()
            tasks = [asyncio.create_task(batcher.run(KEY, row(value))) for value in (1, -2, 3)]
            await until(lambda: engine.runs, "the batch runs")
            tasks[2].cancel()
            engine.gate.set()
            await asyncio.wait(tasks)
            assert [rows for _, rows in engine.runs] == [3, 1, 1]

    asyncio.run(main())


class Broken(FakeEngine):
    """Breaks in a way that nobody foresaw, once."""

    broken = True

    async def run(self, key, inputs, call=None):
        run = await super().run(key, inputs)
        if self.broken:
            self.broken = False
            raise ZeroDivisionError
        return run


def test_an_unforeseen_failure_reaches_all_who_wait_and_the_queue_goes_on():
    async def main():
        engine = Broken(compute=double)
        async with batching(engine) as (batcher, _):
            results = await asyncio.gather(*(batcher.run(KEY, row(i)) for i in range(3)), return_exceptions=True)
            assert [type(result) for result in results] == [ZeroDivisionError] * 3
            assert (await batcher.run(KEY, row(5))).outputs["y"].item() == 10

    asyncio.run(main())


def test_the_urgent_go_first_and_equals_in_order_of_arrival():
    async def main():
        engine = FakeEngine(compute=double)
        seen = []
        engine._compute = lambda key, inputs: seen.extend(inputs["x"].ravel().tolist()) or double(key, inputs)
        async with batching(engine, max_batch_size=1, priority_levels=3, default_priority=2) as (batcher, _):
            first = await hold_one(batcher, engine)
            asked = [(0, 2.0), (3, 3.0), (1, 1.0), (2, 2.5), (9, 3.5), (1, 1.5)]  # 0: the default; 9: the last level
            tasks = []
            for priority, value in asked:
                tasks.append(asyncio.create_task(batcher.run(KEY, row(value), Call(priority=priority))))
                await asyncio.sleep(0)
            engine.gate.set()
            await asyncio.gather(first, *tasks)
        assert seen == [-1, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]

    asyncio.run(main())


@pytest.mark.parametrize("levels", [{}, {"priority_levels": 2, "default_priority": 2}])
def test_what_has_begun_is_taken_into_a_full_queue_and_goes_first(levels):
    async def main():
        engine = FakeEngine()
        seen = []
        engine._compute = lambda key, inputs: seen.extend(inputs["x"].ravel().tolist()) or double(key, inputs)
        async with batching(engine, max_batch_size=1, max_queue_rows=2, **levels) as (batcher, _):
            first = await hold_one(batcher, engine)
            calls = [Call(), Call(), Call(begun_s=9.0), Call(begun_s=5.0), Call(begun_s=9.0)]
            tasks = [asyncio.create_task(batcher.run(KEY, row(i), call)) for i, call in enumerate(calls)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await batcher.run(KEY, row(9))
            engine.gate.set()
            await asyncio.gather(first, *tasks)
        assert seen == [-1, 3, 2, 4, 0, 1]

    asyncio.run(main())


def test_the_late_never_reach_the_engine():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            first = await hold_one(batcher, engine)
            late = asyncio.create_task(batcher.run(KEY, row(1), Call(deadline_s=time.monotonic() + 0.001)))
            timely = asyncio.create_task(batcher.run(KEY, row(2)))
            await asyncio.sleep(0.01)
            engine.gate.set()
            results = await asyncio.gather(first, late, timely, return_exceptions=True)
            assert isinstance(results[1], DeadlinePassed)
            assert [rows for _, rows in engine.runs] == [1, 1]

    asyncio.run(main())


def test_a_run_may_last_as_long_as_its_most_patient_caller():
    deadlines = []

    class Noting(FakeEngine):
        async def run(self, key, inputs, call=None):
            deadlines.append(call.deadline_s)
            return await super().run(key, inputs)

    async def main():
        soon_s = time.monotonic() + 5
        async with batching(Noting(compute=double)) as (batcher, _):
            await asyncio.gather(
                batcher.run(KEY, row(1), Call(deadline_s=soon_s)),
                batcher.run(KEY, row(2), Call(deadline_s=soon_s + 1)),
            )
            assert deadlines == [soon_s + 1]

    asyncio.run(main())


def test_a_delay_in_the_rules_waits_for_company():
    async def main():
        async with batching(FakeEngine(compute=double), max_queue_delay_s=0.05) as (batcher, batches):
            started_s = time.monotonic()
            first = asyncio.create_task(batcher.run(KEY, row(1)))
            await asyncio.sleep(0.01)
            await asyncio.gather(first, batcher.run(KEY, row(2)))
            assert time.monotonic() - started_s >= 0.049
        assert [(batch.rows, batch.reason) for batch in batches] == [(2, "delay")]

    asyncio.run(main())


def test_a_full_batch_does_not_wait_for_the_delay():
    async def main():
        async with batching(FakeEngine(compute=double), max_batch_size=2, max_queue_delay_s=60) as (batcher, batches):
            await asyncio.wait_for(asyncio.gather(batcher.run(KEY, row(1)), batcher.run(KEY, row(2))), 5)
        assert [(batch.rows, batch.reason) for batch in batches] == [(2, "full")]

    asyncio.run(main())


@pytest.mark.parametrize(("max_batch_size", "rows"), [(4, 5), (1, 2)], ids=["five of four", "two of one"])
def test_a_request_of_more_rows_than_a_batch_is_refused(max_batch_size, rows):
    async def main():
        async with batching(FakeEngine(compute=double), max_batch_size=max_batch_size) as (batcher, _):
            with pytest.raises(TensorInvalid, match=f"{rows} rows .* at most {max_batch_size}"):
                await batcher.run(KEY, {"x": np.zeros((rows, 1), dtype=np.float32)})

    asyncio.run(main())


def test_a_model_without_batch_axis_runs_requests_one_by_one():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine, max_batch_size=0) as (batcher, batches):
            inputs = [{"x": np.arange(n, dtype=np.float32)} for n in (3, 3)]
            runs = await asyncio.gather(*(batcher.run(KEY, one) for one in inputs))
        assert [run.outputs["y"].tolist() for run in runs] == [[0, 2, 4]] * 2
        assert [batch.requests for batch in batches] == [1, 1]

    asyncio.run(main())


def test_unloading_waits_for_what_was_taken_and_refuses_what_comes_later():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            first = await hold_one(batcher, engine)
            second = asyncio.create_task(batcher.run(KEY, row(1)))
            await asyncio.sleep(0)
            unloading = asyncio.create_task(batcher.unload(KEY))
            await asyncio.sleep(0)
            with pytest.raises(ModelNotReady):
                await batcher.run(KEY, row(2))
            assert not unloading.done()
            engine.gate.set()
            await asyncio.gather(first, second, unloading)
            await batcher.unload(KEY)  # a second time does nothing

    asyncio.run(main())


def test_closing_runs_what_waits_even_before_it_began():
    async def main():
        engine = FakeEngine(compute=double)
        async with batching(engine) as (batcher, _):
            task = asyncio.create_task(batcher.run(KEY, row(4)))
            await asyncio.sleep(0)
        assert (await task).outputs["y"].item() == 8

    asyncio.run(main())


def test_closing_does_not_wait_for_the_delay_of_the_rules():
    async def main():
        async with batching(FakeEngine(compute=double), max_queue_delay_s=60) as (batcher, _):
            task = asyncio.create_task(batcher.run(KEY, row(4)))
            await asyncio.sleep(0)
        assert (await task).outputs["y"].item() == 8

    asyncio.run(asyncio.wait_for(main(), 5))


def test_what_the_inner_engine_loads_is_what_the_batcher_says():
    async def main():
        batcher = Batcher(FakeEngine(), lambda _: None)
        loaded = await batcher.load(graph(3), [])
        assert loaded == Loaded(3, graph().config.inputs, graph().config.outputs)
        await batcher.close()

    asyncio.run(main())


class Measured(FakeEngine):
    """Says what its warm-up measured: a row gets dearer in batches of more than two."""

    async def load(self, graph, warm_up, *, quietly=False):
        loaded = await super().load(graph, warm_up, quietly=quietly)
        return replace(loaded, row_costs_s={1: 1.0, 2: 1.0, 4: 1.5, 8: 2.0})


@pytest.mark.parametrize(
    ("rules", "sizes"),
    [({}, [2, 2]), ({"preferred_batch_sizes": (4,)}, [4])],
    ids=["as measured", "unless the configuration prefers sizes"],
)
def test_batches_are_no_larger_than_pays_on_this_host(rules, sizes):
    async def main():
        async with batching(Measured(compute=double), **rules) as (batcher, batches):
            await asyncio.gather(*(batcher.run(KEY, row(i)) for i in range(4)))
            whole = await batcher.run(KEY, {"x": np.zeros((6, 1), dtype=np.float32)})  # one caller's rows stay together
            assert whole.batch_rows == 6
        assert [batch.rows for batch in batches] == [*sizes, 6]

    asyncio.run(main())


def test_no_deadline_is_no_deadline():
    assert Call().deadline_s == math.inf


@pytest.mark.parametrize(("quiet_turns", "runs"), [(2, [1, 1]), (8, [2])])
def test_whoever_comes_within_the_quiet_turns_comes_along(quiet_turns, runs):
    """A second request five turns of the loop after the first, as calls come that another thread hands over."""

    async def main():
        engine = FakeEngine(compute=double)
        batcher = Batcher(engine, lambda _: None, lambda: quiet_turns)
        await batcher.load(graph(instances=2), [])
        first = asyncio.create_task(batcher.run(KEY, row(1)))
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.gather(first, batcher.run(KEY, row(2)))
        assert [rows for _, rows in engine.runs] == runs
        await batcher.close()

    asyncio.run(main())
