"""A gateway's gRPC in this event loop, with real sockets, and messages to send it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from http_rig import PATIENCE_S, build_tiny
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving.bootstrap import Parts
from serving.engines.fake import FakeEngine
from serving.gateway.rpc.server import RpcServer
from serving.log_lines import Lines
from serving.running import open_rpc

SERVICE = "/inference.GRPCInferenceService"


@dataclass(frozen=True)
class LiveRpc:
    """A gateway of `colours` and `double`, which doubles, and a client of it."""

    parts: Parts
    rpc: RpcServer
    channel: grpc.aio.Channel
    engine: FakeEngine

    @property
    def stub(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    @property
    def waiting_rows(self) -> int:
        return sum(lane._waiting_rows for lane in self.parts.engine._lanes.values())

    def infer(self, message=None, **given) -> Any:
        """A ModelInfer call, under way."""
        return self.stub.ModelInfer(request() if message is None else message, **{"timeout": PATIENCE_S, **given})

    def bytes_to(self, method: str, **given) -> Any:
        """A call of the method with bytes as they are."""
        return self.channel.unary_unary(f"{SERVICE}/{method}")(given.pop("data", b""), timeout=PATIENCE_S, **given)

    def counted(self) -> dict[tuple[str, str], float]:
        """Answers by (route, status)."""
        family = next(one for one in self.parts.meters.registry.collect() if one.name == "tidegate_http_responses")
        samples = [one for one in family.samples if one.name.endswith("_total")]
        return {(one.labels["route"], one.labels["status"]): one.value for one in samples}


def doubled(key, inputs):
    return {"y": inputs["x"] * 2} if "x" in inputs else {"probabilities": np.zeros((len(inputs["pixels"]), 3), "f4")}


@asynccontextmanager
async def rpc_serving(
    folder: Path,
    engine: FakeEngine | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    started: bool = True,
    lines: Lines | None = None,
) -> AsyncIterator[LiveRpc]:
    """started False: listening, with no model loaded yet."""
    engine = engine or FakeEngine(compute=doubled)
    parts = build_tiny(folder, engine, settings or {}, lines=lines)
    rpc = open_rpc(parts, "127.0.0.1", 0)
    await rpc.start()
    if started:
        await parts.start()
    try:
        async with grpc.aio.insecure_channel(rpc.address) as channel:
            yield LiveRpc(parts, rpc, channel, engine)
    finally:
        engine.gate.set()
        await rpc.stop(PATIENCE_S)
        await parts.close()


def request(values: Any = ((1.0, 2.0),), name: str = "double", **fields: Any) -> Any:
    """A ModelInferRequest with the input x of FP32, raw."""
    x = np.asarray(values, np.float32)
    message = pb.ModelInferRequest(model_name=name, **fields)
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    return message


def values_of(response: Any) -> list[float]:
    """The first output's values."""
    return np.frombuffer(response.raw_output_contents[0], np.float32).tolist()


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """How the call was refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"it was answered: {answer}")


def trailers(error_or_metadata: Any) -> dict[str, str]:
    metadata = error_or_metadata
    if isinstance(metadata, grpc.aio.AioRpcError):
        metadata = metadata.trailing_metadata()
    return dict(metadata)
