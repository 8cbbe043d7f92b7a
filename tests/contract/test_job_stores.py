"""What every store of jobs must do, over each file of serving/job_stores/ and real stores."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis_rig import redis_server

from serving import plugins
from serving.errors import JobNotFound, JobsFull, KeyReused
from serving.job_store import (
    FOLDER,
    KEPT_EVENTS,
    POISON,
    TRIES,
    Failure,
    JobCounts,
    JobStore,
    JobStoreOptions,
    Lease,
    Order,
    Reached,
    Report,
    Taken,
    Told,
    chosen,
)

NAMES = plugins.names(FOLDER)
LONG_S = 600.0  # leases run out when a test says so
NOTHING = Taken([], [])
FAILED = Failure("text_invalid", "It is empty.")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@dataclass
class Bench:
    """A store of this test's own, which can be opened again and again; `lose` makes a job's lease run out now."""

    open: Callable[..., JobStore]
    lose: Callable[[str], None]


@pytest.fixture(params=NAMES)
def bench(request, tmp_path) -> Bench:
    plugin = plugins.find(FOLDER, request.param, "PLUGIN")
    url = ""
    if request.param == "redis":
        server = request.getfixturevalue("server")
        server.ask("FLUSHALL")
        url = server.url

    def open_store(**options) -> JobStore:
        return plugin(JobStoreOptions(tmp_path, url, **{"lease_s": LONG_S, **options}))

    def lose_locally(ident: str) -> None:
        with sqlite3.connect(tmp_path / "jobs.sqlite", timeout=10) as at:
            at.execute("UPDATE jobs SET until = 0 WHERE ident = ?", (ident,))
        at.close()

    def lose_in_redis(ident: str) -> None:
        entry = server.ask("HGET", f"tidegate:job:{ident}", "entry")
        server.ask("XCLAIM", "tidegate:jobs", "gateways", "gateway", 0, entry, "IDLE", round(2000 * LONG_S), "JUSTID")

    return Bench(open_store, lose_in_redis if url else lose_locally)


@asynccontextmanager
async def opened(store):
    try:
        yield store
    finally:
        await store.close()


def run(test):
    """Runs a coroutine function as a test, with one store opened."""

    def wrapper(bench):
        async def main():
            async with opened(bench.open()) as store:
                await test(store, bench)

        asyncio.run(main())

    wrapper.__name__ = test.__name__
    wrapper.__doc__ = test.__doc__
    return wrapper


def order(content=b"{}", owner="ann", key="", digest="d"):
    return Order(owner, content, key, digest)


async def kinds(store, ident, after=0):
    return [event.kind for event in await store.events(ident, after)]


async def begun(store, count=1, **given):
    """So many jobs, claimed."""
    for _ in range(count):
        await store.accept(order(**given))
    claimed = (await store.claim(count, idle=True)).begun
    assert len(claimed) == count
    return claimed


@run
async def test_an_order_becomes_a_job_that_waits(store, bench):
    before = time.time()
    assert await store.counts() == JobCounts()
    assert await store.claim(3, idle=True) == NOTHING
    accepted = await store.accept(order(b"\x00content"))
    assert accepted.new
    job = await store.get(accepted.job.id)
    assert job == accepted.job
    assert (job.owner, job.content, job.status, job.attempts) == ("ann", b"\x00content", "queued", 0)
    assert (job.progress, job.result, job.failure, job.ended, job.expires) == (None, None, None, None, None)
    assert before - 1 < job.created < time.time() + 1
    assert not job.at_end
    counts = await store.counts()
    assert (counts.queued, counts.running) == (1, 0)
    assert 0 <= counts.oldest_s < 60


@run
async def test_of_a_job_that_is_not_there_nothing_is_known(store, bench):
    await store.accept(order())
    for call in (store.get("x"), store.cancel("x"), store.events("x", 0)):
        with pytest.raises(JobNotFound):
            await call
    lease = Lease("x", 1)
    assert await store.beat({lease: Report()}) == {lease}
    assert not await store.finish(lease, b"")
    await store.release(lease)


@run
async def test_jobs_are_claimed_once_the_oldest_first_and_come_to_their_end(store, bench):
    idents = [(await store.accept(order())).job.id for _ in range(4)]
    async with opened(bench.open()) as other:
        first, second = await asyncio.gather(store.claim(2, idle=True), other.claim(1, idle=False))
        third = await other.claim(5, idle=False)
    first, second = first.begun, second.begun
    claimed = [*first, *second, *third.begun]
    assert sorted(one.job.id for one in claimed) == sorted(idents)
    assert {one.job.id for one in (*first, *second)} == set(idents[:3])
    assert [one.job.id for one in first] == sorted((one.job.id for one in first), key=idents.index)
    assert all((one.job.status, one.job.attempts, one.lease.token) == ("running", 1, 1) for one in claimed)
    counts = await store.counts()
    assert (counts.queued, counts.running, counts.oldest_s) == (0, 4, 0.0)
    assert await store.finish(claimed[0].lease, b"result\xff")
    assert await store.finish(claimed[1].lease, FAILED)
    done, failed = [await store.get(one.job.id) for one in claimed[:2]]
    assert (done.status, done.result, done.failure) == ("succeeded", b"result\xff", None)
    assert (failed.status, failed.result, failed.failure) == ("failed", None, FAILED)
    for job in (done, failed):
        assert job.at_end
        assert abs(job.ended - time.time()) < 60
        assert job.expires == pytest.approx(job.ended + 86_400)
        assert await kinds(store, job.id) == ["started", "done"]
    assert (await store.counts()).running == 2


@run
async def test_one_key_makes_one_job_however_many_ask(store, bench):
    async with opened(bench.open()) as other:
        for each in (store, other):  # the store is made, and both are connected
            await each.cancel((await each.accept(order())).job.id)
        asked = [each.accept(order(key="k")) for _ in range(20) for each in (store, other)]
        accepted = await asyncio.gather(*asked)
    assert len({one.job.id for one in accepted}) == 1
    assert sum(one.new for one in accepted) == 1
    assert (await store.counts()).queued == 1
    with pytest.raises(KeyReused):
        await store.accept(order(key="k", digest="another"))
    assert (await store.accept(order(key="k", owner="bob", digest="another"))).new, "another caller's key is another"
    assert (await store.accept(order(key="l"))).new
    assert (await store.accept(order())).new
    assert (await store.accept(order())).new
    (claimed,) = (await store.claim(1, idle=True)).begun
    assert await store.finish(claimed.lease, b"done")
    again = await store.accept(order(key="k"))
    assert not again.new
    assert (again.job.id, again.job.result) == (accepted[0].job.id, b"done")


@run
async def test_no_more_jobs_than_may_be_are_without_an_end(store, bench):
    async with opened(bench.open(most=3)) as few:
        kept = [await few.accept(order(key=f"k{i}")) for i in range(3)]
        (running,) = (await few.claim(1, idle=True)).begun
        with pytest.raises(JobsFull) as refused:
            await few.accept(order())
        assert refused.value.wait_s > 0
        assert not (await few.accept(order(key="k2"))).new, "what was accepted is known all the same"
        await few.finish(running.lease, b"")
        assert (await few.accept(order())).new
        await few.cancel(kept[1].job.id)
        assert (await few.accept(order())).new
        with pytest.raises(JobsFull):
            await few.accept(order())


@run
async def test_who_lost_the_lease_writes_nothing(store, bench):
    (first,) = await begun(store)
    assert await store.claim(1, idle=True) == NOTHING, "it is another's"
    bench.lose(first.job.id)
    assert await store.beat({first.lease: Report()}) == frozenset(), "nobody has claimed it meanwhile"
    assert await store.claim(1, idle=True) == NOTHING, "and so the lease was renewed"
    bench.lose(first.job.id)
    assert (await store.counts()).queued == 1
    (second,) = (await store.claim(1, idle=True)).begun
    assert second.job.id == first.job.id
    assert (second.job.attempts, second.lease.token) == (2, 2)
    told = Report(Reached(9, 9), [Told("progress", b"late")])
    assert await store.beat({first.lease: told, second.lease: Report(Reached(1, 9))}) == {first.lease}
    await store.release(first.lease)
    assert not await store.finish(first.lease, b"late")
    job = await store.get(first.job.id)
    assert (job.status, job.progress, job.result) == ("running", Reached(1, 9), None)
    assert await store.finish(second.lease, b"right")
    assert not await store.finish(first.lease, b"late")
    assert not await store.finish(second.lease, b"twice"), "an end is an end"
    assert not await store.finish(second.lease, FAILED)
    assert await store.beat({second.lease: told}) == {second.lease}
    assert (await store.get(first.job.id)).result == b"right"
    assert await kinds(store, first.job.id) == ["started", "started", "done"]


@run
async def test_what_happens_is_told_in_order_and_kept_while_it_matters(store, bench):
    one, other = await begun(store, 2)
    steps = [Report(Reached(i, 3), [Told("progress", b"%d" % i)]) for i in (1, 2)]
    preview = Report(None, [Told("preview", b"\x89"), Told("progress", b"more")])
    for report in (steps[0], steps[1], preview):
        assert await store.beat({one.lease: report, other.lease: Report()}) == frozenset()
    assert (await store.get(one.job.id)).progress == Reached(2, 3)
    assert (await store.get(other.job.id)).progress is None
    events = await store.events(one.job.id, 0)
    assert [event.kind for event in events] == ["started", "progress", "progress", "preview", "progress"]
    assert [event.data for event in events[1:]] == [b"1", b"2", b"\x89", b"more"]
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert await store.events(one.job.id, 3) == events[3:]
    assert await store.events(one.job.id, 5) == []
    many = Report(None, [Told("progress", b"x")] * KEPT_EVENTS)
    await store.beat({one.lease: many})
    kept = await store.events(one.job.id, 0)
    assert (len(kept), kept[-1].number) == (KEPT_EVENTS, KEPT_EVENTS + 5)
    await store.finish(one.lease, b"")
    assert (await store.events(one.job.id, KEPT_EVENTS + 5))[-1].kind == "done"


@run
async def test_a_job_that_is_given_back_was_never_begun(store, bench):
    first, second = await begun(store, 2)
    later = (await store.accept(order())).job
    await store.beat({first.lease: Report(Reached(2, 3))})
    for _ in range(TRIES + 1):
        await store.release(first.lease)
        job = await store.get(first.job.id)
        assert (job.status, job.attempts, job.progress) == ("queued", 0, None)
        assert (await store.counts()).queued == 2
        assert not await store.finish(first.lease, b"late")
        (again,) = (await store.claim(1, idle=False)).begun
        assert again.job.id == first.job.id, "it is still the oldest, and under no suspicion"
        assert again.lease.token == first.lease.token + 1
        first = again
    await store.release(second.lease)
    both = (await store.claim(5, idle=False)).begun
    assert [one.job.id for one in both] == [second.job.id, later.id]


@run
async def test_a_job_that_loses_its_workers_runs_alone_and_is_set_aside_in_the_end(store, bench):
    poison, beside = await begun(store, 2)
    fresh = (await store.accept(order())).job
    bench.lose(poison.job.id)
    bench.lose(beside.job.id)
    assert await store.claim(8, idle=False) == NOTHING, "nothing new is begun, so that they have their turn"
    (second,) = (await store.claim(8, idle=True)).begun
    assert second.job.id == poison.job.id
    (other,) = (await store.claim(8, idle=True)).begun
    assert other.job.id == beside.job.id, "another worker's turn"
    assert await store.finish(other.lease, b"innocent")
    for attempts in range(2, TRIES + 1):
        assert (await store.get(poison.job.id)).attempts == attempts
        bench.lose(poison.job.id)
        claimed = await store.claim(8, idle=True)
    assert [one.job.id for one in claimed.begun] == [fresh.id], "the others go on at once"
    assert claimed.set_aside == [poison.job.id]
    job = await store.get(poison.job.id)
    assert (job.status, job.failure, job.attempts) == ("failed", POISON, TRIES)
    assert not await store.finish(second.lease, b"late")
    assert await kinds(store, poison.job.id) == ["started"] * TRIES + ["done"]
    assert (await store.counts()).running == 1


@run
async def test_cancelling_ends_a_job_at_once_whoever_runs_it(store, bench):
    (running,) = await begun(store)
    waiting = (await store.accept(order())).job
    for ident in (running.job.id, waiting.id):
        job = await store.cancel(ident)
        assert (job.status, job.result, job.failure) == ("cancelled", None, None)
        assert await store.get(ident) == job
        assert (await store.cancel(ident)) == job, "again is the same"
        assert (await kinds(store, ident))[-1] == "done"
    assert await store.beat({running.lease: Report()}) == {running.lease}
    assert not await store.finish(running.lease, b"late")
    assert await store.claim(5, idle=True) == NOTHING
    assert await store.counts() == JobCounts()
    (third,) = await begun(store)
    await store.finish(third.lease, b"done")
    assert (await store.cancel(third.job.id)).result == b"done", "too late"


@run
async def test_a_job_is_forgotten_some_time_after_its_end(unused, bench):
    async with opened(bench.open(keep_s=0.2)) as store:
        (claimed,) = await begun(store, key="k")
        waiting = (await store.accept(order())).job
        await asyncio.sleep(0.3)
        assert (await store.get(claimed.job.id)).status == "running", "not before"
        await store.finish(claimed.lease, b"done")
        assert (await store.get(claimed.job.id)).result == b"done"
        await asyncio.sleep(0.3)
        with pytest.raises(JobNotFound):
            await store.get(claimed.job.id)
        await store.sweep()
        with pytest.raises(JobNotFound):
            await store.events(claimed.job.id, 0)
        assert (await store.accept(order(key="k", digest="another"))).new, "its key is free"
        assert (await store.get(waiting.id)).status == "queued"


@run
async def test_all_is_there_when_the_store_is_opened_again(store, bench):
    first, second = await begun(store, 2, owner="bob")
    waiting = (await store.accept(order(key="k"))).job
    await store.beat({first.lease: Report(Reached(1, 2), [Told("progress", b"1")])})
    await store.finish(second.lease, b"done")
    async with opened(bench.open()) as again:
        assert await again.beat({first.lease: Report()}) == frozenset()
        assert (await again.get(first.job.id)).progress == Reached(1, 2)
        assert (await again.get(second.job.id)).result == b"done"
        assert not (await again.accept(order(key="k"))).new
        assert await kinds(again, first.job.id) == ["started", "progress"]
        assert [one.job.id for one in (await again.claim(5, idle=False)).begun] == [waiting.id]


@dataclass
class Known:
    """What a job should be like."""

    ident: str
    status: str = "queued"
    attempts: int = 0
    lost: bool = False
    lease: Lease | None = None
    events: int = 0
    stale: list[Lease] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Any order of calls leaves the store as a list in memory says it should be."""

    def __init__(self, bench):
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = bench
        self.store = bench.open()
        self.jobs: list[Known] = []

    def ask(self, call):
        return self.runner.run(call)

    def some(self, place, *statuses):
        able = [job for job in self.jobs if job.status in statuses]
        return able[place % len(able)] if able else None

    @rule()
    def accept(self):
        self.jobs.append(Known(self.ask(self.store.accept(order())).job.id))

    @rule(room=st.integers(1, 3), idle=st.booleans())
    def claim(self, room, idle):
        waiting = [job for job in self.jobs if job.status == "queued" or (job.status == "running" and job.lost)]
        poisoned = [job for job in waiting if job.attempts >= TRIES]
        for job in poisoned:
            waiting.remove(job)
            job.status, job.events = "failed", job.events + 1
        expected = [waiting[place] for place in chosen([job.attempts for job in waiting], room, idle=idle)]
        taken = self.ask(self.store.claim(room, idle=idle))
        assert list(taken.set_aside) == [job.ident for job in poisoned]
        claimed = taken.begun
        assert [one.job.id for one in claimed] == [job.ident for job in expected]
        for one, job in zip(claimed, expected, strict=True):
            if job.lease is not None:
                assert one.lease.token > job.lease.token
                job.stale.append(job.lease)
            job.status, job.lease, job.lost = "running", one.lease, False
            job.attempts, job.events = job.attempts + 1, job.events + 1
            assert one.job.attempts == job.attempts

    @rule(place=st.integers(0, 20))
    def lose(self, place):
        if job := self.some(place, "running"):
            self.bench.lose(job.ident)
            job.lost = True

    @rule(place=st.integers(0, 20))
    def release(self, place):
        if job := self.some(place, "running"):
            self.ask(self.store.release(job.lease))
            job.status, job.attempts = "queued", job.attempts - 1

    @rule(place=st.integers(0, 20), works=st.booleans())
    def finish(self, place, works):
        if job := self.some(place, "running"):
            assert self.ask(self.store.finish(job.lease, b"r" if works else FAILED))
            job.status, job.events = "succeeded" if works else "failed", job.events + 1

    @rule(place=st.integers(0, 20))
    def cancel(self, place):
        if job := self.some(place, "queued", "running"):
            self.ask(self.store.cancel(job.ident))
            job.status, job.events = "cancelled", job.events + 1

    @precondition(lambda self: any(job.lease for job in self.jobs))
    @rule()
    def beat_all(self):
        """By everybody who ever had a lease, and thinks that it still has."""
        told = Report(None, [Told("progress", b"1")])
        leases = {lease: job for job in self.jobs for lease in [*job.stale, *([job.lease] if job.lease else [])]}
        lost = self.ask(self.store.beat(dict.fromkeys(leases, told)))
        for lease, job in leases.items():
            holds = job.status == "running" and lease == job.lease
            assert (lease in lost) == (not holds)
            if holds:
                job.events, job.lost = job.events + 1, False

    @rule()
    def who_lost_it_cannot_write(self):
        for job in self.jobs:
            for lease in job.stale:
                assert not self.ask(self.store.finish(lease, b"late"))

    @invariant()
    def all_is_as_it_should_be(self):
        for job in self.jobs:
            found = self.ask(self.store.get(job.ident))
            assert (found.status, found.attempts) == (job.status, job.attempts)
            assert (found.result is not None) == (job.status == "succeeded")
        waiting = sum(job.status == "queued" or (job.status == "running" and job.lost) for job in self.jobs)
        counts = self.ask(self.store.counts())
        assert (counts.queued, counts.running) == (
            waiting,
            sum(job.status == "running" and not job.lost for job in self.jobs),
        )

    def teardown(self):
        for job in self.jobs:
            numbers = [event.number for event in self.ask(self.store.events(job.ident, 0))]
            assert numbers == list(range(1, job.events + 1))
        for job in self.jobs:
            self.ask(self.store.cancel(job.ident))
        self.ask(self.store.close())
        self.runner.close()


def test_any_order_of_calls_leaves_it_as_it_should_be(bench):
    run_state_machine_as_test(
        lambda: Machine(bench),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )


@pytest.mark.parametrize(
    ("attempts", "room", "idle", "expected"),
    [
        ([], 3, True, []),
        ([0, 0, 0], 2, False, [0, 1]),
        ([0, 0], 0, True, []),
        ([0, 0], 5, True, [0, 1]),
        ([1, 0, 0], 5, True, [0]),
        ([0, 2, 1], 5, True, [1]),
        ([0, 0, 1], 5, False, []),
        ([1], 0, True, []),
    ],
)
def test_which_jobs_are_begun(attempts, room, idle, expected):
    assert chosen(attempts, room, idle=idle) == expected
