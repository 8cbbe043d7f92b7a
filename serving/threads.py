"""Threads for blocking work, such as decoding pictures, with a bound on what waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.errors import QueueFull

T = TypeVar("T")


class Threads:
    """`count` threads; with `max_waiting` pieces of work waiting already, further work is refused at once."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="pre")
        self._limit = count + max_waiting
        self._pending = 0

    async def run(self, function: Callable[[], T]) -> tuple[T, float, float]:
        """What `function` returns, the seconds it waited for a thread and the seconds it ran.

        QueueFull when too much waits. Work whose caller leaves before a thread takes it is never done.
        """
        if self._pending >= self._limit:
            raise QueueFull("Too many requests wait to be decoded.", remedy="Try again later.")
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, _timed, function, time.perf_counter())
        future.add_done_callback(self._done)
        return await future

    def close(self) -> None:
        """Blocks until the work that was begun has ended; work that waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self, _: asyncio.Future[tuple[T, float, float]]) -> None:
        self._pending -= 1


def _timed(function: Callable[[], T], submitted: float) -> tuple[T, float, float]:
    started = time.perf_counter()
    result = function()
    return result, started - submitted, time.perf_counter() - started
