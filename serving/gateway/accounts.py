"""What HTTP's entrances tell of a request: at its beginning, and when it has ended.

Most requests are neither traced nor logged, and of those nothing is made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, TypeAlias

from serving.errors import TidegateError
from serving.gateway.http import Header, Inbound, stages_of
from serving.observation.ended import Ended, method_of, outcome_of
from serving.observation.records import Records

HTTP: Final = "http"
Failure: TypeAlias = tuple[str, tuple[str, int] | None]  # code, and whose it was
# Source: https://github.com/w3c/trace-context/blob/main/spec/21-http_response_header_format.md, a draft
TRACE_RESPONSE: Final = b"traceresponse"


def failure_of(error: TidegateError) -> Failure:
    """What is told of an error. The error itself, in a variable of a function that it went through, would keep that
    function's frame and be kept by it: garbage that only Python's cycle collector finds, for every refusal.
    """
    return error.code, error.of


class Accounts:
    """Tells `records`."""

    def __init__(self, records: Records) -> None:
        self._log = records.log
        self._tracing = records.tracing
        self._records = records

    def begin(self, request: Inbound, *, traced: bool = True) -> None:
        """Takes the time, and decides whether it is traced, if it may be."""
        request.begun_s = time.monotonic()
        if not traced:
            return
        if b"traceparent" in request.headers:
            request.trace = self._tracing.read(*_trace_headers(request.scope["headers"]))
        else:
            request.trace = self._tracing.begin(None)

    def end(self, request: Inbound, route: str, status: int, *, code: str = "", headers: Sequence[Header] = ()) -> None:
        """route: the path's template, empty where there is none. status: 0 where nobody was there to be answered.
        headers: of the answer, which say who answered.
        """
        now_s = time.monotonic()
        logged = self._log.wants(route, now_s, outcome_of(status))
        if not logged and request.trace is None:
            return
        told = dict(headers)
        ended = Ended(
            HTTP,
            method_of(request.scope["method"]),
            route,
            int(status),
            request.request_id.decode(),
            request.begun_s,
            now_s,
            code,
            told.get(b"tidegate-model", b"").decode(),
            int(told.get(b"tidegate-version", 0)),
            stages_of(told.get(b"server-timing", b"")),
        )
        self._records.keep(ended, request.trace, logged=logged)

    def end_failed(self, request: Inbound, route: str, status: int, failure: Failure) -> None:
        """As `end`, of a refusal."""
        code, of = failure
        headers: tuple[Header, ...] = ()
        if of is not None:
            headers = ((b"tidegate-model", of[0].encode()), (b"tidegate-version", b"%d" % of[1]))
        self.end(request, route, status, code=code, headers=headers)


def trace_headers(request: Inbound) -> tuple[Header, ...]:
    """What a caller is told so that the trace of the request can be found: nothing where there is none."""
    trace = request.trace
    if trace is None or not trace.recorded:
        return ()
    return ((TRACE_RESPONSE, trace.place.traceparent.encode()),)


def _trace_headers(headers: Sequence[Header]) -> tuple[list[bytes], list[bytes]]:
    """The values of `traceparent` and `tracestate`, as often as they were sent."""
    parents = [value for name, value in headers if name == b"traceparent"]
    return parents, [value for name, value in headers if name == b"tracestate"]
