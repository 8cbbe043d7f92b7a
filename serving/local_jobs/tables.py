"""Jobs in one SQLite file: how each call of the store reads and moves them. Blocking, and for one thread at a time.

`until` is when a running job's lease ends; who may write to it is decided by `token` alone, so a worker that was slow
keeps its job unless another has claimed it meanwhile. Times are Unix seconds, given by whoever calls.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from serving.job_store import (
    KEPT_EVENTS,
    POISON,
    TRIES,
    Accepted,
    Claimed,
    Event,
    Failure,
    Job,
    JobCounts,
    Lease,
    Order,
    Reached,
    Report,
    Taken,
    Told,
    chosen,
    full,
    no_job,
    other_order,
)

COLUMNS: Final = "ident, owner, content, status, created, attempts, step, steps, result, code, detail, ended, expires"


class Waiting(NamedTuple):
    """A job that may be begun: one that is queued, or whose lease has run out."""

    number: int
    attempts: int


class End(NamedTuple):
    """How and when a job ends, and until when it is known."""

    status: str
    at: float
    expires: float
    result: bytes | None = None
    failure: Failure | None = None


def accept(at: sqlite3.Connection, ident: str, order: Order, now: float, most: int) -> Accepted:
    """As JobStore.accept; ident: of the job, if there is to be a new one."""
    sweep(at, now)  # a key is free again when its job is forgotten
    if order.key:
        query = f"SELECT digest, {COLUMNS} FROM jobs WHERE owner = ? AND key = ?"  # noqa: S608  (names of ours)
        row = at.execute(query, (order.owner, order.key)).fetchone()
        if row is not None:
            if row[0] != order.digest:
                raise other_order()
            return Accepted(_job(row[1:]), new=False)
    if at.execute("SELECT count(*) FROM jobs WHERE ended IS NULL").fetchone()[0] >= most:
        raise full(most)
    at.execute(
        "INSERT INTO jobs (ident, owner, key, digest, content, created, status) VALUES (?, ?, ?, ?, ?, ?, 'queued')",
        (ident, order.owner, order.key, order.digest, order.content, now),
    )
    return Accepted(Job(ident, order.owner, order.content, "queued", now), new=True)


def get(at: sqlite3.Connection, ident: str) -> Job:
    """JobNotFound."""
    row = at.execute(f"SELECT {COLUMNS} FROM jobs WHERE ident = ?", (ident,)).fetchone()  # noqa: S608  (names of ours)
    if row is None:
        raise no_job()
    return _job(row)


def waiting(at: sqlite3.Connection, now: float) -> list[Waiting]:
    """Jobs that could be begun now, the oldest first."""
    rows = at.execute(
        "SELECT number, attempts FROM jobs WHERE ended IS NULL AND (status = 'queued' OR until < ?) ORDER BY number",
        (now,),
    )
    return [Waiting(*row) for row in rows]


def claim(at: sqlite3.Connection, room: int, *, idle: bool, now: float, lease_s: float, keep_s: float) -> Taken:
    """As JobStore.claim."""
    found = waiting(at, now)
    poisoned = [one for one in found if one.attempts >= TRIES]
    set_aside = [end(at, one.number, End("failed", now, now + keep_s, failure=POISON)) for one in poisoned]
    able = [one for one in found if one.attempts < TRIES]
    places = chosen([one.attempts for one in able], room, idle=idle)
    return Taken([_begin(at, able[place].number, now + lease_s) for place in places], set_aside)


def beat(at: sqlite3.Connection, reports: Mapping[Lease, Report], until: float) -> frozenset[Lease]:
    """As JobStore.beat."""
    lost = set()
    for lease, report in reports.items():
        number = held(at, lease)
        if number is None:
            lost.add(lease)
            continue
        at.execute("UPDATE jobs SET until = ? WHERE number = ?", (until, number))
        if report.progress is not None:
            reached = (report.progress.step, report.progress.of, number)
            at.execute("UPDATE jobs SET step = ?, steps = ? WHERE number = ?", reached)
        for told in report.told:
            _tell(at, number, told)
    return frozenset(lost)


def held(at: sqlite3.Connection, lease: Lease) -> int | None:
    """The number of the lease's job; None when the lease is lost."""
    query = "SELECT number FROM jobs WHERE ident = ? AND token = ? AND status = 'running'"
    row = at.execute(query, (lease.job, lease.token)).fetchone()
    return row[0] if row else None


def finish(at: sqlite3.Connection, lease: Lease, outcome: End) -> bool:
    """As JobStore.finish."""
    number = held(at, lease)
    if number is None:
        return False
    end(at, number, outcome)
    return True


def release(at: sqlite3.Connection, lease: Lease) -> None:
    """As JobStore.release."""
    at.execute(
        "UPDATE jobs SET status = 'queued', attempts = attempts - 1, until = NULL, step = NULL, steps = NULL"
        " WHERE ident = ? AND token = ? AND status = 'running'",
        (lease.job, lease.token),
    )


def cancel(at: sqlite3.Connection, ident: str, outcome: End) -> Job:
    """As JobStore.cancel."""
    if not get(at, ident).at_end:
        end(at, at.execute("SELECT number FROM jobs WHERE ident = ?", (ident,)).fetchone()[0], outcome)
    return get(at, ident)


def end(at: sqlite3.Connection, number: int, outcome: End) -> str:
    """Brings a job that has no end yet to it; its id."""
    code, detail = (outcome.failure.code, outcome.failure.detail) if outcome.failure else (None, None)
    ident: str = at.execute(
        "UPDATE jobs SET status = ?, ended = ?, expires = ?, result = ?, code = ?, detail = ? WHERE number = ?"
        " RETURNING ident",
        (outcome.status, outcome.at, outcome.expires, outcome.result, code, detail, number),
    ).fetchone()[0]
    _tell(at, number, Told("done", b""))
    return ident


def events(at: sqlite3.Connection, ident: str, after: int) -> list[Event]:
    """As JobStore.events."""
    row = at.execute("SELECT number FROM jobs WHERE ident = ?", (ident,)).fetchone()
    if row is None:
        raise no_job()
    query = "SELECT number, kind, data FROM events WHERE job = ? AND number > ? ORDER BY number"
    return [Event(number, kind, data) for number, kind, data in at.execute(query, (row[0], after))]


def counts(at: sqlite3.Connection, now: float) -> JobCounts:
    """As JobStore.counts."""
    query = "SELECT status = 'queued' OR until < ?, count(*), min(created) FROM jobs WHERE ended IS NULL GROUP BY 1"
    rows = {waits: (count, oldest) for waits, count, oldest in at.execute(query, (now,))}
    queued, oldest = rows.get(1, (0, now))
    return JobCounts(queued, rows.get(0, (0, now))[0], max(0.0, now - oldest))


def sweep(at: sqlite3.Connection, now: float) -> None:
    """As JobStore.sweep."""
    for (number,) in at.execute("DELETE FROM jobs WHERE expires < ? RETURNING number", (now,)).fetchall():
        at.execute("DELETE FROM events WHERE job = ?", (number,))


def _begin(at: sqlite3.Connection, number: int, until: float) -> Claimed:
    query = (
        "UPDATE jobs SET status = 'running', attempts = attempts + 1, token = token + 1, until = ?, step = NULL,"  # noqa: S608
        f" steps = NULL WHERE number = ? RETURNING token, {COLUMNS}"
    )
    token, *columns = at.execute(query, (until, number)).fetchone()
    job = _job(columns)
    _tell(at, number, Told("started", orjson.dumps({"attempt": job.attempts})))
    return Claimed(Lease(job.id, token), job)


def _tell(at: sqlite3.Connection, number: int, told: Told) -> None:
    query = "UPDATE jobs SET events = events + 1 WHERE number = ? RETURNING events"
    place = at.execute(query, (number,)).fetchone()[0]
    at.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (number, place, told.kind, told.data))
    at.execute("DELETE FROM events WHERE job = ? AND number <= ?", (number, place - KEPT_EVENTS))


def _job(row: Any) -> Job:
    ident, owner, content, status, created, attempts, step, steps, result, code, detail, ended, expires = row
    progress = None if step is None else Reached(step, steps)
    failure = None if code is None else Failure(code, detail)
    return Job(ident, owner, content, status, created, attempts, progress, result, failure, ended, expires)
