"""The threads that all blocking work shares: bounded, fair by model, runs before preparations."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest

from serving.errors import QueueFull
from serving.threads import Threads


@contextmanager
def threads_of(count: int, max_waiting: int = 100):
    threads = Threads(count, max_waiting)
    try:
        yield threads
    finally:
        threads.close()


async def hold(threads: Threads, owner: str = "holder") -> tuple[threading.Event, asyncio.Task]:
    """Occupies one thread until the event is set."""
    begun, gate = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait()

    task = asyncio.create_task(threads.run(owner, work))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    return gate, task


def test_work_is_done_elsewhere_and_timed():
    async def main():
        with threads_of(2) as threads:
            for kind in (threads.prepare, threads.run):
                thread, waited_s, ran_s = await kind("m", lambda: (time.sleep(0.02), threading.get_ident())[1])
                assert thread != threading.get_ident()
                assert 0 <= waited_s < 1
                assert ran_s >= 0.02

    asyncio.run(main())


def test_time_spent_waiting_for_a_thread_is_told():
    async def main():
        with threads_of(1) as threads:
            gate, held = await hold(threads)
            waiting = asyncio.create_task(threads.run("m", lambda: None))
            await asyncio.sleep(0.02)
            gate.set()
            await held
            assert (await waiting)[1] >= 0.019

    asyncio.run(main())


def test_more_preparations_than_may_wait_are_refused_at_once_and_runs_never():
    async def main():
        with threads_of(1, max_waiting=1) as threads:
            gate, held = await hold(threads)
            waiting = [asyncio.create_task(threads.prepare("m", lambda: None)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await threads.prepare("m", lambda: None)
            run = asyncio.create_task(threads.run("m", lambda: "ran"))
            gate.set()
            await asyncio.gather(held, *waiting)
            assert (await run)[0] == "ran"
            await threads.prepare("m", lambda: None)  # there is room again

    asyncio.run(main())


def test_whoever_leaves_frees_its_place_and_its_work_is_never_done():
    async def main():
        done = []
        with threads_of(1, max_waiting=0) as threads:
            gate, held = await hold(threads)
            leaving = asyncio.create_task(threads.prepare("m", lambda: done.append("left")))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
            staying = asyncio.create_task(threads.prepare("m", lambda: done.append("stayed")))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(held, staying)
            assert done == ["stayed"]

    asyncio.run(main())


def test_work_that_fails_fails_its_caller_only():
    async def main():
        with threads_of(1) as threads:
            with pytest.raises(ZeroDivisionError):
                await threads.prepare("m", lambda: 1 / 0)
            assert (await threads.prepare("m", lambda: 1))[0] == 1

    asyncio.run(main())


def test_runs_of_a_model_go_before_its_preparations():
    async def main():
        order = []
        with threads_of(1) as threads:
            gate, held = await hold(threads)
            tasks = [
                asyncio.create_task(threads.prepare("m", lambda i=i: order.append(f"prepare {i}"))) for i in range(2)
            ]
            tasks += [asyncio.create_task(threads.run("m", lambda i=i: order.append(f"run {i}"))) for i in range(2)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(held, *tasks)
        assert order == ["run 0", "run 1", "prepare 0", "prepare 1"]

    asyncio.run(main())


def test_a_light_model_does_not_wait_behind_all_the_work_of_a_heavy_one():
    async def main():
        order = []

        def work(name: str, seconds: float) -> None:
            time.sleep(seconds)
            order.append(name)

        with threads_of(1) as threads:
            gate, held = await hold(threads)
            heavy = [asyncio.create_task(threads.run("heavy", lambda: work("heavy", 0.01))) for _ in range(6)]
            await asyncio.sleep(0)
            light = [asyncio.create_task(threads.run("light", lambda: work("light", 0.001))) for _ in range(3)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(held, *heavy, *light)
        assert order[:4].count("light") == 3, order
        assert order[4:] == ["heavy"] * 5

    asyncio.run(main())


def test_idle_time_is_no_credit():
    async def main():
        order = []
        with threads_of(1) as threads:
            await threads.run("busy", lambda: time.sleep(0.05))
            gate, held = await hold(threads, "busy")
            tasks = []
            for name in ("busy", "fresh") * 3:
                tasks.append(
                    asyncio.create_task(threads.run(name, lambda name=name: (time.sleep(0.005), order.append(name))))
                )
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(held, *tasks)
        assert "busy" in order[:3], "who comes anew begins level and does not go before all that others have waiting"

    asyncio.run(main())


def test_as_many_at_once_as_there_are_threads():
    async def main():
        with threads_of(3) as threads:
            together = threading.Barrier(3, timeout=5)
            await asyncio.gather(*(threads.run("m", together.wait) for _ in range(3)))

    asyncio.run(main())


def test_closing_ends_what_was_begun_and_drops_what_waits():
    async def main():
        threads = Threads(1, 10)
        gate, held = await hold(threads)
        waiting = asyncio.create_task(threads.prepare("m", lambda: None))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(threads.close))
        while not waiting.done():
            await asyncio.sleep(0.001)
        assert waiting.cancelled()
        assert not closing.done()
        gate.set()
        await asyncio.gather(closing, held)

    asyncio.run(main())


def test_work_behind_waits_until_nothing_else_does_and_goes_one_at_a_time():
    async def main():
        done: list[str] = []
        with threads_of(2) as threads:
            gates = [await hold(threads, owner) for owner in "ab"]
            behind = [asyncio.create_task(threads.run_behind(partial(done.append, f"behind {i}"))) for i in range(2)]
            await asyncio.sleep(0.01)
            runs = [asyncio.create_task(threads.run("m", partial(done.append, f"run {i}"))) for i in range(3)]
            await asyncio.sleep(0.01)
            gates[0][0].set()
            await asyncio.gather(*runs, *behind)
            assert done == ["run 0", "run 1", "run 2", "behind 0", "behind 1"]
            gates[1][0].set()
            await asyncio.gather(*(task for _, task in gates))

    asyncio.run(main())


def test_work_behind_leaves_a_thread_to_what_comes():
    async def main():
        with threads_of(2) as threads:
            begun, gate = threading.Semaphore(0), threading.Event()

            def work() -> None:
                begun.release()
                gate.wait()

            behind = [asyncio.create_task(threads.run_behind(work)) for _ in range(2)]
            await asyncio.to_thread(begun.acquire)
            await asyncio.wait_for(threads.run("m", lambda: None), 5)
            assert not begun.acquire(blocking=False), "only one of them runs"
            gate.set()
            await asyncio.gather(*behind)

    asyncio.run(main())


def test_work_behind_that_waits_is_dropped_at_the_end():
    async def main():
        threads = Threads(1, 0)
        gate, held = await hold(threads)
        waiting = asyncio.create_task(threads.run_behind(lambda: None))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(asyncio.to_thread(threads.close))
        await asyncio.sleep(0.01)
        gate.set()
        await closing
        await held
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
