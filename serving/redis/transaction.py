"""Transactions: commands that are carried out all together, unless what was watched has changed meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from serving.redis.wire import Command, Wire

T = TypeVar("T")
TRIES: Final = 100  # lost to others; each is as long as a round trip


async def commit(wire: Wire, commands: Sequence[Command]) -> list[Any] | None:
    """The replies of a transaction; None when what was watched has changed."""
    if not commands:
        await wire.ask(("UNWATCH",))
        return []
    *_, replies = await wire.ask(("MULTI",), *commands, ("EXEC",), commits=True)
    return replies if replies is None else list(replies)


async def insist(attempt: Callable[[], Awaitable[T | None]]) -> T | None:
    """What `attempt` gives, again and again while it gives None because somebody else was quicker; None if that
    happened each time.
    """
    for turn in range(TRIES):
        result = await attempt()
        if result is not None:
            return result
        await asyncio.sleep(random.uniform(0, 0.001 * min(turn + 1, 20)))  # noqa: S311  (to part those who met)
    return None
