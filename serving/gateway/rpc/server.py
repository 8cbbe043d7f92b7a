"""The gRPC listener: its limits, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

import grpc

from serving.gateway.access import Access
from serving.gateway.open_inference import OpenInference
from serving.gateway.rpc.calls import Calls
from serving.gateway.rpc.inference import Bounds, Inferences
from serving.gateway.rpc.service import service
from serving.gateway.traffic import MAX_HEAD, Traffic

# grpc would prepare for forks, which it cannot while it serves, and says so on stderr whenever a child is started. Our
# children are other programs, who know nothing of it. Read when the first server is made.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# An answer to a caller who left in that moment is no error of anybody's, but grpc logs one with a traceback.
logging.getLogger("grpc._cython.cygrpc").addFilter(lambda record: "ExecuteBatchError" not in record.getMessage())

MESSAGE_HEAD: Final = 64 * 1024  # names, shapes and ids around a tensor of the largest size
GONE_S: Final = 1.0  # for what was cancelled to tell its callers
OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # else two gateways share a port, and callers, without a word
    ("grpc.max_concurrent_streams", 512),  # of one connection: further calls wait at the caller
    ("grpc.max_metadata_size", MAX_HEAD // 4),
    ("grpc.absolute_max_metadata_size", MAX_HEAD),
    ("grpc.server_handshake_timeout_ms", 10_000),  # who connects and says nothing is let go
    # Callers may ping every ten seconds, as they do who sit behind a NAT; whoever does it faster three times is let go.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    # We ping as well: a caller whose machine died is noticed after 80 seconds, and nobody computes for it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class RpcServer:
    """Serves the protocol at an address. To be made, started and stopped in one event loop."""

    def __init__(
        self, protocol: OpenInference, access: Access, traffic: Traffic, *, body_limit: int, bounds: Bounds
    ) -> None:
        self._calls = Calls(access, traffic)
        self._inferences = Inferences(protocol, self._calls, bounds)
        size = body_limit + MESSAGE_HEAD
        limits = (("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", -1))
        self._server: Any = grpc.aio.server(options=(*OPTIONS, *limits))
        self._server.add_generic_rpc_handlers((service(protocol, self._inferences, self._calls),))
        self.address = ""

    def bind(self, host: str, port: int) -> None:
        """Takes an address; OSError when it cannot be had."""
        written = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{written}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        self.address = f"{written}:{bound}"

    async def start(self) -> None:
        """Answers from here on."""
        await self._server.start()

    async def stop(self, drain_timeout_s: float) -> None:
        """Takes no further calls; those that run have `drain_timeout_s`, and streams end when they have answered."""
        server, self._server = self._server, None  # let go while the loop runs: grpc's own end needs it
        if server is None:
            return
        self._inferences.close_streams()
        stopping = asyncio.ensure_future(server.stop(drain_timeout_s + GONE_S))
        done, _ = await asyncio.wait((stopping,), timeout=drain_timeout_s)
        if not done:
            self._calls.end()
        await stopping
