"""Truths as they come in: those about this gateway's answers are scored here, others go to all gateways.

A balancer sends a truth to any gateway, and only the one that answered knows the answer. Where gateways share a Redis,
what one does not know goes into a stream that all of them read, and the one that knows the answer scores it. It is
accepted then, and nobody can say yet what came of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import orjson

from serving.away import Away
from serving.errors import Busy, TidegateError
from serving.observation.feedback import Feedback, Scored, Told

log = logging.getLogger(__name__)

KEY: Final = "tidegate:truths"
LOOK_S: Final = 0.5
AWAY_S: Final = 5.0  # until the next look, while Redis is away
LARGEST: Final = 16 * 1024  # bytes of a truth that is passed on
AT_ONCE: Final = 64  # truths that are scored before others have their turn


class Stream(Protocol):
    """What all gateways read. Away: it cannot be reached."""

    async def append(self, texts: Sequence[bytes]) -> None: ...

    async def news(self) -> list[bytes]: ...

    async def close(self) -> None: ...


class PassedOn:
    """A truth that other gateways will look at."""


Outcome = Scored | PassedOn | TidegateError


class Truths:
    """Takes truths. stream: where other gateways read those that are not about an answer of this one, if they can.

    connected: whether it is worth asking for news, as whoever asks the store all the time knows.
    """

    def __init__(self, feedback: Feedback, stream: Stream | None, connected: Callable[[], bool] = lambda: True) -> None:
        self._feedback = feedback
        self._stream = stream
        self._connected = connected
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to read what others pass on."""
        if self._stream is not None:
            self._reading = asyncio.create_task(self._read(self._stream), name="truths of other gateways")

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        if self._stream is not None:
            await self._stream.close()

    async def take(self, told: Sequence[Told]) -> list[Outcome]:
        """What came of each, in their order; errors as of Feedback.tell, and Busy: it could not be passed on now."""
        written = {i: text for i, one in enumerate(told) if (text := self._for_others(one))}
        passed = await self._pass_on(list(written.values())) if written else PassedOn()
        outcomes: list[Outcome] = []
        for i, one in enumerate(told):
            if i and not i % AT_ONCE:
                await asyncio.sleep(0)
            outcomes.append(passed if i in written else await self._score(one))
        return outcomes

    def _for_others(self, told: Told) -> bytes | None:
        """As it goes into the stream; None: it is to be looked at here, though nothing may come of it."""
        if self._stream is None or self._feedback.knows(told):
            return None
        try:
            text = orjson.dumps([told.request_id.decode(), told.caller, told.truth])
        except TypeError:  # nested too deeply
            return None
        return text if len(text) <= LARGEST else None

    async def _pass_on(self, texts: list[bytes]) -> PassedOn | Busy:
        try:
            if self._stream is not None:
                await self._stream.append(texts)
        except Away as away:
            return Busy("Other gateways, one of which may have answered, cannot be told now.", remedy=away.remedy)
        self._feedback.passed_on(len(texts))
        return PassedOn()

    async def _score(self, told: Told) -> Scored | TidegateError:
        try:
            return await self._feedback.tell(told)
        except TidegateError as error:
            return error

    async def _read(self, stream: Stream) -> None:
        while True:
            pause_s = LOOK_S
            try:
                for text in await stream.news() if self._connected() else ():
                    await self._heard(text)
            except Away:  # its link says so in the log
                pause_s = AWAY_S
            except Exception:
                log.exception("reading truths of other gateways met a bug")
            await asyncio.sleep(pause_s)

    async def _heard(self, text: bytes) -> None:
        try:
            request_id, caller, truth = orjson.loads(text)
            told = Told(request_id.encode(), truth, caller)
        except (ValueError, TypeError, AttributeError):  # of another release
            return
        if self._feedback.knows(told):
            await self._score(told)  # which counts what comes of it
