"""The rules that docker-compose.yml keeps, each a function over the file as data that gives what is wrong.

Rules go by what a service is to be, not by how the file writes it. `tests/architecture/test_compose.py` breaks each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Compose = Mapping[str, Any]
Rule = Callable[[Compose], Iterator[str]]

RULES: dict[str, Rule] = {}
ALWAYS = {"redis", "prometheus", "grafana"}
PROFILES = {"gpu": {"gateway", "triton", *ALWAYS}, "cpu": {"gateway-cpu", *ALWAYS}}
SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|(^|_)KEY$", re.IGNORECASE)
UNITS = {"m": 2**20, "g": 2**30}


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def problems(compose: Compose) -> dict[str, list[str]]:
    """Rule -> what breaks it, of the rules that are broken."""
    found = {name: list(check(compose)) for name, check in RULES.items()}
    return {name: wrong for name, wrong in found.items() if wrong}


def services(compose: Compose) -> dict[str, Any]:
    return compose["services"]


def gateways(compose: Compose) -> dict[str, Any]:
    return {name: one for name, one in services(compose).items() if name.startswith("gateway")}


def in_profile(compose: Compose, profile: str) -> set[str]:
    """What starts with this profile and no other."""
    return {name for name, one in services(compose).items() if profile in one.get("profiles", [profile])}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def size(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


@rule
def profiles_have_what_they_need(compose: Compose) -> Iterator[str]:
    for profile, wanted in PROFILES.items():
        if (found := in_profile(compose, profile)) != wanted:
            yield f"{profile}: {sorted(found ^ wanted)}"


@rule
def engines_fit_the_profile(compose: Compose) -> Iterator[str]:
    for name, one in gateways(compose).items():
        wanted = "triton" if "gpu" in one.get("profiles", []) else "onnx"
        if one["environment"].get("TIDEGATE_ENGINE") != wanted:
            yield name


@rule
def nothing_waits_for_what_its_profile_lacks(compose: Compose) -> Iterator[str]:
    for profile in PROFILES:
        started = in_profile(compose, profile)
        for name in started:
            yield from (f"{profile}: {name} waits for {other}" for other in _waits_for(compose, name) - started)


def _waits_for(compose: Compose, name: str) -> set[str]:
    return set(services(compose)[name].get("depends_on", {}))


@rule
def whoever_waits_waits_for_health(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for other, how in one.get("depends_on", {}).items():
            if how.get("condition") != "service_healthy":
                yield f"{name} for {other}"


@rule
def only_gateways_publish_ports(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in services(compose).items() if one.get("ports") and name not in gateways(compose))


@rule
def the_admin_port_is_for_this_host(compose: Compose) -> Iterator[str]:
    for name, one in gateways(compose).items():
        admin = one["environment"]["TIDEGATE_ADMIN_PORT"]
        yield from (f"{name}: {port}" for port in one["ports"] if port.endswith(f":{admin}") and port[:4] != "127.")


@rule
def gateways_have_keys(compose: Compose) -> Iterator[str]:
    for name, one in gateways(compose).items():
        environment = one["environment"]
        if not environment.get("TIDEGATE_KEYS", "").startswith(environment["TIDEGATE_STATE"] + "/"):
            yield name


@rule
def only_the_front_leads_out(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in compose["networks"].items() if name != "front" and not one.get("internal"))


@rule
def only_gateways_stand_at_the_front(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        if name not in gateways(compose) and ({"front"} & set(one.get("networks", ["front"])) or "network_mode" in one):
            yield name


@rule
def redis_and_triton_are_reached_by_those_who_need_them(compose: Compose) -> Iterator[str]:
    members = {
        network: {name for name, one in services(compose).items() if network in one.get("networks", [])}
        for network in ("state", "engine")
    }
    if members["state"] != {"redis", *gateways(compose)}:
        yield f"state: {members['state']}"
    if members["engine"] - {"triton", *gateways(compose)}:
        yield f"engine: {members['engine']}"


@rule
def nobody_is_root(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        user = str(one.get("user", "0")).partition(":")[0]
        if not user.isdecimal() or int(user) == 0:
            yield name


@rule
def nobody_has_privileges(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        if one.get("cap_drop") != ["ALL"] or one.get("cap_add") or one.get("privileged") or one.get("devices"):
            yield name


@rule
def nobody_gains_privileges(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        if one.get("security_opt") != ["no-new-privileges:true"]:
            yield name


@rule
def root_file_systems_are_read_only(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in services(compose).items() if one.get("read_only") is not True)


@rule
def folders_of_the_host_are_read_only(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for volume in one.get("volumes", []):
            if volume.startswith((".", "/", "~")) and not volume.endswith(":ro"):
                yield f"{name}: {volume}"


@rule
def the_host_itself_is_not_mounted(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for volume in one.get("volumes", []):
            if volume.startswith(("/", "~", "..")) or "docker.sock" in volume:
                yield f"{name}: {volume}"


@rule
def state_is_on_volumes(compose: Compose) -> Iterator[str]:
    states = {"redis": "/data", "prometheus": "/prometheus", "grafana": "/var/lib/grafana"}
    states |= {name: one["environment"]["TIDEGATE_STATE"] for name, one in gateways(compose).items()}
    for name, target in states.items():
        found = [volume.split(":")[0] for volume in services(compose)[name]["volumes"] if volume.endswith(f":{target}")]
        if not (found and found[0] in compose["volumes"]):
            yield f"{name}: {target}"


@rule
def what_is_written_to_tmp_is_bounded(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for mount in one.get("tmpfs", []):
            if not re.search(r"[:,]size=\d+[mg](,|$)", mount) or "nosuid" not in mount:
                yield f"{name}: {mount}"


@rule
def memory_is_bounded(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        if not one.get("mem_limit") or one.get("memswap_limit") != one["mem_limit"]:
            yield name


@rule
def processes_are_bounded(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in services(compose).items() if not 0 < one.get("pids_limit", 0) <= 4096)


@rule
def logs_are_bounded(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        options = one.get("logging", {}).get("options", {})
        if not {"max-size", "max-file"} <= options.keys():
            yield name


@rule
def health_is_asked_for_without_a_shell(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        test = one.get("healthcheck", {}).get("test")
        if not isinstance(test, list) or test[0] != "CMD" or len(test) < 2:
            yield name


@rule
def all_come_back(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in services(compose).items() if one.get("restart") != "unless-stopped")


@rule
def images_have_exact_tags(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        tag = one.get("image", "").partition("@")[0].rpartition(":")[2]
        if not re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-[a-z0-9.-]+)?", tag):
            yield f"{name}: {one.get('image')}"


@rule
def triton_is_nvidias_and_new_enough(compose: Compose) -> Iterator[str]:
    image = services(compose)["triton"]["image"]
    found = re.fullmatch(r"nvcr\.io/nvidia/tritonserver:(\d\d)\.(\d\d)-py3(@sha256:[0-9a-f]{64})?", image)
    if not found or (int(found[1]), int(found[2])) < (26, 7):
        yield image


@rule
def redis_is_of_8_and_new_enough(compose: Compose) -> Iterator[str]:
    image = services(compose)["redis"]["image"]
    found = re.match(r"redis:8\.(\d+)\.(\d+)", image)
    if not found or (int(found[1]), int(found[2])) < (2, 2):  # CVE-2025-49844
        yield image


@rule
def triton_has_a_gpu_and_loads_what_it_is_told(compose: Compose) -> Iterator[str]:
    triton = services(compose)["triton"]
    devices = triton.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    if not any(one.get("driver") == "nvidia" and "gpu" in one.get("capabilities", []) for one in devices):
        yield "no GPU is reserved"
    if "--model-control-mode=explicit" not in triton["command"]:
        yield "it loads by itself"


@rule
def secrets_are_files(compose: Compose) -> Iterator[str]:
    yield from (name for name, one in compose["secrets"].items() if not one.get("file", "").startswith("./"))


@rule
def secrets_are_in_no_environment(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for variable, value in one.get("environment", {}).items():
            bare = variable.removesuffix("_FILE").rstrip("_")
            if SECRET_WORDS.search(bare) and not str(value).startswith("/"):
                yield f"{name}: {variable}"
            if re.search(r"://[^/@]*:[^/@]+@", str(value)):
                yield f"{name}: {variable} has a password"
        if "env_file" in one:
            yield f"{name}: env_file"


@rule
def secrets_are_where_they_are_read(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        for value in one.get("environment", {}).values():
            secret = str(value).removeprefix("/run/secrets/")
            if secret != str(value) and secret not in one.get("secrets", []):
                yield f"{name}: {secret}"


@rule
def secrets_go_to_those_who_need_them(compose: Compose) -> Iterator[str]:
    wanted = {"redis": ["redis_users"], "prometheus": ["metrics_key"], "grafana": ["grafana_password"]}
    wanted |= {name: ["redis_password"] for name in gateways(compose)}
    for name, one in services(compose).items():
        if one.get("secrets", []) != wanted.get(name, []):
            yield f"{name}: {one.get('secrets')}"


@rule
def there_is_time_to_drain(compose: Compose) -> Iterator[str]:
    for name, one in gateways(compose).items():
        drain = sum(float(one["environment"][f"TIDEGATE_DRAIN_{word}_S"]) for word in ("DELAY", "TIMEOUT"))
        if seconds(one.get("stop_grace_period", "10s")) <= drain:
            yield name


@rule
def redis_has_room_beside_its_data(compose: Compose) -> Iterator[str]:
    redis = services(compose)["redis"]
    if size(redis.get("mem_limit", "0m")) < 2 * size("1g"):  # its maxmemory, which is copied on write
        yield redis.get("mem_limit", "no limit")


@rule
def nobody_sees_the_others(compose: Compose) -> Iterator[str]:
    for name, one in services(compose).items():
        if {"pid", "ipc", "userns_mode", "uts", "cgroup_parent"} & one.keys():
            yield name
