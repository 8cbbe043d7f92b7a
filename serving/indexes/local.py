"""Collections in a file of the state folder, searched in memory: for gateways on one machine, without any server.

SQLite keeps, usearch finds. Several gateways may share the folder: before it searches, each follows what the others
wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from serving.filters import Filter
from serving.index import Collection, Counts, Hit, Index, IndexOptions, Item
from serving.local_index import rows, tables
from serving.local_index.file import Connection, Tables
from serving.local_index.space import MANY, Space
from serving.tensors import Array
from serving.vectors import check_dimensions, unit

T = TypeVar("T")
FILE: Final = "collections.sqlite"


class LocalIndex(Index):
    """Reads and writes have a thread each, so that a search waits for no disk. many: as of Space."""

    def __init__(self, options: IndexOptions, *, many: int = MANY, threads: int = 2) -> None:
        file = options.state / FILE
        self._reader = Tables(file)
        self._writer = Tables(file)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="collections-read")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="collections-write")
        self._spaces: dict[tuple[int, int], Space] = {}
        self._many = many
        self._threads = threads

    async def create(self, collection: Collection) -> Collection:
        return await self._write(lambda at: tables.create(at, collection))

    async def drop(self, name: str) -> None:
        await self._write(lambda at: tables.drop(at, name))
        await self._read(self._let_go)

    async def collections(self) -> tuple[Collection, ...]:
        if not self._reader.exists:
            return ()
        return await self._read(tables.collections)

    async def pause(self, name: str, *, paused: bool) -> Collection:
        return await self._write(lambda at: tables.pause(at, name, paused=paused))

    async def counts(self, name: str) -> Counts:
        return await self._read(lambda at: tables.counts(at, name))

    async def put(self, name: str, items: Sequence[Item], vectors: Mapping[int, Array]) -> None:
        await self._write(lambda at: tables.put(at, name, items, vectors))

    async def get(self, name: str, ident: str) -> Item | None:
        return await self._read(lambda at: tables.get(at, name, ident))

    async def delete(self, name: str, idents: Sequence[str]) -> int:
        return await self._write(lambda at: tables.delete(at, name, idents))

    async def search(self, name: str, version: int, vector: Array, k: int, condition: Filter | None) -> list[Hit]:
        query = unit(vector[np.newaxis])

        def search(at: Connection) -> list[Hit]:
            space = self._space(at, tables.number(at, name), version, query)
            return space.search(at, query[0], k, condition) if space else []

        return await self._read(search)

    async def missing(self, name: str, version: int, most: int) -> list[Item]:
        return await self._read(lambda at: tables.missing(at, name, version, most))

    async def fill(self, name: str, version: int, items: Sequence[Item], vectors: Array) -> int:
        return await self._write(lambda at: tables.fill(at, name, version, items, vectors))

    async def clear(self, name: str, version: int) -> None:
        await self._write(lambda at: tables.clear(at, name, version))
        await self._read(self._let_go)

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

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._reader.reading() as at:
                return work(at)

        return await asyncio.get_running_loop().run_in_executor(self._reading, run)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._writer.writing() as at:
                return work(at)

        # A caller who leaves does not end the write: it may be on disk already.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writing, run))

    def _close(self) -> None:
        for space in self._spaces.values():
            space.stop()
        for threads, file in ((self._reading, self._reader), (self._writing, self._writer)):
            threads.submit(file.close)
            threads.shutdown()


PLUGIN = LocalIndex
