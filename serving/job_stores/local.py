"""Jobs in a file of the state folder: for gateways on one machine, without any server.

Several gateways may share the folder. What callers are told of is on disk first; steps and leases are written without
waiting for the disk, since what a loss of power takes of them is only done again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

from serving.job_store import (
    Accepted,
    Event,
    Failure,
    Job,
    JobCounts,
    JobStore,
    JobStoreOptions,
    Lease,
    Order,
    Report,
    Taken,
    no_job,
)
from serving.local_jobs import tables
from serving.local_jobs.file import SCHEMA
from serving.local_jobs.tables import End
from serving.sqlite_file import SqliteFile, SqliteThread

FILE: Final = "jobs.sqlite"


class LocalJobs(JobStore):
    """clock: Unix seconds, the same for all who share the file."""

    def __init__(self, options: JobStoreOptions, clock: Callable[[], float] = time.time) -> None:
        path = options.state / FILE
        self._options = options
        self._clock = clock
        self._lasting = SqliteThread(SqliteFile(path, SCHEMA), "jobs-keep")
        self._quick = SqliteThread(SqliteFile(path, SCHEMA, lasting=False), "jobs-work")

    async def accept(self, order: Order) -> Accepted:
        ident, most = secrets.token_hex(16), self._options.most
        return await self._lasting.write(lambda at: tables.accept(at, ident, order, self._clock(), most))

    async def get(self, ident: str) -> Job:
        job = await self._quick.read(lambda at: tables.get(at, ident))
        if job.expires is not None and job.expires < self._clock():
            raise no_job()
        return job

    async def claim(self, room: int, *, idle: bool) -> Taken:
        # A look first, which takes no turn at writing from anybody: most of the time nothing waits.
        if not self._quick.exists or not await self._quick.read(lambda at: tables.waiting(at, self._clock())):
            return Taken()
        times = {"lease_s": self._options.lease_s, "keep_s": self._options.keep_s}
        return await self._quick.write(lambda at: tables.claim(at, room, idle=idle, now=self._clock(), **times))

    async def beat(self, reports: Mapping[Lease, Report]) -> frozenset[Lease]:
        return await self._quick.write(lambda at: tables.beat(at, reports, until=self._clock() + self._options.lease_s))

    async def finish(self, lease: Lease, outcome: bytes | Failure) -> bool:
        return await self._lasting.write(lambda at: tables.finish(at, lease, self._end(outcome)))

    async def release(self, lease: Lease) -> None:
        await self._quick.write(lambda at: tables.release(at, lease))

    async def cancel(self, ident: str) -> Job:
        return await self._lasting.write(lambda at: tables.cancel(at, ident, self._end(None)))

    async def events(self, ident: str, after: int) -> list[Event]:
        return await self._quick.read(lambda at: tables.events(at, ident, after))

    async def counts(self) -> JobCounts:
        if not self._quick.exists:
            return JobCounts()
        return await self._quick.read(lambda at: tables.counts(at, self._clock()))

    async def sweep(self) -> None:
        if self._quick.exists:
            await self._quick.write(lambda at: tables.sweep(at, self._clock()))

    async def close(self) -> None:
        """What was begun is ended."""
        for thread in (self._lasting, self._quick):
            await asyncio.to_thread(thread.close)

    def _end(self, outcome: bytes | Failure | None) -> End:
        """None: it is cancelled."""
        now = self._clock()
        expires = now + self._options.keep_s
        if isinstance(outcome, bytes):
            return End("succeeded", now, expires, result=outcome)
        return End("failed" if outcome else "cancelled", now, expires, failure=outcome)


PLUGIN = LocalJobs
