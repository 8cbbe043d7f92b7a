"""Which versions gateways need of engines that they share, and whose turn it is to change what one has loaded.

A server such as Triton takes orders from every gateway and remembers none of their reasons. So each gateway claims
what it needs, nothing is let go that anybody claims, and lists of versions are sent by one gateway at a time. A new
store of claims is one file in `serving/claims/`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from serving.errors import EngineAway

FOLDER: Final = "serving.claims"
RENEW_S: Final = 3.0
CLAIM_TTL_S: Final = 60.0  # of a gateway that was not heard of: long, since it may go on serving without the store
WAIT_S: Final = 120.0  # for a turn
TURN_S: Final = 15.0  # a turn that is not renewed for so long was left by its gateway

Needs = Mapping[str, Collection[int]]  # the name of a graph -> its versions


class ClaimsUnavailable(Exception):
    """The store cannot be asked now."""


@dataclass(frozen=True, slots=True)
class ClaimOptions:
    """What a store may need; every PLUGIN is called with it. gateway: the id of this one; `url`: of a shared store."""

    gateway: str
    state: Path
    url: str = field(default="", repr=False)  # it may hold a password


@dataclass(slots=True)
class Turn:
    """The right to change what is loaded. held: false once it has run out or was lost."""

    held: bool = True


class Claims(ABC):
    """What all gateways of one deployment claim.

    patience_s: how long a claim may be missing while its gateway lives, since the store lost it: what nobody claims
    is let go when nobody has claimed it for so long.
    """

    patience_s: ClassVar[float]

    @abstractmethod
    async def claim(self, needs: Needs) -> None:
        """Says what this gateway needs, in place of what it said before; to be said again every RENEW_S."""

    @abstractmethod
    async def claimed(self) -> Mapping[str, frozenset[int]]:
        """What all gateways need, by graph. ClaimsUnavailable."""

    @abstractmethod
    def turn(self, name: str) -> AbstractAsyncContextManager[Turn]:
        """Waits for the turn, over all gateways, and holds it for the block. ClaimsUnavailable on entering.

        name: of what is changed. A holder who stops dead loses it after TURN_S.
        """

    @abstractmethod
    async def close(self) -> None:
        """Lets connections go. The claims stay until they expire: whoever starts again soon finds all in its place."""


def union(needs: Collection[Needs]) -> dict[str, frozenset[int]]:
    """All versions that are needed, by graph."""
    names = {name for one in needs for name in one}
    return {name: frozenset(version for one in needs for version in one.get(name, ())) for name in names}


@asynccontextmanager
async def turn_at(claims: Claims, name: str) -> AsyncIterator[Turn]:
    """The turn; a free one while the store is away: what is changed then is looked at again by whoever needs it.

    EngineAway when it was not to be had within WAIT_S: one gateway may stand still, or load something large.
    """
    turns = claims.turn(name)
    try:
        async with asyncio.timeout(WAIT_S):
            turn = await turns.__aenter__()
    except ClaimsUnavailable:
        yield Turn()
        return
    except TimeoutError:
        raise EngineAway("Another gateway is changing what the engine has loaded.", remedy="Try again.") from None
    try:
        yield turn
    finally:
        await turns.__aexit__(None, None, None)
