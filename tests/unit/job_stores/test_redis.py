"""What the store in Redis has beside what is asked of each: waiting for the disk, and a user who may do little else."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from redis_rig import redis_server

from serving.errors import JobsUnavailable
from serving.job_store import JobStoreOptions, Order, Reached, Report, Told
from serving.job_stores.redis import RedisJobs
from serving.redis_jobs import durability

ORDER = Order("ann", b"{}", "k", "d")
ACL = (
    "-@all +ping +unwatch +watch +multi +exec +get +set +hset +hdel +hmget +exists +incr +info +pexpire +waitaof"
    " +xack +xadd +xclaim +xdel +xgroup|create +xinfo|groups +xlen +xpending +xrange +xreadgroup"
)
PASSWORD = "correct-horse"  # noqa: S105  (of a server that lives as long as a test)


def run(url, work, **options):
    async def main():
        store = RedisJobs(JobStoreOptions(Path("unused"), url, **options))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def accept_many(store, count=20) -> float:
    began_s = time.monotonic()
    await asyncio.gather(*(store.accept(Order("ann", b"{}")) for _ in range(count)))
    return time.monotonic() - began_s


def test_a_job_is_accepted_when_redis_has_it_on_disk_and_many_wait_together(tmp_path):
    with redis_server(tmp_path / "aof", "--appendonly", "yes", "--appendfsync", "everysec") as server:

        async def work(store):
            await store.accept(ORDER)
            began_s = time.monotonic()
            await store.accept(ORDER)
            return time.monotonic() - began_s, await accept_many(store)

        one_s, many_s = run(server.url, work)
        assert 0.5 < one_s < 1.6, "a disk that is written to each second is waited for"
        assert many_s < 3
        assert int(server.ask("GET", durability.MARK)) <= 5, "one look for all of them"


def test_without_an_aof_there_is_nothing_to_wait_for(tmp_path):
    with redis_server(tmp_path / "none") as server:
        assert run(server.url, accept_many) < 1


def test_a_disk_that_is_never_heard_of_is_not_waited_for_each_time(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(durability, "WAIT_S", 0.2)
    with (
        caplog.at_level(logging.WARNING),
        redis_server(tmp_path / "no", "--appendonly", "yes", "--appendfsync", "no") as server,
    ):

        async def work(store):
            return [await accept_many(store, 1) for _ in range(4)]

        first_s, *later_s = run(server.url, work)
        assert first_s >= 0.2
        assert sum(later_s) < 0.2
    assert [record.message for record in caplog.records].count(caplog.messages[0]) == 1
    assert "without waiting" in caplog.messages[0]


def test_its_user_needs_no_more_than_is_said(tmp_path):
    with redis_server(tmp_path / "acl", "--appendonly", "yes", "--appendfsync", "always") as server:
        server.ask("ACL", "SETUSER", "gate", "on", f">{PASSWORD}", "~tidegate:*", *ACL.split())
        url = server.url.replace("redis://", f"redis://gate:{PASSWORD}@")

        async def work(store):
            job = (await store.accept(ORDER)).job
            assert not (await store.accept(ORDER)).new
            await store.accept(Order("ann", b"{}"))
            (first, second) = (await store.claim(2, idle=True)).begun
            await store.beat({first.lease: Report(Reached(1, 2), [Told("progress", b"{}")])})
            await store.release(second.lease)
            await store.finish(first.lease, b"done")
            (again,) = (await store.claim(2, idle=True)).begun
            await store.cancel(again.job.id)
            assert await store.events(job.id, 0)
            await store.counts()
            return await store.get(job.id)

        assert run(url, work).result == b"done"
        assert [entry for entry in server.ask("ACL", "LOG") if b"gate" in entry] == []


def test_a_redis_that_is_not_there_is_said_to_be_away():
    async def work(store):
        for call in (store.accept(ORDER), store.get("x"), store.claim(1, idle=True), store.counts()):
            with pytest.raises(JobsUnavailable) as refused:
                await call
            assert "127.0.0.1" not in str(refused.value)

    run("redis://127.0.0.1:1", work)
