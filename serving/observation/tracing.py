"""Which requests are traced, and what is handed on of those that were.

A caller's own decision is followed, as its `traceparent` says it; where there is none, a share of the requests is
taken. Both within so many a second: who marks every request of theirs makes nothing slow.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from serving.observation.allowance import Allowance
from serving.observation.ended import GRPC, Ended
from serving.trace import Kind, Part, Place, Trace, Value, first_place, read_place

SERVICE: Final = "inference.GRPCInferenceService"


@dataclass(frozen=True, slots=True)
class Whole:
    """All spans of one request. offset_ns: what is to be added to time.monotonic()'s clock for Unix time."""

    parts: Sequence[Part]
    offset_ns: int


class Tracing:
    """Decides, and hands on. send: takes what is traced, and never waits; None: nothing is.

    ratio: of the requests without a caller's decision, 0 to 1. per_s: the most of all.
    """

    def __init__(self, send: Callable[[Whole], None] | None, ratio: float, per_s: int) -> None:
        self._send = send
        self._ratio = ratio if send is not None else 0.0
        self._allowance = Allowance(per_s)

    def begin(self, given: Place | None) -> Trace | None:
        """The trace of a request that comes in. given: its caller's span, if it named one. None: there is none."""
        if given is not None:
            if given.sampled and self._send is not None and self._allowance.take(time.monotonic()):
                return Trace(given.within(), given)
            return Trace(given, recorded=False)
        if self._ratio and random.random() < self._ratio and self._allowance.take(time.monotonic()):  # noqa: S311
            return Trace(first_place())
        return None

    def read(self, parents: Sequence[bytes], states: Iterable[bytes]) -> Trace | None:
        """As `begin`, of headers as they came."""
        return self.begin(read_place(parents, tuple(states)) if parents else None)

    def end(self, ended: Ended, trace: Trace) -> None:
        """Hands on what was noted of a request."""
        name, attributes = _described(ended)
        times = (ended.begun_s, ended.ended_s)
        self.finish(trace, name, "server", attributes=attributes, times=times, error=_error(ended))

    def finish(
        self,
        trace: Trace,
        name: str,
        kind: Kind,
        *,
        attributes: dict[str, Value],
        times: tuple[float, float],
        error: str = "",
    ) -> None:
        """As `end`, of what is no request."""
        if self._send is None or not trace.recorded:
            return
        if trace.left_out:
            attributes["tidegate.spans_left_out"] = trace.left_out
        whole = Part(name, trace.place, trace.parent, *times, attributes, error=error, kind=kind)
        self._send(Whole((whole, *trace.parts), time.time_ns() - time.monotonic_ns()))


def _described(ended: Ended) -> tuple[str, dict[str, Value]]:
    """The span's name and attributes. Source: https://opentelemetry.io/docs/specs/semconv/"""
    said: dict[str, Value]
    if ended.transport == GRPC:
        name = f"{SERVICE}/{ended.route}"
        said = {"rpc.system": GRPC, "rpc.service": SERVICE, "rpc.method": ended.route}
        if ended.status:
            said["rpc.response.status_code"] = ended.status
    else:
        name = f"{ended.method} {ended.route}".strip()
        said = {"http.request.method": ended.method, "url.scheme": "http"}
        if ended.route:
            said["http.route"] = ended.route
        if ended.status:
            said["http.response.status_code"] = int(ended.status)
    said["tidegate.request_id"] = ended.request_id
    if ended.code:
        said["error.type"] = ended.code
    if ended.model:
        said |= {"tidegate.model": ended.model, "tidegate.version": ended.version}
    if ended.stages is not None:
        stages = ended.stages
        said |= {f"tidegate.{stage}_s": getattr(stages, f"{stage}_s") for stage in ("queue", "pre", "run", "post")}
    return name, said


def _error(ended: Ended) -> str:
    """Errors that are the caller's own leave a server's span without a status, as OpenTelemetry wants it."""
    return ended.code if ended.failed else ""
