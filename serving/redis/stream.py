"""A stream in Redis that every gateway reads from where it was: what one appends, all see once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serving.redis.link import RedisLink
from serving.redis.wire import Wire

FIELD: Final = b"text"
MOST: Final = 10_000  # entries that are kept, about: who reads twice a second misses none of as many
KEPT_S: Final = 60  # after the last one was appended
AT_ONCE: Final = 1000  # entries that are read in one exchange


class RedisStream:
    """RedisAway from all methods. Nothing is read that was appended before the first `news`."""

    def __init__(self, url: str, key: str) -> None:
        self._link = RedisLink(url)
        self._key = key
        self._last: bytes | None = None  # the id of what was read last

    async def append(self, texts: Sequence[bytes]) -> None:
        """Adds entries, in their order."""
        adding = [("XADD", self._key, "MAXLEN", "~", MOST, "*", FIELD, text) for text in texts]
        await self._link.exchange(lambda wire: wire.ask(*adding, ("EXPIRE", self._key, KEPT_S)), writes=True)

    async def news(self) -> list[bytes]:
        """What was appended since the last time, the oldest first; AT_ONCE at most."""
        if self._last is None:
            self._last = await self._link.exchange(self._end)
            return []
        after = b"(" + self._last
        (found,) = await self._link.exchange(lambda wire: wire.ask(("XRANGE", self._key, after, "+", "COUNT", AT_ONCE)))
        if found:
            self._last = found[-1][0]
        return [fields[1] for _, fields in found]

    async def close(self) -> None:
        await self._link.close()

    async def _end(self, wire: Wire) -> bytes:
        (found,) = await wire.ask(("XREVRANGE", self._key, "+", "-", "COUNT", 1))
        return found[0][0] if found else b"0-0"
