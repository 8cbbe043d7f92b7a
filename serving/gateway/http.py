"""One HTTP exchange as plain data, and the ASGI application around a handler of it.

Routes that carry load run as an `Endpoint`: bytes in, bytes out, nothing of FastAPI's request machinery between
(measured in docs/decisions/0002-direct-routes.md). FastAPI documents them and runs the rest.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.types import Receive, Scope, Send

from serving.errors import ParameterInvalid
from serving.telemetry import Stages
from serving.trace import Trace

log = logging.getLogger(__name__)

Header: TypeAlias = tuple[bytes, bytes]
JSON: Final = b"application/json"
CALLER: Final = "tidegate.caller"  # of a scope: put there by app.py
TIMINGS: Final = re.compile(rb"queue;dur=([0-9.]+), pre;dur=([0-9.]+), run;dur=([0-9.]+), post;dur=([0-9.]+)")
# What may come back in a header: nothing that could end a line or a quoted string.
_PROCESS: Final = secrets.token_hex(6).encode()
_COUNT: Final = itertools.count(1)
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Inbound:
    """A request. Header names are lower case; of headers that are given twice the last one counts.

    begun_s: on time.monotonic()'s clock; trace: if it has one. accounts.py sets both.
    """

    scope: Scope
    receive: Receive
    headers: Mapping[bytes, bytes]
    request_id: bytes
    begun_s: float = 0.0
    trace: Trace | None = None

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def caller(self) -> str:
        """The name of the caller's key; empty where none is needed."""
        return caller_of(self.scope)

    @property
    def path_parameters(self) -> Mapping[str, str]:
        parameters: Mapping[str, str] = self.scope.get("path_params", {})
        return parameters


@dataclass(slots=True)
class Outbound:
    """An answer. `afterwards`: called when it was sent."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: tuple[Header, ...] = ()
    afterwards: Callable[[], None] | None = None


@dataclass(slots=True)
class Stream:
    """An answer that comes in parts, each sent when it is there. When the caller leaves, `parts` is closed."""

    parts: AsyncGenerator[bytes, None]
    media_type: bytes
    headers: tuple[Header, ...] = ()
    status: int = 200


Handler: TypeAlias = Callable[[Inbound], Awaitable[Outbound | Stream]]


def read_request(scope: Scope, receive: Receive) -> Inbound:
    """The request's head, with an id: the caller's own, if it is a plain word, or a fresh one."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    return Inbound(scope, receive, headers, given if given and REQUEST_ID.fullmatch(given) else fresh_id())


def credentials_of(scope: Scope) -> tuple[list[bytes], str]:
    """What a request says of its sender: the values of its `Authorization`, and the address it comes from."""
    client = scope.get("client")
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    return given, client[0] if client else ""


def caller_of(scope: Scope) -> str:
    """The name of the key that a request came with; empty where none is needed. FastAPI's routes: `request.scope`."""
    return str(scope.get(CALLER, ""))


def fresh_id() -> bytes:
    """Unique over gateways and restarts by its first half, within this process by its second."""
    return b"%s-%x" % (_PROCESS, next(_COUNT))


async def send_answer(send: Send, answer: Outbound, request_id: bytes, more: Sequence[Header] = ()) -> None:
    """Sends head and body at once. more: headers of any answer to this request."""
    head = [
        (b"content-type", answer.media_type),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", request_id),
        *answer.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": int(answer.status), "headers": head})
    await send({"type": "http.response.body", "body": answer.body})


async def send_stream(send: Send, answer: Stream, request_id: bytes, more: Sequence[Header] = ()) -> None:
    """Sends the head at once, then part by part. more: as of send_answer."""
    head = [(b"content-type", answer.media_type), (b"x-request-id", request_id), *answer.headers, *more]
    async with aclosing(answer.parts) as parts:
        await send({"type": "http.response.start", "status": int(answer.status), "headers": head})
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def deadline_of(headers: Mapping[bytes, bytes], longest_s: float) -> float:
    """When the answer is due, on time.monotonic()'s clock; `X-Request-Timeout-Ms` may only shorten `longest_s`."""
    text = headers.get(b"x-request-timeout-ms")
    timeout_s = longest_s
    if text is not None:
        if not text.isdigit() or len(text) > 12 or int(text) < 1:
            raise ParameterInvalid(
                "X-Request-Timeout-Ms is not a whole number of milliseconds of at least 1.",
                remedy="Send 2000, for example, to wait for two seconds.",
            )
        timeout_s = min(longest_s, int(text) / 1000)
    return time.monotonic() + timeout_s


def server_timing(stages: Any) -> bytes:
    """Stages as a Server-Timing value, in milliseconds. Source: https://www.w3.org/TR/server-timing/"""
    return b"queue;dur=%.3f, pre;dur=%.3f, run;dur=%.3f, post;dur=%.3f" % (
        stages.queue_s * 1e3,
        stages.pre_s * 1e3,
        stages.run_s * 1e3,
        stages.post_s * 1e3,
    )


def stages_of(timing: bytes) -> Stages | None:
    """What `server_timing` wrote; None where it wrote nothing."""
    match = TIMINGS.fullmatch(timing)
    return None if match is None else Stages(*(round(float(part) / 1e3, 6) for part in match.groups()))
