"""What goes on at this gateway right now: requests in flight, whether it drains, and the door where both are asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from serving.errors import Busy, ShuttingDown, TidegateError
from serving.gateway.accounts import Accounts, Failure, failure_of, trace_headers
from serving.gateway.departure import CallerLeft, Presence
from serving.gateway.errors import HeadersTooMany, met_a_bug, problem
from serving.gateway.http import Handler, Inbound, Outbound, Stream, read_request, send_answer, send_stream
from serving.observation.ended import CALLER_LEFT
from serving.observation.records import Records, no_records
from serving.telemetry import Meters

log = logging.getLogger(__name__)

# What the loop reads in one turn has arrived in the next. grpc's threads hand a call over event by event: callers who
# were answered together ask again within some turns more, and with fewer they met in no batch.
READ_TURNS = 2
HANDED_OVER_TURNS = 8
MAX_HEADERS = 100
MAX_HEAD = 64 * 1024
ErrorShape = Callable[[TidegateError, str], Outbound]


def check_head(scope: Scope) -> None:
    """HeadersTooMany when there are more headers, or more bytes in them, than a client has reason to send."""
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        raise HeadersTooMany(f"There are more than {MAX_HEADERS} headers.", remedy="Send fewer.")
    if sum([len(name) + len(value) for name, value in headers]) > MAX_HEAD:
        raise HeadersTooMany(f"The headers have more than {MAX_HEAD:,} bytes.", remedy="Send fewer or shorter ones.")


class Traffic:
    """Counts requests in flight and refuses, before a byte of the body is read, what is more than the limit."""

    def __init__(self, meters: Meters, max_in_flight: int, records: Records | None = None) -> None:
        self.records = records or no_records()
        self.draining = False
        self.closing = False  # the time to drain has come: streams end, for they would not by themselves
        self.presence = Presence()
        self.in_flight = 0
        self.handed_over = 0  # of those in flight, they that come and go through grpc's threads
        self._limit = max_in_flight
        self._meters = meters
        meters.in_flight.set_function(lambda: self.in_flight)

    def enter(self) -> None:
        """Busy when as many requests are in flight as may be."""
        if self.in_flight >= self._limit:
            raise Busy("As many requests are in flight as this gateway takes.", remedy="Try again later.")
        self.in_flight += 1

    @property
    def quiet_turns(self) -> int:
        """Turns of the loop in which nothing comes, after which nothing is on its way."""
        return HANDED_OVER_TURNS if self.handed_over > 1 else READ_TURNS

    def leave(self) -> None:
        self.in_flight -= 1

    def counter(self, route: str, status: int | str) -> Counter:
        """Counts the answers of a route with a status: a number of HTTP, a name of gRPC."""
        return self._meters.responses.labels(route, status if isinstance(status, str) else str(int(status)))


class Endpoint:
    """A handler as an ASGI application: admitted, answered, its failures shaped, counted. What the handler gives is
    sent whole, or as a stream.

    route: the path's template, as metrics name it.
    """

    def __init__(self, route: str, handler: Handler, traffic: Traffic, shape: ErrorShape = problem) -> None:
        self._route = route
        self._handler = handler
        self._traffic = traffic
        self._shape = shape
        self._counters: dict[int, Counter] = {}  # looked up once: it is dear, and answers are many
        self._accounts = Accounts(traffic.records)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = read_request(scope, receive)
        self._accounts.begin(request)
        failure: Failure | None = None
        try:
            check_head(scope)
            self._traffic.enter()
            try:
                answer = await self._handler(request)
            finally:
                self._traffic.leave()
        except TidegateError as error:
            failure = failure_of(error)
            answer = self._shape(error, request.path)
        except CallerLeft:
            self._accounts.end(request, self._route, 0, code=CALLER_LEFT)
            return
        except asyncio.CancelledError:  # the server waits no longer: the time to drain is over
            late = ShuttingDown(
                "The gateway ended before the answer was ready.", remedy="Try again, elsewhere or later."
            )
            await self._answer(send, self._shape(late, request.path), request, failure_of(late))
            raise
        except Exception:
            log.exception("request %s failed", request.request_id.decode())
            bug = met_a_bug()
            failure = failure_of(bug)
            answer = self._shape(bug, request.path)
        if isinstance(answer, Stream):
            await self._stream(send, answer, request)
            return
        await self._answer(send, answer, request, failure)
        if answer.afterwards is not None:
            answer.afterwards()

    async def _stream(self, send: Send, answer: Stream, request: Inbound) -> None:
        """In flight no more: a drain waits for answers, and a stream is told to end."""
        self._count(answer.status)
        code = ""
        try:
            sending = send_stream(send, answer, request.request_id, trace_headers(request))
            await self._traffic.presence.hold(request.receive, sending)
        except CallerLeft:
            code = CALLER_LEFT
        finally:
            self._accounts.end(request, self._route, answer.status, code=code, headers=answer.headers)

    async def _answer(self, send: Send, answer: Outbound, request: Inbound, failure: Failure | None) -> None:
        self._count(answer.status)
        await send_answer(send, answer, request.request_id, trace_headers(request))
        if failure is None:
            self._accounts.end(request, self._route, answer.status, headers=answer.headers)
        else:
            self._accounts.end_failed(request, self._route, answer.status, failure)

    def _count(self, status: int) -> None:
        counter = self._counters.get(status)
        if counter is None:
            counter = self._counters[status] = self._traffic.counter(self._route, status)
        counter.inc()
