"""The way to Redis, for somebody who is told to end just as a command was sent."""

from __future__ import annotations

import asyncio

from serving.redis.wire import heeded


async def ends_when_told_to_as_it_was_sent(wrapped) -> bool:
    """Whether a task ends that sends as redis-py does, and is cancelled in the turn in which that has ended."""
    sent = asyncio.get_running_loop().create_future()

    async def write() -> None:
        await sent

    async def work() -> None:
        await wrapped(asyncio.wait_for(write(), 5))
        await asyncio.sleep(5)

    task = asyncio.create_task(work())
    for _ in range(3):
        await asyncio.sleep(0)
    sent.set_result(None)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    return task.done()


def test_it_is_heeded():
    assert asyncio.run(ends_when_told_to_as_it_was_sent(heeded))


def test_the_result_is_the_works():
    async def one() -> int:
        return 1

    assert asyncio.run(heeded(one())) == 1
