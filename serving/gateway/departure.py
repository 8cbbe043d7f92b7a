"""Noticing that a caller has left, so that nobody computes for it.

ASGI servers tell it only to whoever asks, and asking costs as much as some answers do. So those who have waited a
while are asked for, all at one tick, and answers that come sooner cost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from starlette.types import Receive

T = TypeVar("T")
TICK_S: Final = 0.01


class CallerLeft(Exception):
    """The connection is gone: there is nobody to answer."""


class _Watch:
    """Asks `receive` and cancels the task that waits for an answer when the caller departs."""

    __slots__ = ("_asking", "_receive", "_task", "left")

    def __init__(self, receive: Receive, task: asyncio.Task[Any] | None) -> None:
        self._receive = receive
        self._task = task
        self._asking: asyncio.Task[None] | None = None
        self.left = False

    def start(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def cleared(self) -> bool:
        """Whether the cancellation that is under way is ours alone; then it is taken back."""
        return self.left and self._task is not None and self._task.uncancel() == 0

    async def _ask(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._task is not None:
            self.left = True
            self._task.cancel()


class Presence:
    """The callers who wait for an answer. Whoever is there for a whole tick is watched from then on."""

    def __init__(self) -> None:
        self._new: set[_Watch] = set()
        self._older: set[_Watch] = set()
        self._ticking = False

    async def hold(self, receive: Receive, work: Awaitable[T]) -> T:
        """The work's result; CallerLeft, and the work cancelled, when the caller leaves first.

        To be called when the body has been read: from then on `receive` returns only to tell of the departure.
        """
        watch = _Watch(receive, asyncio.current_task())
        self._new.add(watch)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
        try:
            return await work
        except asyncio.CancelledError:
            if watch.cleared():
                raise CallerLeft from None
            raise
        finally:
            self._new.discard(watch)
            self._older.discard(watch)
            watch.stop()

    def _tick(self) -> None:
        for watch in self._older:
            watch.start()
        self._older, self._new = self._new, set()
        self._ticking = bool(self._older)
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
