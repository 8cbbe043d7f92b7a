"""Collections in a file of the state folder, searched in memory: for gateways on one machine, without any server.

SQLite keeps, usearch finds. Several gateways may share the folder: before it searches, each follows what the others
wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from serving.filters import Filter
from serving.index import Collection, Counts, Hit, Index, IndexOptions, Item
from serving.local_index import rows, tables
from serving.local_index.file import SCHEMA
from serving.local_index.space import MANY, Space
from serving.sqlite_file import Connection, SqliteFile, SqliteThread
from serving.tensors import Array
from serving.vectors import check_dimensions, unit

FILE: Final = "collections.sqlite"


class LocalIndex(Index):
    """Reads and writes have a thread each, so that a search waits for no disk. many: as of Space."""

    def __init__(self, options: IndexOptions, *, many: int = MANY, threads: int = 2) -> None:
        file = options.state / FILE
        self._reader = SqliteThread(SqliteFile(file, SCHEMA), "collections-read")
        self._writer = SqliteThread(SqliteFile(file, SCHEMA), "collections-write")
        self._spaces: dict[tuple[int, int], Space] = {}
        self._many = many
        self._threads = threads

    async def create(self, collection: Collection) -> Collection:
        return await self._writer.write(lambda at: tables.create(at, collection))

    async def drop(self, name: str) -> None:
        await self._writer.write(lambda at: tables.drop(at, name))
        await self._reader.read(self._let_go)

    async def collections(self) -> tuple[Collection, ...]:
        if not self._reader.exists:
            return ()
        return await self._reader.read(tables.collections)

    async def pause(self, name: str, *, paused: bool) -> Collection:
        return await self._writer.write(lambda at: tables.pause(at, name, paused=paused))

    async def counts(self, name: str) -> Counts:
        return await self._reader.read(lambda at: tables.counts(at, name))

    async def put(self, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
        await self._writer.write(lambda at: tables.put(at, name, items, vectors))

    async def get(self, name: str, ident: str) -> Item | None:
        return await self._reader.read(lambda at: tables.get(at, name, ident))

    async def delete(self, name: str, idents: Sequence[str]) -> int:
        return await self._writer.write(lambda at: tables.delete(at, name, idents))

    async def search(self, name: str, version: int, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        query = unit(vector[np.newaxis])

        def search(at: Connection) -> list[Hit]:
            space = self._space(at, tables.number(at, name), version, query)
            return space.search(at, query[0], k, condition) if space else []

        return await self._reader.read(search)

    async def missing(self, name: str, version: int, most: int) -> list[Item]:
        return await self._reader.read(lambda at: tables.missing(at, name, version, most))

    async def fill(self, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
        return await self._writer.write(lambda at: tables.fill(at, name, version, items, vectors))

    async def clear(self, name: str, version: int) -> None:
        await self._writer.write(lambda at: tables.clear(at, name, version))
        await self._reader.read(self._let_go)

    async def close(self) -> None:
        """What was begun is ended."""
        await asyncio.to_thread(self._close)

    def _space(self, at: Connection, here: int, version: int, query: Array) -> Space | None:
        """The space as it is now; None when there is nothing in it."""
        extent = rows.extent(at, here, version)
        if extent is None:
            return None
        check_dimensions(query, extent.dimensions)
        space = self._spaces.get((here, version))
        if space is None or space.born != extent.born:
            self._let_go(at)
            space = self._spaces[here, version] = Space(here, version, extent, threads=self._threads, many=self._many)
        space.follow(at, rows.revision(at))
        return space

    def _let_go(self, at: Connection) -> None:
        """Forgets spaces in which nothing is any more, or which others cleared and filled again."""
        for (here, version), space in list(self._spaces.items()):
            extent = rows.extent(at, here, version)
            if extent is None or extent.born != space.born:
                space.stop()
                del self._spaces[here, version]

    def _close(self) -> None:
        for space in self._spaces.values():
            space.stop()
        self._reader.close()
        self._writer.close()


PLUGIN = LocalIndex
