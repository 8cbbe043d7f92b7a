"""Watches what is asked and answered for drift from what each version was made for.

Of the requests of each version so many a second are looked at, by time, so that all are where few come and the cost has
a bound where many do. Their features are computed on a worker thread, one request of a version at a time; if that one
has to wait, others pass by unseen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import CollectorRegistry

from serving.errors import ModelNotFound
from serving.monitoring.windows import Layout
from serving.observation.drift_meters import DriftMeters
from serving.observation.drift_report import DriftReport, report_of
from serving.observation.seen import Seen
from serving.observation.seen_version import SeenVersion
from serving.threads import Threads
from serving.versions.resident import Resident
from serving.versions.router import Router

log = logging.getLogger(__name__)

RATE: Final = 10.0  # requests a second of each version, unless it is told otherwise; each a fifth of a millisecond
CLOSELY: Final = 200.0  # a second, of models on trial
SAVED_S: Final = 5.0  # whose budget is kept for a rush
OWNER: Final = ".drift"  # of its work, beside the models, none of which has such a name


class Drift:
    """Satisfies Witness. All is called on the event loop."""

    def __init__(
        self,
        router: Router,
        threads: Threads,
        registry: CollectorRegistry,
        rate: float = RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._router, self._threads, self._clock = router, threads, clock
        self._versions: dict[tuple[str, int], SeenVersion] = {}
        self._budgets: dict[tuple[str, int], tuple[float, float]] = {}  # requests left, and when that was
        self._resting: dict[Resident, float] = {}  # until when no request of it will be looked at
        self._closely: frozenset[str] = frozenset()
        self._tasks: set[asyncio.Task[None]] = set()
        registry.register(DriftMeters(self.watched, clock))

    def saw(self, seen: Seen) -> None:
        if self._clock() < self._resting.get(seen.resident, 0.0):
            return
        watched = self._find(seen.resident)
        if watched is None or watched.busy or not self._may_look(watched):
            return
        watched.busy = True
        task = asyncio.get_running_loop().create_task(self._look(watched, seen))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def watch_closely(self, models: Collection[str]) -> None:
        """Looks at CLOSELY requests a second of these models, and of no others, until it is told otherwise."""
        if self._closely != frozenset(models):
            self._closely = frozenset(models)
            self._resting.clear()

    def bins(self, model: str, by: int | None = None) -> str | None:
        """A name of the bins that `counts` counts in: counts in bins of one name can be compared and added up, also
        with those of other gateways. None: there are none yet.

        by: the version whose reference they are from; None: the lowest loaded one whose manifest has a reference, else
        the lowest that has learned one from its first requests, which no other gateway has.
        """
        ruler = self._ruler(model, by)
        return ruler.fingerprint if ruler else None

    def counts(self, model: str, version: int, by: int | None = None) -> dict[str, tuple[int, ...]]:
        """How many of a version's requests that were looked at fell into each bin, by feature of requests. They only
        grow while the version stays loaded, from when both it and that of the bins are. Empty: nothing is known.
        """
        ruler, watched = self._ruler(model, by), self._versions.get((model, version))
        if ruler is None or watched is None or ruler.fingerprint not in watched.totals:
            return {}
        split = ruler.split(watched.totals[ruler.fingerprint])
        return {name: tuple(counts.tolist()) for name, counts in split.items()}

    def report(self, model: str) -> DriftReport:
        """What is shown of a model. ModelNotFound: it has no version loaded."""
        residents = self._router.residents(model)
        if not residents:
            raise ModelNotFound("There is no model of that name with a version loaded.")
        return report_of(model, [self._versions.get(_key(one)) or SeenVersion(one) for one in residents], self._clock())

    def watched(self) -> list[SeenVersion]:
        """The loaded versions of which something was asked."""
        loaded = {_key(resident): resident for resident in self._router.residents()}
        for key, watched in list(self._versions.items()):
            if loaded.get(key) is not watched.resident:
                del self._versions[key]
                self._resting.pop(watched.resident, None)
                self._budgets.pop(key, None)
        return list(self._versions.values())

    async def close(self) -> None:
        """Drops what is being looked at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _find(self, resident: Resident) -> SeenVersion | None:
        """Of a version that nobody can ask for any more, None."""
        key = _key(resident)
        found = self._versions.get(key)
        if found is None or found.resident is not resident:
            self.watched()  # so that those which were unloaded go
            for one in self._router.residents(resident.version.model):  # all, for their bins
                if _key(one) not in self._versions:
                    self._versions[_key(one)] = SeenVersion(one)
            found = self._versions.get(key)
        return found if found and found.resident is resident else None

    def _may_look(self, watched: SeenVersion) -> bool:
        now_s, key = self._clock(), (watched.model, watched.number)
        rate = max(CLOSELY, self._rate) if watched.model in self._closely else self._rate
        left, then_s = self._budgets.get(key, (rate * SAVED_S, now_s))
        left = min(rate * SAVED_S, left + (now_s - then_s) * rate)
        self._budgets[key] = (left - 1 if left >= 1 else left, now_s)
        if left < 1:
            self._resting[watched.resident] = now_s + (1 - left) / rate
        return left >= 1

    async def _look(self, watched: SeenVersion, seen: Seen) -> None:
        task = seen.resident.task
        try:
            if task is not None:
                work = lambda: (task.features(seen.request, seen.inputs), task.outcome(seen.reply))  # noqa: E731
                (inputs, outputs), _, _ = await self._threads.run(OWNER, work)
                watched.add(inputs, outputs, self._rulers(watched.model), self._clock())
        except Exception:
            log.exception("what was asked of %s/%s could not be looked at", watched.model, watched.number)
        finally:
            watched.busy = False

    def _rulers(self, model: str) -> dict[str, Layout]:
        rulers = (one.ruler for one in self._versions.values() if one.model == model)
        return {ruler.fingerprint: ruler for ruler in rulers if ruler}

    def _ruler(self, model: str, by: int | None) -> Layout | None:
        if by is not None:
            watched = self._versions.get((model, by))
            return watched.ruler if watched else None
        known = [one for one in self._versions.values() if one.model == model and one.panels]
        best = min(known, key=lambda one: (one.panels[0].source != "manifest", one.number), default=None)
        return best.ruler if best else None


def _key(resident: Resident) -> tuple[str, int]:
    return resident.version.model, resident.version.number
