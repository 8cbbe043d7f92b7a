"""What collections ask of the versions of their models: who must stay loaded, and who is not ready to be stable yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Collection as Versions
from typing import Final

from serving import spaces
from serving.errors import TidegateError
from serving.index import Collection, Counts, Index
from serving.ledger import Pointers
from serving.versions.dependents import Unready

BLOCKED_S: Final = 10.0  # then what could not be embedded is tried again


class Readiness:
    """Satisfies versions.dependents.Dependents. pointers: of a model, as this gateway follows them."""

    def __init__(self, index: Index, pointers: Callable[[str], Pointers | None]) -> None:
        self._index = index
        self._pointers = pointers
        self._known: dict[str, tuple[Collection, Counts]] = {}  # as last seen, for those who cannot wait
        self._blocked: dict[tuple[str, int], tuple[str, float]] = {}

    def remember(self, collection: Collection, counts: Counts) -> None:
        """What was seen of a collection: `needed` goes by it."""
        self._known[collection.name] = collection, counts

    def forget(self, name: str) -> None:
        """A collection that is gone needs nothing."""
        self._known.pop(name, None)

    async def known(self) -> list[tuple[Collection, Counts]]:
        """All collections by name, and what is in them; `needed` goes by it until the next look."""
        self._known = {one.name: (one, await self._index.counts(one.name)) for one in await self._index.collections()}
        return list(self._known.values())

    def needed(self, model: str) -> Versions[int]:
        """As of Dependents: whose spaces are searched."""
        pointers = self._pointers(model)
        if pointers is None:
            return ()
        return {spaces.searched(pointers, counts) for one, counts in self._known.values() if one.model == model}

    def block(self, name: str, version: int, reason: str) -> bool:
        """Says for a while that a version cannot embed all of a collection; whether that is news."""
        news = (name, version) not in self._blocked or self._blocked[name, version][0] != reason
        self._blocked[name, version] = reason, time.monotonic() + BLOCKED_S
        return news

    def blocked(self, name: str, version: int) -> str | None:
        """Why a version cannot embed all of a collection, if that was found out lately."""
        reason, until_s = self._blocked.get((name, version), ("", 0.0))
        return reason if time.monotonic() < until_s else None

    async def unready(self, model: str, pointers: Pointers) -> Unready | None:
        """As of Dependents: a collection whose items the wanted version has not all embedded yet, or cannot."""
        version = pointers.candidate or 0
        try:
            for one in await self._index.collections():
                counts = await self._index.counts(one.name)
                if one.model != model or not spaces.follows(counts) or counts.complete(version):
                    continue
                if (reason := self.blocked(one.name, version)) is not None:
                    return Unready(f"{reason} Delete it, or promote a version that can.", hopeless=True)
                how = "is paused" if one.paused else "is being embedded anew"
                return Unready(f"{one.name} {how}: {counts.spaces.get(version, 0):,} of {counts.items:,} items")
        except TidegateError as error:
            return Unready(str(error))
        return None
