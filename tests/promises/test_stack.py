"""The topology of docker-compose.yml, natively: `make stack`, with real programs that are killed while callers call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from balancing import Balancer, Caller
from redis_rig import until
from switching import MODEL, PICTURE, answers, judge_of, publish
from tool_rig import ROOT, tool
from triton_rig import need_triton

CALLERS = 6
STARTED_S = 180.0
SCRAPED_S = 60.0
BACK_S = 40.0


@dataclass(frozen=True)
class Running:
    """A stack that was started as `make stack` starts it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def ports(self) -> Any:
        return json.loads((self.folder / "ports.json").read_text())

    def key(self, scope: str) -> str:
        return (self.folder / f"secrets/{scope}_key").read_text()

    def url(self, number: int, port: str = "public") -> str:
        return f"http://127.0.0.1:{self.ports['gateways'][number][port]}"

    def admin(self, number: int) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key('admin')}"}
        return httpx.Client(base_url=self.url(number, "admin"), headers=headers, timeout=60)

    def pid(self, name: str) -> int | None:
        return json.loads((self.folder / "pids.json").read_text())[name]

    def kill(self, name: str, number: int) -> Callable[[], bool]:
        """Sends the signal; gives what says whether the program is there again."""
        before = self.pid(name)
        assert before is not None
        os.kill(before, number)
        return lambda: self.pid(name) not in (None, before)

    def query(self, expression: str) -> list[Any]:
        """What Prometheus makes of it now."""
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query"
        return httpx.get(url, params={"query": expression}).json()["data"]["result"]


@contextmanager
def stack(repository: Path, folder: Path) -> Iterator[Running]:
    command = [sys.executable, "-m", "deploy.stack", "--free-ports", "--folder", folder, "--repository", repository]
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    running = Running(folder, process)

    def started() -> bool:
        assert process.poll() is None, log.read_text()
        return "Ctrl-C ends all" in log.read_text()

    try:
        until(started, "the stack is started", STARTED_S)
        yield running
    finally:
        if process.poll() is None:
            process.kill()  # its programs end with it


@pytest.fixture
def running(tmp_path):
    need_triton()
    tool("prometheus")
    repository = tmp_path / "repository"
    publish(repository, 2)
    with stack(repository, tmp_path / "stack") as started:
        yield started


def test_nothing_is_lost_while_parts_of_the_stack_are_changed_killed_and_drained(running, tmp_path):
    judge = judge_of(answers(tmp_path / "repository"))
    balancer = Balancer([running.url(number) for number in range(2)])
    callers = [
        Caller(balancer, f"/v1/classify?top_k=3&model={MODEL}", PICTURE, running.key("predict"), judge)
        for _ in range(CALLERS)
    ]
    balancer.start()
    until(lambda: len(balancer.ready) == 2, "both gateways are ready")
    for caller in callers:
        caller.start()
    figures: dict[str, float] = {}
    try:
        for phase in (calm, canary_and_rollback, scrape, triton_killed, redis_killed, gateway_drained):
            Caller.phase = phase.__name__
            figures[phase.__name__] = phase(running, balancer)
            time.sleep(1)
    finally:
        Caller.phase = "end"
        for one in (balancer, *callers):
            one.stop.set()
        for caller in callers:
            caller.join(90)
    tell(callers, figures)
    assert [fault for caller in callers for fault in (*caller.lost, *caller.wrong, *caller.broken)] == []
    assert refusals(callers).keys() <= {"triton_killed"}, "only where Triton itself was away"
    assert {version for caller in callers for version in caller.versions} == {1, 2}
    ends_and_leaves_nothing(running)


def calm(running: Running, balancer: Balancer) -> float:
    for url in balancer.urls:
        assert httpx.post(f"{url}/v1/classify", content=PICTURE).status_code == 401, "keys are asked for"
    time.sleep(2)
    return 0.0


def canary_and_rollback(running: Running, balancer: Balancer) -> float:
    """Through one gateway forward, through the other back; seconds of the rollback, both gateways following."""
    with running.admin(0) as one, running.admin(1) as other:
        change(one, "promote", version=2, canary=30)
        time.sleep(2)
        change(one, "promote", version=2)
        assert stable(other) == 2
        time.sleep(1)
        started_s = time.monotonic()
        outcome = change(other, "rollback", why="to see it")
        assert (outcome["late"], outcome["gateways"]) == ([], 2)
        seconds = time.monotonic() - started_s
        assert (stable(one), stable(other)) == (1, 1)
        return seconds


def scrape(running: Running, balancer: Balancer) -> float:
    """Everything is asked for metrics, with a key where one is needed; what autoscaling goes by can be computed."""
    started_s = time.monotonic()
    until(lambda: len(running.query("up == 1")) == 4, "two gateways, Triton and itself are up", SCRAPED_S)
    until(lambda: running.query("sum(tidegate_requests_total) > 10"), "requests are counted", SCRAPED_S)
    until(lambda: running.query('nv_inference_request_success{model="colours"} > 0'), "Triton counts", SCRAPED_S)
    [rule] = yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())["rules"]
    expression = rule["metricsQuery"]
    for field, value in {"<<.LabelMatchers>>": 'job="gateway"', "<<.GroupBy>>": "instance"}.items():
        expression = expression.replace(field, value)
    until(lambda: len(running.query(f"({expression}) >= 0")) == 2, "the queue time of each gateway", SCRAPED_S)
    return time.monotonic() - started_s


def triton_killed(running: Running, balancer: Balancer) -> float:
    """kill -9; it comes back, and its models with it. Seconds until both gateways answer again."""
    started_s = time.monotonic()
    back = running.kill("triton", signal.SIGKILL)
    until(lambda: balancer.ready == (), "no gateway wants requests", BACK_S)
    until(back, "Triton runs again", BACK_S)
    until(lambda: len(balancer.ready) == 2, "both gateways are ready", BACK_S)
    seconds = time.monotonic() - started_s
    headers = {"content-type": "image/png", "authorization": f"Bearer {running.key('predict')}"}
    for url in balancer.urls:
        answer = httpx.post(f"{url}/v1/classify?model={MODEL}", content=PICTURE, headers=headers, timeout=30)
        assert answer.is_success, f"it said that it is ready: {answer.text}"
    return seconds


def redis_killed(running: Running, balancer: Balancer) -> float:
    """kill -9; gateways answer on, and what was acknowledged is still there. Seconds until a change is taken."""
    with running.admin(0) as admin:
        before = admin.get(f"/admin/models/{MODEL}/history").json()
        started_s = time.monotonic()
        back = running.kill("redis", signal.SIGKILL)
        until(back, "Redis runs again", BACK_S)
        until(lambda: admin.post(f"/admin/models/{MODEL}/promote", json={"version": 2}).is_success, "a change", BACK_S)
        seconds = time.monotonic() - started_s
        history = admin.get(f"/admin/models/{MODEL}/history").json()
        assert history[: len(before)] == before or history[-len(before) :] == before
        assert len(history) == len(before) + 1
    with running.admin(1) as other:
        until(lambda: stable(other) == 2, "the other gateway follows")
    return seconds


def gateway_drained(running: Running, balancer: Balancer) -> float:
    """SIGTERM to one of two: it says that it wants no more, and ends when it has answered what it took."""
    started_s = time.monotonic()
    back = running.kill("gateway-1", signal.SIGTERM)
    until(lambda: balancer.ready == balancer.urls[1:], "the other one is left")
    until(back, "it runs again", BACK_S)
    until(lambda: len(balancer.ready) == 2, "both gateways are ready", BACK_S)
    return time.monotonic() - started_s


def ends_and_leaves_nothing(running: Running) -> None:
    """Ctrl-C, and no process, no port and no shared memory is left of it."""
    ports = running.ports
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) >= 5
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert not list(Path("/dev/shm").glob(f"tidegate-stack-{ports['triton_grpc']}-*"))  # noqa: S108


def test_programs_end_with_a_stack_that_is_killed(running):
    children = psutil.Process(running.process.pid).children(recursive=True)
    running.process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    assert alive == []


def change(admin: httpx.Client, verb: str, **body: object) -> Any:
    answer = admin.post(f"/admin/models/{MODEL}/{verb}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


def stable(admin: httpx.Client) -> int:
    [model] = admin.get("/admin/models").json()["models"]
    return model["stable"]


def refusals(callers: list[Caller]) -> Counter[str]:
    return sum((caller.tried_again for caller in callers), Counter())


def tell(callers: list[Caller], figures: dict[str, float]) -> None:
    print()
    answered = sum((caller.answered for caller in callers), Counter())
    for phase, seconds in figures.items():
        slowest_s = max((caller.slowest_s.get(phase, 0.0) for caller in callers), default=0.0)
        print(
            f"{phase}: {seconds:.2f} s; {answered[phase]} answers, the slowest after {slowest_s:.2f} s; "
            f"{refusals(callers)[phase]} were refused first and tried again"
        )
    print(f"lost: {sum(len(caller.lost) for caller in callers)} of {answered.total()}")
