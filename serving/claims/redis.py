"""Claims in Redis: for gateways on several machines.

    tidegate:claims              a set: the ids of gateways
    tidegate:claim:<id>          what each needs; it expires
    tidegate:turn:<name>         who has the turn; it expires unless it is renewed

The commands are among those that the ledger needs.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from serving.claim import CLAIM_TTL_S, RENEW_S, TURN_S, ClaimOptions, Claims, ClaimsUnavailable, Needs, Turn, union
from serving.redis.link import RedisLink
from serving.redis.wire import Command, RedisAway, Wire

T = TypeVar("T")
GATEWAYS: Final = "tidegate:claims"
CLAIM: Final = "tidegate:claim:"
TURN: Final = "tidegate:turn:"
ASK_S: Final = (0.02, 0.06)  # drawn, so that those who wait do not ask together
_NEEDS: Final = TypeAdapter(dict[str, tuple[int, ...]])


class RedisClaims(Claims):
    """A Redis that comes back empty, or an older copy of itself, is told all claims anew within RENEW_S."""

    patience_s = RENEW_S + 2.0

    def __init__(self, options: ClaimOptions) -> None:
        self._gateway = options.gateway
        self._link = RedisLink(options.url)

    async def claim(self, needs: Needs) -> None:
        text = _NEEDS.dump_json({name: tuple(versions) for name, versions in needs.items()})
        life_ms = round(CLAIM_TTL_S * 1000)
        setting, adding = ("SET", CLAIM + self._gateway, text, "PX", life_ms), ("SADD", GATEWAYS, self._gateway)
        await self._exchange(lambda wire: wire.ask(setting, adding), writes=True)

    async def claimed(self) -> Mapping[str, frozenset[int]]:
        texts = await self._exchange(_claims)
        found = []
        for text in texts:
            with suppress(ValidationError):  # of another release
                found.append(_NEEDS.validate_json(text))
        return union(found)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        key, token = TURN + name, secrets.token_hex(8).encode()
        taking = ("SET", key, token, "NX", "PX", round(TURN_S * 1000))
        while not await self._exchange(partial(_took, taking), writes=True):  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(random.uniform(*ASK_S))  # noqa: S311  (to part those who wait)
        turn = Turn()
        renewing = asyncio.create_task(self._renew(key, token, turn), name=f"renew the turn of {name}")
        try:
            yield turn
        finally:
            renewing.cancel()
            with suppress(ClaimsUnavailable):  # it expires
                await self._exchange(partial(_if_mine, key, token, ("DEL", key)), writes=True)

    async def close(self) -> None:
        await self._link.close()

    async def _renew(self, key: str, token: bytes, turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        lost_s = loop.time() + TURN_S
        again = ("SET", key, token, "XX", "PX", round(TURN_S * 1000))
        while turn.held:
            await asyncio.sleep(RENEW_S)
            asked_s = loop.time()
            with suppress(ClaimsUnavailable):
                if await self._exchange(partial(_if_mine, key, token, again), writes=True):
                    lost_s = asked_s + TURN_S
                else:
                    turn.held = False
            turn.held = turn.held and loop.time() + RENEW_S < lost_s  # before another can have it

    async def _exchange(self, work: Callable[[Wire], Awaitable[T]], *, writes: bool = False) -> T:
        try:
            return await self._link.exchange(work, writes=writes)
        except RedisAway as away:
            raise ClaimsUnavailable(away.detail) from None


async def _claims(wire: Wire) -> list[bytes]:
    """What is claimed. The ids of gateways whose claims have expired are forgotten."""
    [ids] = await wire.ask(("SMEMBERS", GATEWAYS))
    if not ids:
        return []
    [texts] = await wire.ask(("MGET", *(CLAIM.encode() + one for one in ids)))
    if gone := [one for one, text in zip(ids, texts, strict=True) if text is None]:
        await wire.ask(("SREM", GATEWAYS, *gone))  # one that comes back says so again with its next claim
    return [text for text in texts if text is not None]


async def _took(taking: Command, wire: Wire) -> bool:
    [taken] = await wire.ask(taking)
    return taken is not None


async def _if_mine(key: str, token: bytes, command: Command, wire: Wire) -> bool:
    """Whether the turn was still this gateway's, and the command was carried out."""
    *_, holder = await wire.ask(("UNWATCH",), ("WATCH", key), ("GET", key))
    if holder != token:
        return False
    *_, done = await wire.ask(("MULTI",), command, ("EXEC",))
    return done is not None


PLUGIN = RedisClaims
