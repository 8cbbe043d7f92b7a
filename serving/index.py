"""Collections: items that callers keep, and the vectors that they are found by.

An item is durable with what it was made of, so that another version of its model can embed it anew. The vectors that
one version made are a space. A space is complete when every item has a vector in it; which of them is searched is
search.py's decision, not the index's. A new index is one file in `serving/indexes/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from serving.filters import Filter
from serving.tensors import Array

FOLDER: Final = "serving.indexes"

SourceKind: TypeAlias = Literal["image", "text", "vector"]
Metadata: TypeAlias = Mapping[str, Any]  # JSON: names to text, numbers, booleans, and lists of text or numbers


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What an index may need; every PLUGIN is called with it. `state`: a folder; `url`: of a shared store."""

    state: Path
    url: str = field(default="", repr=False)  # it may hold a password


@dataclass(frozen=True, slots=True)
class Source:
    """What an item is made of: an image's file as it was sent, text in UTF-8; nothing for a vector of the caller's."""

    kind: SourceKind
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Item:
    """revision: grows with each change of the collection, so an item put again has another; 0 before it is put."""

    id: str
    source: Source
    metadata: Metadata
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """score: cosine of the angle to what was asked, from -1 to 1."""

    id: str
    score: float
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Collection:
    """created: ISO 8601, UTC. paused: its items are not embedded anew for now."""

    name: str
    model: str
    created: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Items, those of them that are vectors of callers' own, and the vectors in each space by its version."""

    items: int
    vectors_alone: int
    spaces: Mapping[int, int]

    def complete(self, version: int) -> bool:
        """Whether every item can be found in that version's space."""
        return self.spaces.get(version, 0) == self.items


class Index(ABC):
    """Keeps collections. All calls may come from several gateways at once; what was answered outlives a crash.

    CollectionNotFound from any call that names one that is not there; IndexUnavailable while the store cannot be
    reached. Vectors are float32, [n, dimensions] or [dimensions], of any length but zero: cosine is what counts.
    """

    @abstractmethod
    async def create(self, collection: Collection) -> Collection:
        """Makes it, or gives the one there is, if that is of the same model. CollectionExists when it is of another."""

    @abstractmethod
    async def drop(self, name: str) -> None:
        """Forgets the collection and all in it."""

    @abstractmethod
    async def collections(self) -> tuple[Collection, ...]:
        """All there are, by name."""

    @abstractmethod
    async def pause(self, name: str, *, paused: bool) -> Collection:
        """Says whether its items may be embedded anew."""

    @abstractmethod
    async def counts(self, name: str) -> Counts:
        """Cheap: it is asked before each search."""

    @abstractmethod
    async def put(self, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
        """Keeps the items, all or none, in place of those of the same ids, with a vector in each space given. When
        the store goes away in the midst of it, some may be kept, each whole; whoever was not answered puts them again.

        vectors: version -> float32 [len(items), dimensions]. In spaces not given, the items are missing from now on.
        VectorInvalid when the dimensions are not those of the space.
        """

    @abstractmethod
    async def get(self, name: str, ident: str) -> Item | None:
        """One item with its source."""

    @abstractmethod
    async def delete(self, name: str, idents: Sequence[str]) -> int:
        """Forgets the items, out of all spaces; how many there were."""

    @abstractmethod
    async def search(self, name: str, version: int, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        """The `k` items of that space nearest to the vector, the nearest first, of those that meet the condition.

        Equal scores by id. Fewer only when fewer there are: filters that leave few items are answered exactly.
        VectorInvalid when the dimensions are not those of the space.
        """

    @abstractmethod
    async def missing(self, name: str, version: int, most: int) -> list[Item]:
        """Items that have no vector in that space and can be embedded, the oldest first, `most` at most."""

    @abstractmethod
    async def fill(self, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
        """Puts vectors of `missing` items into a space; how many. An item that changed or went meanwhile is left."""

    @abstractmethod
    async def clear(self, name: str, version: int) -> None:
        """Forgets a space."""

    async def close(self) -> None:
        """Lets connections go."""
        return
