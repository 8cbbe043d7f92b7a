"""What docker-compose.yml says of its services, as far as processes without Docker can follow it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SECRETS: Final = "/run/secrets/"
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `mounts`: path in the container -> path on the host, relative to the file, or a volume's name.

    grace_s: from SIGTERM to SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    grace_s: float
    comes_back: bool


def read_services(path: Path) -> dict[str, Service]:
    """The services of a compose file by name, with anchors and ${NAME:-default}; profiles are the caller's business."""
    text = VARIABLE.sub(lambda found: os.environ.get(found[1]) or found[2], path.read_text(encoding="utf-8"))
    whole = yaml.safe_load(text)
    return {name: _service(name, one, whole.get("secrets", {})) for name, one in whole["services"].items()}


def _service(name: str, given: Mapping[str, Any], secrets: Mapping[str, Any]) -> Service:
    mounts = {}
    for volume in given.get("volumes", []):
        source, target = volume.split(":")[:2]
        mounts[target] = source
    mounts |= {f"{SECRETS}{secret}": secrets[secret]["file"] for secret in given.get("secrets", [])}
    return Service(
        name=name,
        command=tuple(given.get("command", ())),
        environment={key: "" if value is None else str(value) for key, value in given.get("environment", {}).items()},
        mounts=mounts,
        grace_s=float(given.get("stop_grace_period", "10s").removesuffix("s")),
        comes_back=given.get("restart") == "unless-stopped",
    )
