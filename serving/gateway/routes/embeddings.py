"""/v1/embeddings: the task embed for clients of OpenAI's API. All inputs of a request are embedded by one version."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

from serving import plugins
from serving.deadline import by_deadline
from serving.engine import Call
from serving.gateway.body import read_body
from serving.gateway.departure import Presence
from serving.gateway.direct import DirectRoute
from serving.gateway.errors import EMBEDDINGS_PATH, openai_error
from serving.gateway.http import Handler, Inbound, Outbound, deadline_of
from serving.gateway.openai import EXAMPLE_REPLY, REQUEST, check_dimensions, read_order, write_reply
from serving.gateway.routes.v1 import identity_headers
from serving.gateway.traffic import Endpoint, Traffic
from serving.pipeline import Pipeline
from serving.task import FOLDER, Request, Task
from serving.threads import Threads

T = TypeVar("T")
VERB: Final = "embed"
OWNER: Final = "embeddings"  # of the worker threads' time
INLINE_BYTES: Final = 16 * 1024  # of a body that is read here and now; of more, on a worker thread
INLINE_NUMBERS: Final = 8 * 1024  # of an answer, likewise
STATUSES: Final = (400, 401, 403, 404, 409, 413, 429, 503, 504)


def embeddings_route(
    pipeline: Pipeline, traffic: Traffic, threads: Threads, body_limit: int, longest_s: float
) -> DirectRoute:
    """POST /v1/embeddings."""
    handler = _handler(pipeline, traffic.presence, threads, body_limit, longest_s)
    return DirectRoute(
        EMBEDDINGS_PATH,
        Endpoint(EMBEDDINGS_PATH, handler, traffic, openai_error),
        need="predict",
        methods=["POST"],
        name="embeddings",
        summary="Embed texts, for clients of OpenAI's API",
        description=f"As OpenAI's endpoint of this path. POST /v1/{VERB} embeds pictures too.",
        tags=["OpenAI"],
        responses={
            200: {"description": "An embedding for each input.", "content": EXAMPLE_REPLY},
            **{status: {"description": f"{HTTPStatus(status).phrase}, in OpenAI's shape."} for status in STATUSES},
        },
        openapi_extra={"requestBody": {"required": True, "content": REQUEST}},
    )


def _handler(pipeline: Pipeline, presence: Presence, threads: Threads, body_limit: int, longest_s: float) -> Handler:
    task: type[Task[Any]] = plugins.find(FOLDER, VERB, "PLUGIN")

    async def aside(large: bool, function: Callable[[], T]) -> T:
        return (await threads.run(OWNER, function))[0] if large else function()

    async def answer(request: Inbound, body: bytes, call: Call) -> Outbound:
        asked = await aside(len(body) > INLINE_BYTES, lambda: read_order(request, body))
        parameters = task.parameters()
        requests = [Request(payload, parameters, kind=asked.kind) for payload in asked.payloads]
        answers = await pipeline.predict_all(VERB, asked.target, requests, call)
        first: Any = answers.replies[0]
        check_dimensions(asked.order, first)
        large = first.dimensions * len(requests) > INLINE_NUMBERS
        content = await aside(large, lambda: write_reply(answers.replies, asked.order))
        headers = identity_headers(first.model, first.version, answers.stages)
        return Outbound(content, headers=headers, afterwards=answers.afterwards)

    async def handle(request: Inbound) -> Outbound:
        call = Call(deadline_of(request.headers, longest_s), request_id=request.request_id, trace=request.trace)
        body = await by_deadline(call.deadline_s, read_body(request, body_limit))
        return await presence.hold(request.receive, by_deadline(call.deadline_s, answer(request, body, call)))

    return handle
