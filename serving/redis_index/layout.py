"""How collections lie in Redis 8: keys, the commands that change them, and what replies mean.

    tidegate:collections                 a hash: name -> JSON with an id of its own, which no other collection ever has
    tidegate:collection:<id>:revision    a counter
    tidegate:collection:<id>:items       a sorted set: ids of items by revision, so the oldest first
    tidegate:collection:<id>:alone       a set: ids of items that are vectors of callers' own
    tidegate:collection:<id>:spaces      a hash: version -> dimensions, 0 while it has no vector
    tidegate:collection:<id>:item:<id>   a hash: kind, content, metadata, revision
    tidegate:collection:<id>:space:<v>   a vector set of float32: elements are ids, attributes their metadata
    tidegate:collection:<id>:todo:<v>    a sorted set: ids of items that this space still wants, by revision

A version that stands in `spaces` has its `todo` kept by every change; it begins as all items but those alone. Source:
https://redis.io/docs/latest/develop/data-types/vector-sets/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from serving.errors import CollectionNotFound
from serving.index import Collection, Hit, Item, Source
from serving.redis.wire import Command, Wire
from serving.tensors import Array

COLLECTIONS: Final = "tidegate:collections"
FIELDS: Final = ("kind", "content", "metadata", "revision")
# Of the graph: docs/decisions/0017-collections.md has what they were measured by.
CONNECTIVITY: Final = 16
BREADTH_ADDING: Final = 100
BREADTH_SEARCHING: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A collection's keys."""

    prefix: str

    @property
    def revision(self) -> str:
        return f"{self.prefix}:revision"

    @property
    def items(self) -> str:
        return f"{self.prefix}:items"

    @property
    def alone(self) -> str:
        return f"{self.prefix}:alone"

    @property
    def spaces(self) -> str:
        return f"{self.prefix}:spaces"

    def item(self, ident: str) -> str:
        return f"{self.prefix}:item:{ident}"

    def space(self, version: int) -> str:
        return f"{self.prefix}:space:{version}"

    def todo(self, version: int) -> str:
        return f"{self.prefix}:todo:{version}"


async def find(wire: Wire, name: str) -> Place:
    """CollectionNotFound."""
    (record,) = await wire.ask(("HGET", COLLECTIONS, name))
    return Place(f"tidegate:collection:{orjson.loads(known(record))['id']}")


def known(record: bytes | None) -> bytes:
    """CollectionNotFound when there is no record."""
    if record is None:
        raise CollectionNotFound("There is no collection of that name.", remedy="PUT /v1/collections/NAME makes one.")
    return record


def collection(name: str, record: bytes) -> Collection:
    """A collection out of its record."""
    found = orjson.loads(record)
    return Collection(name, found["model"], found["created"], found["paused"])


def pairs(reply: Sequence[bytes]) -> dict[int, int]:
    """A hash of numbers, as HGETALL gives it."""
    return {int(key): int(value) for key, value in zip(reply[::2], reply[1::2], strict=True)}


def put_commands(
    place: Place, item: Item, revision: int, dimensions: Mapping[int, int], vectors: Mapping[int, Array]
) -> Iterator[Command]:
    """What keeps an item, with its vector in some of the spaces; the others want it, if it can be embedded.

    dimensions: of each space there is. vectors: version -> float32 [dimensions].
    """
    alone = item.source.kind == "vector"
    fields = (item.source.kind, item.source.content, orjson.dumps(dict(item.metadata)), revision)
    yield ("HSET", place.item(item.id), *(part for pair in zip(FIELDS, fields, strict=True) for part in pair))
    yield ("ZADD", place.items, revision, item.id)
    yield ("SADD" if alone else "SREM", place.alone, item.id)
    for version in dimensions:
        if version in vectors:
            yield from vector_commands(place, version, item, vectors[version])
        else:
            yield ("VREM", place.space(version), item.id)
            yield ("ZREM", place.todo(version), item.id) if alone else (
                "ZADD", place.todo(version), revision, item.id
            )  # fmt: skip


def vector_commands(place: Place, version: int, item: Item, vector: Array) -> Iterator[Command]:
    """What puts an item into a space in place of what it had there."""
    space, blob = place.space(version), vector.astype("<f4").tobytes()
    graph = ("NOQUANT", "EF", BREADTH_ADDING, "SETATTR", orjson.dumps(dict(item.metadata)), "M", CONNECTIVITY)
    yield ("VREM", space, item.id)
    yield ("VADD", space, "FP32", blob, item.id, *graph)
    yield ("ZREM", place.todo(version), item.id)


def delete_commands(place: Place, ident: str, versions: Sequence[int]) -> Iterator[Command]:
    """What forgets an item; the reply to the last one says whether there was one."""
    for version in versions:
        yield ("VREM", place.space(version), ident)
        yield ("ZREM", place.todo(version), ident)
    yield ("DEL", place.item(ident))
    yield ("SREM", place.alone, ident)
    yield ("ZREM", place.items, ident)


def open_commands(place: Place, version: int, dimensions: int) -> Iterator[Command]:
    """What begins a space: all that can be embedded is to do."""
    yield ("ZDIFFSTORE", place.todo(version), 2, place.items, place.alone)
    yield ("HSET", place.spaces, version, dimensions)


async def items(wire: Wire, place: Place, idents: Sequence[str]) -> list[Item]:
    """Those of the items that there are, in order."""
    if not idents:
        return []
    found = await wire.ask(*(("HMGET", place.item(ident), *FIELDS) for ident in idents))
    return [_item(ident, fields) for ident, fields in zip(idents, found, strict=True) if fields[0] is not None]


async def nearest(wire: Wire, space: str, vector: Array, count: int, *, exact: bool = False) -> list[Hit]:
    """The `count` elements nearest to a vector, the nearest first; exact: by looking at all."""
    asked: Command = ("VSIM", space, "FP32", vector.astype("<f4").tobytes(), "WITHSCORES", "WITHATTRIBS")
    how: Command = ("TRUTH",) if exact else ("EF", max(BREADTH_SEARCHING, count))
    (reply,) = await wire.ask((*asked, "COUNT", count, *how))
    return [
        # What Redis says goes from 0 to 1; rounding may take it past either.
        Hit(ident.decode(), float(np.clip(2 * float(score) - 1, -1, 1)), orjson.loads(metadata or b"{}"))
        for ident, score, metadata in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    ]


def _item(ident: str, fields: Sequence[Any]) -> Item:
    kind, content, metadata, revision = fields
    return Item(ident, Source(kind.decode(), content), orjson.loads(metadata), int(revision))
