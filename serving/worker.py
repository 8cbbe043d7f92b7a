"""Jobs at work: claimed from the store, driven through the pipeline, what happens to them written down between steps.

One pass after another: what the jobs have to tell is written, which renews their leases; then others are begun, if
there is room. Several run at once, so that their steps share batches. A job that turns out to be cancelled, or to be
another's by now, is stopped within the step that it is at.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from serving.errors import JobsUnavailable
from serving.job_run import BUG, outcome
from serving.job_store import POISONED, Claimed, Failure, JobStore, Lease
from serving.news import News
from serving.observation.tracing import Tracing
from serving.pipeline import Pipeline
from serving.run_report import RunReport
from serving.telemetry import Meters

log = logging.getLogger(__name__)

TICK_S: Final = 0.5  # between looks at what others did; of one's own work it is told at once
PACE_S: Final = 0.01  # between passes: steps that are quicker are written down together
AWAY_S: Final = (1.0, 2.0)  # between tries while the store is away
HOLD_S: Final = 5.0  # after it was: leases ran out that nobody could renew, and those who run the jobs come first
STOP_S: Final = 5.0  # for a step to end
COUNT_S: Final = 1.0
SWEEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """at_once: jobs of this gateway, 0 for none; timeout_s: the longest that one may take."""

    at_once: int
    timeout_s: float


@dataclass(eq=False, slots=True)
class _Run:
    """A job that runs here."""

    claimed: Claimed
    report: RunReport
    task: asyncio.Task[bytes | Failure]

    @property
    def lease(self) -> Lease:
        return self.claimed.lease


class Worker:
    """Runs jobs of the store at this gateway. may_begin: asked before any is claimed."""

    def __init__(
        self,
        store: JobStore,
        pipeline: Pipeline,
        meters: Meters,
        may_begin: Callable[[], bool],
        options: WorkerOptions,
        *,
        tracing: Tracing,
    ) -> None:
        self.news = News()  # of what was written down
        self._store = store
        self._pipeline = pipeline
        self._meters = meters
        self._may_begin = may_begin
        self._options = options
        self._tracing = tracing
        self._runs: dict[Lease, _Run] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._leaving = False  # nothing is begun any more
        self._closing = False
        self._claim_s = self._count_s = self._sweep_s = 0.0  # when it is time to do so again
        self._hold_s = 0.0  # until when nothing is claimed
        self._said = ""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep_on(), name="jobs")

    def look(self) -> None:
        """Something happened to a job: see to it now."""
        self._claim_s = 0.0
        self._wake.set()

    async def drain(self, timeout_s: float) -> None:
        """Begins nothing more; returns when what runs has ended, or the time has passed."""
        self._leaving = True
        give_up_s = time.monotonic() + timeout_s
        if self._runs:
            log.info("draining: %d jobs run", len(self._runs))
        while self._runs and (left_s := give_up_s - time.monotonic()) > 0:
            await self.news.wait(min(left_s, TICK_S))

    async def close(self) -> None:
        """Stops what runs, and gives it back to be begun anew, here or elsewhere."""
        self._leaving = self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._runs:
            await self._give_back()
        await self._store.close()

    async def _give_back(self) -> None:
        """But for jobs that have come to their end by now."""
        try:
            await self._report()
            for run in list(self._runs.values()):
                await _stopped(run)
                await self._store.release(run.lease)
                log.info("job %s is given back", run.lease.job)
        except JobsUnavailable as error:  # then leases run out
            log.warning("jobs cannot be given back: %s", error)
        finally:
            for run in self._runs.values():
                await _stopped(run)

    async def _keep_on(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                await self._pass()
                self._say("")
            except JobsUnavailable as error:
                self._say(str(error))
                self._hold_s = time.monotonic() + HOLD_S
                await asyncio.sleep(random.uniform(*AWAY_S))  # noqa: S311  (so that gateways do not come all at once)
            except Exception:
                log.exception("looking after jobs failed; it begins anew")
                await asyncio.sleep(TICK_S)
            await asyncio.sleep(PACE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def _pass(self) -> None:
        if self._runs:
            await self._report()  # first: a job whose lease ran out here must not be claimed from oneself
        now_s = time.monotonic()
        if now_s >= max(self._claim_s, self._hold_s) and (room := self._room()):
            self._claim_s = now_s + TICK_S
            await self._begin(room)
        if now_s >= self._count_s:
            self._count_s = now_s + COUNT_S
            counts = await self._store.counts()
            self._meters.jobs_stand(counts.queued, counts.running, counts.oldest_s)
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            await self._store.sweep()

    def _room(self) -> int:
        """For so many more. Beside a job that may have brought down a gateway nothing is begun."""
        if self._leaving or not self._may_begin() or any(run.claimed.job.attempts > 1 for run in self._runs.values()):
            return 0
        return max(0, self._options.at_once - len(self._runs))

    async def _report(self) -> None:
        runs = dict(self._runs)
        reports = {lease: run.report.pending() for lease, run in runs.items()}
        lost = await self._store.beat(reports)
        for lease, run in runs.items():
            run.report.written(reports[lease])
            if lease in lost:
                log.info("job %s is stopped: it was cancelled, or is another's", lease.job)
                await _stopped(run)
                self._ended(run, "lost")
            elif run.task.done() and not run.report.pending().told:
                await self._end(run, BUG if run.task.cancelled() else run.task.result())
        if any(report.told for report in reports.values()):
            self.news.tell()

    async def _end(self, run: _Run, end: bytes | Failure) -> None:
        """Writes the end down; while the store is away it is tried again with each pass."""
        done = await self._store.finish(run.lease, end)
        succeeded = isinstance(end, bytes)
        self._ended(run, ("succeeded" if succeeded else "failed") if done else "lost")

    def _ended(self, run: _Run, how: str) -> None:
        self._runs.pop(run.lease, None)
        self._meters.job_ends.labels(how).inc()
        self.news.tell()
        self.look()

    async def _begin(self, room: int) -> None:
        taken = await self._store.claim(room, idle=not self._runs)
        for ident in taken.set_aside:
            log.error("job %s is set aside: each gateway that ran it stopped", ident)
            self._meters.job_ends.labels(POISONED).inc()
        for claimed in taken.begun:
            report = RunReport(self._wake.set)
            work = outcome(claimed.job, self._pipeline, report, self._options.timeout_s, self._tracing)
            task = asyncio.create_task(work, name=f"job {claimed.job.id}")
            task.add_done_callback(lambda _: self._wake.set())
            self._runs[claimed.lease] = _Run(claimed, report, task)
            self._meters.job_attempts.labels(str(claimed.job.attempts)).inc()
        if taken.begun or taken.set_aside:
            self.look()
            self.news.tell()

    def _say(self, what: str) -> None:
        """Logged once, not each time that it is met."""
        if what and what != self._said:
            log.warning("jobs wait: %s", what)
        self._said = what


async def _stopped(run: _Run) -> None:
    run.task.cancel()
    _, left = await asyncio.wait([run.task], timeout=STOP_S)
    if left:  # it can write nothing any more
        log.error("job %s does not stop", run.lease.job)
