"""Knowing that Redis has written something to disk, where it can say so: WAITAOF, from Redis 7.2 on, with its AOF.

Source: https://redis.io/docs/latest/commands/waitaof/
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Final

from serving.redis.link import RedisLink
from serving.redis.wire import Wire

log = logging.getLogger(__name__)

MARK: Final = "tidegate:jobs:written"
SINCE: Final = (7, 2)
WAIT_S: Final = 1.8  # with appendfsync everysec it takes up to a second; the link's patience must have room for it
DISTRUST_S: Final = 60.0  # with appendfsync no it would never be said


class Durability:
    """Waits for the disk, for all who ask meanwhile at once."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._trusted_from_s = 0.0

    async def reached(self) -> None:
        """Returns when all that was answered before is on disk, or Redis cannot say that it is. RedisAway."""
        if self._next is None:  # the round that runs may have begun before what the caller wrote
            self._next = asyncio.create_task(self._round(self._running), name="wait for Redis' disk")
            self._next.add_done_callback(_heard)  # whoever asked may have left
        await asyncio.shield(self._next)

    async def _round(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        if time.monotonic() >= self._trusted_from_s:
            await self._link.exchange(self._wait, writes=True)

    async def _wait(self, wire: Wire) -> None:
        # The mark is this connection's own write, behind all that others had been answered before.
        _, server, persistence = await wire.ask(("INCR", MARK), ("INFO", "server"), ("INFO", "persistence"))
        if b"aof_enabled:1" not in persistence or _version(server) < SINCE:
            return
        ((local, _),) = await wire.ask(("WAITAOF", 1, 0, round(WAIT_S * 1000)))
        if not local:
            log.warning("Redis does not say that its AOF is on disk: jobs are accepted without waiting for it")
            self._trusted_from_s = time.monotonic() + DISTRUST_S


def _heard(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _version(server: bytes) -> tuple[int, int]:
    found = re.search(rb"redis_version:(\d+)\.(\d+)", server)
    return (int(found[1]), int(found[2])) if found else (0, 0)
