"""Where things are here that containers have elsewhere: paths and addresses in a service's settings, made native."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  (in a container; here it becomes loopback)
HERE: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Places:
    """`paths`: path in a container -> path here. `addresses`: host:port between containers -> host:port here."""

    paths: Mapping[str, Path]
    addresses: Mapping[str, str]

    def native(self, text: str) -> str:
        """The text with every path and address replaced; the longest that fits, and whole names only."""
        for path in sorted(self.paths, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", str(self.paths[path]), text)
        for address, here in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(address)}(?!\d)", here, text)
        return text.replace(EVERYWHERE, HERE)

    def all_native(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.native(value) for name, value in values.items()}

    def with_paths(self, paths: Mapping[str, Path]) -> Places:
        return replace(self, paths={**self.paths, **paths})


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """Of one gateway."""

    public: int
    admin: int
    grpc: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Of everything that listens, all on loopback."""

    gateways: tuple[GatewayPorts, ...]
    triton_http: int
    triton_grpc: int
    triton_metrics: int
    redis: int
    prometheus: int


# As in the compose file; a second gateway has the next ten.
USUAL: Final = Ports((GatewayPorts(8080, 8081, 8090), GatewayPorts(8180, 8181, 8190)), 8000, 8001, 8002, 6379, 9090)


def free_ports(gateways: int = 2) -> Ports:
    """Ports that nothing listens on now."""
    found = iter(_free(5 + 3 * gateways))
    return Ports(
        gateways=tuple(GatewayPorts(next(found), next(found), next(found)) for _ in range(gateways)),
        triton_http=next(found),
        triton_grpc=next(found),
        triton_metrics=next(found),
        redis=next(found),
        prometheus=next(found),
    )


def taken(ports: Ports) -> list[int]:
    """Those that another program has."""
    gateways = [port for one in ports.gateways for port in (one.public, one.admin, one.grpc)]
    others = [ports.triton_http, ports.triton_grpc, ports.triton_metrics, ports.redis, ports.prometheus]
    return [port for port in (*gateways, *others) if not _can_be_had(port)]


def _free(count: int) -> list[int]:
    """All of them held until the last is known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HERE, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _can_be_had(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HERE, port))
        except OSError:
            return False
    return True
