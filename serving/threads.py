"""As many threads as there are cores, shared by all blocking work: decoding pictures and running models.

With a pool each, decoding and running would be twice as many threads as cores, which cost photos a tenth of their
throughput (docs/decisions/0005-one-thread-a-core.md). The threads are shared fairly: whoever has had the least
processor time is next, so that a light model does not wait behind all the work of a heavy one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.errors import QueueFull

T = TypeVar("T")


class _Job(Generic[T]):
    """A piece of work; its future gives what it returns, the seconds it waited and the seconds it ran."""

    __slots__ = ("function", "future", "submitted_s")

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.future: Future[tuple[T, float, float]] = Future()
        self.submitted_s = time.monotonic()

    def run(self) -> float:
        """Does the work, unless nobody waits for it any more; the seconds that took."""
        if not self.future.set_running_or_notify_cancel():
            return 0.0
        started_s = time.monotonic()
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001  (whoever waits shall hear of it)
            ran_s = time.monotonic() - started_s
            self.future.set_exception(error)
        else:
            ran_s = time.monotonic() - started_s
            self.future.set_result((result, started_s - self.submitted_s, ran_s))
        return ran_s


class _Owner:
    """One model's work that waits. Runs go before preparations: they end what was begun."""

    __slots__ = ("preparations", "runs", "used_s")

    def __init__(self, used_s: float) -> None:
        self.used_s = used_s
        self.runs: deque[_Job[Any]] = deque()
        self.preparations: deque[_Job[Any]] = deque()

    def next(self) -> _Job[Any] | None:
        if self.runs:
            return self.runs.popleft()
        return self.preparations.popleft() if self.preparations else None


class Threads:
    """`count` threads; with `max_waiting` preparations waiting already, further ones are refused at once."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self.count = count
        self._limit = count + max_waiting
        self._preparing = 0
        self._owners: dict[str, _Owner] = {}  # those with work that waits or runs
        self._behind: deque[_Job[Any]] = deque()  # work that yields to all other work
        self._busy_behind = False
        self._change = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"work-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    async def prepare(self, owner: str, function: Callable[[], T]) -> tuple[T, float, float]:
        """What `function` returns, the seconds it waited for a thread and the seconds it ran.

        QueueFull when too much waits. Work whose caller leaves before a thread takes it is never done.
        """
        if self._preparing >= self._limit:
            raise QueueFull("Too many requests wait to be decoded.", remedy="Try again later.")
        self._preparing += 1
        future = asyncio.wrap_future(self._submit(owner, function, urgent=False))
        future.add_done_callback(self._prepared)
        return await future

    async def run(self, owner: str, function: Callable[[], T]) -> tuple[T, float, float]:
        """As `prepare`, before all preparations of the same owner, and never refused: slots bound it already."""
        return await asyncio.wrap_future(self._submit(owner, function, urgent=True))

    async def run_behind(self, function: Callable[[], T]) -> tuple[T, float, float]:
        """As `run`, when nothing else waits, and one at a time: so that the other threads stay free for what comes."""
        job = _Job(function)
        with self._change:
            self._behind.append(job)
            self._change.notify()
        return await asyncio.wrap_future(job.future)

    def close(self) -> None:
        """Blocks until the work that was begun has ended; work that waits is dropped."""
        with self._change:
            self._closed = True
            for owner in self._owners.values():
                while job := owner.next():
                    job.future.cancel()
            for job in self._behind:
                job.future.cancel()
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _prepared(self, _: asyncio.Future[Any]) -> None:
        self._preparing -= 1

    def _submit(self, name: str, function: Callable[[], T], *, urgent: bool) -> Future[tuple[T, float, float]]:
        job = _Job(function)
        with self._change:
            owner = self._owners.get(name)
            if owner is None:
                # Whoever comes back begins level with the others: idle time is no credit to spend on them.
                least_s = min((other.used_s for other in self._owners.values()), default=0.0)
                owner = self._owners[name] = _Owner(least_s)
            (owner.runs if urgent else owner.preparations).append(job)
            self._change.notify()
        return job.future

    def _work(self) -> None:
        while taken := self._wait_for_work():
            owner, job = taken
            ran_s = job.run()
            del job, taken  # or the last job's tensors would live on while this thread waits
            with self._change:
                if owner is not None:
                    owner.used_s += ran_s
                else:
                    self._busy_behind = False
                    self._change.notify()

    def _wait_for_work(self) -> tuple[_Owner | None, _Job[Any]] | None:
        """The next work and whose it is, nobody's if it yields to all other; None when there will be none."""
        with self._change:
            while not self._closed:
                if taken := self._take():
                    return taken
                if self._behind and not self._busy_behind:
                    self._busy_behind = True
                    return None, self._behind.popleft()
                self._change.wait()
        return None

    def _take(self) -> tuple[_Owner, _Job[Any]] | None:
        """The next work of the owner that had the least; owners that have none left are forgotten."""
        for name in sorted(self._owners, key=lambda name: self._owners[name].used_s):
            owner = self._owners[name]
            if job := owner.next():
                return owner, job
            del self._owners[name]
        return None
