"""Waiting for news: everybody who waits hears of it, and whoever comes later waits for the next."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class News:
    """Of one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        told, self._next = self._next, asyncio.Event()
        told.set()

    async def wait(self, patience_s: float) -> None:
        """Returns when there are news, or the time has passed."""
        awaited = self._next
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await awaited.wait()
