"""What Prometheus scrapes and Grafana draws: settings that both take, of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest
import yaml
from tool_rig import ROOT, run

from serving.telemetry import Meters

GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
# Of Triton; that this one really has them is seen in tests/promises/test_stack.py.
TRITONS = {"nv_inference_request_success", "nv_inference_queue_duration_us", "nv_inference_compute_infer_duration_us"}


def series() -> set[str]:
    """Every name that a gateway exposes, counters and histograms spelt out."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + end for family in Meters().registry.collect() for end in suffixes[family.type]}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_prometheus_takes_its_configuration(tmp_path):
    folder = tmp_path / "prometheus"
    shutil.copytree(ROOT / "deploy/prometheus", folder)
    key = tmp_path / "metrics_key"
    key.write_text("tg_x")
    file = folder / "prometheus.yml"
    file.write_text(file.read_text().replace("/run/secrets/metrics_key", str(key)))
    assert "SUCCESS" in run("promtool", "check", "config", file)


def test_gateways_are_asked_at_their_admin_port_with_a_key():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    port = compose["services"]["gateway"]["environment"]["TIDEGATE_ADMIN_PORT"]
    assert jobs["gateway"]["static_configs"] == [{"targets": [f"gateway:{port}"]}]
    secret = jobs["gateway"]["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in compose["services"]["prometheus"]["secrets"]
    for name in ("gateway", "gateway-cpu"):
        assert "gateway" in compose["services"][name]["networks"]["watch"]["aliases"], "Prometheus knows it as gateway"
    assert f"--metrics-port={jobs['triton']['dns_sd_configs'][0]['port']}" in compose["services"]["triton"]["command"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_of_metrics_that_there_are(path):
    dashboard = json.loads(path.read_text())
    known = series() | TRITONS
    for expression in expressions(dashboard):
        used = set(re.findall(r"\b(?:tidegate|nv)_\w+", expression))
        assert used, expression
        assert used <= known, used - known
    asked = [one["query"]["query"] for one in dashboard["templating"]["list"]]
    assert {name for query in asked for name in re.findall(r"\btidegate_\w+", query)} <= known


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_could_compute_every_panel(path, tmp_path):
    """As recording rules, which promtool parses."""
    found = [
        text.replace("$__rate_interval", "1m").replace("$model", ".*")
        for text in expressions(json.loads(path.read_text()))
    ]
    rules = [{"record": f"panel:{i}", "expr": text} for i, text in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", file)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_names_and_numbers_of_their_own_and_a_source_that_is_provisioned(path):
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels} <= {one["uid"] for one in sources}
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/tidegate.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
