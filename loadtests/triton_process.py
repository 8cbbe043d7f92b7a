"""A Triton of its own for a load test, as `make triton` starts it, with models loaded."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from loadtests.server_process import ServerFailed, server

ROOT: Final = Path(__file__).parents[1]
START_LINE: Final = re.compile(r"Started HTTPService at (\S+?)\"?$", re.MULTILINE)
LOAD_LIMIT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Triton:
    """Where it is reached, as host:port."""

    http: str
    grpc: str


@contextmanager
def triton(repository: Path, models: Sequence[str]) -> Iterator[Triton]:
    """A Triton that answers for the newest version of the models. ServerFailed, also when none is installed."""
    if not (ROOT / ".triton/installed").exists():
        raise ServerFailed("There is no Triton: make triton-install")
    ports = {name: str(free_port()) for name in ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")}
    command = [str(ROOT / "deploy/triton/start.sh"), str(repository.absolute())]
    with server(command, START_LINE, {**os.environ, **ports}) as http:
        address = f"127.0.0.1:{ports['GRPC_PORT']}"
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for model in models:
                stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model), timeout=LOAD_LIMIT_S)
        yield Triton(http, address)


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
