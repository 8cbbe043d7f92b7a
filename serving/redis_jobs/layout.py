"""How jobs lie in Redis: keys, what is read of them, and the commands that change them.

    tidegate:jobs               a stream: an entry for each job that has no end; its field `job` is the job's id
    tidegate:job:<id>           a hash: the job; it expires some time after its end
    tidegate:job:<id>:events    a stream: what happened, by ids <number>-0
    tidegate:job-key:<digest>   a string: the id of the job that an owner made with an Idempotency-Key

All gateways are one consumer of the stream's group. An entry that is pending there is a claim, and how long it has been
idle is the age of its lease. Whose claim it is says the hash's `token` alone, and `attempts` counts those that were
written down there: an entry may be delivered to a gateway that never hears of it. Source: https://redis.io/docs/latest/develop/data-types/streams/
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from serving.job_store import KEPT_EVENTS, Event, Failure, Job, JobCounts, Order, Reached, Told
from serving.redis.wire import Command, Wire

STREAM: Final = "tidegate:jobs"
GROUP: Final = "gateways"
CONSUMER: Final = "gateway"
MOST_WAITING: Final = 1000  # that are looked at together
FIELDS: Final = (
    "owner", "content", "status", "created", "attempts", "step", "steps", "result", "code", "detail", "ended",
    "expires", "digest", "key", "token", "entry", "events",
)  # fmt: skip


class Stored(NamedTuple):
    """A job with what only the store wants to know of it. entry: its place in the stream, once it was claimed."""

    job: Job
    digest: str
    key: str
    token: int
    entry: bytes
    events: int


class Waiting(NamedTuple):
    """An entry whose claim was given back or has run out, its job, and how often that was begun."""

    entry: bytes
    ident: str
    attempts: int


def job_key(ident: str) -> str:
    return f"tidegate:job:{ident}"


def events_key(ident: str) -> str:
    return f"tidegate:job:{ident}:events"


def order_key(order: Order) -> str:
    """Where it is written down which job an order made; empty when nobody is to know."""
    if not order.key:
        return ""
    digest = hashlib.sha256(b"\0".join((order.owner.encode(), order.key.encode()))).hexdigest()
    return f"tidegate:job-key:{digest}"


async def read(wire: Wire, ident: str) -> Stored | None:
    """The job; None when there is none of that id."""
    (values,) = await wire.ask(("HMGET", job_key(ident), *FIELDS))
    return stored(ident, values)


def stored(ident: str, values: Sequence[bytes | None]) -> Stored | None:
    """A job out of its hash's fields."""
    given: dict[str, Any] = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    if "status" not in given:
        return None
    text = {name: value.decode() for name, value in given.items() if name not in ("content", "result", "entry")}
    job = Job(
        id=ident,
        owner=text["owner"],
        content=given["content"],
        status=text["status"],
        created=float(text["created"]),
        attempts=int(text["attempts"]),
        progress=Reached(int(text["step"]), int(text["steps"])) if "step" in text else None,
        result=given.get("result"),
        failure=Failure(text["code"], text["detail"]) if "code" in text else None,
        ended=_number(text.get("ended")),
        expires=_number(text.get("expires")),
    )
    entry: bytes = given.get("entry", b"")
    return Stored(job, text["digest"], text["key"], int(text["token"]), entry, int(text["events"]))


async def waiting(wire: Wire, lease_ms: int) -> list[Waiting]:
    """Entries that were claimed before and can be claimed again now, the oldest first."""
    (pending,) = await wire.ask(("XPENDING", STREAM, GROUP, "IDLE", lease_ms, "-", "+", MOST_WAITING))
    if not pending:
        return []
    found = await wire.ask(*(("XRANGE", STREAM, one[0], one[0]) for one in pending))
    there = [(entries[0][0], _ident(entries[0])) for entries in found if entries]
    attempts = await wire.ask(*(("HMGET", job_key(ident), "attempts") for _, ident in there))
    return [Waiting(*one, int(count or 0)) for one, (count,) in zip(there, attempts, strict=True)]


async def entry_of(wire: Wire, ident: str) -> bytes:
    """The entry of a job that was not claimed yet; empty when there is none."""
    (found,) = await wire.ask(("XRANGE", STREAM, "-", "+"))
    return next((one[0] for one in found if _ident(one) == ident), b"")


async def take(wire: Wire, entry: bytes, lease_ms: int) -> str:
    """Claims an entry whose claim ran out; its job, or empty when another was quicker."""
    (found,) = await wire.ask(("XCLAIM", STREAM, GROUP, CONSUMER, lease_ms, entry))
    return _ident(found[0]) if found and found[0] else ""


async def take_new(wire: Wire, count: int) -> list[tuple[bytes, str]]:
    """Claims entries that nobody has claimed before, with their jobs."""
    reading: Command = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", count, "STREAMS", STREAM, ">")
    (found,) = await wire.ask(reading)
    return [(one[0], _ident(one)) for one in found[0][1]] if found else []


def accept_commands(job: Job, order: Order) -> Iterator[Command]:
    """What makes a job."""
    fields: dict[str, str | bytes] = {
        "owner": job.owner,
        "content": job.content,
        "status": job.status,
        "created": repr(job.created),
    }
    fields |= {"digest": order.digest, "key": order_key(order), "attempts": "0", "token": "0", "events": "0"}
    yield ("HSET", job_key(job.id), *(part for pair in fields.items() for part in pair))
    if order.key:
        yield ("SET", order_key(order), job.id)
    yield ("XADD", STREAM, "*", "job", job.id)


def renew_command(entry: bytes) -> Command:
    """What makes a claim as if it had been made now."""
    return ("XCLAIM", STREAM, GROUP, CONSUMER, 0, entry, "IDLE", 0, "JUSTID")


def give_back_command(entry: bytes, idle_ms: int) -> Command:
    """What makes a claim as if it had been made that long ago."""
    return ("XCLAIM", STREAM, GROUP, CONSUMER, 0, entry, "IDLE", idle_ms, "JUSTID")


def forget_commands(entry: bytes) -> Iterator[Command]:
    """What takes an entry out of the stream, claimed or not."""
    if entry:
        yield ("XACK", STREAM, GROUP, entry)
        yield ("XDEL", STREAM, entry)


def tell_commands(ident: str, known: int, told: Sequence[Told]) -> Iterator[Command]:
    """What writes down what happened, after `known` events."""
    for number, one in enumerate(told, known + 1):
        trimmed = ("MAXLEN", KEPT_EVENTS, f"{number}-0")
        yield ("XADD", events_key(ident), *trimmed, "kind", one.kind, "data", one.data)
    if told:
        yield ("HSET", job_key(ident), "events", known + len(told))


def end_commands(found: Stored, ended: Job, keep_ms: int) -> Iterator[Command]:
    """What brings a job to its end as `ended` has it; it is forgotten after keep_ms."""
    ident = ended.id
    fields: dict[str, Any] = {"status": ended.status, "ended": repr(ended.ended), "expires": repr(ended.expires)}
    if ended.result is not None:
        fields["result"] = ended.result
    if ended.failure is not None:
        fields |= {"code": ended.failure.code, "detail": ended.failure.detail}
    yield ("HSET", job_key(ident), *(part for pair in fields.items() for part in pair))
    yield from tell_commands(ident, found.events, [Told("done", b"")])
    yield from forget_commands(found.entry)
    for key in (job_key(ident), events_key(ident), found.key):
        if key:
            yield ("PEXPIRE", key, keep_ms)


async def events(wire: Wire, ident: str, after: int) -> list[Event] | None:
    """What happened after the event of that number; None when there is no such job."""
    known, found = await wire.ask(("EXISTS", job_key(ident)), ("XRANGE", events_key(ident), f"({after}-0", "+"))
    if not known:
        return None
    return [Event(int(entry.partition(b"-")[0]), kind.decode(), data) for entry, (_, kind, _, data) in found]


async def counts(wire: Wire, *, lease_ms: int, now: float) -> JobCounts:
    """As JobStore.counts; now: Unix seconds."""
    (there,) = await wire.ask(("EXISTS", STREAM))
    if not there:
        return JobCounts()
    groups, length, idle = await wire.ask(
        ("XINFO", "GROUPS", STREAM),
        ("XLEN", STREAM),
        ("XPENDING", STREAM, GROUP, "IDLE", lease_ms, "-", "+", MOST_WAITING),
    )
    group = dict(zip(groups[0][::2], groups[0][1::2], strict=True))
    (fresh,) = await wire.ask(("XRANGE", STREAM, b"(" + group[b"last-delivered-id"], "+", "COUNT", 1))
    running = group[b"pending"] - len(idle)
    oldest = min((_made(one[0]) for one in (*idle[:1], *fresh)), default=now)
    return JobCounts(length - running, running, max(0.0, now - oldest))


def _made(entry: bytes) -> float:
    """When an entry was made, in Unix seconds by Redis' clock."""
    return int(entry.partition(b"-")[0]) / 1000


def _ident(entry: Any) -> str:
    ident: bytes = entry[1][1]
    return ident.decode()


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
