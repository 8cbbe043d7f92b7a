"""An index in this process's memory, exact and gone with it: for tests, and as what the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from serving.errors import CollectionExists, CollectionNotFound
from serving.filters import Filter
from serving.index import Collection, Counts, Hit, Index, IndexOptions, Item
from serving.tensors import Array
from serving.vectors import check_dimensions, unit


@dataclass
class _Kept:
    """A collection: its items by id, and the vectors of each space by id, each of length 1."""

    collection: Collection
    items: dict[str, Item] = field(default_factory=dict)
    spaces: dict[int, dict[str, Array]] = field(default_factory=dict)
    revision: int = 0


class FakeIndex(Index):
    """Instances share nothing."""

    def __init__(self, options: IndexOptions | None = None) -> None:
        del options
        self._kept: dict[str, _Kept] = {}

    async def create(self, collection: Collection) -> Collection:
        found = self._kept.setdefault(collection.name, _Kept(collection)).collection
        if found.model != collection.model:
            detail = f"{found.name} is a collection of {found.model}."
            raise CollectionExists(detail, remedy="Choose another name, or delete it first.")
        return found

    async def drop(self, name: str) -> None:
        self._of(name)
        del self._kept[name]

    async def collections(self) -> tuple[Collection, ...]:
        return tuple(kept.collection for _, kept in sorted(self._kept.items()))

    async def pause(self, name: str, *, paused: bool) -> Collection:
        kept = self._of(name)
        kept.collection = replace(kept.collection, paused=paused)
        return kept.collection

    async def counts(self, name: str) -> Counts:
        kept = self._of(name)
        alone = sum(item.source.kind == "vector" for item in kept.items.values())
        return Counts(len(kept.items), alone, {one: len(space) for one, space in kept.spaces.items() if space})

    async def put(self, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
        kept = self._of(name)
        for version, rows in vectors.items():
            _check(kept.spaces.get(version, {}), rows)
        for i, item in enumerate(items):
            kept.revision += 1
            kept.items[item.id] = replace(item, revision=kept.revision)
            for space in kept.spaces.values():
                space.pop(item.id, None)
            for version, rows in vectors.items():
                kept.spaces.setdefault(version, {})[item.id] = unit(rows[i : i + 1])[0]

    async def get(self, name: str, ident: str) -> Item | None:
        return self._of(name).items.get(ident)

    async def delete(self, name: str, idents: Sequence[str]) -> int:
        kept = self._of(name)
        gone = [kept.items.pop(ident) for ident in dict.fromkeys(idents) if ident in kept.items]
        for space in kept.spaces.values():
            for item in gone:
                space.pop(item.id, None)
        return len(gone)

    async def search(self, name: str, version: int, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        kept = self._of(name)
        space = kept.spaces.get(version, {})
        _check(space, vector[np.newaxis])
        query = unit(vector[np.newaxis])[0]
        hits = [Hit(ident, float(one @ query), kept.items[ident].metadata) for ident, one in space.items()]
        found = [hit for hit in hits if condition is None or condition.matches(hit.metadata)]
        return sorted(found, key=lambda hit: (-hit.score, hit.id))[:k]

    async def missing(self, name: str, version: int, most: int) -> list[Item]:
        kept = self._of(name)
        space = kept.spaces.get(version, {})
        found = [item for item in kept.items.values() if item.id not in space and item.source.kind != "vector"]
        return sorted(found, key=lambda item: item.revision)[:most]

    async def fill(self, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
        kept = self._of(name)
        _check(kept.spaces.get(version, {}), vectors)
        same = [i for i, item in enumerate(items) if kept.items.get(item.id) == item]
        for i in same:
            kept.spaces.setdefault(version, {})[items[i].id] = unit(vectors[i : i + 1])[0]
        return len(same)

    async def clear(self, name: str, version: int) -> None:
        self._of(name).spaces.pop(version, None)

    def _of(self, name: str) -> _Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise CollectionNotFound(
                "There is no collection of that name.", remedy="PUT /v1/collections/NAME makes one."
            )
        return kept


def _check(space: Mapping[str, Array], rows: Array) -> None:
    if space:
        check_dimensions(rows, len(next(iter(space.values()))))
    unit(rows)


PLUGIN = FakeIndex
