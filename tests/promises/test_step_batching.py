"""Eight pictures at once are drawn no slower than eight in a row, on this machine's processor by a real network.

Where a batch costs what a row does they are drawn more than five times faster: tests/integration/test_generation.py.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import unet_rig
from bars import at_least, measured
from http_rig import gateway_process

from serving.gateway.errors import IMAGES_PATH

CALLERS = 8
ROUNDS = 5


@measured
@pytest.mark.parametrize("guidance", [4, 1], ids=["two rows a step", "a row a step"])
def test_eight_at_once_are_drawn_no_slower_than_eight_in_a_row(tmp_path, guidance):
    """The median of several rounds, each of which has both: the machine's speed drifts. A run goes on on each core."""
    unet_rig.add_unet(tmp_path / "repository", side=32, instances=os.cpu_count() or 1, steps=15)
    with (
        gateway_process(tmp_path / "repository", tmp_path / "state") as gateway,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        process = psutil.Process(gateway.popen.pid)

        def ask(seed: int) -> str:
            order = {"prompt": "a red disc", "seed": seed, "guidance": guidance}
            answer = httpx.post(f"{gateway.url}{IMAGES_PATH}", json=order, timeout=60)
            return answer.json()["data"][0]["b64_json"]

        def cost(ask_all) -> tuple[float, float, list[str]]:
            """Seconds, of them the gateway's on processors, and the pictures."""
            begun_s, used_s = time.monotonic(), sum(process.cpu_times()[:2])
            pictures = list(ask_all(ask, range(CALLERS)))
            return time.monotonic() - begun_s, sum(process.cpu_times()[:2]) - used_s, pictures

        def rounds() -> tuple[float, float]:
            """How many times as long in a row takes as at once, and how much more of processors: medians."""
            seconds, processor = [], []
            for _ in range(ROUNDS):
                in_a_row, at_once = cost(map), cost(callers.map)
                assert in_a_row[2] == at_once[2]
                seconds.append(in_a_row[0] / at_once[0])
                processor.append(in_a_row[1] / at_once[1])
            print("in a row / at once:", [round(one, 2) for one in seconds])
            print("on processors:", [round(one, 2) for one in processor])
            return statistics.median(seconds), statistics.median(processor)

        ask(0)
        quicker, cheaper = rounds()
    at_least(0.95, cheaper, "drawn together they are no more work")
    at_least(1.0, quicker)
