"""Versions change under load, and nobody notices: no request fails, none is answered by the wrong or a mixed version.

V1, V2, G2 of the promises: 100 switches at 200 requests a second, rollbacks timed at two gateways, and memory.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnxruntime as ort
import psutil
import pytest
import tiny
import uvloop
from http_rig import Process, gateway_process, picture, request_bytes, wait_until
from open_loop import Outcome, Reply, open_loop
from redis_rig import redis_server

SWITCHES = 100
RATE = 200.0
ROUNDS = 5
PAUSE_S = 1.0  # from one to the next: 100 of them take as long as 20,000 requests
LABELS = {1: ("red", "green", "blue"), 2: ("rouge", "vert", "bleu"), 3: ("rosso", "verde", "blu")}
PICTURE = picture(120, 60, 30)
REQUEST = request_bytes("/v1/classify?top_k=3", PICTURE)


def publish(repository: Path, versions: int) -> None:
    """Versions of `colours` that differ in their outputs and in their labels."""
    for number in range(1, versions + 1):
        folder = tiny.add_classifier(repository, number=number, bias=0.5 * number)
        (folder / "labels.txt").write_text("\n".join(LABELS[number]) + "\n")
        tiny.write_classifier_manifest(folder)


def answers(repository: Path) -> dict[int, dict[str, float]]:
    """What each version says to the picture: label -> score, by ONNX Runtime alone."""
    pixels = np.broadcast_to(np.array([120, 60, 30], np.uint8), (1, 8, 8, 3))
    found = {}
    for folder in (repository / "colours").iterdir():
        if folder.is_dir():
            session = ort.InferenceSession(folder / "model.onnx")
            number = int(folder.name)
            found[number] = dict(zip(LABELS[number], session.run(None, {"pixels": pixels})[0][0].tolist(), strict=True))
    return found


@pytest.fixture(params=["file", "redis"])
def ledger(request, tmp_path) -> Iterator[dict[str, str]]:
    """The environment of gateways that share this ledger."""
    if request.param == "file":
        yield {}
        return
    with redis_server(tmp_path / "redis") as server:
        yield {"TIDEGATE_REDIS": server.url}


def admin_of(gateway: Process) -> httpx.Client:
    return httpx.Client(base_url=gateway.admin_url, timeout=60)


def give(client: httpx.Client, verb: str, **body: object) -> dict[str, object]:
    answer = client.post(f"/admin/models/colours/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def address(gateway: Process) -> tuple[str, int]:
    parts = urlsplit(gateway.url)
    return parts.hostname, parts.port


def judge_of(expected: dict[int, dict[str, float]]):
    """Says what is wrong with a reply: headers, version, labels and scores must all be of one version."""

    def judge(reply: Reply) -> str | None:
        if reply.status != 200:
            return f"{reply.status}: {reply.body[:200]!r}"
        body = json.loads(reply.body)
        if reply.headers["tidegate-version"] != str(body["version"]):
            return f"the header says {reply.headers['tidegate-version']}, the body {body['version']}"
        wanted = expected[body["version"]]
        found = {one["label"]: one["score"] for one in body["predictions"]}
        if found.keys() != wanted.keys() or any(abs(found[name] - wanted[name]) > 1e-5 for name in wanted):
            return f"version {body['version']} gave {found}, expected {wanted}"
        return None

    return judge


class Switcher(threading.Thread):
    """Promotes version 2 and rolls back, in turn. Its client is made once: that alone would hold up the load."""

    def __init__(self, admin: httpx.Client, switches: int) -> None:
        super().__init__()
        self._admin = admin
        self._switches = switches
        self.seconds: list[float] = []

    def run(self) -> None:
        for i in range(self._switches):
            started_s = time.monotonic()
            if i % 2:
                give(self._admin, "rollback")
            else:
                give(self._admin, "promote", version=2)
            self.seconds.append(time.monotonic() - started_s)
            time.sleep(max(0.0, PAUSE_S - self.seconds[-1]))


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
    assert [one.wrong for one in calm + busy] == [[]] * 2 * ROUNDS
    assert {status for one in calm + busy for status in one.seconds} == {200}
    assert answered >= 0.95 * RATE * SWITCHES * PAUSE_S
    assert during <= 1.5 * before + 0.002  # two cores share all of this


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
    assert ordered[98] <= 0.1


def version_at(client: httpx.Client) -> int:
    return client.post("/v1/classify", content=PICTURE, headers={"content-type": "image/png"}).json()["version"]


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
