"""Q1 to Q3: while Redis is away callers notice nothing, and when it is back the gateways agree within two seconds."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import httpx
import pytest
import tiny
from bars import at_most, measured
from fault_proxy import fault_proxy
from http_rig import Process, gateway_process, metrics, picture
from redis_faults import EVERY
from redis_rig import redis_server, until

from serving.ledger import Document, LedgerOptions, Pointers
from serving.ledgers.redis import RedisLedger

DOWN_S = 3.0
BACK_S = 2.0
ADDED_S = 0.05  # p99


class Caller(threading.Thread):
    """Asks one gateway again and again: seconds and status of each answer, and the version that it came from."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, int, int]] = []
        self.version = 0
        self._url = url
        self._ended = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=15) as client:
            while not self._ended.wait(0.01):
                started_s = time.monotonic()
                try:
                    answer = client.post("/v1/classify", content=picture(), headers={"content-type": "image/png"})
                    status, version = answer.status_code, answer.json().get("version", 0)
                except httpx.HTTPError:
                    status, version = 0, 0
                self.answers.append((time.monotonic() - started_s, status, version))
                self.version = version

    def take(self) -> list[tuple[float, int, int]]:
        taken, self.answers = self.answers, []
        return taken

    def end(self) -> None:
        self._ended.set()
        self.join()


def p99(answers: list[tuple[float, int, int]]) -> float:
    return sorted(seconds for seconds, _, _ in answers)[int(len(answers) * 0.99)]


def make_live(tmp_path, server, version: int) -> None:
    """By a third hand, whom no fault meets."""
    pointers = Pointers(stable=version, stack=(3 - version,))

    async def change() -> None:
        ledger = RedisLedger(LedgerOptions(tmp_path / "hand", server.url))
        await ledger.change(lambda found: Document.model_copy(found, update={"models": {"colours": pointers}}))
        await ledger.close()

    asyncio.run(change())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two gateways on one Redis, each with a way to it that can be spoilt, and a caller of each."""
    folder = tmp_path_factory.mktemp("pair")
    for number in (1, 2):
        tiny.add_classifier(folder / "repository", number=number, bias=float(number))
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(folder / "redis"))
        proxies = [stack.enter_context(fault_proxy(server.port)) for _ in range(2)]
        gateways = []
        for i, proxy in enumerate(proxies):
            (folder / str(i)).mkdir()
            url = f"redis://127.0.0.1:{proxy.port}"
            state = folder / str(i) / "state"
            gateways.append(stack.enter_context(gateway_process(folder / "repository", state, TIDEGATE_REDIS=url)))
        callers = [Caller(gateway.url) for gateway in gateways]
        for caller in callers:
            caller.start()
            stack.callback(caller.end)
        yield folder, server, proxies, gateways, callers


def agree(callers: list[Caller], version: int) -> bool:
    return all(caller.version == version for caller in callers)


def connected(gateway: Process) -> bool:
    return next(one.value for one in metrics(gateway.admin_url) if one.name == "tidegate_ledger_connected") == 1


@measured
@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.__name__)
def test_callers_notice_nothing_and_gateways_agree_again_within_two_seconds(pair, fault):
    folder, server, proxies, gateways, callers = pair
    make_live(folder, server, 1)
    until(lambda: agree(callers, 1), "both serve version 1")
    for caller in callers:
        caller.take()
    time.sleep(1.5)
    before_s = max(p99(caller.take()) for caller in callers)
    with ExitStack() as faults:
        faults.enter_context(fault(server, proxies[0]))
        if fault.__name__ in ("refused", "black_holed", "reset_each_time", "half_closed"):
            faults.enter_context(fault(server, proxies[1]))  # the others are of the server: both meet them
        until(lambda: not any(map(connected, gateways)), "both have noticed")  # proxies do as told a little later
        accepted = len(proxies[0].accepted_s)
        refusals = [
            httpx.post(f"{gateway.admin_url}/admin/models/colours/rollback", json={}, timeout=15).status_code
            for gateway in gateways
        ]
        time.sleep(DOWN_S)
        tried = len(proxies[0].accepted_s) - accepted
    back_s = time.monotonic()
    make_live(folder, server, 2)
    until(lambda: agree(callers, 2), "both serve version 2", BACK_S)
    back_s = time.monotonic() - back_s
    answers = [answer for caller in callers for answer in caller.take()]
    failed = [answer for answer in answers if answer[1] != 200]
    print(
        f"\n{fault.__name__}: {len(answers)} answers, {len(failed)} failed; p99 {before_s * 1e3:.1f} ms before, "
        f"{p99(answers) * 1e3:.1f} ms; agreed after {back_s * 1e3:.0f} ms; {tried} connections tried"
    )
    assert failed == []
    assert refusals == [503, 503]
    at_most(before_s + ADDED_S, p99(answers), "p99")
    at_most(2 * DOWN_S + 4, tried, "connections")


@measured
def test_a_change_reaches_both_gateways_at_once(pair):
    folder, server, _, _, callers = pair
    took_s = []
    for i in range(20):
        version = 1 + i % 2
        make_live(folder, server, version)
        started_s = time.monotonic()
        until(lambda version=version: agree(callers, version), "both follow", BACK_S)
        took_s.append(time.monotonic() - started_s)
    took_s.sort()
    print(f"\nboth follow a change after {took_s[10] * 1e3:.0f} ms, at most {took_s[-1] * 1e3:.0f} ms")
    at_most(0.1, took_s[10])


def test_gateways_that_start_while_redis_is_down_serve_what_they_knew(pair):
    folder, server, proxies, _, _ = pair
    make_live(folder, server, 2)
    time.sleep(1)  # for the copies
    proxies[0].refuse()
    copied = folder / "again"
    copied.mkdir()
    (folder / "0" / "state" / "ledger-copy.json").rename(copied / "ledger-copy.json")
    url = f"redis://127.0.0.1:{proxies[0].port}"
    try:
        with gateway_process(folder / "repository", copied, TIDEGATE_REDIS=url) as gateway:
            answer = httpx.post(
                f"{gateway.url}/v1/classify", content=picture(), headers={"content-type": "image/png"}, timeout=15
            )
            assert answer.json()["version"] == 2
            refused = httpx.post(f"{gateway.admin_url}/admin/models/colours/rollback", json={}, timeout=15)
            assert refused.status_code == 503
    finally:
        proxies[0].heal()
