"""Commands to Redis: exchanges one after another on one connection, bounded in time and in attempts."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from serving.redis.wire import ANSWER_S, CHECK, FAULTS, RedisAway, Wire, dialler, explain, hang_up

T = TypeVar("T")

EXCHANGE_S: Final = 0.4  # for all that a call asks, from its turn on
TURN_S: Final = 1.0  # waiting for it, while Redis answers; whoever waits when it fails is told at once
BURST: Final = 2  # connections of one gateway within PAUSE_S
PAUSE_S: Final = (1.0, 1.3)  # drawn anew each time, so that gateways do not come back all at once

log = logging.getLogger(__name__)


class Attempts:
    """Allows BURST connections within a second, and tells whoever wants more to come later."""

    def __init__(self) -> None:
        self._made: deque[float] = deque(maxlen=BURST)
        self._pause_s = 0.0

    def take(self, now_s: float) -> bool:
        if len(self._made) == BURST and now_s < self._made[0] + self._pause_s:
            return False
        self._made.append(now_s)
        self._pause_s = random.uniform(*PAUSE_S)  # noqa: S311  (to spread load, not to keep a secret)
        return True


class RedisLink:
    """Exchanges one after another on one connection, which is given up when an answer did not come.

    patience: how many times as long as usual all may take, for commands that work through much.
    `where`: host, port and database. up: the last exchange came to its end. refused: the last one that writes did not.
    """

    def __init__(self, url: str, patience: float = 1.0) -> None:
        self.connect, self.where = dialler(url, ANSWER_S * patience)
        self._exchange_s = EXCHANGE_S * patience
        self._turn_s = TURN_S * patience
        self.attempts = Attempts()
        self.up = False
        self.refused = False
        self.connections = 0  # so far
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._left = False  # by a caller who was cancelled, not for a fault: the next one need not pause
        self._failures = 0
        self._away = RedisAway("Redis cannot be reached.", CHECK)
        self._said: dict[bool, str] = {}

    async def exchange(self, work: Callable[[Wire], Awaitable[T]], *, writes: bool = False) -> T:
        """What `work` returns; it may ask several times. RedisAway, in bounded time once it is its turn.

        What else `work` raises is raised. Whoever cancels takes the connection along if answers are outstanding, so
        that nobody else reads them.
        """
        wire = Wire()
        await self._take_turn()
        try:
            async with asyncio.timeout(self._exchange_s):
                result = await self._exchange(wire, work)
        except ResponseError as error:
            self.up = True
            self.refused = self.refused or writes
            raise self._report(error, writes=writes) from None
        except FAULTS as error:
            self.up = self._left = False
            self._failures += 1
            away = self._away = self._report(error, writes=False)
            raise RedisAway(away.detail, away.remedy, unsure=wire.unsure) from None
        except Exception:
            if wire.connection is not None:  # the work did not like what Redis answered, but it answered
                self._recovered(writes=False)
            raise
        finally:
            self._turn.release()
        self._recovered(writes=writes)
        return result

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        await hang_up(connection)

    async def _take_turn(self) -> None:
        before = self._failures
        try:
            async with asyncio.timeout(self._turn_s):
                await self._turn.acquire()
        except TimeoutError:
            raise RedisAway("Too much is asked of Redis at once.", "Try again.") from None
        if self._failures != before:  # one after another, all who wait would wait as long as the first
            self._turn.release()
            raise RedisAway(self._away.detail, self._away.remedy)

    async def _exchange(self, wire: Wire, work: Callable[[Wire], Awaitable[T]]) -> T:
        try:
            wire.connection = await self._open()
            return await work(wire)
        except BaseException as error:
            if wire.connection is None or not wire.settled:
                self._left = self.up and isinstance(error, asyncio.CancelledError)
                await self.close()
            raise

    async def _open(self) -> AbstractConnection:
        found = self._connection
        if found is not None and found.is_connected:
            with suppress(*FAULTS):
                if not await found.can_read():  # else it was closed, or says what nobody asked
                    return found
        await self.close()
        if not self._left and not self.attempts.take(time.monotonic()):
            self.up = False
            raise RedisAway(self._away.detail, self._away.remedy)
        self._left = False
        self._connection = await self.connect()
        self.connections += 1
        return self._connection

    def _report(self, error: Exception, *, writes: bool) -> RedisAway:
        """What it means; logged once, not each time that it is met."""
        away = explain(error)
        if self._said.get(writes) != away.detail:
            self._said[writes] = away.detail
            log.error("%s %s (%s: %s)", away.detail, away.remedy, self.where, error)
        return away

    def _recovered(self, *, writes: bool) -> None:
        self.up = True
        if writes:
            self.refused = False
        said = [self._said.pop(kind, "") for kind in ((False, True) if writes else (False,))]
        if any(said):
            log.info("Redis at %s answers again.", self.where)
