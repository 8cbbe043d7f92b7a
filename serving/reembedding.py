"""Embeds kept items anew, in the background, with the versions that are live, were, or are to be.

What has to be done is never written down: it is what is missing in a space. So a gateway that dies in the middle leaves
nothing behind that another, or the same one later, does not find and go on with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from serving import spaces
from serving.claim import Claims, turn_at
from serving.engine import Call
from serving.errors import InvalidInput, OutputInvalid, TidegateError
from serving.index import Collection, Counts, Item
from serving.ledger import Pointers
from serving.search import Search
from serving.tensors import Array

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
PAUSE_S: Final = 1.0  # after a failure: the model is busy, or the store is away
AT_ONCE: Final = 2  # collections that are worked on
BATCH: Final = 32
BATCH_S: Final = 120.0


class Reembedding:
    """Brings all spaces that are kept up to completeness.

    claims: so that of several gateways one at a time works on a collection. changed: called when a space has become
    complete or cannot, or when another one is searched.
    """

    def __init__(
        self,
        search: Search,
        claims: Claims,
        pointers: Callable[[str], Pointers | None],
        changed: Callable[[], None],
    ) -> None:
        self._search = search
        self._claims = claims
        self._pointers = pointers
        self._changed = changed
        self._searched: dict[str, int] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Looks once, so that it is known which versions are needed; then keeps on until `close`."""
        with suppress(TidegateError):
            await self._search.readiness.known()
        self._task = asyncio.create_task(self._keep_on(), name="embed anew")

    async def close(self) -> None:
        """Ends at once: what was filled in stays, the rest is found missing again."""
        tasks = [task for task in (self._task, *self._working.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._claims.close()

    async def _keep_on(self) -> None:
        while True:
            pause_s = TICK_S
            try:
                await self._look()
            except TidegateError as error:
                log.warning("collections wait: %s", error)
                pause_s = PAUSE_S
            except Exception:
                log.exception("looking after collections failed; it begins anew")
                pause_s = PAUSE_S
            await asyncio.sleep(pause_s)

    async def _look(self) -> None:
        searched: dict[str, int] = {}
        for collection, counts in await self._search.readiness.known():
            pointers = self._pointers(collection.model)
            if pointers is None:
                continue
            searched[collection.name] = spaces.searched(pointers, counts)
            if collection.name not in self._working and self._has_work(collection, counts, pointers):
                task = asyncio.create_task(self._work(collection.name), name=f"embed {collection.name} anew")
                self._working[collection.name] = task
        if searched != self._searched:
            self._searched = searched
            self._changed()

    def _has_work(self, collection: Collection, counts: Counts, pointers: Pointers) -> bool:
        return bool(spaces.surplus(pointers, counts) or self._to_embed(collection, counts, pointers))

    def _to_embed(self, collection: Collection, counts: Counts, pointers: Pointers) -> list[int]:
        if collection.paused:
            return []
        versions = spaces.to_embed(pointers, counts, self._search.embedder.resident(collection.model))
        return [version for version in versions if self._search.readiness.blocked(collection.name, version) is None]

    async def _work(self, name: str) -> None:
        try:
            async with self._places, turn_at(self._claims, f"collection.{name}") as turn:
                while turn.held and await self._step(name):
                    pass
        except TidegateError as error:
            log.warning("%s waits: %s", name, error)
            await asyncio.sleep(PAUSE_S)
        except Exception:
            log.exception("%s cannot be embedded anew", name)
            await asyncio.sleep(PAUSE_S)
        finally:
            del self._working[name]

    async def _step(self, name: str) -> bool:
        """Embeds some of what is missing, or forgets a space; whether there is more to do now."""
        collection, counts = await self._search.look(name)
        pointers = self._pointers(collection.model)
        if pointers is None:
            return False
        for version in spaces.surplus(pointers, counts):
            await self._search.index.clear(name, version)
        for version in self._to_embed(collection, counts, pointers):
            if await self._fill(collection, version):
                return True
        return False

    async def _fill(self, collection: Collection, version: int) -> bool:
        """Whether something was filled in."""
        started_s = time.monotonic()
        index, name = self._search.index, collection.name
        items = await index.missing(name, version, BATCH)
        if not items:
            return False
        able, vectors = await self._embed(collection, version, items)
        done = await index.fill(name, version, able, vectors) if able else 0
        _, counts = await self._search.look(name)
        if counts.complete(version):
            log.info("%s: %s/%d has embedded all %d items", name, collection.model, version, counts.items)
            self._changed()
        log.debug("%s: %d items in %.2f s", name, done, time.monotonic() - started_s)
        return done > 0

    async def _embed(self, collection: Collection, version: int, items: Sequence[Item]) -> tuple[list[Item], Array]:
        """What of the items could be embedded, and the vectors. The first that could not holds a promotion back."""
        call = Call(time.monotonic() + BATCH_S)
        sources = [item.source for item in items]
        with suppress(InvalidInput, OutputInvalid):
            return list(items), await self._search.embedder.embed(collection.model, version, sources, call)
        able: list[Item] = []
        vectors: list[Array] = []
        for item in items:  # to find those that are to blame
            try:
                vectors.append(await self._search.embedder.embed(collection.model, version, [item.source], call))
                able.append(item)
            except (InvalidInput, OutputInvalid) as error:
                reason = f"{item.id!r} of {collection.name} cannot be embedded: {error}"
                if self._search.readiness.block(collection.name, version, reason):
                    log.warning("%s/%d: %s", collection.model, version, reason)
                    self._changed()
        return able, np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
