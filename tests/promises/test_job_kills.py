"""Gateways killed over and over while they run jobs: what was acknowledged comes to one end, and a job that kills is
set aside while the others go on. On each store.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import job_poison
import pytest
import tiny
from bars import at_most, measured
from forked import Forked, forker
from job_rig import ASYNC, ended_now, events_now, order
from redis_rig import redis_server

from serving.gateway.errors import IMAGES_PATH
from serving.job_store import POISONED, TRIES

KILLS = 50
LEASE_S = 1.0
OUTSTANDING = 10
FAST = {"TIDEGATE_JOB_LEASE_S": "0.5"}


@pytest.fixture(params=["local", "redis"])
def store(request, tmp_path) -> Iterator[dict[str, str]]:
    """The environment of gateways that keep their jobs there."""
    if request.param == "local":
        yield {}
        return
    with redis_server(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield {"TIDEGATE_REDIS": server.url}


@pytest.fixture
def repository(tmp_path):
    tiny.add_diffusion(tmp_path / "repository")


@dataclass
class Book:
    """What a caller knows: jobs by their keys, None while it waits for an answer, and the ends that it has seen."""

    jobs: dict[str, str | None] = field(default_factory=dict)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def acknowledged(self) -> list[str]:
        return [ident for ident in self.jobs.values() if ident is not None]

    def see(self, job: dict[str, Any]) -> None:
        if job["ended"] is not None:
            assert self.ends.setdefault(job["id"], job) == job, "an end never changes"


class Caller(threading.Thread):
    """Orders jobs, again where no answer came, and looks what became of them, until there is no gateway any more."""

    def __init__(self, url: str, book: Book, chance: random.Random) -> None:
        super().__init__()
        self._url, self._book, self._chance = url, book, chance

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client, suppress(httpx.HTTPError):
            while True:
                for ident in [one for one in self._book.acknowledged if one not in self._book.ends]:
                    answer = client.get(f"/v1/jobs/{ident}")
                    assert answer.status_code == 200, "it was acknowledged, so it is known"
                    self._book.see(answer.json())
                for key in [key for key, ident in self._book.jobs.items() if ident is None]:
                    self._order(client, key)
                if len(self._book.jobs) - len(self._book.ends) < OUTSTANDING:
                    key = f"k{len(self._book.jobs)}"
                    self._book.jobs[key] = None
                    self._order(client, key)
                time.sleep(0.01)

    def _order(self, client: httpx.Client, key: str) -> None:
        steps = random.Random(key).randrange(20, 150)
        answer = client.post(IMAGES_PATH, json=order(steps=steps), headers={**ASYNC, "idempotency-key": key})
        if answer.status_code == 202:
            self._book.jobs[key] = answer.json()["id"]


def test_what_was_acknowledged_comes_to_one_end_whenever_gateways_die(tmp_path, repository, store):
    chance, book = random.Random(7), Book()
    began_s = time.monotonic()
    with forker(tmp_path, **FAST, **store) as gateways:
        for _ in range(KILLS):
            gateway = gateways.start()
            caller = Caller(gateway.url, book, chance)
            caller.start()
            time.sleep(chance.uniform(0.05, 0.9))
            assert gateway.alive
            gateway.kill()
            caller.join(30)
        gateway = gateways.start()
        with httpx.Client(base_url=gateway.url, timeout=10) as client:
            for ident in book.acknowledged:
                book.see(ended_now(client, ident, 60))
            for key, ident in book.jobs.items():
                if ident is not None:
                    check_its_end(client, key, book.ends[ident])
    ends = Counter((job["status"], (job["error"] or {}).get("code")) for job in book.ends.values())
    attempts = Counter(job["attempts"] for job in book.ends.values())
    print(
        f"\n{KILLS} kills, {len(book.acknowledged)} jobs acknowledged, ends {dict(ends)}, attempts "
        f"{dict(sorted(attempts.items()))}, {time.monotonic() - began_s:.0f} s"
    )
    assert set(ends) <= {("succeeded", None), ("failed", POISONED)}
    assert len(book.ends) == len(set(book.acknowledged)) == len(book.acknowledged)
    assert attempts[2] > 5, "the kills met jobs that ran"
    assert ends["succeeded", None] > 0.7 * len(book.ends)


def check_its_end(client: httpx.Client, key: str, job: dict[str, Any]) -> None:
    """There is one, with one result at most, and whoever asks with its key gets it."""
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        kinds = Counter(event.kind for event in events_now(answer))
    assert kinds["done"] == 1
    assert 1 <= kinds["started"] <= TRIES
    assert (job["result"] is not None) == (job["status"] == "succeeded")
    steps = random.Random(key).randrange(20, 150)
    again = client.post(IMAGES_PATH, json=order(steps=steps), headers={**ASYNC, "idempotency-key": key})
    assert (again.status_code, again.json()) == (202, job)


@measured
def test_a_job_of_a_gateway_that_died_is_anothers_within_two_leases(tmp_path, repository, store):
    took_s = []
    with forker(tmp_path, TIDEGATE_JOB_LEASE_S=str(LEASE_S), **store) as gateways:
        for _ in range(3):
            dying = gateways.start()
            with httpx.Client(base_url=dying.url, timeout=10) as client:
                ident = client.post(IMAGES_PATH, json=order(steps=1000, n=10), headers=ASYNC).json()["id"]
                wait_for_step(client, ident)
                heir = gateways.start()
                dying.kill()
            died_s = time.monotonic()
            with httpx.Client(base_url=heir.url, timeout=10) as client:
                while client.get(f"/v1/jobs/{ident}").json()["attempts"] < 2:
                    assert time.monotonic() < died_s + 20
                    time.sleep(0.01)
                took_s.append(time.monotonic() - died_s)
                assert client.delete(f"/v1/jobs/{ident}").json()["status"] == "cancelled"
            heir.kill()
    print(f"\nbegun anew after {', '.join(f'{one:.2f}' for one in took_s)} s, of leases of {LEASE_S} s")
    at_most(2 * LEASE_S, max(took_s))


def wait_for_step(client: httpx.Client, ident: str) -> None:
    for _ in range(1000):
        if client.get(f"/v1/jobs/{ident}").json()["progress"]:
            return
        time.sleep(0.01)
    raise AssertionError("it never runs")


def test_a_job_that_kills_its_gateway_is_set_aside_and_the_others_go_on(tmp_path, repository, store):
    others, deaths = 8, 0
    with forker(tmp_path, "job_poison:engine", **FAST, **store) as gateways:
        gateway = gateways.start()
        with httpx.Client(base_url=gateway.url, timeout=10) as client:
            bodies = [order(steps=10, seed=seed) for seed in range(others)]
            bodies.insert(2, order(steps=10, prompt=f"a {job_poison.POISON} disc"))
            idents, lost = order_all(client, bodies)
        for number in count():
            assert number < 10, "it kills without an end"
            ends, gone = watch(gateway, idents)
            if not gone:
                break
            deaths += 1
            gateway = gateways.start()
            with httpx.Client(base_url=gateway.url, timeout=10) as client:
                more, lost = order_all(client, lost)
                idents += more
    statuses = Counter(job["status"] for job in ends)
    (poison,) = [job for job in ends if job["status"] == "failed"]
    print(f"\n{deaths} deaths, then {dict(statuses)}")
    assert deaths == TRIES
    assert statuses == {"succeeded": others, "failed": 1}
    assert (poison["error"]["code"], poison["attempts"]) == (POISONED, TRIES)
    assert max(job["attempts"] for job in ends if job is not poison) <= 2, "what ran beside it is not taken down again"


def order_all(client: httpx.Client, bodies: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The jobs of what was acknowledged, and what the gateway died over."""
    idents: list[str] = []
    for place, body in enumerate(bodies):
        try:
            idents.append(client.post(IMAGES_PATH, json=body, headers=ASYNC).json()["id"])
        except httpx.HTTPError:
            return idents, bodies[place:]
    return idents, []


def watch(gateway: Forked, idents: list[str]) -> tuple[list[dict[str, Any]], bool]:
    """All jobs at their ends, or whether the gateway died before."""
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        try:
            return [ended_now(client, ident) for ident in idents], False
        except httpx.HTTPError:
            gateway.wait()
            return [], True


def test_a_hundred_who_ask_at_once_with_one_key_make_one_job(tmp_path, repository, store):
    with forker(tmp_path, **store) as gateways:
        urls = [gateways.start().url for _ in range(2)]

        def ask(number: int) -> httpx.Response:
            headers = {**ASYNC, "idempotency-key": "once"}
            return httpx.post(f"{urls[number % 2]}{IMAGES_PATH}", json=order(), headers=headers, timeout=30)

        with ThreadPoolExecutor(100) as threads:
            answers = list(threads.map(ask, range(100)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        made = [httpx.get(f"{gateway.admin_url}/metrics").text for gateway in gateways.started]
        counts = [float(line.split()[1]) for text in made for line in text.splitlines() if is_count(line)]
        assert sum(counts) == 1


def is_count(line: str) -> bool:
    return line.startswith("tidegate_jobs_accepted_total ")
