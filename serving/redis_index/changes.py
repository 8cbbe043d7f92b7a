"""Changes of a collection in Redis, each one transaction: nobody sees half of it, and a lost one was never there.

What a change goes by is watched: when somebody else changed that meanwhile, it comes to nothing, says None, and is
tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serving.index import Item
from serving.redis.transaction import commit
from serving.redis.wire import Command, Wire
from serving.redis_index import layout
from serving.redis_index.layout import COLLECTIONS, Place
from serving.tensors import Array
from serving.vectors import check_dimensions


def putting(name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> Callable[[Wire], Awaitable[Any]]:
    """Keeps the items with their vectors, float32 [len(items), dimensions] of each version."""

    async def work(wire: Wire) -> list[Any] | None:
        place, dimensions = await watch(wire, name)
        (newest,) = await wire.ask(("INCRBY", place.revision, len(items)))
        commands: list[Command] = []
        for version, rows in vectors.items():
            commands += _opening(place, version, dimensions, rows)
            dimensions[version] = rows.shape[1]
        for i, item in enumerate(items):
            own = {version: rows[i] for version, rows in vectors.items()}
            commands += layout.put_commands(place, item, newest - len(items) + 1 + i, dimensions, own)
        return await commit(wire, commands)

    return work


def filling(name: str, version: int, items: Sequence[Item], vectors: Array) -> Callable[[Wire], Awaitable[int | None]]:
    """Puts the vectors of those items that are still as they were into the space; how many."""

    async def work(wire: Wire) -> int | None:
        place, dimensions = await watch(wire, name)
        keys = [place.item(item.id) for item in items]
        _, *revisions = await wire.ask(("WATCH", *keys), *(("HGET", key, "revision") for key in keys))
        same = [i for i, now in enumerate(revisions) if now is not None and int(now) == items[i].revision]
        commands = _opening(place, version, dimensions, vectors) if same else []
        for i in same:
            commands += layout.vector_commands(place, version, items[i], vectors[i])
        return len(same) if await commit(wire, commands) is not None else None

    return work


async def watch(wire: Wire, name: str) -> tuple[Place, dict[int, int]]:
    """Where the collection is and the dimensions of its spaces; what is committed next is void if either changes."""
    await wire.ask(("WATCH", COLLECTIONS))  # before the look: it may be dropped right after
    place = await layout.find(wire, name)
    _, spaces = await wire.ask(("WATCH", place.spaces), ("HGETALL", place.spaces))
    return place, layout.pairs(spaces)


def _opening(place: Place, version: int, dimensions: Mapping[int, int], rows: Array) -> list[Command]:
    """What makes the space ready for these rows. VectorInvalid when they are not of its dimensions."""
    if version not in dimensions:
        return list(layout.open_commands(place, version, rows.shape[1]))
    if dimensions[version] == 0:
        return [("HSET", place.spaces, version, rows.shape[1])]
    check_dimensions(rows, dimensions[version])
    return []
