"""Jobs as callers see them: each its owner's alone, and followed while it runs, here or at another gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from serving.errand import Errand, write_errand
from serving.errors import BodyTooLarge, Busy, JobNotFound, JobsUnavailable, ModelNotReady
from serving.job_store import Event, Job, JobStore, Order, no_job
from serving.telemetry import Meters
from serving.versions.router import Router
from serving.worker import Worker

LOOK_S: Final = 0.25  # at jobs that another gateway runs; of those here there are news
PACE_S: Final = 0.03  # between looks: what happens in less is told together
MOST_FOLLOWERS: Final = 256  # of one gateway
MOST_BYTES: Final = 2**20  # of an errand, since there may be as many as wait


class Jobs:
    """Takes orders, and tells what became of them."""

    def __init__(self, store: JobStore, worker: Worker, router: Router, meters: Meters) -> None:
        self._store = store
        self._worker = worker
        self._router = router
        self._meters = meters
        self._followers = 0

    async def accept(self, errand: Errand, owner: str, key: str, digest: str) -> Job:
        """The job of an errand, on disk; with a key, the same one each time.

        BodyTooLarge, KeyReused, JobsFull, JobsUnavailable; and what the router says of its target, unless that only
        has to be loaded, which a job can wait for.
        """
        with suppress(ModelNotReady):
            self._router.resolve(errand.target, errand.verb)
        content = write_errand(errand)
        if len(content) > MOST_BYTES:
            detail = f"What a job is to do may have {MOST_BYTES:,} bytes."
            raise BodyTooLarge(detail, remedy="Send less, or wait for the answer instead.")
        accepted = await self._store.accept(Order(owner, content, key, digest))
        if accepted.new:
            self._meters.jobs_accepted.inc()
            self._worker.look()
        return accepted.job

    async def get(self, ident: str, owner: str) -> Job:
        """JobNotFound, also for another's."""
        job = await self._store.get(ident)
        if job.owner != owner:
            raise no_job()
        return job

    async def cancel(self, ident: str, owner: str) -> Job:
        """The job at its end; one that had come to it stays as it was."""
        found = await self.get(ident, owner)
        if found.at_end:
            return found
        job = await self._store.cancel(ident)
        if job.status == "cancelled":
            self._meters.job_ends.labels(job.status).inc()
        self._worker.look()
        self._worker.news.tell()
        return job

    def follow(self, job: Job, after: int) -> AsyncGenerator[Event | None, None]:
        """What happens to the job from the event after that number on, until its end; None when nothing is new.

        Busy: as many follow as may.
        """
        if self._followers >= MOST_FOLLOWERS:
            remedy = "Ask for the job now and then instead."
            raise Busy("As many jobs are followed as this gateway takes.", remedy=remedy)
        return self._follow(job, after)

    async def _follow(self, job: Job, after: int) -> AsyncGenerator[Event | None, None]:
        self._followers += 1
        try:
            while True:
                events = await self._happened(job.id, after)
                for event in events:
                    yield event
                    after = event.number
                if job.at_end or (events and events[-1].kind == "done"):
                    return
                yield None
                await asyncio.sleep(PACE_S)
                await self._worker.news.wait(LOOK_S)
        except JobNotFound:  # forgotten
            return
        finally:
            self._followers -= 1

    async def _happened(self, ident: str, after: int) -> list[Event]:
        with suppress(JobsUnavailable):  # it comes back, or whoever follows leaves
            return await self._store.events(ident, after)
        return []
