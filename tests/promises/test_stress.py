"""V5: 32 threads, 200 orders each: switch, load, unload. Nothing hangs, and the last one accepted stands."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import httpx
import pytest
import tiny
from http_rig import gateway_process, picture, wait_until
from redis_rig import redis_server

THREADS = 32
ORDERS = 200
KINDS = (
    ("promote", {"version": 2}),
    ("promote", {"version": 3}),
    ("promote", {}),
    ("canary", {"version": 2, "percent": 50}),
    ("shadow", {"version": 3}),
    ("rollback", {}),
    ("rollback", {"to": 1}),
    ("unload", {}),
    ("load", {}),
    ("load", {}),  # twice: a model that is out of service refuses most of the others
)


@pytest.mark.parametrize("ledger", ["file", "redis"])
def test_orders_from_all_sides_end_in_the_last_one_accepted(tmp_path, ledger):
    repository = tmp_path / "repository"
    for number in (1, 2, 3):
        tiny.add_classifier(repository, number=number, bias=float(number))
    with redis_server(tmp_path / "redis") as server:
        shared = {"TIDEGATE_REDIS": server.url} if ledger == "redis" else {}
        with gateway_process(repository, tmp_path / "state", **shared) as gateway:
            base = f"{gateway.admin_url}/admin/models/colours"
            for version in (2, 3):
                httpx.post(f"{base}/check", json={"version": version}, timeout=60)
            started_s = time.monotonic()
            statuses, accepted = storm(base)
            seconds = time.monotonic() - started_s
            wait_until(lambda: settled(gateway.admin_url), "nothing is wanted any more")
            history = httpx.get(f"{base}/history").json()
            state = httpx.get(f"{gateway.admin_url}/admin/models").json()["models"][0]
            answer = httpx.post(f"{gateway.url}/v1/classify?label=stable", content=picture(),
                                headers={"content-type": "image/png"})  # fmt: skip
            text = gateway.log.read_text()
    print(f"\n{ledger}: {sum(statuses.values()):,} orders in {seconds:.0f} s: {dict(statuses)}; done: {dict(accepted)}")
    assert sum(statuses.values()) == THREADS * ORDERS
    assert set(statuses) == {200, 409}
    last = history[-1]
    live = {"canary": (state["canary"] or {}).get("version"), "shadow": (state["shadow"] or {}).get("version")}
    assert state["unloaded"] == (last["action"] == "unload")
    assert live.get(last["action"], None if state["unloaded"] else state["stable"]) == last["to"]
    if state["unloaded"]:
        assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
    else:
        assert answer.json()["version"] == state["stable"]
    assert {"promote", "rollback", "unload", "load"} <= set(accepted)
    assert "Traceback" not in text


def storm(base: str) -> tuple[Counter[int], Counter[str]]:
    """Statuses of all orders, and what was done."""
    statuses: Counter[int] = Counter()
    accepted: Counter[str] = Counter()
    lock = threading.Lock()

    def give_orders(seed: int) -> None:
        dice = random.Random(seed)
        with httpx.Client(base_url=base, timeout=60) as client:
            for _ in range(ORDERS):
                verb, body = dice.choice(KINDS)
                status = client.post(f"/{verb}", json=body).status_code
                with lock:
                    statuses[status] += 1
                    accepted[verb] += status == 200

    threads = [threading.Thread(target=give_orders, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(500)
        assert not thread.is_alive(), "an order hangs"
    return statuses, +accepted


def settled(admin_url: str) -> bool:
    """Whether the versions that are ready are those that are wanted."""
    state = httpx.get(f"{admin_url}/admin/models").json()["models"][0]
    wanted = {state["stable"], state["previous"], (state["canary"] or {}).get("version"),
              (state["shadow"] or {}).get("version")} - {None}  # fmt: skip
    wanted = set() if state["unloaded"] else wanted
    lines = httpx.get(f"{admin_url}/metrics").text.splitlines()
    ready = {
        int(line.split('version="')[1].split('"')[0]) for line in lines if line.startswith("tidegate_model_ready{")
    }
    return ready == wanted
