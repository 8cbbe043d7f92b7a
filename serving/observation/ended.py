"""A request that has ended, as it is told of afterwards: nothing in it that a caller sent but the id of the request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from serving.telemetry import Stages

Outcome: TypeAlias = Literal["answered", "refused", "failed"]
ANSWERED: Final = "answered"
REFUSED: Final = "refused"
FAILED: Final = "failed"
GRPC: Final = "grpc"
CALLER_LEFT: Final = "caller_left"
# What machines ask for every few seconds: logged only when it fails, and never traced.
QUIET: Final = frozenset({"/livez", "/readyz", "/metrics", "ServerLive", "ServerReady"})
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
OTHER: Final = "_OTHER"  # OpenTelemetry's word: what callers make up is no name of a span
# What gRPC's statuses are that are the server's own failures, as OpenTelemetry has it.
SERVERS_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


@dataclass(frozen=True, slots=True)
class Ended:
    """route: the path's template, or gRPC's method; empty where there is none. status: HTTP's number or gRPC's name;
    empty where nobody was there to be answered. code: of the error. model: empty where none was reached.
    begun_s, ended_s: on time.monotonic()'s clock.
    """

    transport: str
    method: str
    route: str
    status: int | str
    request_id: str
    begun_s: float
    ended_s: float
    code: str = ""
    model: str = ""
    version: int = 0
    stages: Stages | None = None

    @property
    def failed(self) -> bool:
        """Whether it is the gateway's fault."""
        return outcome_of(self.status) == FAILED


def outcome_of(status: int | str) -> Outcome:
    """What a status says: whose fault it is, if it is one."""
    if isinstance(status, str):
        return ANSWERED if status == "OK" else FAILED if status in SERVERS_FAULTS else REFUSED
    if status < HTTPStatus.BAD_REQUEST:
        return ANSWERED
    return FAILED if status >= HTTPStatus.INTERNAL_SERVER_ERROR else REFUSED


def method_of(method: str) -> str:
    """One of the methods that there are."""
    return method if method in METHODS else OTHER
