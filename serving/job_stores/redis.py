"""Jobs in Redis' streams, claimed through a consumer group: for gateways on several machines.

How they lie there: serving/redis_jobs/layout.py. Beside the ledger's commands the URL's user needs HSET, HDEL, HMGET,
EXISTS, INCR, INFO, PEXPIRE, WAITAOF, XACK, XADD, XCLAIM, XDEL, XGROUP, XINFO, XLEN, XPENDING, XRANGE and XREADGROUP, on
keys `tidegate:*`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from serving.errors import JobsUnavailable
from serving.job_store import (
    POISON,
    TRIES,
    Accepted,
    Claimed,
    Event,
    Failure,
    Job,
    JobCounts,
    JobStore,
    JobStoreOptions,
    Lease,
    Order,
    Report,
    Status,
    Taken,
    chosen,
    no_job,
)
from serving.redis.link import RedisLink
from serving.redis.transaction import insist
from serving.redis.wire import RedisAway, Wire
from serving.redis_jobs import changes, layout
from serving.redis_jobs.durability import Durability
from serving.redis_jobs.layout import STREAM, Stored, Waiting

T = TypeVar("T")
PATIENCE: Final = 10.0  # of a link: orders and results may be large, and a disk is waited for


class RedisJobs(JobStore):
    """Callers and workers have a connection each, so that no lease runs out behind a crowd of callers."""

    def __init__(self, options: JobStoreOptions) -> None:
        self._most = options.most
        self._lease_ms = round(options.lease_s * 1000)
        self._keep_s = options.keep_s
        self._callers = RedisLink(options.url, PATIENCE)
        self._workers = RedisLink(options.url, PATIENCE)
        self._disk = RedisLink(options.url, PATIENCE)
        self._durability = Durability(self._disk)

    async def accept(self, order: Order) -> Accepted:
        job = Job(secrets.token_hex(16), order.owner, order.content, "queued", time.time())
        accepted = await _change(self._callers, lambda wire: changes.accept(wire, job, order, self._most))
        try:
            await self._durability.reached()
        except RedisAway as away:
            raise _unavailable(away, unsure=True) from None
        return accepted

    async def get(self, ident: str) -> Job:
        found = await _exchange(self._callers, lambda wire: layout.read(wire, ident))
        if found is None:
            raise no_job()
        return found.job

    async def claim(self, room: int, *, idle: bool) -> Taken:
        async def work(wire: Wire) -> Taken:
            (there,) = await wire.ask(("EXISTS", STREAM))
            if not there:
                return Taken()
            found = await layout.waiting(wire, self._lease_ms)
            set_aside = [await self._set_aside(wire, one) for one in found if one.attempts >= TRIES]
            able = [one for one in found if one.attempts < TRIES]
            # As many new ones as there is room for: how many there are is known when they are claimed.
            places = chosen([*(one.attempts for one in able), *(room * [0])], room, idle=idle)
            again = [able[place] for place in places if place < len(able)]
            claims = [(one.entry, await layout.take(wire, one.entry, self._lease_ms)) for one in again]
            if fresh := len(places) - len(again):
                claims += await layout.take_new(wire, fresh)
            begun = [await _begin(wire, entry, ident) for entry, ident in claims if ident]
            return Taken([one for one in begun if one is not None], [ident for ident in set_aside if ident])

        return await _exchange(self._workers, work, writes=True)

    async def beat(self, reports: Mapping[Lease, Report]) -> frozenset[Lease]:
        return await _change(self._workers, lambda wire: changes.beat(wire, reports))

    async def finish(self, lease: Lease, outcome: bytes | Failure) -> bool:
        def how(found: Stored) -> Job | None:
            return self._ended(found.job, outcome) if changes.is_held(found, lease) else None

        _, done = await _change(self._workers, changes.ending(lease.job, self._keep_ms, how))
        return done

    async def release(self, lease: Lease) -> None:
        await _change(self._workers, lambda wire: changes.release(wire, lease, 2 * self._lease_ms))

    async def cancel(self, ident: str) -> Job:
        def how(found: Stored) -> Job | None:
            return None if found.job.at_end else self._ended(found.job, None)

        job, _ = await _change(self._callers, changes.ending(ident, self._keep_ms, how))
        if job is None:
            raise no_job()
        return job

    async def events(self, ident: str, after: int) -> list[Event]:
        found = await _exchange(self._callers, lambda wire: layout.events(wire, ident, after))
        if found is None:
            raise no_job()
        return found

    async def counts(self) -> JobCounts:
        return await _exchange(self._workers, partial(layout.counts, lease_ms=self._lease_ms, now=time.time()))

    async def close(self) -> None:
        for link in (self._callers, self._workers, self._disk):
            await link.close()

    @property
    def _keep_ms(self) -> int:
        return round(self._keep_s * 1000)

    async def _set_aside(self, wire: Wire, waiting: Waiting) -> str:
        """The job that was; empty when it had come to another end meanwhile."""

        def how(found: Stored) -> Job | None:
            return None if found.job.at_end else self._ended(found.job, POISON)

        ended = await insist(lambda: changes.ending(waiting.ident, self._keep_ms, how)(wire))
        return waiting.ident if ended is not None and ended[1] else ""

    def _ended(self, job: Job, outcome: bytes | Failure | None) -> Job:
        """None: it is cancelled."""
        now = time.time()
        status: Status = "cancelled" if outcome is None else "succeeded" if isinstance(outcome, bytes) else "failed"
        ended = replace(job, status=status, ended=now, expires=now + self._keep_s)
        return replace(ended, result=outcome) if isinstance(outcome, bytes) else replace(ended, failure=outcome)


async def _begin(wire: Wire, entry: bytes, ident: str) -> Claimed | None:
    begun = await insist(lambda: changes.begin(wire, entry, ident))
    return begun if isinstance(begun, Claimed) else None


async def _change(link: RedisLink, work: Callable[[Wire], Awaitable[T | None]]) -> T:
    """Again and again until nobody else changed meanwhile what it went by; None says that somebody did."""
    result = await insist(lambda: _exchange(link, work, writes=True))
    if result is None:
        raise JobsUnavailable("Others changed the job each time.", remedy="Try again.")
    return result


async def _exchange(link: RedisLink, work: Callable[[Wire], Awaitable[T]], *, writes: bool = False) -> T:
    try:
        return await link.exchange(work, writes=writes)
    except RedisAway as away:
        raise _unavailable(away, unsure=away.unsure) from None


def _unavailable(away: RedisAway, *, unsure: bool) -> JobsUnavailable:
    detail = f"{away.detail} What was asked may have been done." if unsure else away.detail
    return JobsUnavailable(f"The jobs cannot be reached: {detail}", remedy=away.remedy)


PLUGIN = RedisJobs
