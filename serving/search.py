"""Collections: items added, and found again, by what a model makes of them. Drives the pipeline.

A search resolves its version once: the query is embedded by it and compared with what it embedded, so the spaces of
two versions never meet, and a canary embeds no query. Which version that is follows from the model's pointers and
from what is complete: spaces.py.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from serving import spaces
from serving.deadline import by_deadline
from serving.embedder import Embedder
from serving.engine import Call
from serving.errors import (
    CollectionNotFound,
    ItemNotFound,
    ModelNotReady,
    ParameterInvalid,
    TidegateError,
)
from serving.filters import Filter
from serving.index import Collection, Counts, Hit, Index, Item, Source
from serving.ledger import Pointers
from serving.readiness import Readiness
from serving.telemetry import Stages
from serving.tensors import Array
from serving.timestamp import timestamp

log = logging.getLogger(__name__)

VERB: Final = "embed"
AT_ONCE: Final = 8  # items that one call has embedded at a time: they meet in batches and leave room for others
MOST_COLLECTIONS: Final = 256
BLOCKED_S: Final = 10.0  # then what could not be embedded is tried again


@dataclass(frozen=True, slots=True)
class Space:
    """What one version has embedded of a collection."""

    version: int
    items: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Description:
    """A collection as it stands. version: whose space is searched. follows: whether it goes with its model."""

    name: str
    model: str
    created: str
    items: int
    version: int
    follows: bool
    paused: bool
    spaces: tuple[Space, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, the nearest first, the model and version whose space was searched, and where the seconds went."""

    model: str
    version: int
    hits: Sequence[Hit]
    stages: Stages


class Search:
    """Keeps collections and searches them.

    pointers: of a model, as this gateway follows them.
    """

    def __init__(
        self, index: Index, embedder: Embedder, readiness: Readiness, pointers: Callable[[str], Pointers | None]
    ) -> None:
        self.index = index
        self.embedder = embedder
        self.readiness = readiness
        self._pointers = pointers

    async def create(self, name: str, model: str | None) -> tuple[Description, bool]:
        """A collection of a model, the default one for embedding if none is named, and whether it is new.

        CollectionExists: it is of another model. ModelNotFound, TaskMismatch: it cannot be of that one.
        """
        chosen = self.embedder.model(model)
        there = {one.name for one in await self.index.collections()}
        if name not in there and len(there) >= MOST_COLLECTIONS:
            detail = f"There are {MOST_COLLECTIONS} collections already."
            raise ParameterInvalid(detail, remedy="Delete one, or tell items apart by metadata and filters.")
        await self.index.create(Collection(name, chosen, timestamp(time.time(), "seconds")))
        return await self.describe(name), name not in there

    async def drop(self, name: str) -> None:
        """CollectionNotFound."""
        await self.index.drop(name)
        self.readiness.forget(name)

    async def describe(self, name: str) -> Description:
        """One collection. CollectionNotFound."""
        collection, counts = await self.look(name)
        return self._described(collection, counts)

    async def descriptions(self) -> list[Description]:
        """All collections, by name."""
        return [self._described(collection, counts) for collection, counts in await self.readiness.known()]

    async def pause(self, name: str, *, paused: bool) -> Description:
        """Holds the embedding anew, or lets it go on; a promotion that waits for it goes on waiting."""
        await self.index.pause(name, paused=paused)
        return await self.describe(name)

    async def add(self, name: str, items: Sequence[Item], call: Call) -> tuple[str, int]:
        """Keeps the items, all or none, in place of those of the same ids; the model and the version that is searched.

        The searched version must embed them all; of others that are kept up, one that cannot is left to catch up.
        """
        collection, counts = await self.look(name)
        pointers = self._of(collection.model)
        alone = any(item.source.kind == "vector" for item in items)
        first, *others = spaces.to_write(pointers, counts, self.embedder.resident(collection.model))
        sources = [item.source for item in items]
        vectors = {first: await self.embedder.embed(collection.model, first, sources, call)}
        for version in others if not alone else ():
            try:
                vectors[version] = await self.embedder.embed(collection.model, version, sources, call)
            except TidegateError as error:
                log.warning("%s: %s/%d embeds later: %s", name, collection.model, version, error)
        await self.index.put(name, items, vectors)
        return collection.model, first

    async def item(self, name: str, ident: str) -> Item:
        """One item. CollectionNotFound, ItemNotFound."""
        found = await self.index.get(name, ident)
        if found is None:
            raise ItemNotFound("The collection has no item of that id.", remedy="POST it to .../items.")
        return found

    async def delete(self, name: str, idents: Sequence[str]) -> int:
        """How many items there were of these ids. CollectionNotFound."""
        return await self.index.delete(name, idents)

    async def search(self, name: str, query: Source | Array, k: int, condition: Filter | None, call: Call) -> Found:
        """The `k` items nearest to a picture, a text or a vector, float32 [dimensions]."""
        collection, counts = await self.look(name)
        version = spaces.searched(self._of(collection.model), counts)
        stages = Stages()
        if isinstance(query, Source):
            vector = await self.embedder.embed_one(collection.model, version, query, call, stages)
        else:
            vector = query
        started_s = time.monotonic()
        hits = await by_deadline(call.deadline_s, self.index.search(name, version, vector, k, condition))
        stages.run_s += time.monotonic() - started_s
        return Found(collection.model, version, hits, stages)

    async def look(self, name: str) -> tuple[Collection, Counts]:
        """A collection and what is in it, which is also what `needed` goes by until the next look."""
        for collection in await self.index.collections():
            if collection.name == name:
                counts = await self.index.counts(name)
                self.readiness.remember(collection, counts)
                return collection, counts
        self.readiness.forget(name)
        raise CollectionNotFound("There is no collection of that name.", remedy="PUT /v1/collections/NAME makes one.")

    def _described(self, collection: Collection, counts: Counts) -> Description:
        found = [Space(version, count, counts.complete(version)) for version, count in sorted(counts.spaces.items())]
        return Description(
            name=collection.name,
            model=collection.model,
            created=collection.created,
            items=counts.items,
            version=spaces.searched(self._of(collection.model), counts),
            follows=spaces.follows(counts),
            paused=collection.paused,
            spaces=tuple(found),
        )

    def _of(self, model: str) -> Pointers:
        pointers = self._pointers(model)
        if pointers is None:
            raise ModelNotReady(f"{model}, the collection's model, is not here.", remedy="Publish it, or wait.")
        return pointers


def fresh_id() -> str:
    """For an item whose caller names none."""
    return secrets.token_hex(8)
