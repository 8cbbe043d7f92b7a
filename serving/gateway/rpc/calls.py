"""What every call meets before and after its method: the door, the request's id, errors made statuses, the counters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, Final, TypeAlias

import grpc
from prometheus_client import Counter

from serving.errors import BodyInvalid, ShuttingDown, TidegateError
from serving.gateway.access import Access, Admission
from serving.gateway.errors import met_a_bug
from serving.gateway.http import REQUEST_ID, fresh_id
from serving.gateway.quota import Usage
from serving.gateway.rpc.statuses import Metadata, status_of, text_of, trailers_of
from serving.gateway.traffic import Traffic
from serving.observation.ended import CALLER_LEFT, GRPC, QUIET, Ended, outcome_of
from serving.pipeline import Inference
from serving.trace import Trace

log = logging.getLogger(__name__)

OK: Final = grpc.StatusCode.OK.name
LEFT: Final = grpc.StatusCode.CANCELLED.name
NOBODY: Final = Admission()


class Inbound:
    """A call as its method sees it. `caller`: the name of its key, empty where none is needed. `answered`: what its
    method found, for the records.
    """

    __slots__ = ("_authorization", "_given", "answered", "begun_s", "caller", "context", "request_id", "trace")

    def __init__(self, context: Any) -> None:
        self.context = context
        metadata = context.invocation_metadata()
        self._given: dict[str, Any] = dict(metadata)  # of a name that is given twice the last value counts
        self._authorization = [value for name, value in metadata if name == "authorization"]
        given = _ascii(self._given.get("x-request-id", ""))
        self.request_id = (given if REQUEST_ID.fullmatch(given) else fresh_id()).decode()
        self.caller = ""
        self.begun_s = time.monotonic()
        self.trace: Trace | None = None
        self.answered: Inference | None = None

    def again(self) -> Inbound:
        """The same for the next request of a stream."""
        other = copy(self)
        other.begun_s, other.trace, other.answered = time.monotonic(), None, None
        return other

    @property
    def traced_by(self) -> tuple[list[bytes], list[bytes]]:
        """The values of `traceparent` and `tracestate`, as often as they were sent."""
        if "traceparent" not in self._given:
            return [], []
        metadata = self.context.invocation_metadata()
        parents = [_ascii(value) for name, value in metadata if name == "traceparent"]
        return parents, [_ascii(value) for name, value in metadata if name == "tracestate"]

    @property
    def sticky(self) -> bytes:
        """By what a canary tells callers apart, as HTTP's `Tidegate-Sticky`."""
        return _ascii(self._given.get("tidegate-sticky", "")) or self.caller.encode()

    @property
    def credentials(self) -> tuple[list[bytes], str]:
        """As http.credentials_of."""
        return [_ascii(one) for one in self._authorization], address_of(self.context.peer())

    def deadline_s(self, longest_s: float) -> float:
        """When the answer is due, on time.monotonic()'s clock: by the call's own deadline, or `longest_s` from now."""
        remaining_s = self.context.time_remaining()
        return time.monotonic() + (longest_s if remaining_s is None else min(remaining_s, longest_s))


Method: TypeAlias = Callable[[Inbound], Awaitable[bytes | None]]


class Calls:
    """Makes handlers of methods, and ends those that are left when the time to drain is over."""

    def __init__(self, access: Access, traffic: Traffic) -> None:
        self.traffic = traffic
        self._access = access
        self._running: set[asyncio.Task[Any] | None] = set()
        self._ended = False
        self._counters: dict[tuple[str, str], Counter] = {}
        self._records = traffic.records

    def unary(self, name: str, need: str, method: Method) -> grpc.RpcMethodHandler:
        """A handler for one message that is answered with one.

        To grpc it is a stream of requests: so that nothing of a message is received before its sender was let in.
        """

        running = self._running

        async def handle(_: object, context: Any) -> bytes | None:
            call = Inbound(context)
            task = asyncio.current_task()
            running.add(task)
            try:
                usage = self.admit(call, need)
                call.trace = self.begin(name, call)  # not before: who was not let in decides nothing
                try:
                    answer = await method(call)
                finally:
                    if usage is not None:
                        usage.leave()
            except asyncio.CancelledError:  # the caller left, or the server waits no longer
                if not self._ended:
                    self.tell_left(name, call)
                    raise
                error: TidegateError = ended()
            except TidegateError as known:
                error = known
            except Exception:  # noqa: BLE001  (logged by bug)
                error = self.bug(call)
            else:
                self.count(name, OK)
                self.tell(name, call, OK)
                return answer
            finally:
                running.discard(task)
            await self.refuse(name, call, error)
            return None

        return grpc.stream_unary_rpc_method_handler(handle)

    def stream(self, name: str, need: str, method: Callable[[Inbound], Awaitable[None]]) -> grpc.RpcMethodHandler:
        """A handler for many messages, which the method reads and answers, and counts."""

        running = self._running

        async def handle(_: object, context: Any) -> None:
            call = Inbound(context)
            task = asyncio.current_task()
            running.add(task)
            try:
                self.check(call, need)
                await method(call)
            except asyncio.CancelledError:
                if not self._ended:
                    raise
                await self.refuse(name, call, ended(), told=False)
            except TidegateError as error:
                await self.refuse(name, call, error, told=not isinstance(error, ShuttingDown))
            finally:
                running.discard(task)

        return grpc.stream_stream_rpc_method_handler(handle)

    def check(self, call: Inbound, need: str) -> None:
        """Whether the caller may do this at all; nothing of its quota is used."""
        if self._access.closed:
            call.caller = self._access.check(*call.credentials, need).name

    def admit(self, call: Inbound, need: str) -> Usage | None:
        """Lets one request of the caller in, as Access.admit."""
        if need == "public" or not self._access.closed:
            return None
        call.caller, usage = self._access.admit(*call.credentials, need)
        return usage

    def count(self, name: str, status: str) -> None:
        """Counts an answer."""
        counter = self._counters.get((name, status))
        if counter is None:  # looked up once: it is dear, and answers are many
            counter = self._counters[name, status] = self.traffic.counter(f"grpc {name}", status)
        counter.inc()

    async def refuse(self, name: str, call: Inbound, error: TidegateError, *, told: bool = True) -> None:
        """Ends the call with the error's status. Does not return: grpc.aio's AbortError goes through.

        told: to the records; not of a stream that this gateway ends, whose requests have been told of.
        """
        status = status_of(error)
        self.count(name, status.name)
        if told:
            self.tell(name, call, status.name, error.code, error.of)
        await call.context.abort(status, text_of(error), (*trailers_of(error, call.request_id), *trace_trailers(call)))

    def begin(self, name: str, call: Inbound) -> Trace | None:
        """The trace of one request, if it has one."""
        return None if name in QUIET else self._records.tracing.read(*call.traced_by)

    def tell(self, name: str, call: Inbound, status: str, code: str = "", of: tuple[str, int] | None = None) -> None:
        """Tells the records of one request. of: the model and version that met its failure."""
        now_s = time.monotonic()
        logged = self._records.log.wants(name, now_s, outcome_of(status))
        if not logged and call.trace is None:
            return
        found = call.answered
        if found is not None:
            of = (found.graph.partition(".")[0], found.version)
        model, version = of or ("", 0)
        stages = None if found is None else found.stages
        request_id = call.request_id
        kept = Ended(GRPC, name, name, status, request_id, call.begun_s, now_s, code, model, version, stages)
        self._records.keep(kept, call.trace, logged=logged)

    def tell_left(self, name: str, call: Inbound) -> None:
        """As `tell`, of a request that was cancelled, by its caller or by the end of this gateway."""
        if self._ended:
            error = ended()
            self.tell(name, call, status_of(error).name, error.code)
        else:
            self.tell(name, call, LEFT, CALLER_LEFT)

    def bug(self, call: Inbound) -> TidegateError:
        """What the caller is told of the exception that is being handled, which nobody foresaw; the log has it all."""
        log.exception("request %s failed", call.request_id)
        return met_a_bug()

    def end(self) -> None:
        """Cancels what runs: its callers are told to go elsewhere."""
        self._ended = True
        for task in self._running:
            if task is not None:  # grpc.aio runs each handler as a task, but types cannot know
                task.cancel()


async def receive(call: Inbound) -> bytes:
    """The message of a call that has one."""
    data = await call.context.read()
    if not isinstance(data, bytes):
        raise BodyInvalid("The call has no message.")
    return data


def ended() -> TidegateError:
    """What callers are told whose answers were not ready when the time to drain was over."""
    return ShuttingDown("The gateway ended before the answer was ready.", remedy="Try again, elsewhere or later.")


def address_of(peer: str) -> str:
    """The address in what grpc calls a peer, such as `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    return peer.partition(":")[2].rpartition(":")[0].removeprefix("%5B").removesuffix("%5D")


def _ascii(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode(errors="replace")


def trailers(call: Inbound, model: str, version: int, timing: bytes) -> Metadata:
    """What goes with an answer, as HTTP's headers of these names."""
    return (
        ("tidegate-model", model),
        ("tidegate-version", str(version)),
        ("x-request-id", call.request_id),
        ("server-timing", timing.decode()),
        *trace_trailers(call),
    )


def trace_trailers(call: Inbound) -> Metadata:
    """By what a caller finds the request's trace, as HTTP's header of this name; nothing where there is none."""
    trace = call.trace
    return () if trace is None or not trace.recorded else (("traceresponse", trace.place.traceparent),)
