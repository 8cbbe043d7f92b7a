"""What moves jobs on in Redis, each one transaction: a job is never seen, nor left, between two states.

What a change goes by is watched: when somebody else changed that meanwhile, it comes to nothing, says None, and is
tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import orjson

from serving.job_store import Accepted, Claimed, Job, Lease, Order, Report, Told, full, other_order
from serving.redis.transaction import commit
from serving.redis.wire import Command, Wire
from serving.redis_jobs import layout
from serving.redis_jobs.layout import GROUP, STREAM, Stored


async def accept(wire: Wire, job: Job, order: Order, most: int) -> Accepted | None:
    """As JobStore.accept, with the job that there is to be. `most` may be passed by as many as there are gateways."""
    key = layout.order_key(order)
    if key:
        _, ident = await wire.ask(("WATCH", key), ("GET", key))
        found = await layout.read(wire, ident.decode()) if ident else None
        if found is not None:
            await wire.ask(("UNWATCH",))
            if found.digest != order.digest:
                raise other_order()
            return Accepted(found.job, new=False)
    there, length = await wire.ask(("EXISTS", STREAM), ("XLEN", STREAM))
    if length >= most:
        await wire.ask(("UNWATCH",))
        raise full(most)
    commands = list(layout.accept_commands(job, order))
    if not there:
        await wire.ask(("WATCH", STREAM))
        commands.insert(0, ("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"))
        (there,) = await wire.ask(("EXISTS", STREAM))
        if there:
            await wire.ask(("UNWATCH",))
            return None
    return Accepted(job, new=True) if await commit(wire, commands) is not None else None


async def begin(wire: Wire, entry: bytes, ident: str) -> Claimed | bool | None:
    """Writes down that an entry's job was claimed. False: it needs no claim, and the entry is gone."""
    found = await watch(wire, ident)
    if found is None or found.job.at_end:
        done = await commit(wire, list(layout.forget_commands(entry)))
        return None if done is None else False
    token, attempts, key = found.token + 1, found.job.attempts + 1, layout.job_key(ident)
    fields = ("status", "running", "attempts", attempts, "token", token, "entry", entry)
    commands: list[Command] = [("HSET", key, *fields), ("HDEL", key, "step", "steps")]
    commands += layout.tell_commands(ident, found.events, [Told("started", orjson.dumps({"attempt": attempts}))])
    job = replace(found.job, status="running", attempts=attempts, progress=None)
    return Claimed(Lease(ident, token), job) if await commit(wire, commands) is not None else None


async def beat(wire: Wire, reports: Mapping[Lease, Report]) -> frozenset[Lease] | None:
    """As JobStore.beat."""
    lost, commands = set(), []
    for lease, report in reports.items():
        found = await watch(wire, lease.job)
        if found is None or not is_held(found, lease):
            lost.add(lease)
            continue
        commands.append(layout.renew_command(found.entry))
        if report.progress is not None:
            fields = ("step", report.progress.step, "steps", report.progress.of)
            commands.append(("HSET", layout.job_key(lease.job), *fields))
        commands += layout.tell_commands(lease.job, found.events, report.told)
    return frozenset(lost) if await commit(wire, commands) is not None else None


def ending(
    ident: str, keep_ms: int, how: Callable[[Stored], Job | None]
) -> Callable[[Wire], Awaitable[tuple[Job | None, bool] | None]]:
    """Brings a job to the end that `how` gives it, unless that is None; the job, if there is one, and whether it was
    done.
    """

    async def work(wire: Wire) -> tuple[Job | None, bool] | None:
        found = await watch(wire, ident)
        ended = how(found) if found is not None else None
        if found is None or ended is None:
            await wire.ask(("UNWATCH",))
            return found and found.job, False
        if not found.entry:
            found = found._replace(entry=await layout.entry_of(wire, ident))
        done = await commit(wire, list(layout.end_commands(found, ended, keep_ms)))
        return None if done is None else (ended, True)

    return work


async def release(wire: Wire, lease: Lease, idle_ms: int) -> bool | None:
    """As JobStore.release; idle_ms: more than a lease lasts."""
    found = await watch(wire, lease.job)
    if found is None or not is_held(found, lease):
        await wire.ask(("UNWATCH",))
        return False
    attempts, key = found.job.attempts - 1, layout.job_key(lease.job)
    commands: list[Command] = [("HSET", key, "status", "queued", "attempts", attempts), ("HDEL", key, "step", "steps")]
    commands.append(layout.give_back_command(found.entry, idle_ms))
    return True if await commit(wire, commands) is not None else None


def is_held(found: Stored, lease: Lease) -> bool:
    """Whether who has the lease may write to the job."""
    return found.job.status == "running" and found.token == lease.token


async def watch(wire: Wire, ident: str) -> Stored | None:
    """The job as it stands; what is committed next is void if it changes."""
    _, values = await wire.ask(("WATCH", layout.job_key(ident)), ("HMGET", layout.job_key(ident), *layout.FIELDS))
    return layout.stored(ident, values)
