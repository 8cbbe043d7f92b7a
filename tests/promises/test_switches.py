"""Versions change under load, and nobody notices: no request fails, none is answered by the wrong or a mixed version.

V1, V2, G2 of the promises: 100 switches at 200 requests a second, rollbacks timed at two gateways, and memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import psutil
import pytest
import tiny
import uvloop
from bars import asked_in_time, at_least, at_most, measured
from http_rig import Process, gateway_process, wait_until
from open_loop import Outcome, open_loop
from redis_rig import redis_server
from switching import PAUSE_S, REQUEST, Switcher, address, admin_of, answers, give, judge_of, publish, version_at

SWITCHES = 100
RATE = 200.0
ROUNDS = 5


@pytest.fixture(params=["file", "redis"])
def ledger(request, tmp_path) -> Iterator[dict[str, str]]:
    """The environment of gateways that share this ledger."""
    if request.param == "file":
        yield {}
        return
    with redis_server(tmp_path / "redis") as server:
        yield {"TIDEGATE_REDIS": server.url}


@measured
def test_a_hundred_switches_under_load_lose_nothing_and_mix_nothing(tmp_path, ledger):
    """Rounds of calm and of switches, so that what else goes on at this machine meets both."""
    repository = tmp_path / "repository"
    publish(repository, 2)
    judge = judge_of(answers(repository))
    calm, busy, seconds = [], [], []
    with gateway_process(repository, tmp_path / "state", **ledger) as gateway, admin_of(gateway) as admin:
        give(admin, "check", version=2)  # the child that vets is measured by itself, not as part of a switch

        def load(duration_s: float) -> Outcome:
            seed = len(calm) + len(busy)
            return uvloop.run(
                open_loop(*address(gateway), REQUEST, rate=RATE, seconds=duration_s, seed=seed, judge=judge)
            )

        for _ in range(ROUNDS):
            calm.append(load(8))
            switcher = Switcher(admin, SWITCHES // ROUNDS)
            switcher.start()
            busy.append(load(SWITCHES // ROUNDS * PAUSE_S))
            switcher.join(60)
            seconds += switcher.seconds
    before, during = (statistics.median(one.percentile(200, 0.99) for one in outcomes) for outcomes in (calm, busy))
    answered = sum(one.count(200) for one in busy)
    print(
        f"\n{len(seconds)} switches, {answered:,} answers meanwhile, {sum(len(one.wrong) for one in busy)} were wrong; "
        f"p99 {before * 1e3:.1f} -> {during * 1e3:.1f} ms ({during / before:.2f} times); "
        f"a switch: {statistics.median(seconds) * 1e3:.0f} ms, at most {max(seconds) * 1e3:.0f}"
    )
    assert len(seconds) == SWITCHES, "one was refused"
    asked_in_time(*calm, *busy)
    assert [one.wrong for one in calm + busy] == [[]] * 2 * ROUNDS
    assert {status for one in calm + busy for status in one.seconds} == {200}
    at_least(0.95 * RATE * SWITCHES * PAUSE_S, answered)
    at_most(1.5 * before + 0.002, during, "p99")  # two cores share all of this


@measured
def test_a_rollback_reaches_both_of_two_gateways_within_a_tenth_of_a_second(tmp_path, ledger):
    repository = tmp_path / "repository"
    publish(repository, 2)
    with ExitStack() as stack:
        state = tmp_path / "state"
        states = [tmp_path / "one" / "state", tmp_path / "two" / "state"] if ledger else [state, state]
        for folder in states:
            folder.parent.mkdir(exist_ok=True)
        gateways = [stack.enter_context(gateway_process(repository, folder, **ledger)) for folder in states]
        clients = [stack.enter_context(httpx.Client(base_url=gateway.url)) for gateway in gateways]
        admins = [stack.enter_context(admin_of(gateway)) for gateway in gateways]
        seconds = []
        for i in range(100):
            give(admins[i % 2], "promote", version=2)
            assert {version_at(client) for client in clients} == {2}
            started_s = time.monotonic()
            outcome = give(admins[i % 2], "rollback")
            assert {version_at(client) for client in clients} == {1}
            seconds.append(time.monotonic() - started_s)
            assert outcome["late"] == []
            assert outcome["gateways"] == 2
            assert not outcome["cold"]
    ordered = sorted(seconds)
    print(f"\nrollback, call to last gateway: p50 {ordered[50] * 1e3:.1f}, p99 {ordered[98] * 1e3:.1f}, "
          f"slowest {ordered[-1] * 1e3:.1f} ms")  # fmt: skip
    at_most(0.1, ordered[98])


WEIGHTS = 8 * 2**20  # floats: 32 MiB, of which a hundred cannot hide


def test_memory_after_a_hundred_switches_has_not_grown_by_a_model(tmp_path):
    repository = tmp_path / "repository"
    for number in (1, 2):
        tiny.add_classifier(repository, number=number, bias=float(number), ballast=WEIGHTS)
    with gateway_process(repository, tmp_path / "state") as gateway, admin_of(gateway) as admin:
        process = psutil.Process(gateway.popen.pid)

        def switch() -> int:
            give(admin, "promote", version=2)
            give(admin, "rollback")
            wait_until(lambda: ready_versions(gateway) == {"1"}, "version 2 is let go")
            return process.memory_info().rss

        for _ in range(3):  # allocators take what they will keep
            before = switch()
        for _ in range(SWITCHES // 2):
            after = switch()
    size = WEIGHTS * 4
    print(f"\n{SWITCHES} switches of a model of {size >> 20} MiB: {before >> 20} -> {after >> 20} MiB")
    assert after - before < size


def ready_versions(gateway: Process) -> set[str]:
    lines = httpx.get(f"{gateway.admin_url}/metrics").text.splitlines()
    return {line.split('version="')[1].split('"')[0] for line in lines if line.startswith("tidegate_model_ready{")}
