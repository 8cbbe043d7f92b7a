"""R9: a key at 20 times its rate lowers another one's goodput by no more than 5 %."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import uvloop
from bars import at_least, at_most, measured
from open_loop import Outcome, open_loop

from serving.keys import KeyFile

GREEDY_RATE = 20
MODEST_RATE = 150  # with the greedy one's 20, less than half of the 400 a second that there are
FACTOR = 20
SECONDS = 8
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}).encode()


def request(secret: str) -> bytes:
    return (
        b"POST /v2/models/double/infer HTTP/1.1\r\nhost: test\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (secret.encode(), len(BODY), BODY)
    )


@pytest.fixture
def gateway(tmp_path):
    """Host and port of a gateway of known capacity, and the requests of two keys."""
    file = KeyFile(tmp_path / "state" / "keys.json")
    greedy, _ = file.add("greedy", ["predict"], rate=GREEDY_RATE)
    modest, _ = file.add("modest", ["predict"])
    tiny.add_plain(tmp_path / "repository", max_batch_size=1, parameters={"max_queue_rows": {"string_value": "16"}})
    script = Path(__file__).with_name("slow_gateway.py")
    command = [sys.executable, script, tmp_path / "repository", tmp_path / "state"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        host, port = re.search(r"on http://([^:]+):(\d+)", process.stdout.readline()).groups()
        yield host, int(port), request(greedy), request(modest)
        process.terminate()
        assert process.wait(30) == 0


@measured
def test_a_key_at_20_times_its_rate_takes_nothing_from_another(gateway):
    host, port, greedy, modest = gateway

    async def both(factor: int) -> tuple[Outcome, Outcome]:
        loads = ((greedy, factor * GREEDY_RATE, factor), (modest, MODEST_RATE, 0))
        return await asyncio.gather(
            *(open_loop(host, port, each, rate=rate, seconds=SECONDS, seed=seed) for each, rate, seed in loads)
        )

    _, before = uvloop.run(both(1))
    over, after = uvloop.run(both(FACTOR))
    asked, answered = over.count(200) + over.count(429), over.count(200)
    print(
        f"\n{FACTOR}x: the other one's goodput {after.rate(200):.1f}/s, {before.rate(200):.1f} before; p99 "
        f"{after.percentile(200, 0.99) * 1e3:.0f} ms, {before.percentile(200, 0.99) * 1e3:.0f} before; of {asked} "
        f"requests of the greedy one {answered} answered, the others refused with p99 "
        f"{over.percentile(429, 0.99) * 1e3:.1f} ms"
    )
    assert set(over.seconds) == {200, 429}
    assert set(after.seconds) <= {200, 503}
    at_least(0.95 * before.rate(200), after.rate(200), "the other one's goodput")
    assert answered <= GREEDY_RATE * (SECONDS + 2), "its rate is what it gets"
    at_least(0.9 * GREEDY_RATE * SECONDS, answered, "its rate is what it gets")
    assert over.retry_after == set("12345"), "spread, so that the refused do not come back together"
    at_most(0.1, over.percentile(429, 0.99), "p99 of the refused")
