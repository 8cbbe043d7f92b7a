"""What Prometheus scrapes and computes and Grafana draws: settings that both take, of metrics that there are."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click import Group
from http_rig import build_tiny
from monitoring_rig import ALERTS, DASHBOARDS, RECORDS, RULES, expressions, names_in
from prometheus_client.utils import floatToGoString
from tool_rig import ROOT, run

from deploy.dashboards.__main__ import files
from serving import errors
from serving.cli import main as tidegate
from serving.engines.fake import FakeEngine
from serving.gateway.errors import InternalError
from serving.telemetry import SECONDS

GRAFANA = ROOT / "deploy/grafana"
RUNBOOKS = ROOT / "docs/runbooks"
TESTS = sorted((ROOT / "deploy/prometheus/tests").glob("*.yml"))
# Of Prometheus itself.
ITS_OWN = {"up", "ALERTS", "scrape_samples_scraped"}


def series(folder: Path) -> set[str]:
    """Every name that a gateway exposes, counters and histograms spelt out."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "unknown": ("",)}

    async def names() -> set[str]:
        parts = build_tiny(folder, FakeEngine(), {"capture": 0.1})
        return {
            family.name + end for family in parts.meters.registry.collect() for end in suffixes.get(family.type, ())
        }

    return asyncio.run(names())


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> set[str]:
    return series(tmp_path_factory.mktemp("known")) | RECORDS.keys() | ITS_OWN


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


def test_dashboards_are_what_is_written_for_them():
    """`make dashboards` was run after the last change of deploy/dashboards."""
    assert {path.name: path.read_text() for path in DASHBOARDS} == files()
    assert [path.stem for path in DASHBOARDS] == ["drift", "model", "overview", "rollout"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_of_metrics_that_there_are(path, known):
    dashboard = json.loads(path.read_text())
    for expression in expressions(dashboard):
        used = names_in(expression)
        assert used, expression
        assert used <= known, used - known
    asked = [one["query"]["query"] for one in dashboard["templating"]["list"]]
    assert {name for query in asked for name in re.findall(r"\btidegate_\w+", query)} <= known


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_variables_that_panels_go_by_are_there(path):
    dashboard = json.loads(path.read_text())
    used = {name for text in expressions(dashboard) for name in re.findall(r"\$(\w+)", text)}
    assert used - {"__rate_interval"} == {one["name"] for one in dashboard["templating"]["list"]}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_could_compute_every_panel(path, tmp_path):
    """As recording rules, which promtool parses."""
    found = [
        re.sub(r"\$(model|version)", ".*", text.replace("$__rate_interval", "1m"))
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


# Rules


def test_prometheus_finds_the_rules():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = [path for pattern in config["rule_files"] for path in (ROOT / "deploy/prometheus").glob(pattern)]
    assert sorted(found) == RULES
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert "./deploy/prometheus:/etc/prometheus:ro" in compose["services"]["prometheus"]["volumes"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_are_of_metrics_that_there_are(path, known):
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            used = names_in(rule["expr"])
            assert used, rule["expr"]
            assert used <= known, used - known


def test_codes_in_rules_are_those_of_errors():
    codes = {one.code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "code")}
    found = [
        re.search(r'code=~"([^"]+)"', one) for rule in (*ALERTS.values(), *RECORDS.values()) for one in [rule["expr"]]
    ]
    named = {code for match in found if match for code in match[1].split("|")}
    assert {"queue_full", "engine_failed"} <= named <= codes | {InternalError.code}


def test_limits_of_answers_are_bounds_of_their_histogram():
    bounds = set(map(floatToGoString, SECONDS))
    found = {bound for rule in RECORDS.values() for bound in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert found
    assert found <= bounds


def test_promtool_tries_the_rules():
    run("promtool", "test", "rules", *TESTS)


def test_every_alert_fires_in_one_trial_and_keeps_quiet_in_another():
    fires: Counter[str] = Counter()
    quiet: Counter[str] = Counter()
    for path in TESTS:
        for trial in yaml.safe_load(path.read_text())["tests"]:
            for one in trial.get("alert_rule_test", []):
                (fires if one["exp_alerts"] else quiet)[one["alertname"]] += 1
    assert set(fires) == set(quiet) == set(ALERTS)


def test_each_alert_has_its_page_and_each_page_its_alert():
    for name, rule in ALERTS.items():
        kebab = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{kebab}.md"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        page = (RUNBOOKS / f"{kebab}.md").read_text()
        assert page.startswith(f"# {name}\n")
        assert {"## What it means", "## How to see", "## What to do"} <= set(page.splitlines()), name
    pages = {path.name for path in RUNBOOKS.glob("*.md")}
    assert pages == {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in ALERTS.values()}


PAGES = [ROOT / "docs/slo.md", *sorted(RUNBOOKS.glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_and_links_of_a_page_are_there(path):
    text = path.read_text()
    for command in re.findall(r"tidegate ([a-z]+(?: [^`\n#]*)?)(?=[`\n#])", text):
        name, *words = shlex.split(command)
        found = tidegate.commands[name]
        if isinstance(found, Group):
            found = found.commands[words[0]]
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, command
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for words in re.findall(r"docker compose (?:ps|logs|restart|stop)((?: [^`\n#|]*)?)", text):
        assert {word for word in words.split() if word.isalpha()} <= services.keys(), words
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / target).exists(), target


def test_memory_is_high_before_the_container_is_full():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    [gibibytes] = re.findall(r"> (\d+) \* 1024", ALERTS["MemoryHigh"]["expr"])
    assert 0.5 < int(gibibytes) / int(compose["services"]["gateway"]["mem_limit"].removesuffix("g")) < 0.9
