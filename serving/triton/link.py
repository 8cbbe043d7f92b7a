"""The connection to one Triton: whether it is there, and what its refusals mean.

Whoever waits for an answer of a server that is gone, or stands still, is told so, and never hangs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving.errors import DeadlinePassed, EngineAway, EngineFailed, QueueFull, TensorInvalid
from serving.repository.layout import GraphKey
from serving.trace import Trace, headers_of

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25  # between two looks at what is loaded
LOOK_SOON_S: Final = 0.1  # while it is away
LATE_S: Final = 1.0  # for the answer to a look; a busy server answers it all the same, a stopped one does not
MISSES: Final = 2
RUN_LIMIT_S: Final = 120.0  # of a run that has no deadline
LOAD_LIMIT_S: Final = 900.0  # TensorRT may build an engine
ASK_S: Final = 5.0
OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # bodies were bounded before
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),  # it is one connection, and requests are refused until it stands
    ("grpc.enable_http_proxy", 0),  # an engine is next door
    ("grpc.use_local_subchannel_pool", 1),
)
_NOT_SENT: Final = "failed to connect to all addresses"
_NOT_LOADED: Final = ("is not at ready state", "is not found", "has no available versions")
_STUB: Final = ("Stub process", "stub process")


class NotSent(Exception):
    """The run did not begin, since there was no connection: it may be tried once more."""


class NotLoaded(Exception):
    """Triton does not have the graph, though it should."""


class ProcessDied(Exception):
    """The process that runs the graph is gone, and Triton does not start another by itself."""


class TritonLink:
    """Asks one Triton over one channel. `up`: it answered when it was last looked at."""

    def __init__(self, address: str) -> None:
        self.up = False
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._calls: set[Any] = set()  # runs that wait for their answers
        self._misses = 0
        self._said = False

    async def look(self) -> Mapping[str, Mapping[int, str]] | None:
        """What is loaded, or on its way: graph -> version -> state. None while Triton does not answer."""
        try:
            found = await self._call("RepositoryIndex", pb.RepositoryIndexRequest(), LATE_S)
        except grpc.aio.AioRpcError as error:
            self._misses += 1
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or self._misses >= MISSES:
                self._lost(error)
            return None
        self._misses = 0
        if not self.up:
            self.up, self._said = True, False
            log.info("Triton at %s answers", self._address)
        states: dict[str, dict[int, str]] = {}
        for one in found.models:
            if one.version.isdecimal():
                states.setdefault(one.name, {})[int(one.version)] = one.state
        return states

    async def ask(self, method: str, request: Any, limit_s: float = ASK_S) -> Any:
        """The answer of any other method. EngineAway: Triton cannot be reached; EngineFailed: it refuses."""
        try:
            return await self._call(method, request, limit_s)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise away() from None
            log.warning("Triton refused %s: %s", method, error.details())
            raise EngineFailed("Triton refuses; the gateway's log has its reason.") from None

    async def infer(
        self, key: GraphKey, request: Any, deadline_s: float, *, again: bool = False, trace: Trace | None = None
    ) -> Any:
        """The answer to a ModelInferRequest. Whoever cancels cancels the run, also in Triton's queue.

        again: once more after NotSent; then it is waited for that Triton can be reached. trace: what Triton is told of
        it, so that its spans stand below ours. NotSent, NotLoaded and ProcessDied are for whoever can do something
        about them.
        """
        if not self.up:
            raise away()
        left_s = min(deadline_s - time.monotonic(), RUN_LIMIT_S)
        if left_s <= 0:
            raise DeadlinePassed("The deadline passed before the run was started.")
        told = None if trace is None else headers_of(trace.place)
        call = self._open().ModelInfer(request, timeout=left_s, wait_for_ready=again, metadata=told)
        self._calls.add(call)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _meaning(key, error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise away() from None  # by _lost
        finally:
            self._calls.discard(call)

    async def close(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    def _open(self) -> Any:
        if self._stub is None:  # here, not when built: a channel belongs to the loop that runs
            self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self._stub

    async def _call(self, method: str, request: Any, limit_s: float) -> Any:
        return await getattr(self._open(), method)(request, timeout=limit_s)

    def _lost(self, error: grpc.aio.AioRpcError) -> None:
        """Nobody waits for a server that is gone."""
        if self.up or not self._said:
            self._said = True
            log.error("Triton at %s does not answer: %s", self._address, error.details())
        self.up = False
        for call in tuple(self._calls):
            call.cancel()


def _meaning(key: GraphKey, error: grpc.aio.AioRpcError) -> Exception:
    """Triton's refusal as a fact of ours; its own words go to the log, since they may name paths."""
    code, words = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed("The run was stopped: it took too long.")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        log.warning("Triton refused the input of %s: %s", key, words)
        return TensorInvalid(f"{key.name} cannot take these tensors.")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
        return _unavailable(key, words)
    log.error("Triton failed over %s: %s: %s", key, code.name, words)
    if any(part in words for part in _STUB):
        return ProcessDied()
    return EngineFailed(f"{key.name} failed over this run.")


def _unavailable(key: GraphKey, words: str) -> Exception:
    if any(part in words for part in _NOT_LOADED):
        log.error("Triton lost %s: %s", key, words)
        return NotLoaded()
    if words.startswith(_NOT_SENT):
        return NotSent()
    if "queue" in words:
        return QueueFull(f"Too many requests wait for {key.name}.", remedy="Try again later.")
    return away()


def away() -> EngineAway:
    return EngineAway("The engine cannot be reached.", remedy="Try again in a moment.")
