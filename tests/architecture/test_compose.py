"""docker-compose.yml keeps its rules; and each rule is one that a change of the file can break."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import Any

import pytest
import yaml
from compose_rules import PROFILES, RULES, gateways, problems, services
from tool_rig import ROOT, run

from serving.settings import Settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
REMOVE = object()


def test_it_keeps_its_rules():
    assert problems(COMPOSE) == {}


# The rule, where the file is changed, and what is put there.
MUTATIONS: list[tuple[str, str, Any]] = [
    ("profiles_have_what_they_need", "services.grafana.profiles", ["gpu"]),
    ("profiles_have_what_they_need", "services.triton.profiles", REMOVE),
    ("engines_fit_the_profile", "services.gateway-cpu.environment.TIDEGATE_ENGINE", "triton"),
    ("engines_fit_the_profile", "services.gateway.environment.TIDEGATE_ENGINE", REMOVE),
    (
        "nothing_waits_for_what_its_profile_lacks",
        "services.gateway-cpu.depends_on.triton",
        {"condition": "service_healthy"},
    ),
    ("whoever_waits_waits_for_health", "services.gateway.depends_on.redis.condition", "service_started"),
    ("only_gateways_publish_ports", "services.redis.ports", ["6379:6379"]),
    ("only_gateways_publish_ports", "services.triton.ports", ["8001:8001"]),
    ("the_admin_port_is_for_this_host", "services.gateway.ports", ["8080:8080", "8081:8081"]),
    ("gateways_have_keys", "services.gateway.environment.TIDEGATE_KEYS", REMOVE),
    ("gateways_have_keys", "services.gateway.environment.TIDEGATE_KEYS", "/models/keys.json"),
    ("only_the_front_leads_out", "networks.engine.internal", REMOVE),
    ("only_the_front_leads_out", "networks.wide", {}),
    ("only_gateways_stand_at_the_front", "services.triton.networks", ["front", "engine"]),
    ("only_gateways_stand_at_the_front", "services.grafana.networks", REMOVE),
    ("only_gateways_stand_at_the_front", "services.prometheus.network_mode", "host"),
    ("redis_and_triton_are_reached_by_those_who_need_them", "services.grafana.networks", ["dashboards", "state"]),
    ("redis_and_triton_are_reached_by_those_who_need_them", "services.prometheus.networks", ["watch", "engine"]),
    ("nobody_is_root", "services.redis.user", REMOVE),
    ("nobody_is_root", "services.triton.user", "0:0"),
    ("nobody_is_root", "services.gateway.user", "root"),
    ("nobody_has_privileges", "services.redis.cap_drop", REMOVE),
    ("nobody_has_privileges", "services.triton.cap_add", ["SYS_ADMIN"]),
    ("nobody_has_privileges", "services.triton.privileged", True),
    ("nobody_gains_privileges", "services.grafana.security_opt", REMOVE),
    ("nobody_gains_privileges", "services.gateway.security_opt", ["seccomp:unconfined"]),
    ("root_file_systems_are_read_only", "services.triton.read_only", False),
    ("folders_of_the_host_are_read_only", "services.triton.volumes", ["./model_repository:/models"]),
    ("the_host_itself_is_not_mounted", "services.grafana.volumes", ["grafana-data:/var/lib/grafana", "/etc:/host:ro"]),
    ("state_is_on_volumes", "services.redis.volumes", ["./deploy/redis/redis.conf:/etc/redis/redis.conf:ro"]),
    ("state_is_on_volumes", "volumes.gateway-state", REMOVE),
    ("what_is_written_to_tmp_is_bounded", "services.gateway.tmpfs", ["/tmp"]),  # noqa: S108
    ("memory_is_bounded", "services.prometheus.mem_limit", REMOVE),
    ("memory_is_bounded", "services.gateway.memswap_limit", "16g"),
    ("processes_are_bounded", "services.gateway.pids_limit", REMOVE),
    ("processes_are_bounded", "services.triton.pids_limit", -1),
    ("logs_are_bounded", "services.gateway.logging", REMOVE),
    ("health_is_asked_for_without_a_shell", "services.redis.healthcheck", REMOVE),
    ("health_is_asked_for_without_a_shell", "services.triton.healthcheck.test", ["CMD-SHELL", "curl localhost"]),
    ("health_is_asked_for_without_a_shell", "services.gateway.healthcheck.test", ["NONE"]),
    ("all_come_back", "services.gateway.restart", REMOVE),
    ("images_have_exact_tags", "services.prometheus.image", "prom/prometheus:latest"),
    ("images_have_exact_tags", "services.grafana.image", "grafana/grafana"),
    ("triton_is_nvidias_and_new_enough", "services.triton.image", "nvcr.io/nvidia/tritonserver:25.08-py3"),
    ("triton_is_nvidias_and_new_enough", "services.triton.image", "somebody/tritonserver:26.07-py3"),
    ("redis_is_of_8_and_new_enough", "services.redis.image", "redis:7.4.6"),
    ("redis_is_of_8_and_new_enough", "services.redis.image", "redis:8.2.1"),
    ("triton_has_a_gpu_and_loads_what_it_is_told", "services.triton.deploy", REMOVE),
    ("triton_has_a_gpu_and_loads_what_it_is_told", "services.triton.command", ["tritonserver"]),
    ("secrets_are_files", "secrets.redis_password", {"environment": "REDIS_PASSWORD"}),
    ("secrets_are_in_no_environment", "services.grafana.environment.GF_SECURITY_ADMIN_PASSWORD", "admin"),
    ("secrets_are_in_no_environment", "services.gateway.environment.TIDEGATE_REDIS", "redis://me:secret@redis:6379"),
    ("secrets_are_in_no_environment", "services.gateway.env_file", "passwords.env"),
    ("secrets_are_where_they_are_read", "services.grafana.environment.GF_X__FILE", "/run/secrets/other"),
    ("secrets_go_to_those_who_need_them", "services.triton.secrets", ["redis_password"]),
    ("there_is_time_to_drain", "services.gateway.stop_grace_period", "30s"),
    ("there_is_time_to_drain", "services.gateway-cpu.stop_grace_period", REMOVE),
    ("redis_has_room_beside_its_data", "services.redis", {"mem_limit": "1g", "memswap_limit": "1g"}),
    ("nobody_sees_the_others", "services.triton.ipc", "host"),
]


def changed(where: str, value: Any) -> Any:
    """The file with one thing put, merged or removed."""
    compose = copy.deepcopy(COMPOSE)
    *path, last = where.split(".")
    place = compose
    for name in path:
        place = place[name]
    if value is REMOVE:
        place.pop(last)
    elif where == "services.redis":
        place[last] = place[last] | value
    else:
        place[last] = value
    return compose


@pytest.mark.parametrize(
    ("rule", "where", "value"), MUTATIONS, ids=[f"{one[0]}-{i}" for i, one in enumerate(MUTATIONS)]
)
def test_a_change_breaks_this_rule_and_no_other(rule, where, value):
    assert set(problems(changed(where, value))) == {rule}


def test_every_rule_is_tried():
    assert {rule for rule, _, _ in MUTATIONS} == set(RULES)
    assert len(RULES) >= 20


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_compose_takes_it_and_starts_what_the_profile_is_for(profile):
    """Without a word the profile is gpu, of .env; a word takes the place of it."""
    options = ["--profile", profile] if profile else []
    run("docker-compose", *options, "config", "--quiet")
    assert set(run("docker-compose", *options, "config", "--services").split()) == PROFILES[profile or "gpu"]


def test_gateways_are_told_what_gateways_know():
    known = {f"TIDEGATE_{name.upper()}" for name in Settings.model_fields}
    for name, one in gateways(COMPOSE).items():
        assert one["environment"].keys() <= known, name


def test_the_image_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {one["image"] for one in gateways(COMPOSE).values()} == {f"tidegate/gateway:{version}"}


def test_what_is_mounted_is_there():
    for name, one in services(COMPOSE).items():
        for volume in one.get("volumes", []):
            if volume.startswith("."):
                assert (ROOT / volume.split(":")[0]).exists(), f"{name}: {volume}"


def test_env_has_no_secret_and_git_takes_none():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["COMPOSE_PROFILES=gpu", "TIDEGATE_BIND=0.0.0.0"]
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


# The image


def test_hadolint_takes_the_dockerfile():
    run("hadolint", "deploy/gateway/Dockerfile")


def test_the_image_is_not_of_root_and_has_what_the_compose_file_says():
    text = (ROOT / "deploy/gateway/Dockerfile").read_text()
    gateway = services(COMPOSE)["gateway"]
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] == gateway["user"]
    assert all(f"{name}={gateway['environment'][name]}" in text for name in ("TIDEGATE_REPOSITORY", "TIDEGATE_STATE"))
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", re.findall(r"^FROM (\S+)", text, re.MULTILINE)[-1])
    assert not re.search(r"torch(?! no)|exporters/|ARG .*KEY|--build-arg", text.replace("No torch", ""))


def test_only_what_the_image_is_made_of_is_sent_to_its_build():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy/gateway/Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)
