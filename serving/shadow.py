"""Copies of real requests for a version on trial: run after the answer was sent, and compared with it.

Nothing here reaches callers: one copy of a model runs at a time, and while it does, others are let pass. Requests of a
guarded canary are copied for the stable version too: controls, so that as much is known of how often that one fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from serving.errors import Busy, DeadlinePassed, ModelNotReady, TidegateError
from serving.telemetry import Meters
from serving.trial import Group

log = logging.getLogger(__name__)

Compare = Callable[[], Awaitable[float]]
COPY_EVERY_S: Final = 0.02  # of a canary, at the quickest
RESTS: Final = 0.5  # times as long as the copy before took: two thirds of one run at a time, at most


@dataclass(slots=True)
class Tally:
    """What came of the copies so far. `agreement`: the sum over those compared, each from 0 to 1. `late`: of those that
    failed, they that only had too little time, or no place.
    """

    compared: int = 0
    agreement: float = 0.0
    failed: int = 0
    passed_by: int = 0
    late: int = 0
    differing: Group = field(default_factory=Group)  # by what was answered

    @property
    def faults(self) -> int:
        """Those that failed, and that the version is to blame for."""
        return self.failed - self.late


@dataclass(frozen=True, slots=True)
class _Copy:
    """answered: what the request was answered with, if that is one of few answers."""

    model: str
    version: int
    compare: Compare
    answered: str
    control: bool


class Shadows:
    """Runs the copies, and tallies them by model and version."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._tallies: dict[tuple[str, int, bool], Tally] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, _Copy] = {}  # while a canary is guarded, one of each model
        self.copied: frozenset[str] = frozenset()  # models whose canaries get copies too, now and then

    def tally(self, model: str, version: int, *, control: bool = False) -> Tally:
        """What came of the copies, or of the controls, that this version got from this gateway, since it started."""
        return self._tallies.setdefault((model, version, control), Tally())

    def offer(self, model: str, version: int, compare: Compare, answered: str = "", *, control: bool = False) -> None:
        """Starts `compare`, which gives the agreement, unless a copy of this model is running already; then, while its
        canary is guarded, one waits for that to end, and all others are let pass. answered: as of _Copy.
        """
        copy = _Copy(model, version, compare, answered, control)
        if model not in self._running:
            self._running[model] = asyncio.create_task(self._run_all(copy))
        elif self.due(model):
            self._waiting[model] = copy
        else:
            self.tally(model, version, control=control).passed_by += 1
            self._count(copy, "passed_by")

    def due(self, model: str) -> bool:
        """Whether a canary of the model should get a copy now: it is guarded by it."""
        return model in self.copied and model not in self._waiting

    async def close(self) -> None:
        """Ends what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_all(self, copy: _Copy) -> None:
        """This copy and those that wait when one has ended, with a rest between: they shall cost little."""
        model = copy.model
        try:
            while True:
                begun_s = time.monotonic()
                await self._run(copy)
                ended_s = time.monotonic()
                if model in self.copied:
                    await asyncio.sleep(max(begun_s + COPY_EVERY_S - ended_s, RESTS * (ended_s - begun_s)))
                waiting = self._waiting.pop(model, None)
                if waiting is None or model not in self.copied:
                    return
                copy = waiting
        finally:
            self._waiting.pop(model, None)
            del self._running[model]

    async def _run(self, copy: _Copy) -> None:
        tally = self.tally(copy.model, copy.version, control=copy.control)
        try:
            agreement = await copy.compare()
        except ModelNotReady:
            log.debug("%s/%d went while a copy waited for it", copy.model, copy.version)
        except Exception as error:
            if not isinstance(error, TidegateError):
                log.exception("a copy for %s/%d met a bug", copy.model, copy.version)
            tally.failed += 1
            tally.late += isinstance(error, Busy | DeadlinePassed)
            self._count(copy, "failed")
        else:
            tally.compared += 1
            tally.agreement += agreement
            tally.differing.add(copy.answered, 1.0 - agreement)
            self._count(copy, "compared", agreement)

    def _count(self, copy: _Copy, outcome: str, agreement: float = 0.0) -> None:
        """Controls by themselves: it is the candidate's agreement that is looked at."""
        self._meters.shadow(copy.model, copy.version, f"control_{outcome}" if copy.control else outcome, agreement)
