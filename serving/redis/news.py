"""News from Redis: a subscription, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
import time

from redis.asyncio.connection import AbstractConnection

from serving.redis.link import EXCHANGE_S, RedisLink
from serving.redis.wire import FAULTS, Wire, hang_up, heeded

log = logging.getLogger(__name__)


class RedisNews:
    """A subscription to one channel; a connection that says nothing is asked whether it still stands."""

    def __init__(self, link: RedisLink, channel: str) -> None:
        self._link = link
        self._channel = channel
        self._connection: AbstractConnection | None = None
        self._asked = False
        self._said = ""

    async def wait(self, patience_s: float) -> bool:
        """True at a message and when the subscription is new, for then some may have been missed.

        False after patience_s, or earlier. Faults are not raised: without a subscription time passes.
        """
        try:
            if self._connection is None:
                # Redis is tried with commands first: two connections that both fail would say no more than one.
                if self._link.up and self._link.attempts.take(time.monotonic()):
                    await self._subscribe()
                    self._say("stands")
                    return True
                await asyncio.sleep(patience_s)
                return False
            return await self._heard(self._connection, patience_s)
        except FAULTS as error:
            self._say(f"{type(error).__name__}: pointers are polled")
        except asyncio.CancelledError:
            await self.close()
            raise
        await self.close()
        return False

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        await hang_up(connection)

    async def _subscribe(self) -> None:
        async with asyncio.timeout(EXCHANGE_S):
            self._connection = await self._link.connect()
            self._asked = False
            wire = Wire()
            wire.connection = self._connection
            await wire.ask(("SUBSCRIBE", self._channel))

    async def _heard(self, connection: AbstractConnection, patience_s: float) -> bool:
        while reply := await connection.read_response(timeout=patience_s):
            self._asked = False
            if reply[0] == b"message":
                return True
        if self._asked:
            raise TimeoutError  # no PONG
        await heeded(connection.send_command("PING", check_health=False))
        self._asked = True
        return False

    def _say(self, what: str) -> None:
        if self._said != what:
            self._said = what
            log.info("Redis' subscription: %s.", what)
