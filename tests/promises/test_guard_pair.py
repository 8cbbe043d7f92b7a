"""Two gateways on one Redis: what they see of a canary is pooled, one acts, and the other one takes over from it."""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack
from typing import Any

import httpx
import tiny
from http_rig import gateway_process, metrics, picture, wait_until
from redis_rig import redis_server

PICTURES = [picture(200, 20, 20), picture(20, 200, 20), picture(20, 20, 200)]
PNG = {"content-type": "image/png"}


def test_two_gateways_pool_what_they_see_and_one_acts_also_when_it_was_the_other(tmp_path):
    """Each alone sees too little in time; the one that leads is killed, and the other one has the evidence already."""
    tiny.add_classifier(tmp_path / "models")
    tiny.add_classifier(tmp_path / "models", number=2, bias=-90.0)  # never red
    quick = {"TIDEGATE_GUARD": "act", "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        one, other = (
            stack.enter_context(
                gateway_process(tmp_path / "models", tmp_path / name / "state", TIDEGATE_REDIS=redis.url, **quick)
            )
            for name in ("one", "other")
            if (tmp_path / name).mkdir() is None
        )
        gateways = [one, other]

        def leaders() -> list[Any]:
            named = {
                gateway: {sample.name: sample.value for sample in metrics(gateway.admin_url)} for gateway in gateways
            }
            return [gateway for gateway, values in named.items() if values["tidegate_guard_leading"] == 1]

        order = {"version": 2, "percent": 50, "force": True}
        answer = httpx.post(f"{one.admin_url}/admin/models/colours/canary", json=order, timeout=60)
        assert answer.status_code == 200, answer.text
        wait_until(lambda: len(leaders()) == 1, "one leads")
        [leader] = leaders()
        [survivor] = [gateway for gateway in gateways if gateway is not leader]
        with httpx.Client(timeout=10) as client:
            wait_until(lambda: trial_at(survivor), "it is watched")
            time.sleep(2.5)  # both have said so
            for gateway in gateways:
                for _ in range(40):
                    client.post(f"{gateway.url}/v1/classify", content=PICTURES[1], headers=PNG)
            wait_until(lambda: trial_at(survivor)["requests"] >= 25, "the other's requests are counted as well")
            leader.signal(signal.SIGKILL)
            gateways.remove(leader)
            began_s = time.monotonic()
            while history(survivor)[-1]["action"] != "rollback":
                assert time.monotonic() < began_s + 40
                client.post(
                    f"{survivor.url}/v1/classify",
                    content=random.choice(PICTURES),
                    headers={"content-type": "image/png"},
                )
        assert history(survivor)[-1]["who"] == "guard"
        assert history(survivor)[-1]["why"].startswith("disagreement: ")


def trial_at(gateway: Any) -> dict[str, Any] | None:
    trial: dict[str, Any] | None = httpx.get(f"{gateway.admin_url}/admin/models/colours/guard").json()["trial"]
    return trial


def history(gateway: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{gateway.admin_url}/admin/models/colours/history").json()
    return found
