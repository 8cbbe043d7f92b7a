"""Collections in Redis 8, searched by its vector sets: for gateways on several machines.

How they lie there: serving/redis_index/layout.py. Items are written in transactions, a few in each, so that each is
there whole or not at all, for every gateway at once, and Redis answers others in between. Beside the ledger's commands
the URL's user needs HGET, HGETALL, HSET, HSETNX, HDEL, HMGET, INCRBY, ZADD, ZREM, ZCARD, ZRANGE, ZDIFFSTORE, SADD,
SREM, SCARD, UNLINK, VADD, VREM, VCARD and VSIM, on keys `tidegate:*`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import orjson

from serving.errors import CollectionExists, IndexUnavailable
from serving.filters import Filter
from serving.index import Collection, Counts, Hit, Index, IndexOptions, Item
from serving.redis.link import RedisLink
from serving.redis.transaction import commit, insist
from serving.redis.wire import RedisAway, Wire
from serving.redis_index import layout as stored
from serving.redis_index.changes import filling, putting, watch
from serving.redis_index.layout import COLLECTIONS
from serving.tensors import Array
from serving.vectors import check_dimensions, unit

T = TypeVar("T")

WRITING: Final = 10.0  # of a link's patience: a few items are each put into a graph of all others
READING: Final = 10.0  # exact search reads every vector
READERS: Final = 4  # connections: one search that takes long holds up few others
LEAST_ASKED: Final = 32  # neighbours
SPARE: Final = 8  # times as many neighbours as are wanted, where a filter will drop some
AT_ONCE: Final = 8  # items of one transaction, during which Redis answers nobody: some ms, of 100,000 vectors
KEYS_AT_ONCE: Final = 1000


class RedisIndex(Index):
    """Searches and writes have connections of their own, so that a search waits for no thousand items."""

    def __init__(self, options: IndexOptions) -> None:
        self._writer = RedisLink(options.url, WRITING)
        self._readers = [RedisLink(options.url, READING) for _ in range(READERS)]
        self._turns = itertools.cycle(self._readers)

    async def create(self, collection: Collection) -> Collection:
        record = {"id": secrets.token_hex(8), "model": collection.model, "created": collection.created, "paused": False}

        async def work(wire: Wire) -> Collection:
            await wire.ask(("HSETNX", COLLECTIONS, collection.name, orjson.dumps(record)))  # twice is the same
            (found,) = await wire.ask(("HGET", COLLECTIONS, collection.name))
            return stored.collection(collection.name, stored.known(found))

        found = await self._write(work)
        if found.model != collection.model:
            detail = f"{found.name} is a collection of {found.model}."
            raise CollectionExists(detail, remedy="Choose another name, or delete it first.")
        return found

    async def drop(self, name: str) -> None:
        async def work(wire: Wire) -> None:
            place = await stored.find(wire, name)
            # The name goes first: then the collection is gone, whatever becomes of the rest.
            _, idents, spaces = await wire.ask(
                ("HDEL", COLLECTIONS, name), ("ZRANGE", place.items, 0, -1), ("HGETALL", place.spaces)
            )
            keys = [place.items, place.alone, place.spaces, place.revision]
            keys += [key for version in stored.pairs(spaces) for key in (place.space(version), place.todo(version))]
            keys += [place.item(ident.decode()) for ident in idents]
            for start in range(0, len(keys), KEYS_AT_ONCE):
                await wire.ask(("UNLINK", *keys[start : start + KEYS_AT_ONCE]))

        await self._write(work)

    async def collections(self) -> tuple[Collection, ...]:
        async def work(wire: Wire) -> tuple[Collection, ...]:
            (reply,) = await wire.ask(("HGETALL", COLLECTIONS))
            found = zip(reply[::2], reply[1::2], strict=True)
            return tuple(stored.collection(name.decode(), record) for name, record in sorted(found))

        return await self._read(work)

    async def pause(self, name: str, *, paused: bool) -> Collection:
        async def work(wire: Wire) -> Collection | None:
            _, record = await wire.ask(("WATCH", COLLECTIONS), ("HGET", COLLECTIONS, name))
            changed = orjson.dumps({**orjson.loads(stored.known(record)), "paused": paused})
            done = await commit(wire, [("HSET", COLLECTIONS, name, changed)])
            return stored.collection(name, changed) if done is not None else None

        return await self._change(work)

    async def counts(self, name: str) -> Counts:
        async def work(wire: Wire) -> Counts:
            place = await stored.find(wire, name)
            items, alone, spaces = await wire.ask(
                ("ZCARD", place.items), ("SCARD", place.alone), ("HGETALL", place.spaces)
            )
            versions = list(stored.pairs(spaces))
            sizes = await wire.ask(*(("VCARD", place.space(version)) for version in versions))
            return Counts(items, alone, {version: size for version, size in zip(versions, sizes, strict=True) if size})

        return await self._read(work)

    async def put(self, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
        units = {version: unit(rows) for version, rows in vectors.items()}
        await self._check_spaces(name, units)
        for start in range(0, len(items), AT_ONCE):
            chosen = slice(start, start + AT_ONCE)
            some = {version: rows[chosen] for version, rows in units.items()}
            await self._change(putting(name, items[chosen], some))

    async def get(self, name: str, ident: str) -> Item | None:
        async def work(wire: Wire) -> Item | None:
            return next(iter(await stored.items(wire, await stored.find(wire, name), [ident])), None)

        return await self._read(work)

    async def delete(self, name: str, idents: Sequence[str]) -> int:
        async def work(wire: Wire) -> int | None:
            place, dimensions = await watch(wire, name)
            each = [list(stored.delete_commands(place, ident, list(dimensions))) for ident in dict.fromkeys(idents)]
            replies = await commit(wire, [command for some in each for command in some])
            return None if replies is None else sum(replies[len(each[0]) - 1 :: len(each[0])]) if each else 0

        return await self._change(work)

    async def search(self, name: str, version: int, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        async def work(wire: Wire) -> list[Hit]:
            place = await stored.find(wire, name)
            space = place.space(version)
            dimensions, size = await wire.ask(("HGET", place.spaces, version), ("VCARD", space))
            if not size:
                return []
            check_dimensions(query, int(dimensions))
            asked = max(LEAST_ASKED, k if condition is None else SPARE * k)
            found = _meeting(condition, await stored.nearest(wire, space, query[0], asked))
            if len(found) < k and asked < size:
                found = _meeting(condition, await stored.nearest(wire, space, query[0], size, exact=True))
            return sorted(found, key=lambda hit: (-hit.score, hit.id))[:k]

        query = unit(vector[np.newaxis])
        return await self._read(work)

    async def missing(self, name: str, version: int, most: int) -> list[Item]:
        async def work(wire: Wire) -> list[Item] | None:
            place, dimensions = await watch(wire, name)
            begin = [] if version in dimensions else list(stored.open_commands(place, version, 0))
            replies = await commit(wire, [*begin, ("ZRANGE", place.todo(version), 0, most - 1)])
            if replies is None:
                return None
            return await stored.items(wire, place, [ident.decode() for ident in replies[-1]])

        return await self._change(work)

    async def fill(self, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
        units, filled = unit(vectors), 0
        for start in range(0, len(items), AT_ONCE):
            chosen = slice(start, start + AT_ONCE)
            filled += await self._change(filling(name, version, items[chosen], units[chosen]))
        return filled

    async def clear(self, name: str, version: int) -> None:
        async def work(wire: Wire) -> list[Any] | None:
            place, _ = await watch(wire, name)
            keys = ("UNLINK", place.space(version), place.todo(version))
            return await commit(wire, [keys, ("HDEL", place.spaces, version)])

        await self._change(work)

    async def close(self) -> None:
        for link in (self._writer, *self._readers):
            await link.close()

    async def _check_spaces(self, name: str, vectors: Mapping[int, Array]) -> None:
        """Before anything is kept. VectorInvalid: rows are not of the dimensions of their space."""

        async def work(wire: Wire) -> dict[int, int]:
            (spaces,) = await wire.ask(("HGETALL", (await stored.find(wire, name)).spaces))
            return stored.pairs(spaces)

        known = await self._read(work)
        for version, rows in vectors.items():
            if known.get(version):
                check_dimensions(rows, known[version])

    async def _read(self, work: Callable[[Wire], Awaitable[T]]) -> T:
        return await _exchange(next(self._turns), work, writes=False)

    async def _write(self, work: Callable[[Wire], Awaitable[T]]) -> T:
        return await _exchange(self._writer, work, writes=True)

    async def _change(self, work: Callable[[Wire], Awaitable[T | None]]) -> T:
        """Again and again until nobody else changed meanwhile what it went by; None says that somebody did."""
        result = await insist(lambda: self._write(work))
        if result is None:
            raise IndexUnavailable("Others changed the collection each time.", remedy="Try again.")
        return result


async def _exchange(link: RedisLink, work: Callable[[Wire], Awaitable[T]], *, writes: bool) -> T:
    try:
        return await link.exchange(work, writes=writes)
    except RedisAway as away:
        detail = f"{away.detail} What was asked may have been done." if away.unsure else away.detail
        raise IndexUnavailable(f"The collections cannot be reached: {detail}", remedy=away.remedy) from None


def _meeting(condition: Filter | None, hits: list[Hit]) -> list[Hit]:
    return hits if condition is None else [hit for hit in hits if condition.matches(hit.metadata)]


PLUGIN = RedisIndex
