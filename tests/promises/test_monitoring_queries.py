"""A real Prometheus scrapes real gateways through a session of everything: then every panel and every rule has data."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny
import yaml
from http_rig import Process, gateway_process, picture
from job_rig import ended_now, order
from monitoring_rig import ALERTS, DASHBOARDS, RECORDS, RULES, panels, selectors
from redis_rig import Server, free_port, until
from switching import MODEL, admin_of, give, publish
from tool_rig import tool

from serving.monitoring.reference import Numbers, Reference

SHADES = "shades"  # a second classifier, for what goes on in the shadow
INTERVAL = "500ms"
SEEN_S = 30.0  # for the last query to have data
PNG = {"content-type": "image/png"}
REFERENCE = Reference(
    rows=200,
    inputs={"brightness": Numbers(edges=(0.02, 0.5), counts=(100, 50, 50))},
    outputs={"reply_score": Numbers(edges=(0.5,), counts=(100, 100))},
)


@dataclass(frozen=True)
class Prometheus:
    """One that runs, with the rules of deploy/ and no waiting for alerts."""

    url: str

    def query(self, expression: str) -> list[Any]:
        """What it makes of the expression now. An error fails the test."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def has(self, expression: str) -> bool:
        """Whether there is a number in it."""
        return any(not math.isnan(float(one["value"][1])) for one in self.query(expression))


@contextmanager
def prometheus(folder: Path, gateways: list[str]) -> Iterator[Prometheus]:
    """`gateways`: host:port, each scraped; beside them one that is not there, and a Triton that is not."""
    nobody = f"127.0.0.1:{free_port()}"
    jobs = {"gateway": [*gateways, nobody], "triton": [nobody]}
    config = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(at_once(path, folder)) for path in RULES],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": targets}]} for name, targets in jobs.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": file, "storage.tsdb.path": folder / "tsdb", "web.listen-address": address}
    with (folder / "prometheus.log").open("wb") as log:
        command = [tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: answers(f"http://{address}/-/ready"), "Prometheus is ready")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(15)


def at_once(path: Path, folder: Path) -> Path:
    """A copy of the rules whose alerts fire as soon as they hold."""
    whole = yaml.safe_load(path.read_text())
    for group in whole["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(whole))
    return copy


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


class Callers(threading.Thread):
    """Ask both gateways for all tasks, again and again; some of what they send is wrong, or too late."""

    def __init__(self, gateways: list[Process]) -> None:
        super().__init__()
        self.statuses: set[int] = set()
        self._urls = [gateway.url for gateway in gateways]
        self._over = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._over.wait(0.1):
                for url in self._urls:
                    self._round(client, url)

    def close(self) -> None:
        self._over.set()
        self.join(30)

    def _round(self, client: httpx.Client, url: str) -> None:
        def post(path: str, **given: Any) -> None:
            self.statuses.add(client.post(url + path, **given).status_code)

        for model in (MODEL, SHADES):
            post(f"/v1/classify?model={model}", content=b"no picture", headers=PNG)
            for level in range(8):  # enough for drift to be judged
                answer = client.post(f"{url}/v1/classify?model={model}", content=picture(level, 8, 7), headers=PNG)
                self.statuses.add(answer.status_code)
            truth = {"request_id": answer.headers["x-request-id"], "truth": 0}
            post("/v1/feedback", json=truth)
        post(f"/v1/classify?model={MODEL}", content=picture(), headers={**PNG, "x-request-timeout-ms": "1"})
        post("/v1/caption", content=picture(200), headers=PNG)
        post("/v1/embed", json={"text": "red red green"})
        post("/v1/images/generations", json=order(response_format="b64_json"))
        data = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
        post("/v2/models/double/infer", json=data)


def session(gateways: list[Process]) -> None:
    """Versions come and go, a job is run; at the end one model has a canary and another a shadow."""
    with admin_of(gateways[0]) as one, admin_of(gateways[1]) as other:
        give(one, "promote", version=2)
        give(other, "promote", version=3)
        assert give(one, "rollback", why="to see it")["stable"] == 2
        give(one, "promote", SHADES, version=2, shadow=True)
        give(other, "promote", version=3, canary=50)
    with httpx.Client(base_url=gateways[0].url, timeout=30) as client:
        accepted = client.post("/v1/images/generations", json=order(), headers={"prefer": "respond-async"})
        assert accepted.status_code == 202, accepted.text
        assert ended_now(client, accepted.json()["id"])["status"] == "succeeded"


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Prometheus]:
    tool("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    repository = folder / "repository"
    publish(repository, 3)
    publish(repository, 2, SHADES)
    for manifest in sorted(repository.glob("*/*/manifest.json")):
        tiny.write_classifier_manifest(manifest.parent, reference=REFERENCE)
    tiny.add_plain(repository)
    tiny.add_embedder(repository)
    tiny.add_captioner(repository)
    tiny.add_diffusion(repository)
    (folder / "redis").mkdir()
    redis = Server(folder / "redis")
    shared = {"TIDEGATE_REDIS": redis.url, "TIDEGATE_CAPTURE": "0.1", "TIDEGATE_DRIFT_RATE": "100"}
    try:
        with (
            gateway_process(repository, folder / "state", **shared) as one,
            gateway_process(repository, folder / "other", **shared) as two,
            prometheus(folder, [gateway.admin_url.removeprefix("http://") for gateway in (one, two)]) as found,
        ):
            # What was there at the first look has no increase.
            until(
                lambda: found.has("count(count by (instance) (tidegate_loads_total offset 1s)) == 2"),
                "both are scraped",
                SEEN_S,
            )
            callers = Callers([one, two])
            callers.start()
            try:
                session([one, two])
                yield found
            finally:
                callers.close()
            assert {200, 422, 504} <= callers.statuses
    finally:
        redis.close()


def without_data(found: Prometheus, expressions: set[str]) -> set[str]:
    """Those that have none, when all that comes has had time to come."""
    left, deadline_s = expressions, time.monotonic() + SEEN_S
    while left and time.monotonic() < deadline_s:
        left = {one for one in left if not found.has(one)}
        time.sleep(0.2)
    return left


def now(expression: str) -> str:
    """As Grafana would ask, of all models and versions."""
    return re.sub(r"\$(model|version)", ".*", expression.replace("$__rate_interval", "10s"))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(watched, path):
    expressions = {now(expression) for _, expression in panels(path)}
    assert without_data(watched, expressions) == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_marks_and_choices_of_dashboards_have_data(watched, path):
    dashboard = json.loads(path.read_text())
    marks = {one["expr"] for one in dashboard["annotations"]["list"]}
    assert without_data(watched, marks) == set()
    for one in dashboard["templating"]["list"]:
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]["query"]).groups()
        assert any(label in series["metric"] for series in watched.query(now(selector)))


def test_every_recording_rule_has_data(watched):
    assert without_data(watched, set(RECORDS)) == set()


def test_every_alert_can_be_computed_and_is_of_series_that_there_are(watched):
    for rule in ALERTS.values():
        watched.query(rule["expr"])
    chosen = {one for rule in (*ALERTS.values(), *RECORDS.values()) for one in selectors(rule["expr"])}
    assert without_data(watched, chosen) == set()


def test_only_what_is_wrong_fires(watched):
    """A gateway and a Triton that are not there; and what callers ask too late for is more than was promised."""
    until(lambda: watched.has('ALERTS{alertname="GatewayDown",alertstate="firing"}'), "the gateway is missed", SEEN_S)
    firing = {one["metric"]["alertname"] for one in watched.query('ALERTS{alertstate="firing"}')}
    assert {"GatewayDown", "TritonDown"} <= firing
    quiet = {"RedisDown", "LedgerNotConnected", "ModelNotReady", "GatewaysDisagree", "LoadsFail", "MemoryHigh"}
    assert firing & (quiet | {"JobsPoisoned", "JobsWait", "SeriesGrow"}) == set()
