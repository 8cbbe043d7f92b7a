"""The service: each of its methods, what a caller needs for it, and what answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from serving.errors import BodyInvalid, MethodNotAllowed
from serving.gateway.open_inference import OpenInference
from serving.gateway.rpc.calls import Calls, Inbound, Method, receive
from serving.gateway.rpc.descriptions import metadata_message, server_message, statistics_message
from serving.gateway.rpc.inference import STREAM, UNARY, Inferences
from serving.gateway.rpc.messages import version_of

SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
REPOSITORY: Final = "Ask the admin port, over HTTP: /v2/repository, or `tidegate promote`."

SHARED_MEMORY: Final = "Send tensors as raw_input_contents, and take raw_output_contents."
SETTINGS: Final = "They are set when the gateway is started: `tidegate serve --help`."
# What Triton offers beside the protocol and this port does not: method -> what to do instead.
ELSEWHERE: Final = {
    "RepositoryIndex": REPOSITORY,
    "RepositoryModelLoad": REPOSITORY,
    "RepositoryModelUnload": REPOSITORY,
    "SystemSharedMemoryStatus": SHARED_MEMORY,
    "SystemSharedMemoryRegister": SHARED_MEMORY,
    "SystemSharedMemoryUnregister": SHARED_MEMORY,
    "CudaSharedMemoryStatus": SHARED_MEMORY,
    "CudaSharedMemoryRegister": SHARED_MEMORY,
    "CudaSharedMemoryUnregister": SHARED_MEMORY,
    "TraceSetting": SETTINGS,
    "LogSettings": SETTINGS,
}

Answer = Callable[[Any], Awaitable[Any]]


def service(protocol: OpenInference, inferences: Inferences, calls: Calls) -> grpc.GenericRpcHandler:
    """Every method of the service. All need a key for `predict`, where keys are needed, but for the server's health."""
    answers = _Answers(protocol)
    handlers = {
        "ServerLive": calls.unary("ServerLive", "public", _told("ServerLive", answers.live)),
        "ServerReady": calls.unary("ServerReady", "public", _told("ServerReady", answers.ready)),
        UNARY: calls.unary(UNARY, "predict", inferences.unary),
        STREAM: calls.stream(STREAM, "predict", inferences.stream),
    }
    told = {
        "ModelReady": answers.model_ready,
        "ServerMetadata": answers.server_metadata,
        "ModelMetadata": answers.model_metadata,
        "ModelConfig": answers.model_config,
        "ModelStatistics": answers.model_statistics,
    }
    for name, answer in told.items():
        handlers[name] = calls.unary(name, "predict", _told(name, answer))
    for name, remedy in ELSEWHERE.items():
        handlers[name] = calls.unary(name, "predict", _refused(name, remedy))
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def _told(name: str, answer: Answer) -> Method:
    """A method that reads its message and gives another."""
    kind = getattr(pb, SERVICE.methods_by_name[name].input_type.name)

    async def method(call: Inbound) -> bytes:
        try:
            message = kind.FromString(await receive(call))
        except DecodeError:
            raise BodyInvalid(f"The message is no {kind.DESCRIPTOR.name}.") from None
        data: bytes = (await answer(message)).SerializeToString()
        return data

    return method


def _refused(name: str, remedy: str) -> Method:
    async def method(call: Inbound) -> bytes:
        del call
        raise MethodNotAllowed(f"{name} is not offered here.", remedy=remedy)

    return method


class _Answers:
    """What is told of the server and its models."""

    def __init__(self, protocol: OpenInference) -> None:
        self._protocol = protocol

    async def live(self, message: Any) -> Any:
        del message
        return pb.ServerLiveResponse(live=True)

    async def ready(self, message: Any) -> Any:
        del message
        return pb.ServerReadyResponse(ready=self._protocol.ready())

    async def model_ready(self, message: Any) -> Any:
        return pb.ModelReadyResponse(ready=self._protocol.is_ready(message.name, version_of(message.version)))

    async def server_metadata(self, message: Any) -> Any:
        del message
        return server_message()

    async def model_metadata(self, message: Any) -> Any:
        return metadata_message(self._protocol.metadata(message.name, version_of(message.version)))

    async def model_config(self, message: Any) -> Any:
        return pb.ModelConfigResponse(config=self._protocol.config(message.name, version_of(message.version)))

    async def model_statistics(self, message: Any) -> Any:
        return statistics_message(await self._protocol.statistics(message.name, version_of(message.version)))
