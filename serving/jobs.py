"""Jobs as callers see them: each its owner's alone, and followed while it runs, here or at another gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

from serving.errand import Errand, write_errand
from serving.errors import Busy
from serving.job_store import Event, Job, JobStore, Order, no_job
from serving.telemetry import Meters
from serving.worker import Worker

LOOK_S: Final = 0.25  # at jobs that another gateway runs; of those here there are news
PACE_S: Final = 0.03  # between looks: what happens in less is told together
QUIET_S: Final = 10.0  # without an event, after which there is a sign of life
MOST_FOLLOWERS: Final = 256  # of one gateway


class Jobs:
    """Takes orders, and tells what became of them."""

    def __init__(self, store: JobStore, worker: Worker, meters: Meters) -> None:
        self._store = store
        self._worker = worker
        self._meters = meters
        self._followers = 0

    async def accept(self, errand: Errand, owner: str, key: str, digest: str) -> Job:
        """The job of an errand, on disk; with a key, the same one each time. KeyReused, JobsFull, JobsUnavailable."""
        accepted = await self._store.accept(Order(owner, write_errand(errand), key, digest))
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
        if (await self.get(ident, owner)).at_end:
            return await self.get(ident, owner)
        job = await self._store.cancel(ident)
        if job.status == "cancelled":
            self._meters.job_ends.labels(job.status).inc()
        self._worker.look()
        self._worker.news.tell()
        return job

    async def follow(self, job: Job, after: int) -> AsyncIterator[Event | None]:
        """What happens to the job from the event after that number on, until its end; None as a sign of life.

        Busy: as many follow as may. JobNotFound once the job is forgotten.
        """
        if self._followers >= MOST_FOLLOWERS:
            raise Busy(
                "As many jobs are followed as this gateway takes.", remedy="Ask for the job now and then instead."
            )
        self._followers += 1
        try:
            quiet_s = time.monotonic()
            while True:
                for event in await self._store.events(job.id, after):
                    yield event
                    after, quiet_s = event.number, time.monotonic()
                    if event.kind == "done":
                        return
                if time.monotonic() - quiet_s > QUIET_S:
                    yield None
                    quiet_s = time.monotonic()
                await self._worker.news.wait(LOOK_S)
        finally:
            self._followers -= 1
