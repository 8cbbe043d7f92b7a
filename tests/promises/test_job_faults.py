"""While Redis is away jobs answer 503 soon, and pictures are drawn for those who wait. When it is back, every job that
was acknowledged goes on to its end, however often Redis was killed.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import tiny
from bars import at_most, measured
from fault_proxy import FaultProxy, fault_proxy
from forked import forker
from job_rig import ASYNC, ended_now, order
from redis_faults import EVERY
from redis_rig import Server, redis_server

from serving.gateway.errors import IMAGES_PATH

KILLS = 6
CALLERS = 6
DOWN_S = 1.0
BACK_S = 4.0
SOON_S = 3.0  # an answer
DRAWN_S = 2.0
AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
NUMBERS = itertools.count()


class Client:
    """Orders jobs, and remembers which were acknowledged."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.kept: list[str] = []
        self.took_s: list[float] = []

    def order(self, **fields: Any) -> httpx.Response:
        """Each with a key of its own: an answer that was lost must not leave a job that nobody knows."""
        began_s = time.monotonic()
        headers = {**ASYNC, "idempotency-key": str(next(NUMBERS))}
        answer = self.http.post(IMAGES_PATH, json=order(**fields), headers=headers)
        self.took_s.append(time.monotonic() - began_s)
        if answer.status_code == 202:
            self.kept.append(answer.json()["id"])
        return answer

    def wait(self) -> httpx.Response:
        return self.http.post(IMAGES_PATH, json=order())

    def check_all(self) -> Counter[str]:
        ends = [ended_now(self.http, ident, 60) for ident in self.kept]
        assert all(job["status"] == "succeeded" for job in ends), ends
        return Counter(str(job["attempts"]) for job in ends)


def is_away(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and answer.json()["error"]["code"] == "jobs_unavailable"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Iterator[tuple[Server, FaultProxy, str]]:
    """A gateway whose way to Redis can be spoilt."""
    folder = tmp_path_factory.mktemp("spoilt")
    tiny.add_diffusion(folder / "repository")
    with (
        redis_server(folder / "redis") as server,
        fault_proxy(server.port) as proxy,
        forker(folder, TIDEGATE_REDIS=f"redis://127.0.0.1:{proxy.port}", TIDEGATE_JOB_LEASE_S="2") as gateways,
    ):
        yield server, proxy, gateways.start().url


def test_redis_killed_over_and_over_loses_no_job(tmp_path):
    tiny.add_diffusion(tmp_path / "repository")
    chance = random.Random(5)
    with (
        redis_server(tmp_path / "redis", *AOF) as server,
        forker(tmp_path, TIDEGATE_REDIS=server.url, TIDEGATE_JOB_LEASE_S="2") as gateways,
        httpx.Client(base_url=gateways.start().url, timeout=15) as http,
    ):
        client, over = Client(http), threading.Event()

        def keep_ordering() -> None:
            while not over.is_set():
                answer = client.order(steps=chance.randrange(50, 500))
                assert answer.status_code == 202 or is_away(answer) or answer.status_code == 429, answer.text
                time.sleep(0.02)

        with ThreadPoolExecutor(CALLERS) as callers:
            ordering = [callers.submit(keep_ordering) for _ in range(CALLERS)]
            for _ in range(KILLS):
                time.sleep(chance.uniform(1.5, 4.0))  # it takes Redis a second to say that its disk has an order
                server.kill()  # while orders and steps are on their way
                time.sleep(0.2)
                server.start()
            over.set()
            for one in ordering:
                one.result()
        attempts = client.check_all()
    print(f"\n{KILLS} deaths of Redis, {len(client.kept)} jobs acknowledged, none lost; attempts {dict(attempts)}")
    assert len(client.kept) >= 2 * KILLS


def test_a_job_that_runs_while_redis_is_away_stays_where_it_is(tmp_path):
    """Its lease runs out meanwhile, and another gateway may be the first to be back."""
    tiny.add_diffusion(tmp_path / "repository")
    with (
        redis_server(tmp_path / "redis", *AOF) as server,
        forker(tmp_path, TIDEGATE_REDIS=server.url, TIDEGATE_JOB_LEASE_S="1") as gateways,
        httpx.Client(base_url=gateways.start().url, timeout=15) as http,
    ):
        client = Client(http)
        assert client.order(steps=1000, n=10).status_code == 202
        ident = client.kept[0]
        gateways.start()
        for _ in range(2):
            wait_for_step(http, ident)
            server.kill()
            time.sleep(2.5)
            server.start()
        job = ended_now(http, ident, 60)
    print(f"\nRedis away twice: {job['attempts']} attempt")
    assert (job["status"], job["attempts"]) == ("succeeded", 1)


def wait_for_step(http: httpx.Client, ident: str) -> None:
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        answer = http.get(f"/v1/jobs/{ident}")
        if answer.is_success and answer.json()["progress"]:
            return
        time.sleep(0.02)
    raise AssertionError("it never runs")


@measured
@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.__name__)
def test_jobs_are_refused_and_come_back_with_all_that_were_acknowledged(spoilt, fault):
    server, proxy, url = spoilt
    with httpx.Client(base_url=url, timeout=15) as http:
        client = Client(http)
        assert client.order(steps=1000).status_code == 202  # runs while it happens
        assert client.order().status_code == 202
        client.took_s.clear()
        with fault(server, proxy):
            until_s = time.monotonic() + DOWN_S
            ordered, drawn_s = [], []
            while time.monotonic() < until_s or not ordered:
                ordered.append(client.order())
                began_s = time.monotonic()
                assert client.wait().is_success, "who waits needs no store"
                drawn_s.append(time.monotonic() - began_s)
        began_s = time.monotonic()
        while not client.order().is_success:
            assert time.monotonic() < began_s + BACK_S, "never back"
            time.sleep(0.05)
        back_s = time.monotonic() - began_s
        attempts = client.check_all()
        print(
            f"\n{fault.__name__}: {len(ordered)} orders meanwhile, {max(client.took_s):.2f} s at most; back after "
            f"{back_s:.2f} s; attempts {dict(attempts)}"
        )
        assert all(is_away(one) or one.status_code == 202 for one in ordered), {one.text for one in ordered}
        assert is_away(ordered[-1])
        at_most(SOON_S, max(client.took_s), "an order")
        at_most(DRAWN_S, max(drawn_s), "a picture that is waited for")
