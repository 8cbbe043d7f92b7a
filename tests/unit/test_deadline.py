"""by_deadline tells its own cancellation from others', and never hands out what is late."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from serving.deadline import by_deadline
from serving.errors import DeadlinePassed


async def answer_after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


@pytest.mark.parametrize("deadline_s", [math.inf, None], ids=["none", "in time"])
def test_gives_what_the_work_gives(deadline_s):
    async def main():
        return await by_deadline(time.monotonic() + 5 if deadline_s is None else deadline_s, answer_after(0))

    assert asyncio.run(main()) == "answer"


def test_ends_the_work_at_the_deadline():
    ended = []

    async def work():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main():
        with pytest.raises(DeadlinePassed):
            await by_deadline(time.monotonic() + 0.01, work())
        await asyncio.sleep(0)  # the task itself goes on: it was the work that ended

    asyncio.run(main())
    assert ended == ["cancelled"]


def test_a_deadline_that_has_passed_already():
    async def main():
        with pytest.raises(DeadlinePassed):
            await by_deadline(time.monotonic() - 1, answer_after(0.01))

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1], ids=["before the timer", "with the timer"])
def test_an_answer_that_comes_with_the_deadline_is_late(turns):
    async def blocking():
        time.sleep(0.02)  # noqa: ASYNC251  (the loop shall be late)
        for _ in range(turns):
            await asyncio.sleep(0)
        return "late"

    async def main():
        with pytest.raises(DeadlinePassed):
            await by_deadline(time.monotonic() + 0.01, blocking())
        await asyncio.sleep(0)

    asyncio.run(main())


def test_somebody_elses_cancellation_stays_theirs():
    async def main():
        task = asyncio.create_task(by_deadline(time.monotonic() + 60, answer_after(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancellation_that_meets_the_deadline_is_not_swallowed():
    async def main():
        async def work():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                asyncio.current_task().cancel()  # somebody cancels while the deadline's own cancellation is under way
                raise

        task = asyncio.create_task(by_deadline(time.monotonic() + 0.01, work()))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_failures_of_the_work_pass_through():
    async def fail():
        raise LookupError

    async def main():
        with pytest.raises(LookupError):
            await by_deadline(time.monotonic() + 5, fail())

    asyncio.run(main())
