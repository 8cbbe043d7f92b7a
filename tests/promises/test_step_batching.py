"""Eight pictures at once are drawn no slower than eight in a row, on this machine's processor by a real network.

Where a batch costs what a row does they are drawn more than five times faster: tests/integration/test_generation.py.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import unet_rig
from http_rig import gateway_process

from serving.gateway.errors import IMAGES_PATH

CALLERS = 8
ROUNDS = 5


@pytest.mark.parametrize("guidance", [4, 1], ids=["two rows a step", "a row a step"])
@pytest.mark.parametrize("instances", [1, os.cpu_count() or 1], ids=["a run at a time", "a run on each core"])
def test_eight_at_once_are_drawn_no_slower_than_eight_in_a_row(tmp_path, guidance, instances):
    """The median of several rounds, each of which has both: the machine's speed drifts."""
    unet_rig.add_unet(tmp_path / "repository", side=32, instances=instances, steps=15)
    with gateway_process(tmp_path / "repository", tmp_path / "state") as gateway:

        def ask(seed: int) -> str:
            order = {"prompt": "a red disc", "seed": seed, "guidance": guidance}
            answer = httpx.post(f"{gateway.url}{IMAGES_PATH}", json=order, timeout=60)
            return answer.json()["data"][0]["b64_json"]

        ask(0)
        ratios = []
        with ThreadPoolExecutor(CALLERS) as callers:
            for _ in range(ROUNDS):
                begun_s = time.monotonic()
                alone = [ask(seed) for seed in range(CALLERS)]
                in_a_row_s = time.monotonic() - begun_s
                begun_s = time.monotonic()
                assert list(callers.map(ask, range(CALLERS))) == alone
                ratios.append(in_a_row_s / (time.monotonic() - begun_s))
    print(f"{instances} runs at a time, guidance {guidance}: {[round(ratio, 2) for ratio in ratios]}")
    assert statistics.median(ratios) >= 1.0
