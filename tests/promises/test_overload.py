"""Under more load than it can serve, the gateway goes on serving what it can, and refuses the rest at once."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import tiny
import uvloop
from bars import at_least, at_most, measured
from open_loop import Outcome, closed_loop, open_loop

QUEUE_ROWS = 16
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}).encode()
REQUEST = (
    b"POST /v2/models/double/infer HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Host, port and admin URL of a gateway whose capacity is a little under 400 requests a second."""
    folder = tmp_path_factory.mktemp("overload")
    parameters = {"max_queue_rows": {"string_value": str(QUEUE_ROWS)}}
    tiny.add_plain(folder / "repository", max_batch_size=1, parameters=parameters)
    script = Path(__file__).with_name("slow_gateway.py")
    command = [sys.executable, script, folder / "repository", folder / "state"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        host, port, admin = re.search(r"on http://([^:]+):(\d+) \(admin ([^,]+),", line).groups()
        yield host, int(port), admin
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def unloaded(gateway) -> Outcome:
    """Half the load that it can take."""
    return uvloop.run(open_loop(*gateway[:2], REQUEST, rate=150, seconds=5))


@pytest.fixture(scope="module")
def peak(gateway) -> float:
    """Answers a second when callers wait for theirs: the most it can do."""
    return uvloop.run(closed_loop(*gateway[:2], REQUEST, callers=8, seconds=5)).rate(200)


@measured
@pytest.mark.parametrize("factor", [2, 5, 10])
def test_goodput_stays_and_the_rest_is_refused_at_once(gateway, unloaded, peak, factor):
    host, port, admin = gateway

    async def main() -> tuple[Outcome, list[float]]:
        load = asyncio.create_task(open_loop(host, port, REQUEST, rate=factor * peak, seconds=8, seed=factor))
        probes = []
        while not load.done():
            started_s = time.monotonic()
            assert await asyncio.to_thread(lambda: urlopen(f"{admin}/readyz", timeout=5).status) == 200  # noqa: S310  (our own)
            probes.append(time.monotonic() - started_s)
            await asyncio.sleep(0.2)
        return await load, sorted(probes)

    outcome, probes = uvloop.run(main())
    queue_s = QUEUE_ROWS / peak
    print(
        f"\n{factor}x: peak {peak:.0f}/s, goodput {outcome.rate(200) / peak:.1%} of it; accepted p99 "
        f"{outcome.percentile(200, 0.99) * 1e3:.0f} ms (unloaded {unloaded.percentile(200, 0.99) * 1e3:.0f}, queue "
        f"{queue_s * 1e3:.0f}); refused p50 {outcome.percentile(503, 0.5) * 1e3:.1f}, p99 "
        f"{outcome.percentile(503, 0.99) * 1e3:.1f} ms; slowest probe {probes[-1] * 1e3:.0f} ms"
    )
    assert set(outcome.seconds) == {200, 503}, "nothing but answers and refusals"
    assert outcome.retry_after <= set("12345")
    assert len(outcome.retry_after) > 1, "spread, so that the refused do not come back together"
    at_least(0.85 * peak, outcome.rate(200), "goodput")
    at_most(3 * unloaded.percentile(200, 0.99) + queue_s + 0.05, outcome.percentile(200, 0.99), "p99 of the accepted")
    at_most(0.1, outcome.percentile(503, 0.99), "p99 of the refused")
    at_most(0.1, probes[-1], "probes are never shed and never starved")


@measured
def test_after_the_load_it_is_as_quick_as_before(gateway, unloaded, peak):
    host, port, _ = gateway
    uvloop.run(open_loop(host, port, REQUEST, rate=5 * peak, seconds=3))
    time.sleep(1)  # what is promised is to have recovered within five
    after = uvloop.run(open_loop(host, port, REQUEST, rate=150, seconds=5, seed=1))
    assert set(after.seconds) == {200}
    at_most(1.2 * unloaded.percentile(200, 0.5), after.percentile(200, 0.5), "p50")
    at_most(2 * unloaded.percentile(200, 0.99) + 0.005, after.percentile(200, 0.99), "p99")
